//! The head parser, paths and hosts in C against core/http: two implementations that share no code must say the same
//! of every head, reason included.

use portcullis_bpf::{host::Host, limits::HEAD_MAX};
use portcullis_testkit::{Rng, heads, seed};

use portcullis_fuzz::head::{self as sides, Comparison};

/// Generated heads, and as many mutations of them.
const HEADS: usize = 60_000;

#[test]
fn generated_heads() {
    assert_eq!(heads::HEAD_BYTES, HEAD_MAX);
    let mut rng = Rng::new(seed());
    let mut comparison = Comparison::default();
    for _ in 0..HEADS {
        let mut head = heads::head(&mut rng);
        comparison.compare(&head);
        heads::mutate(&mut rng, &mut head);
        comparison.compare(&head);
    }
    comparison.finish();
    // A generator that makes only good or only bad heads would prove little.
    assert!(comparison.accepted * 10 > HEADS, "only {} heads were accepted", comparison.accepted);
    assert!(comparison.refused * 10 > HEADS, "only {} heads were refused", comparison.refused);
    assert!(comparison.reasons.len() >= 9, "only these refusals: {:?}", comparison.reasons);
}

#[test]
fn every_byte_at_every_place() {
    let mut comparison = Comparison::default();
    for head in heads::SAMPLES {
        for at in 0..head.len() {
            for byte in 0..=255u8 {
                let mut head = head.to_vec();
                head[at] = byte;
                comparison.compare(&head);
            }
        }
    }
    comparison.finish();
}

#[test]
fn every_cut_and_every_gap() {
    let mut comparison = Comparison::default();
    for head in heads::SAMPLES {
        for from in 0..head.len() {
            comparison.compare(&head[..from]);
            for to in from..head.len().min(from + 20) {
                comparison.compare(&[&head[..from], &head[to..]].concat());
                comparison.compare(&[&head[..to], &head[from..]].concat());
            }
        }
    }
    comparison.finish();
}

/// Bounds, and words of 8 and 16 bytes at every offset: what is long is read many bytes a step.
#[test]
fn every_length_around_a_bound() {
    let mut comparison = Comparison::default();
    for part in heads::LONG_PARTS {
        for length in heads::lengths() {
            comparison.compare(&part.with_length(length));
        }
        for total in HEAD_MAX - 18..HEAD_MAX + 18 {
            comparison.compare(&part.with_total(total));
            // Without its end: the head goes on beyond what fits.
            let mut open = part.with_total(total + 100);
            open.truncate(total);
            comparison.compare(&open);
        }
    }
    comparison.finish();
}

#[test]
fn every_percent_encoded_byte_and_pair() {
    let mut comparison = Comparison::default();
    let get = |path: String| format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes();
    for byte in 0..=255u8 {
        for path in
            ["/%{}", "/a%{}b", "/%{}/", "/%25%{}", "/%c3%{}", "/%e0%{}%80", "/%f0%{}%80%80", "/%25%3{}"]
        {
            comparison.compare(&get(path.replace("{}", &format!("{byte:02x}"))));
            comparison.compare(&get(path.replace("{}", &format!("{byte:02X}"))));
        }
        if byte.is_ascii_graphic() {
            for fill in 0..18 {
                comparison.compare(&get(format!("/{}{}", "a".repeat(fill), char::from(byte))));
                comparison.compare(&get(format!(
                    "/{}{}{}/b",
                    "a".repeat(fill),
                    char::from(byte),
                    char::from(byte)
                )));
            }
        }
    }
    comparison.finish();
}

#[test]
fn a_difference_is_seen() {
    let mut host = Host::new();
    let head = |host: &mut Host, bytes: &[u8]| sides::kernel(host, bytes);
    let other: &[u8] = b"GET /b HTTP/1.1\r\nHost: h\r\n\r\n";
    assert_ne!(head(&mut host, other), sides::model(b"GET /c HTTP/1.1\r\nHost: h\r\n\r\n"));
    assert_ne!(head(&mut host, other), sides::model(b"GET /b HTTP/1.1\r\nHost: i\r\n\r\n"));
    assert_ne!(head(&mut host, b"get"), sides::model(b"GET"));
    assert_eq!(head(&mut host, other), sides::model(other));
}
