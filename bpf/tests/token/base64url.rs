//! Strict base64url (RFC 4648 section 5) against the crate `base64`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis_bpf::host::SlotField;
use portcullis_bpf::limits::{JSON_TAIL, TOKEN_MAX};
use portcullis_testkit::{Rng, seed};

use crate::engine::{Engine, on_both};

on_both! {
    "b64url": every_length,
    "b64url": every_octet_at_every_place,
    "b64url": spare_bits_are_zero,
    "b64url": random_texts,
    "b64url": limits,
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Compares with the reference; the decoded octets are followed by zeros.
fn check(engine: &mut Engine, text: &[u8]) {
    let expected = URL_SAFE_NO_PAD.decode(text).ok();
    engine.set_head(text);
    let length = engine.run();
    let shown = String::from_utf8_lossy(text);
    match expected {
        None => assert_eq!(length, -1, "{shown:?} is not base64url"),
        Some(octets) => {
            assert_eq!(length, octets.len() as i32, "{shown:?}");
            let json = engine.bytes(SlotField::JWT_JSON, octets.len() + JSON_TAIL);
            assert_eq!(json, [&octets[..], &[0; JSON_TAIL]].concat(), "{shown:?}");
        }
    }
}

fn every_length(engine: &mut Engine) {
    for len in (0..=300).chain([1023, 1024, 4000, TOKEN_MAX - 2, TOKEN_MAX]) {
        let mut text = vec![b'A'; len];
        check(engine, &text);
        // The last character of every length, all of whose bits are set or not.
        for last in [b'_', b'B', b'Q', b'g', b'w'] {
            if let Some(c) = text.last_mut() {
                *c = last;
                check(engine, &text);
            }
        }
    }
}

fn every_octet_at_every_place(engine: &mut Engine) {
    // 64 characters are a block of their own; 65 is no length, so 66.
    for len in [5 - 2, 64, 66] {
        for place in 0..len {
            for octet in 0..=255 {
                let mut text = vec![b'z'; len];
                text[len - 1] = b'A';
                text[place] = octet;
                check(engine, &text);
            }
        }
    }
}

fn spare_bits_are_zero(engine: &mut Engine) {
    for len in [2, 3, 66, 67] {
        for last in ALPHABET {
            let mut text = vec![b'q'; len];
            text[len - 1] = *last;
            check(engine, &text);
        }
    }
}

fn random_texts(engine: &mut Engine) {
    let mut rng = Rng::new(seed());
    for _ in 0..2000 {
        let mut text: Vec<u8> = (0..rng.below(200)).map(|_| ALPHABET[rng.below(64) as usize]).collect();
        if !text.is_empty() && rng.one_in(3) {
            let place = rng.below(text.len() as u64) as usize;
            text[place] = rng.next_u64() as u8;
        }
        check(engine, &text);
    }
}

fn limits(engine: &mut Engine) {
    engine.set_head(&vec![b'A'; TOKEN_MAX + 4]);
    assert_eq!(engine.run(), -1, "longer than a token");
}
