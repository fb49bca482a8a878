//! What kind of JSON the header and the claims are (RFC 8259).

use portcullis_wire::Reason;

use super::Party;
use super::draft::{Draft, quote};
use super::rng::Rng;

/// Adds an unknown member, or an item of one, to the header or the claims; it is checked for syntax only.
fn add(draft: &mut Draft, rng: &mut Rng, value: &[u8], good: bool, what: &str) {
    let value = match rng.below(3) {
        0 => value.to_vec(),
        1 => [b"[0,", value, b"]"].concat(),
        _ => [b"{\"exp\":", value, b"}"].concat(),
    };
    let (object, reason) = if rng.one_in(3) {
        (&mut draft.header, Reason::TokenHeader)
    } else {
        (&mut draft.claims, Reason::TokenClaims)
    };
    object.insert(rng, quote("x"), value.clone());
    let expected = if good { Ok(()) } else { Err(reason) };
    draft.expect(expected, format!("{what} {}", String::from_utf8_lossy(&value)));
}

pub(super) fn number(draft: &mut Draft, rng: &mut Rng, _: &[Party]) {
    const GOOD: &[&str] = &[
        "0",
        "-0",
        "1",
        "-1",
        "10",
        "1.5",
        "0.0",
        "1e5",
        "1E-7",
        "1e+0",
        "-1.0E+10",
        "0e00",
        "1e999999",
        "123456789012345678901234567890",
        "0.000000000000000000000000000001",
    ];
    const BAD: &[&str] = &[
        "00",
        "01",
        "-01",
        "+1",
        ".5",
        "1.",
        "-",
        "--1",
        "1e",
        "1e+",
        "1e+-1",
        "1.e1",
        "0x1",
        "1_0",
        "NaN",
        "Infinity",
        "-Infinity",
        "1 2",
        "1,",
        "1a",
        "e1",
        "\u{661}",
        "1.2.3",
        "1e2.5",
    ];
    let good = rng.one_in(2);
    let text = *rng.pick(if good { GOOD } else { BAD });
    add(draft, rng, text.as_bytes(), good, "number");
}

pub(super) fn escape(draft: &mut Draft, rng: &mut Rng, _: &[Party]) {
    const GOOD: &[&str] = &[
        "\\\"",
        "\\\\",
        "\\/",
        "\\b\\f\\n\\r\\t",
        "\\u0041",
        "\\u00e9",
        "\\uFFFF",
        "\\ud7ff",
        "\\ue000",
        "\\ud800\\udc00",
        "\\uDBFF\\uDFFF",
        "x\\\\u0041",
        "\\\\ud800",
    ];
    const BAD: &[&str] = &[
        "\\",
        "\\x41",
        "\\u",
        "\\u1",
        "\\u12",
        "\\u123",
        "\\u123g",
        "\\u+123",
        "\\u 123",
        "\\U0041",
        "\\ud800",
        "\\udc00",
        "\\ud800\\u0041",
        "\\ud800x",
        "\\ud800\\n",
        "\\udc00\\ud800",
        "\\ud800\\ud800",
        "\\ud800\\udbff",
        "\\0",
        "\\'",
        "\\v",
        "\\a",
        "\\ud800\\udc0",
        "\\\u{e9}",
    ];
    let good = rng.one_in(2);
    let text = *rng.pick(if good { GOOD } else { BAD });
    let quoted = format!("\"{text}\"");
    if rng.one_in(3) {
        // in a known claim
        draft.claims.set("email", quoted.clone());
        let expected = if good { Ok(()) } else { Err(Reason::TokenClaims) };
        return draft.expect(expected, format!("email {quoted}"));
    }
    add(draft, rng, quoted.as_bytes(), good, "escape");
}

/// Octets in strings: UTF-8 (RFC 3629) and what is not.
pub(super) fn octets(draft: &mut Draft, rng: &mut Rng, _: &[Party]) {
    const GOOD: &[&[u8]] = &[
        b"\x7f",
        b" !",
        b"\xc2\x80",
        b"\xdf\xbf",
        b"\xe0\xa0\x80",
        b"\xed\x9f\xbf",
        b"\xee\x80\x80",
        b"\xef\xbf\xbf",
        b"\xf0\x90\x80\x80",
        b"\xf4\x8f\xbf\xbf",
        b"\xe2\x80\xae",
        b"\xef\xbb\xbf",
    ];
    const BAD: &[&[u8]] = &[
        b"\0",
        b"\x01",
        b"\x1f",
        b"\n",
        b"\t",
        b"\x80",
        b"\xbf",
        b"\xc0\x80",
        b"\xc1\xbf",
        b"\xc2",
        b"\xc2A",
        b"\xe0\x80\x80",
        b"\xe0\x9f\xbf",
        b"\xed\xa0\x80",
        b"\xed\xbf\xbf",
        b"\xe1\x80",
        b"\xe1\x80A",
        b"\xf0\x80\x80\x80",
        b"\xf0\x8f\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
        b"\xf1\x80\x80",
        b"\xff",
        b"\xfe",
        b"\xf8\x88\x80\x80\x80",
        b"\xc2\xc2\x80",
    ];
    let good = rng.one_in(2);
    let text = *rng.pick(if good { GOOD } else { BAD });
    // anywhere in a string: the readers take eight octets at a time
    let before = "abcdefgh".repeat(2)[..rng.below(17)].to_owned();
    let quoted = [b"\"", before.as_bytes(), text, b"z\""].concat();
    if rng.one_in(3) {
        draft.claims.set("email", quoted);
        let expected = if good { Ok(()) } else { Err(Reason::TokenClaims) };
        return draft.expect(expected, format!("octets {text:x?} in email"));
    }
    add(draft, rng, &quoted, good, "octets");
}

/// Something before or behind the object, white space that is none, or another text altogether.
pub(super) fn around(draft: &mut Draft, rng: &mut Rng, _: &[Party]) {
    const GOOD: &[(&str, &str)] =
        &[("", " "), ("\n", "\n"), ("\t\r\n ", "        \n"), ("", "                 ")];
    const BAD: &[(&str, &str)] = &[
        ("", "x"),
        ("", "{}"),
        ("", "}"),
        ("", "]"),
        ("", ","),
        ("", "\0"),
        ("", " \0"),
        ("", "\0 "),
        ("\u{feff}", ""),
        ("\0", ""),
        ("[", "]"),
        ("[", ""),
        (",", ""),
        ("", "\u{b}"),
        ("\u{c}", ""),
        ("\u{a0}", ""),
        ("", "/**/"),
        ("", "//x"),
        ("#\n", ""),
        ("\"", "\""),
        ("\u{1e}", ""),
        ("", "\u{85}"),
    ];
    let header = rng.one_in(3);
    let object = if header { draft.header.render(rng) } else { draft.claims.render(rng) };
    let reason = if header { Reason::TokenHeader } else { Reason::TokenClaims };
    let (text, expected, note) = if rng.one_in(5) {
        let other = *rng.pick(&[
            "",
            " ",
            "null",
            "[]",
            "\"\"",
            "1",
            "{}",
            "{",
            "}",
            "{\"a\"}",
            "{,}",
            "{\"a\":1,}",
            "{a:1}",
            "{'a':1}",
        ]);
        (other.as_bytes().to_vec(), None, format!("{other:?} instead"))
    } else {
        let good = rng.one_in(3);
        let (before, behind) = *rng.pick(if good { GOOD } else { BAD });
        let text = [before.as_bytes(), &object, behind.as_bytes()].concat();
        (text, Some(if good { Ok(()) } else { Err(reason) }), format!("{before:?} before, {behind:?} behind"))
    };
    *(if header { &mut draft.header_text } else { &mut draft.claims_text }) = Some(text);
    match expected {
        Some(expected) => draft.expect(expected, note),
        None => draft.doubt(note),
    }
}

/// Random changes of the text.
pub(super) fn damage(draft: &mut Draft, rng: &mut Rng, _: &[Party]) {
    let header = rng.one_in(3);
    let mut text = if header { draft.header.render(rng) } else { draft.claims.render(rng) };
    for _ in 0..=rng.below(3) {
        change(&mut text, rng, b"{}[]:,\"\\ \n-+.0159eEtfnu\0\x80\xff");
    }
    *(if header { &mut draft.header_text } else { &mut draft.claims_text }) = Some(text);
    draft.doubt(if header { "damaged header" } else { "damaged claims" });
}

/// One random change: an octet replaced, inserted, removed or repeated, a piece cut out or moved.
pub(super) fn change(text: &mut Vec<u8>, rng: &mut Rng, likely: &[u8]) {
    if text.is_empty() {
        return;
    }
    let at = rng.below(text.len());
    let octet = if rng.one_in(4) { rng.byte() } else { *rng.pick(likely) };
    match rng.below(7) {
        0 | 1 => text[at] = octet,
        2 => text.insert(at, octet),
        3 => drop(text.remove(at)),
        4 => text[at] ^= 1 << rng.below(8),
        5 => {
            let end = (at + 1 + rng.below(12)).min(text.len());
            let piece: Vec<u8> = text.drain(at..end).collect();
            if rng.one_in(2) {
                let to = rng.below(text.len() + 1);
                text.splice(to..to, piece);
            }
        }
        _ => text.truncate(at),
    }
}
