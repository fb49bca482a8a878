//! What a verification costs in the kernel, by BPF_PROG_TEST_RUN: `cargo nextest run --run-ignored only cost`.

use std::time::Duration;

use aws_lc_rs::digest;
use portcullis_bpf::abi::{Identity, Secret};
use portcullis_bpf::host::SlotField;
use portcullis_bpf::p256_tables;
use portcullis_testkit::need;
use zerocopy::IntoBytes;

use crate::engine::Engine;
use crate::keys::{
    RSA2048, RSA3072, RSA4096, RsaSize, generate_p256, modulus, set_p256_key, sign_p256, sign_rsa,
};

/// Least and middle of 31 averages over 100 runs each; the signature must be valid.
fn measure(engine: &mut Engine, name: &str, signature: &[u8]) {
    let digest = digest::digest(&digest::SHA256, b"cost");
    let words: Vec<u8> = digest.as_ref().chunks_exact(4).flat_map(|w| w.iter().rev().copied()).collect();
    let mut times: Vec<Duration> = (0..31)
        .map(|_| {
            engine.set_bytes(SlotField::JWT_SHA, &words);
            engine.set_bytes(SlotField::JWT_JSON, &[&[0; 8], signature].concat());
            let (result, time) = engine.timed(0, 100);
            assert_eq!(result, 1, "a valid signature");
            time
        })
        .collect();
    times.sort_unstable();
    println!("{name}: least {:?}, median {:?}", times[0], times[15]);
}

fn rsa(step: &str, size: RsaSize) {
    let mut engine = Engine::kernel(step);
    let pair = size.generate();
    size.set_key(&mut engine, 0, &modulus(&pair));
    measure(&mut engine, step, &sign_rsa(&pair, b"cost"));
}

#[test]
#[ignore = "measures, proves nothing"]
fn cost() {
    need!(Root, Bpf);
    rsa("rsa2048", RSA2048);
    rsa("rsa3072", RSA3072);
    rsa("rsa4096", RSA4096);
    known_tokens();
    crate::jwt::cost();
    let mut engine = Engine::kernel("p256");
    engine.points("pc_p256_g", 0, &p256_tables::generator_table());
    let pair = generate_p256();
    set_p256_key(&mut engine, 0, &pair);
    measure(&mut engine, "p256", &sign_p256(&pair, b"cost"));
}

/// A token of 927 characters that the caches know.
fn known_tokens() {
    let token = vec![b'x'; 927];
    let mut engine = Engine::kernel("cache_get cache_put refused_get refused_put");
    engine.update("pc_secret", &0u32.to_ne_bytes(), Secret { key: [1, 2] }.as_bytes());
    engine.set_head(&token);
    engine.set_u32(SlotField::JWT_TOKEN_LEN, token.len() as u32);
    let id = Identity { exp: 1, ..Identity::zeroed() };
    engine.set_bytes(SlotField::ID, id.as_bytes());
    engine.run_step(1);
    engine.run_step(2);
    engine.run_step(3);
    for (step, name) in [(0, "cache_get"), (2, "refused_get")] {
        let mut times: Vec<Duration> = (0..31)
            .map(|_| {
                let (result, time) = engine.timed(step, 1000);
                assert_eq!(result, 1, "a hit");
                time
            })
            .collect();
        times.sort_unstable();
        println!("{name}: least {:?}, median {:?}", times[0], times[15]);
    }
}
