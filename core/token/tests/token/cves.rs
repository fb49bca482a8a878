//! Published bugs of token libraries and gateways, each as the token that worked there.

use aws_lc_rs::hmac;
use portcullis_token::{KeyStore, verify};
use portcullis_wire::{Jwk, Reason};

use crate::fixture::{
    AUDIENCE, ES256, ISSUER, NOW_S, RS256, claims, decode, ec, encode, issuer, judge, judge_claims, parts,
    refused, rsa, store,
};

#[track_caller]
fn check(token: impl AsRef<[u8]>, reason: Reason) {
    refused(verify(token.as_ref(), store(), NOW_S), reason);
}

/// An HMAC over the input with a public key as secret.
fn hs256(header: &str, secret: &[u8]) -> String {
    let input = format!("{}.{}", encode(header), encode(claims(&[])));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), input.as_bytes());
    format!("{input}.{}", encode(tag))
}

/// What attackers can know of a public key.
fn public_secrets(jwk: &Jwk) -> Vec<Vec<u8>> {
    let json = serde_json::to_vec(jwk).expect("JSON");
    let n = jwk.n.clone().unwrap_or_default();
    vec![json, decode(&n), n.into_bytes(), Vec::new()]
}

/// node-jsonwebtoken before 4.2.2: an RS256 verifier took an HMAC with the public key.
#[test]
fn cve_2015_9235_hmac_with_the_public_key() {
    for secret in public_secrets(&rsa().public_jwk("rsa")) {
        check(hs256(r#"{"alg":"HS256","kid":"rsa"}"#, &secret), Reason::TokenAlg);
        // the same octets under the right name are no RSA signature
        check(hs256(RS256, &secret), Reason::TokenSignature);
    }
}

/// jwt-simple before 0.3.1: the token's `alg` chose the algorithm.
#[test]
fn cve_2016_10555_algorithm_of_the_token() {
    for alg in ["none", "HS256", "HS384", "HS512", "RS384", "PS256"] {
        let header = format!(r#"{{"alg":"{alg}","kid":"rsa"}}"#);
        check(rsa().sign(&header, &claims(&[])), Reason::TokenAlg);
    }
    check(rsa().sign(r#"{"alg":"ES256","kid":"rsa"}"#, &claims(&[])), Reason::TokenAlg);
}

/// node-jose before 0.11.0: the `jwk` of the header verified the token.
#[test]
fn cve_2018_0114_embedded_key() {
    let attacker = portcullis_token::mint::SigningKey::generate_es256().unwrap();
    let jwk = serde_json::to_string(&attacker.public_jwk("ec")).unwrap();
    let header = |kid: &str| format!(r#"{{"alg":"ES256",{kid}"jwk":{jwk}}}"#);
    check(attacker.sign(&header("\"kid\":\"ec\","), &claims(&[])), Reason::TokenSignature);
    check(attacker.sign(&header(""), &claims(&[])), Reason::TokenKey);
}

/// ServiceStack before 5.9.2: an empty signature verified.
#[test]
fn cve_2020_28042_empty_signature() {
    for (key, header) in [(ec(), ES256), (rsa(), RS256)] {
        let [h, p, _] = parts(&key.sign(header, &claims(&[])));
        check(format!("{h}.{p}."), Reason::TokenMalformed);
        check(format!("{h}.{p}"), Reason::TokenMalformed);
        check(format!("{h}.{p}.AA"), Reason::TokenSignature);
    }
}

/// Java 15 to 18: r = s = 0 verified everything.
#[test]
fn cve_2022_21449_zero_signature() {
    let [h, p, _] = parts(&ec().sign(ES256, &claims(&[])));
    check(format!("{h}.{p}.{}", encode([0; 64])), Reason::TokenSignature);
    let order = decode("_____wAAAAD__________7zm-q2nF56E87nKwvxjJVE");
    for (r, s) in [(&order, &order), (&vec![0; 32], &order), (&order, &vec![0; 32])] {
        check(format!("{h}.{p}.{}", encode([&r[..], s].concat())), Reason::TokenSignature);
    }
    // DER with zeros
    check(format!("{h}.{p}.{}", encode([0x30, 6, 2, 1, 0, 2, 1, 0])), Reason::TokenSignature);
}

/// python-jwt before 3.3.4: one text that is compact for the signature and JSON for the claims.
#[test]
fn cve_2022_39227_two_serializations_in_one() {
    let [h, p, s] = parts(&ec().sign(ES256, &claims(&[])));
    let forged = encode(claims(&[("sub", "\"admin\"")]));
    check(
        format!(r#"{{"  {h}.{forged}.":"","protected":"{h}","payload":"{p}","signature":"{s}"}}"#),
        Reason::TokenMalformed,
    );
    check(format!("{h}.{p}.{s} .{forged}"), Reason::TokenMalformed);
}

/// jwt-go before 4.0.0: `aud` of another type than string was no audience, and passed.
#[test]
fn cve_2020_26160_audience_of_another_type() {
    for aud in ["[]", "[\"other\"]", ""] {
        refused(judge_claims(&claims(&[("aud", aud)])), Reason::TokenAudience);
    }
    for aud in ["{}", "null", "false", "0", "[[]]", "[null]", "{\"0\":\"api://shop\"}"] {
        refused(judge_claims(&claims(&[("aud", aud)])), Reason::TokenClaims);
    }
    assert!(judge_claims(&claims(&[("aud", &format!("[{AUDIENCE:?}]"))])).is_ok());
}

/// golang-jwt before 5.2.2: a token of dots took memory in proportion, four times over.
#[test]
fn cve_2025_30204_a_token_of_dots() {
    check(vec![b'.'; 4096], Reason::TokenMalformed);
    check(vec![b'.'; 1 << 20], Reason::TokenTooLarge);
}

/// node-jsonwebtoken before 9.0.0: keys of a type that the algorithm does not fit.
#[test]
fn cve_2022_23539_key_of_another_type() {
    let rsa_named_es = Jwk { alg: Some("ES256".to_owned()), ..rsa().public_jwk("k") };
    let ec_named_rs = Jwk { alg: Some("RS256".to_owned()), ..ec().public_jwk("k2") };
    let dsa = Jwk { kty: "DSA".to_owned(), ..rsa().public_jwk("k3") };
    let (keys, problems) = KeyStore::new(&[issuer(vec![rsa_named_es, ec_named_rs, dsa])]);
    assert_eq!((keys.issuers()[0].keys().len(), problems.len()), (0, 3));
    let token = rsa().sign(r#"{"alg":"RS256","kid":"k"}"#, &claims(&[]));
    refused(verify(token.as_bytes(), &keys, NOW_S), Reason::TokenKey);
}

/// The same: without a list of algorithms and without a key, `none` was accepted.
#[test]
fn cve_2022_23540_none_without_a_key() {
    let (no_keys, _) = KeyStore::new(&[issuer(vec![])]);
    let none = format!("{}.{}.", encode(r#"{"alg":"none"}"#), encode(claims(&[])));
    refused(verify(none.as_bytes(), &no_keys, NOW_S), Reason::TokenMalformed);
    refused(verify(format!("{none}AA").as_bytes(), &no_keys, NOW_S), Reason::TokenAlg);
    let es256 = ec().sign(ES256, &claims(&[]));
    refused(verify(es256.as_bytes(), &no_keys, NOW_S), Reason::TokenKey);
    refused(verify(es256.as_bytes(), &KeyStore::default(), NOW_S), Reason::TokenIssuer);
}

/// The same: the key that a callback found was used with whatever algorithm the token named.
#[test]
fn cve_2022_23541_algorithm_of_a_looked_up_key() {
    for secret in public_secrets(&ec().public_jwk("ec")) {
        check(hs256(r#"{"alg":"HS256","kid":"ec"}"#, &secret), Reason::TokenAlg);
        check(hs256(ES256, &secret), Reason::TokenSignature);
    }
    check(ec().sign(r#"{"alg":"RS256","kid":"ec"}"#, &claims(&[])), Reason::TokenAlg);
}

/// jsonwebtoken (Rust) before 10.3.0: `exp` or `nbf` of the wrong type counted as absent.
#[test]
fn cve_2026_25537_time_of_the_wrong_type() {
    for name in ["exp", "nbf", "iat"] {
        for value in
            ["\"99999999999\"", "null", "[99999999999]", "{}", "true", "1e12", "99999999999999999999"]
        {
            refused(judge_claims(&claims(&[(name, value)])), Reason::TokenClaims);
        }
    }
}

/// An empty or failed key set falls back to nothing; no token verifies without a key of its issuer.
#[test]
fn cve_2026_31837_no_fallback_keys() {
    let (no_keys, problems) = KeyStore::new(&[issuer(vec![])]);
    assert_eq!(problems, []);
    for (key, header) in [(ec(), ES256), (rsa(), RS256)] {
        let token = key.sign(header, &claims(&[]));
        refused(verify(token.as_bytes(), &no_keys, NOW_S), Reason::TokenKey);
        refused(verify(token.as_bytes(), &KeyStore::new(&[]).0, NOW_S), Reason::TokenIssuer);
    }
}

/// Envoy before 1.17.1: with "allow missing" a token of an unknown issuer passed as if there were none.
#[test]
fn cve_2021_21378_unknown_issuer() {
    refused(judge_claims(&claims(&[("iss", "\"https://evil.example\"")])), Reason::TokenIssuer);
    refused(judge_claims(&claims(&[("iss", "")])), Reason::TokenClaims);
    refused(judge_claims(&claims(&[("iss", "null")])), Reason::TokenClaims);
    assert!(judge(ec().sign(ES256, &claims(&[("iss", &format!("{ISSUER:?}"))]))).is_ok());
}
