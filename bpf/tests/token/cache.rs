//! The token cache and the memory of refused tokens: hits, misses, times, generations, and what an entry is bound to.

use std::hash::Hasher as _;

use portcullis_bpf::abi::{Identity, Issuer, Secret};
use portcullis_bpf::host::SlotField;
use portcullis_bpf::limits::{CACHED_TOKEN_MAX, TOKEN_MAX};
use portcullis_bpf::reason::REASONS;
use portcullis_testkit::{Rng, seed};
use zerocopy::{FromBytes, IntoBytes};

use crate::engine::{Engine, on_both};

on_both! {
    "cache_get cache_put": only_the_same_bytes_hit,
    "cache_get cache_put": every_length,
    "cache_get cache_put": times_are_checked_at_each_hit,
    "cache_get cache_put": another_generation_misses,
    "cache_get cache_put": an_identity_of_another_entry_does_not_fit,
    "refused_get refused_put": refused_tokens_are_remembered,
    "refused_get refused_put": fingerprints_are_siphash,
}

const NOW: u64 = 1_700_000_000;
const ISSUER: u32 = 5;
const GET: usize = 0;
const PUT: usize = 1;

fn identity() -> Identity {
    Identity { exp: NOW + 600, issuer: ISSUER, flags: 1, ..Identity::zeroed() }
}

/// A text like a token; the cache does not read it.
fn token(rng: &mut Rng, len: usize) -> Vec<u8> {
    (0..len).map(|_| b'A' + rng.below(26) as u8).collect()
}

fn place(engine: &mut Engine, token: &[u8]) {
    engine.set_head(&[b"GET / HTTP/1.1\r\nAuthorization: Bearer ", token, b"\r\nX: y\r\n\r\n"].concat());
    engine.set_u32(SlotField::JWT_TOKEN, 38);
    engine.set_u32(SlotField::JWT_TOKEN_LEN, token.len() as u32);
    engine.set_u64(SlotField::JWT_NOW, NOW);
}

fn put(engine: &mut Engine, token: &[u8], id: &Identity) {
    engine.update("pc_issuers", &ISSUER.to_ne_bytes(), Issuer { id: 0, leeway_s: 10 }.as_bytes());
    place(engine, token);
    engine.set_bytes(SlotField::ID, id.as_bytes());
    assert_eq!(engine.run_step(PUT), 0);
}

/// The identity of a hit, the slug of a refusal, or nothing.
fn get(engine: &mut Engine, token: &[u8]) -> Option<Result<Identity, &'static str>> {
    place(engine, token);
    get_placed(engine)
}

fn get_placed(engine: &mut Engine) -> Option<Result<Identity, &'static str>> {
    engine.set_bytes(SlotField::ID, Identity::zeroed().as_bytes());
    match engine.run_step(GET) {
        0 => None,
        1 => {
            Some(Ok(Identity::read_from_bytes(engine.bytes(SlotField::ID, size_of::<Identity>()))
                .expect("identity")))
        }
        -1 => {
            let code = engine.u32(SlotField::JWT_REASON);
            Some(Err(REASONS.iter().find(|row| u32::from(row.code) == code).expect("a reason").slug))
        }
        other => panic!("result {other}"),
    }
}

fn hits(engine: &mut Engine, token: &[u8]) -> bool {
    get(engine, token).is_some()
}

fn only_the_same_bytes_hit(engine: &mut Engine) {
    let mut rng = Rng::new(seed());
    let good = token(&mut rng, 927);
    assert!(!hits(engine, &good), "an empty cache");
    put(engine, &good, &identity());
    let id = get(engine, &good).expect("a hit").expect("valid");
    assert_eq!(id.as_bytes(), identity().as_bytes());
    for at in 0..good.len() {
        let mut other = good.clone();
        other[at] ^= 1 << rng.below(7);
        assert!(!hits(engine, &other), "byte {at} changed");
    }
    assert!(!hits(engine, &good[..926]));
    assert!(!hits(engine, &good[1..]));
    assert!(!hits(engine, &[&good[..], b"A"].concat()));
    assert!(!hits(engine, &[b"A", &good[..]].concat()), "the same end");
    assert!(hits(engine, &good), "still there");
}

fn every_length(engine: &mut Engine) {
    let mut rng = Rng::new(seed());
    for len in (16..200).chain([1023, 1024, CACHED_TOKEN_MAX - 1, CACHED_TOKEN_MAX]) {
        let good = token(&mut rng, len);
        put(engine, &good, &identity());
        assert!(hits(engine, &good), "{len}");
        for at in [0, len / 2, len - 1] {
            let mut other = good.clone();
            other[at] ^= 2;
            assert!(!hits(engine, &other), "{len}: byte {at}");
        }
    }
    for len in [0, 1, 15, CACHED_TOKEN_MAX + 1] {
        let odd = token(&mut rng, len);
        put(engine, &odd, &identity());
        assert!(!hits(engine, &odd), "{len} is not kept");
    }
}

fn times_are_checked_at_each_hit(engine: &mut Engine) {
    let mut rng = Rng::new(seed());
    let good = token(&mut rng, 300);
    put(engine, &good, &Identity { exp: 1000, nbf: 500, iat: 600, ..identity() });
    let mut at = |now: u64| {
        place(engine, &good);
        engine.set_u64(SlotField::JWT_NOW, now);
        get_placed(engine).expect("a hit").map(|id| id.exp)
    };
    assert_eq!(at(1009), Ok(1000));
    assert_eq!(at(1010), Err("token_expired"));
    assert_eq!(at(590), Ok(1000));
    assert_eq!(at(589), Err("token_iat"));
    assert_eq!(at(489), Err("token_not_yet"));
    // An issuer that is gone has no leeway and no tokens.
    put(engine, &good, &Identity { issuer: 1 << 20, ..identity() });
    assert_eq!(get(engine, &good).expect("a hit").map(|id| id.exp), Err("internal"));
}

fn another_generation_misses(engine: &mut Engine) {
    let mut rng = Rng::new(seed());
    let good = token(&mut rng, 300);
    engine.set_u64(SlotField::GENERATION, 7);
    put(engine, &good, &identity());
    assert!(hits(engine, &good));
    for generation in [0, 6, 8, 7 << 32] {
        engine.set_u64(SlotField::GENERATION, generation);
        assert!(!hits(engine, &good), "generation {generation}");
    }
    engine.set_u64(SlotField::GENERATION, 7);
    assert!(hits(engine, &good));
}

/// What a reader sees of an element that is reused under it: one entry's bytes with parts of another's identity.
fn an_identity_of_another_entry_does_not_fit(engine: &mut Engine) {
    let mut rng = Rng::new(seed());
    let (a, b) = (token(&mut rng, 300), token(&mut rng, 300));
    put(engine, &a, &identity());
    let entry = entry_of(engine);
    put(engine, &b, &Identity { flags: 0, ..identity() });
    let other = entry_of(engine);
    let key = &a[a.len() - 16..];
    let mut set = |bytes: &[u8]| {
        engine.update("pc_token_cache", key, bytes);
        hits(engine, &a)
    };
    assert!(set(&entry), "the entry itself");
    // generation, seal, len, pad, id, token
    let id = 24..24 + size_of::<Identity>();
    let mix = |range: std::ops::Range<usize>| {
        let mut mixed = entry.clone();
        mixed[range.clone()].copy_from_slice(&other[range]);
        mixed
    };
    assert_ne!(entry[id.clone()], other[id.clone()]);
    assert!(!set(&mix(id.clone())), "the other's identity");
    assert!(!set(&mix(8..id.end)), "the other's identity and seal");
    assert!(!set(&mix(id.end..entry.len())), "the other's token");
    for at in id {
        let mut torn = entry.clone();
        torn[at] ^= 0x40;
        assert!(!set(&torn), "byte {at}");
    }
}

/// The value that the last `put` stored: `struct pc_cached_token` in the slot.
fn entry_of(engine: &Engine) -> Vec<u8> {
    let size = 24 + size_of::<Identity>() + CACHED_TOKEN_MAX;
    let before = SlotField::CACHED_ID.offset() - 24;
    engine.slot()[before..before + size].to_vec()
}

fn secret(engine: &mut Engine, key: [u64; 2]) {
    engine.update("pc_secret", &0u32.to_ne_bytes(), Secret { key }.as_bytes());
}

fn refused_tokens_are_remembered(engine: &mut Engine) {
    let mut rng = Rng::new(seed());
    let bad = token(&mut rng, 927);
    place(engine, &bad);
    assert_eq!(engine.run_step(GET), 0, "no secret");
    assert_eq!(engine.run_step(PUT), 0);
    assert_eq!(engine.run_step(GET), 0, "nothing is kept without a secret");
    secret(engine, [rng.next_u64(), rng.next_u64() | 1]);
    assert_eq!(engine.run_step(GET), 0);
    engine.run_step(PUT);
    assert_eq!(engine.run_step(GET), 1);
    // Any other token is another: each byte counts.
    for at in 0..bad.len() {
        let mut other = bad.clone();
        other[at] ^= 4;
        place(engine, &other);
        assert_eq!(engine.run_step(GET), 0, "byte {at}");
    }
    place(engine, &bad);
    engine.set_u64(SlotField::GENERATION, 99);
    assert_eq!(engine.run_step(GET), 0, "another generation may have the key");
}

fn fingerprints_are_siphash(engine: &mut Engine) {
    let mut rng = Rng::new(seed());
    for len in (0..70).chain([926, 927, TOKEN_MAX - 1, TOKEN_MAX]) {
        let key = [rng.next_u64(), rng.next_u64()];
        secret(engine, key);
        let text = token(&mut rng, len);
        place(engine, &text);
        engine.run_step(PUT);
        #[expect(deprecated, reason = "an independent SipHash-2-4")]
        let mut expected = std::hash::SipHasher::new_with_keys(key[0], key[1]);
        expected.write(&text);
        assert_eq!(engine.u64(SlotField::FINGERPRINT), expected.finish(), "{len} characters");
    }
}
