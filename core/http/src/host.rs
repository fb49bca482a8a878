//! Hosts in canonical form: RFC 9110 section 4.2.3, RFC 3986 section 3.2.2.

use portcullis_wire::Reason;

use crate::limits::HOST_MAX;

#[cfg(test)]
mod tests;

/// A Host value or an authority in lower case, without port and without one trailing dot.
///
/// Names hold letters, digits, `-`, `_` and `.`; percent-encoding, user information and lists are refused, and so is
/// an empty label, which some readers drop. What stands in brackets is not compared as an address: a policy names it
/// as it is written most shortly.
///
/// # Errors
/// [`Reason::BadHost`].
pub fn normalise(value: &[u8]) -> Result<String, Reason> {
    if value.len() >= HOST_MAX {
        return Err(Reason::BadHost);
    }
    let (host, port) = split(value).ok_or(Reason::BadHost)?;
    if !port.iter().all(u8::is_ascii_digit) {
        return Err(Reason::BadHost);
    }
    let mut name = String::with_capacity(host.len());
    let bracketed = host.first() == Some(&b'[');
    for (at, byte) in host.iter().enumerate() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => {}
            b'.' if at > 0 && !name.ends_with('.') => {}
            b'[' | b']' | b':' if bracketed => {}
            _ => return Err(Reason::BadHost),
        }
        name.push(char::from(byte.to_ascii_lowercase()));
    }
    if name.ends_with('.') {
        name.pop();
    }
    if name.is_empty() { Err(Reason::BadHost) } else { Ok(name) }
}

/// Host and port of `host [":" port]`; an address in brackets keeps them. `None`: brackets that do not match.
fn split(value: &[u8]) -> Option<(&[u8], &[u8])> {
    if let Some(inner) = value.strip_prefix(b"[") {
        let close = 1 + inner.iter().position(|byte| matches!(byte, b'[' | b']'))?;
        let (host, rest) = value.split_at(close + 1);
        return match rest {
            _ if host.ends_with(b"[") => None,
            [] => Some((host, rest)),
            [b':', port @ ..] => Some((host, port)),
            _ => None,
        };
    }
    match value.iter().position(|byte| *byte == b':') {
        Some(colon) => Some((&value[..colon], &value[colon + 1..])),
        None => Some((value, b"")),
    }
}
