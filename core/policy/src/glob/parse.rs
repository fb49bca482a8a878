//! Reading of globs: everything that can be wrong with one, and what to write instead.

use crate::error::PatternError;
use crate::limits::PATH_MAX;

use super::{Part, Segment};

/// Segments of a pattern, and whether anything may follow.
pub(super) fn parse(text: &str) -> Result<(Vec<Segment>, bool), PatternError> {
    let Some(body) = text.strip_prefix('/') else {
        let message =
            if text.is_empty() { "the pattern is empty" } else { "the pattern does not begin with a slash" };
        return Err(PatternError::new(message, format!("write `/{text}`")));
    };
    if text.len() > PATH_MAX {
        return Err(PatternError::new(
            format!("the pattern has {} bytes, and paths have {PATH_MAX} at most", text.len()),
            "write a shorter one, with `*` or `**`",
        ));
    }
    let written: Vec<&str> = body.split('/').collect();
    let mut segments = Vec::with_capacity(written.len());
    let mut rest = false;
    for (number, &piece) in written.iter().enumerate() {
        let last = number + 1 == written.len();
        match piece {
            "" if !last => {
                return Err(PatternError::new(
                    "the pattern has an empty segment (`//`), and no path that is let through has one",
                    "write a single slash",
                ));
            }
            "*" | "**" if last => rest = true,
            // Two in a row match what one matches.
            "**" if segments.last() == Some(&Segment::Deep) => {}
            "**" => segments.push(Segment::Deep),
            piece => segments.push(segment(piece)?),
        }
    }
    // "Any segments, then anything" is "anything".
    while rest && segments.last() == Some(&Segment::Deep) {
        segments.pop();
    }
    Ok((segments, rest))
}

fn segment(piece: &str) -> Result<Segment, PatternError> {
    if piece == "." || piece == ".." {
        return Err(PatternError::new(
            format!("the pattern has a `{piece}` segment, and no path that is let through has one"),
            "write the path that it leads to",
        ));
    }
    if piece.contains("**") {
        return Err(PatternError::new(
            format!("`**` shares the segment `{piece}` with other characters"),
            "write `**` as a segment of its own, or `*` for any characters within the segment",
        ));
    }
    if let Some(name) = piece.strip_prefix('{').and_then(|piece| piece.strip_suffix('}')) {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' || byte == b'.';
        if !name.is_empty() && name.bytes().all(allowed) {
            return Ok(Segment::One);
        }
    }
    if piece.contains(['{', '}']) {
        return Err(PatternError::new(
            format!("`{piece}` is no placeholder"),
            "write `{name}` (letters, digits, `_`, `-`, `.`) as a whole segment, or `*` within one; a brace itself is `%7B` or `%7D`",
        ));
    }
    if piece == "*" {
        return Ok(Segment::One);
    }
    let mut parts = Vec::new();
    for (number, run) in piece.split('*').enumerate() {
        if number > 0 {
            parts.push(Part::Star);
        }
        check_text(run)?;
        if !run.is_empty() {
            parts.push(Part::Text(run.to_owned()));
        }
    }
    Ok(match parts.pop() {
        None => Segment::Literal(String::new()),
        Some(Part::Text(text)) if parts.is_empty() => Segment::Literal(text),
        Some(part) => {
            parts.push(part);
            Segment::Partial(parts)
        }
    })
}

/// Characters between slashes and stars: only what a canonical path can hold (`docs/SEMANTICS.md`, Paths).
fn check_text(text: &str) -> Result<(), PatternError> {
    let mut encoded = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.as_bytes().get(at) {
        let octet = if byte == b'%' { Some(percent(text, at)?) } else { None };
        match octet {
            Some(octet) if octet >= 0x80 => encoded.push(octet),
            Some(_) | None => {
                check_utf8(&encoded)?;
                encoded.clear();
            }
        }
        if octet.is_none() {
            check_byte(text, at, byte)?;
        }
        at += if octet.is_some() { 3 } else { 1 };
    }
    check_utf8(&encoded)
}

fn check_byte(text: &str, at: usize, byte: u8) -> Result<(), PatternError> {
    if stands_for_itself(byte) {
        return Ok(());
    }
    if byte == b'?' {
        let message = "the pattern has a `?`, and the query is never matched";
        return Err(PatternError::new(message, "write the path without its query"));
    }
    if matches!(byte, b'#' | b';' | b'\\') {
        let message =
            format!("the pattern has a `{}`, and paths that hold one are refused", char::from(byte));
        return Err(PatternError::new(message, "leave it out"));
    }
    // `at` is the start of a character: what stood before was ASCII.
    let found = text[at..].chars().next().unwrap_or_default();
    let remedy = if found.is_ascii_control() {
        "leave it out".to_owned()
    } else {
        let mut octets = [0; 4];
        let encoded = found.encode_utf8(&mut octets).bytes().map(|octet| format!("%{octet:02X}"));
        format!("write `{}`", encoded.collect::<String>())
    };
    let message = format!("the pattern has the character {found:?}, which canonical paths encode");
    Err(PatternError::new(message, remedy))
}

/// Characters that canonical paths do not encode: pchar of RFC 3986 section 3.3 without `;` (parameters) and `*` (a
/// wildcard here).
fn stands_for_itself(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()+,=:@".contains(&byte)
}

/// The octet of `%XX` at a position.
fn percent(text: &str, at: usize) -> Result<u8, PatternError> {
    let digits =
        text.get(at + 1..at + 3).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let Some(octet) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
        return Err(PatternError::new(
            "a `%` is not followed by two hexadecimal digits",
            "write `%25` for the character itself",
        ));
    };
    let written = &text[at..at + 3];
    if octet < 0x20 || octet == 0x7f || octet == b'/' || octet == b'\\' {
        return Err(PatternError::new(
            format!("the pattern has `{written}`, and paths that hold it are refused"),
            "leave it out",
        ));
    }
    if stands_for_itself(octet) {
        return Err(PatternError::new(
            format!("the pattern has `{written}`, which is decoded before paths are matched"),
            format!("write `{}`", char::from(octet)),
        ));
    }
    let upper = written.to_ascii_uppercase();
    if written != upper {
        return Err(PatternError::new(
            format!(
                "the pattern has `{written}`, and paths are matched with upper-case digits (RFC 3986 section 6.2.2.1)"
            ),
            format!("write `{upper}`"),
        ));
    }
    let twice =
        text.get(at + 3..at + 5).is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if octet == b'%' && twice {
        return Err(PatternError::new(
            "the pattern has a doubly encoded character, and paths that hold one are refused",
            "leave it out",
        ));
    }
    Ok(octet)
}

fn check_utf8(octets: &[u8]) -> Result<(), PatternError> {
    if std::str::from_utf8(octets).is_ok() {
        return Ok(());
    }
    let written: String = octets.iter().map(|octet| format!("%{octet:02X}")).collect();
    Err(PatternError::new(
        format!("`{written}` is not UTF-8, and paths that hold it are refused"),
        "write the whole character in UTF-8",
    ))
}
