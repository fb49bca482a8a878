//! The compact form (RFC 7515 section 7.1, THREATS T34).

use portcullis_wire::Reason;

use crate::fixture::{ES256, claims, ec, encode, judge, parts, refused, token};

fn good() -> [String; 3] {
    parts(&token(ES256, &claims(&[])))
}

#[track_caller]
fn malformed(token: impl AsRef<[u8]>) {
    refused(judge(token), Reason::TokenMalformed);
}

#[test]
fn three_parts_and_none_empty() {
    let [h, p, s] = good();
    assert!(judge(format!("{h}.{p}.{s}")).is_ok());
    for bad in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "...".to_owned(),
        h.clone(),
        format!("{h}.{p}"),
        format!("{h}.{p}."),
        format!("{h}..{s}"),
        format!(".{p}.{s}"),
        format!("{h}.{p}.{s}."),
        format!(".{h}.{p}.{s}"),
        format!("{h}.{p}.{s}.{s}"),
        format!("{h}.{p}..{s}"),
        format!("{h}.{p}.{p}.{p}.{s}"),
    ] {
        malformed(&bad);
    }
}

#[test]
fn header_and_payload_in_strict_base64url() {
    let [h, p, s] = good();
    for change in [
        (|part: &str| format!("{part}=")) as fn(&str) -> String,
        |part| format!("{part}=="),
        |part| format!("={part}"),
        |part| format!("{part}\n"),
        |part| format!(" {part}"),
        |part| format!("{}\r\n{}", &part[..4], &part[4..]),
        |part| format!("{}+{}", &part[..4], &part[5..]),
        |part| format!("{}/{}", &part[..4], &part[5..]),
        |part| format!("{}%3D", part),
        |part| format!("{}\0", part),
        |part| format!("{}é", part),
        |part| format!("{}A", &part[..part.len() / 4 * 4]),
    ] {
        malformed(format!("{}.{p}.{s}", change(&h)));
        malformed(format!("{h}.{}.{s}", change(&p)));
        refused(judge(format!("{h}.{p}.{}", change(&s))), Reason::TokenSignature);
    }
}

/// Bits of the last character that encode nothing: another spelling of the same octets, which a cache or a log would
/// take for another token.
#[test]
fn spare_bits_are_zero() {
    let spell = |text: &str| {
        let encoded = encode(text);
        let last = encoded.bytes().last().unwrap();
        assert_ne!(encoded.len() % 4, 0, "no spare bits");
        // The characters that differ in the lowest bit stand side by side in the alphabet.
        format!("{}{}", &encoded[..encoded.len() - 1], char::from(last + 1))
    };
    for padding in ["", " "] {
        let (header, claims) = (format!("{ES256}{padding}"), format!("{}{padding}", claims(&[])));
        if header.len() % 3 != 0 {
            let input = format!("{}.{}", spell(&header), encode(&claims));
            malformed(format!("{input}.{}", encode(ec().signature(input.as_bytes()))));
        }
        if claims.len() % 3 != 0 {
            let input = format!("{}.{}", encode(&header), spell(&claims));
            malformed(format!("{input}.{}", encode(ec().signature(input.as_bytes()))));
        }
    }
    let [h, p, s] = good();
    let last = s.bytes().last().unwrap();
    refused(judge(format!("{h}.{p}.{}{}", &s[..85], char::from(last + 1))), Reason::TokenSignature);
}

#[test]
fn other_serializations() {
    let [h, p, s] = good();
    malformed(format!(r#"{{"protected":"{h}","payload":"{p}","signature":"{s}"}}"#));
    malformed(format!(r#"{{"payload":"{p}","signatures":[{{"protected":"{h}","signature":"{s}"}}]}}"#));
    malformed(format!("Bearer {h}.{p}.{s}"));
    malformed(format!("\"{h}.{p}.{s}\""));
    malformed(format!("{h}.{p}.{s}").replace('.', "%2E"));
    malformed(format!("{h}.{p}.{s}").replace('.', "\u{ff0e}"));
}

#[test]
fn size() {
    let sized = |length: usize| {
        let plain = token(ES256, &claims(&[("x", "\"\"")]));
        let pad = (length - plain.len()) * 3 / 4;
        (pad..pad + 4)
            .map(|pad| token(ES256, &claims(&[("x", &format!("\"{}\"", "x".repeat(pad)))])))
            .find(|token| token.len() >= length)
            .unwrap()
    };
    let fits = sized(4095);
    assert!((4095..=4096).contains(&fits.len()));
    assert!(judge(&fits).is_ok());
    let long = sized(4097);
    assert!((4097..=4098).contains(&long.len()));
    refused(judge(&long), Reason::TokenTooLarge);
    // size comes before anything else
    refused(judge(vec![b'.'; 4097]), Reason::TokenTooLarge);
    malformed(vec![b'.'; 4096]);
}
