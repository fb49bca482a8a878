//! Signatures (RFC 8017 section 8.2.2, RFC 7518 sections 3.3 and 3.4, THREATS T32).

use portcullis_token::mint::SigningKey;
use portcullis_token::{Alg, KeyMaterial, verify};
use portcullis_wire::Reason;

use crate::fixture::{
    ES256, NOW_S, RS256, claims, decode, ec, encode, issuer, parts, refused, rsa, sound, store,
};

/// A token of the fixture's key with the signature changed.
#[track_caller]
fn check(header: &str, change: impl Fn(Vec<u8>) -> Vec<u8>, expected: Result<(), Reason>) {
    let key = if header == RS256 { rsa() } else { ec() };
    let [h, p, s] = parts(&key.sign(header, &claims(&[])));
    let token = format!("{h}.{p}.{}", encode(change(decode(&s))));
    assert_eq!(verify(token.as_bytes(), store(), NOW_S).map(|_| ()), expected);
}

#[test]
fn length_is_exact() {
    let bad = Err(Reason::TokenSignature);
    for header in [ES256, RS256] {
        check(header, |s| s, Ok(()));
        check(header, |s| [&[0], &s[..]].concat(), bad);
        check(header, |s| [&s[..], &[0]].concat(), bad);
        check(header, |s| s[1..].to_vec(), bad);
        check(header, |s| s[..s.len() - 1].to_vec(), bad);
        check(header, |_| vec![0], bad);
        check(header, |s| vec![0; s.len()], bad);
        check(header, |s| vec![0xff; s.len()], bad);
        check(header, |s| [&s[..], &s].concat(), bad);
    }
}

/// A valid signature of the other algorithm's length.
#[test]
fn signature_of_the_other_key() {
    let [h, p, _] = parts(&ec().sign(ES256, &claims(&[])));
    let input = format!("{h}.{p}");
    let token = format!("{input}.{}", encode(rsa().signature(input.as_bytes())));
    refused(verify(token.as_bytes(), store(), NOW_S), Reason::TokenSignature);
}

#[test]
fn every_key_size() {
    for bits in [2048, 3072, 4096] {
        let key = SigningKey::generate_rs256(bits).unwrap();
        let jwk = key.public_jwk("rsa");
        let modulus = decode(jwk.n.as_deref().unwrap());
        let store = sound(&[issuer(vec![jwk])]);
        let vetted = &store.issuers()[0].keys()[0];
        assert_eq!(
            (vetted.alg(), vetted.material()),
            (Alg::Rs256 { bits }, KeyMaterial::Rsa { modulus: &modulus })
        );
        let token = key.sign(RS256, &claims(&[]));
        assert!(verify(token.as_bytes(), &store, NOW_S).is_ok());
        let [h, p, s] = parts(&token);
        let mut octets = decode(&s);
        assert_eq!(octets.len(), bits / 8);
        octets[bits / 16] ^= 0x10;
        refused(
            verify(format!("{h}.{p}.{}", encode(octets)).as_bytes(), &store, NOW_S),
            Reason::TokenSignature,
        );
    }
}

/// What is signed is the text, not what it decodes to.
#[test]
fn the_signed_text_is_what_was_sent() {
    let claims = claims(&[]);
    let [h, p, s] = parts(&ec().sign(ES256, &claims));
    for (other_h, other_p) in [
        (encode(format!("{ES256} ")), p.clone()),
        (h.clone(), encode(format!("{claims} "))),
        (encode(ES256.replace("ec", "\\u0065c")), p.clone()),
    ] {
        refused(
            verify(format!("{other_h}.{other_p}.{s}").as_bytes(), store(), NOW_S),
            Reason::TokenSignature,
        );
    }
}
