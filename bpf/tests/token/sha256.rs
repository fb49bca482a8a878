//! SHA-256 against aws-lc-rs (FIPS 180-4) at every padding, and the generated rounds.

use aws_lc_rs::digest;
use portcullis_bpf::host::SlotField;
use portcullis_bpf::limits::TOKEN_MAX;
use portcullis_testkit::{Rng, seed};

use crate::engine::{Engine, on_both};

on_both! {
    "sha256": every_short_length,
    "sha256": long_lengths,
    "sha256": known_answers,
    "sha256": longer_than_a_token_is_refused,
}

/// The digest of `message`, most significant octet first.
fn sha256(engine: &mut Engine, message: &[u8]) -> Vec<u8> {
    engine.set_head(message);
    assert_eq!(engine.run(), 0);
    engine.bytes(SlotField::JWT_SHA, 32).chunks_exact(4).flat_map(|w| w.iter().rev().copied()).collect()
}

fn check(engine: &mut Engine, message: &[u8]) {
    let expected = digest::digest(&digest::SHA256, message);
    assert_eq!(sha256(engine, message), expected.as_ref(), "{} octets", message.len());
}

fn every_short_length(engine: &mut Engine) {
    let mut rng = Rng::new(seed());
    for len in 0..=300 {
        let mut message = vec![0; len];
        rng.fill(&mut message);
        check(engine, &message);
    }
}

fn long_lengths(engine: &mut Engine) {
    let mut rng = Rng::new(seed());
    for len in [
        511,
        512,
        575,
        1000,
        1023,
        2047,
        4000,
        TOKEN_MAX - 64,
        TOKEN_MAX - 9,
        TOKEN_MAX - 8,
        TOKEN_MAX - 1,
        TOKEN_MAX,
    ] {
        let mut message = vec![0; len];
        rng.fill(&mut message);
        check(engine, &message);
    }
}

/// FIPS 180-2 appendix B.
fn known_answers(engine: &mut Engine) {
    let hex = |octets: Vec<u8>| octets.iter().map(|o| format!("{o:02x}")).collect::<String>();
    assert_eq!(
        hex(sha256(engine, b"abc")),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    assert_eq!(
        hex(sha256(engine, b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")),
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
    );
}

fn longer_than_a_token_is_refused(engine: &mut Engine) {
    engine.set_head(&vec![b'a'; TOKEN_MAX + 1]);
    assert_eq!(engine.run(), -1);
}
