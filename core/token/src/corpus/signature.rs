//! Signatures that are none, or not of this token.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256};
use portcullis_wire::Reason;

use super::Party;
use super::draft::Draft;
use super::rng::Rng;
use crate::base64url;

/// Order of P-256 (SEC 2 section 2.4.2).
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
    0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// Other octets as signature.
pub(super) fn octets(draft: &mut Draft, rng: &mut Rng, parties: &[Party]) {
    let [header, payload, encoded] = draft.parts();
    let good = base64url::decode(&encoded).unwrap_or_default();
    let rsa = draft.signing_key(parties).alg() == "RS256";
    let (what, bad) = match rng.below(10) {
        0 => {
            let mut bad = good.clone();
            let at = rng.below(bad.len());
            bad[at] ^= 1 << rng.below(8);
            ("one bit", bad)
        }
        1 => ("shorter", good[..1 + rng.below(good.len() - 1)].to_vec()),
        2 => ("longer", [&good[..], &[0; 40][..1 + rng.below(40)]].concat()),
        3 => ("zero in front", [&[0], &good[..]].concat()),
        4 => ("without the first octet", good[1..].to_vec()),
        5 => ("zeros", vec![0; good.len()]),
        6 => ("ones", vec![0xff; good.len()]),
        7 => ("random", (0..good.len()).map(|_| rng.byte()).collect()),
        _ if rsa => rsa_edge(rng, &good, &modulus(draft, parties)),
        _ => p256_edge(rng, &good),
    };
    draft.token = [header, payload, base64url::encode(&bad).into_bytes()].join(&b'.');
    // FIPS 186-5 does not forbid the twin of a signature, (r, n - s).
    let twin = what == "the twin" || bad == good;
    draft.expect(if twin { Ok(()) } else { Err(Reason::TokenSignature) }, format!("signature: {what}"));
}

/// The signature of another token, key or scheme; header or payload of another token.
pub(super) fn other(draft: &mut Draft, rng: &mut Rng, parties: &[Party]) {
    let [header, payload, signature] = draft.parts();
    let input = [&header[..], b".", &payload].concat();
    let own = draft.signing_key(parties);
    let party = rng.below(parties.len());
    let key = rng.below(parties[party].keys.len());
    let stranger = &parties[party].keys[key].1;
    let (what, token) = match rng.below(4) {
        0 if (party, key) != (draft.party, draft.key) && (stranger.alg() == "ES256" || rng.one_in(8)) => (
            "another key's",
            vec![header, payload, base64url::encode(stranger.signature(&input)).into_bytes()],
        ),
        1 if own.alg() == "RS256" && rng.one_in(4) => {
            let scheme = *rng.pick(&[&RSA_PSS_SHA256, &RSA_PKCS1_SHA384, &RSA_PKCS1_SHA512]);
            let signature = own.foreign_signature(scheme, &input).unwrap_or_default();
            ("PSS, or another digest", vec![header, payload, base64url::encode(signature).into_bytes()])
        }
        2 => {
            // One octet of the payload, as the claims would be changed: still an object, with the same claims.
            let claims = base64url::decode(&payload).unwrap_or_default();
            let changed = [&claims[..], b" "].concat();
            ("a changed payload's", vec![header, base64url::encode(changed).into_bytes(), signature])
        }
        _ => {
            let text = base64url::decode(&header).unwrap_or_default();
            let changed = [b" ", &text[..]].concat();
            ("a changed header's", vec![base64url::encode(changed).into_bytes(), payload, signature])
        }
    };
    draft.token = token.join(&b'.');
    draft.expect(Err(Reason::TokenSignature), format!("signature: {what}"));
}

/// `none`, and HMAC with what is public (RFC 8725 section 2.1).
pub(super) fn confused(draft: &mut Draft, rng: &mut Rng, parties: &[Party]) {
    let [_, payload, signature] = draft.parts();
    let kid = String::from_utf8_lossy(draft.header.get("kid").unwrap_or(b"\"k1\"")).into_owned();
    let header = |alg: &str| base64url::encode(format!("{{\"alg\":\"{alg}\",\"kid\":{kid}}}")).into_bytes();
    let public = match draft.signing_key(parties).public_jwk("k").n {
        Some(n) => n.into_bytes(),
        None => b"the public key".to_vec(),
    };
    let (alg, signature) = match rng.below(4) {
        0 => (*rng.pick(&["none", "None", "NONE", "nOnE"]), signature),
        1 => (*rng.pick(&["none", "None", "NONE", "nOnE"]), b"AA".to_vec()),
        2 => {
            draft.token = [header("none"), payload, Vec::new()].join(&b'.');
            return draft.expect(Err(Reason::TokenMalformed), "none, without a signature");
        }
        _ => {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &public);
            let input = [&header("HS256")[..], b".", &payload].concat();
            ("HS256", base64url::encode(hmac::sign(&key, &input)).into_bytes())
        }
    };
    draft.token = [header(alg), payload, signature].join(&b'.');
    draft.expect(Err(Reason::TokenAlg), alg);
}

fn modulus(draft: &Draft, parties: &[Party]) -> Vec<u8> {
    let n = draft.signing_key(parties).public_jwk("k").n.unwrap_or_default();
    base64url::decode(n.as_bytes()).unwrap_or_default()
}

/// Numbers that are congruent to a signature, or are edges (RFC 8017 section 5.2.2 step 1).
fn rsa_edge(rng: &mut Rng, good: &[u8], n: &[u8]) -> (&'static str, Vec<u8>) {
    let one = [&vec![0; n.len() - 1][..], &[1]].concat();
    match rng.below(6) {
        0 => ("n", n.to_vec()),
        1 => ("n - 1", subtract(n, &one)),
        2 => ("1", one),
        3 => ("n - s", subtract(n, good)),
        // s + n when it has the same length, else what is left of it
        4 => ("s + n", add(good, n)),
        _ => ("reversed", good.iter().rev().copied().collect()),
    }
}

/// r and s at the edges, the twin, the two exchanged, and DER (RFC 7518 section 3.4).
fn p256_edge(rng: &mut Rng, good: &[u8]) -> (&'static str, Vec<u8>) {
    let (r, s) = good.split_at(32);
    let one = [&[0; 31][..], &[1]].concat();
    let edges =
        [vec![0; 32], one.clone(), subtract(&ORDER, &one), ORDER.to_vec(), add(&ORDER, &one), vec![0xff; 32]];
    let edge = rng.pick(&edges).clone();
    match rng.below(8) {
        0 => ("the twin", [r, &subtract(&ORDER, s)].concat()),
        1 => ("n - r", [&subtract(&ORDER, r), s].concat()),
        2 => ("exchanged", [s, r].concat()),
        3 => ("r at an edge", [&edge[..], s].concat()),
        4 => ("s at an edge", [r, &edge[..]].concat()),
        // CVE-2022-21449
        5 => ("both at an edge", [&edge[..], &edge].concat()),
        6 => ("r + n", [&add(&ORDER, r)[..], s].concat()),
        _ => {
            let integer = |number: &[u8]| {
                let from = number.iter().position(|octet| *octet != 0).unwrap_or(number.len() - 1);
                let sign: &[u8] = if number[from] < 0x80 { &[] } else { &[0] };
                let octets = [sign, &number[from..]].concat();
                [&[2, octets.len() as u8][..], &octets].concat()
            };
            let body = [integer(r), integer(s)].concat();
            ("DER", [&[0x30, body.len() as u8][..], &body].concat())
        }
    }
}

/// a + b without the carry, big-endian, of equal length.
fn add(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut carry = 0;
    let sum: Vec<u8> = (a.iter().rev().zip(b.iter().rev()))
        .map(|(a, b)| {
            let sum = u16::from(*a) + u16::from(*b) + carry;
            carry = sum >> 8;
            sum as u8
        })
        .collect();
    sum.into_iter().rev().collect()
}

/// a - b, big-endian, of equal length.
fn subtract(a: &[u8], b: &[u8]) -> Vec<u8> {
    // a + ~b + 1
    let inverted: Vec<u8> = b.iter().map(|octet| !octet).collect();
    let one = [&vec![0; a.len() - 1][..], &[1]].concat();
    add(&add(a, &inverted), &one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic() {
        assert_eq!(add(&[1, 0xff], &[0, 2]), [2, 1]);
        assert_eq!(subtract(&[2, 1], &[0, 2]), [1, 0xff]);
        assert_eq!(subtract(&ORDER, &ORDER), [0; 32]);
    }
}
