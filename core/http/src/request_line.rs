//! The request line, RFC 9112 section 3: method, target, version.

use std::ops::Range;

use portcullis_wire::Reason;

use crate::limits::{HOST_MAX, METHOD_MAX};
use crate::reader::{Read, Reader};

/// What a request line says; spans are of the head.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct RequestLine {
    pub(crate) method: Range<usize>,
    /// Of an absolute-form target.
    pub(crate) authority: Option<Range<usize>>,
    /// Path and query.
    pub(crate) target: Range<usize>,
    /// HTTP/1.this.
    pub(crate) minor: u8,
}

/// Reads the request line at the start of a head, and its end of line.
pub(crate) fn read(reader: &mut Reader<'_>) -> Read<RequestLine> {
    let token = reader.rest();
    let method = method(reader)?;
    let token = &token[method.clone()];
    if token == b"CONNECT" {
        return Err(Reason::MethodRefused.into());
    }
    let authority = match reader.peek()? {
        b'/' => None,
        // RFC 9113 section 3.4: the client speaks HTTP/2 without having asked.
        _ if token == b"PRI" => return Err(Reason::NotHttp1.into()),
        _ => Some(authority(reader)?),
    };
    let start = reader.at();
    reader.skip_while(|byte| byte.is_ascii_graphic());
    let target = start..reader.at();
    reader.expect(b' ', Reason::BadRequestLine)?;
    let minor = version(reader)?;
    Ok(RequestLine { method, authority, target, minor })
}

/// `HTTP/1.0` or `HTTP/1.1` and the end of line; which of the two.
///
/// Byte by byte: a server that speaks HTTP/0.9 takes any other end of line for the end of the request, and does not wait
/// for more.
fn version(reader: &mut Reader<'_>) -> Read<u8> {
    for byte in b"HTTP/1." {
        reader.expect(*byte, Reason::BadRequestLine)?;
    }
    let minor = match reader.next()? {
        digit @ (b'0' | b'1') => digit - b'0',
        _ => return Err(Reason::BadRequestLine.into()),
    };
    reader.expect(b'\r', Reason::BadRequestLine)?;
    reader.expect(b'\n', Reason::BadRequestLine)?;
    Ok(minor)
}

/// The method and the space behind it.
///
/// RFC 9110 section 9.1: methods are case-sensitive. A token with lower-case letters is refused all the same, because
/// a server that folds case would run it as another method. What cannot be a method at all is another protocol.
fn method(reader: &mut Reader<'_>) -> Read<Range<usize>> {
    for length in 0..=METHOD_MAX {
        match reader.next()? {
            b' ' if length == 0 => return Err(Reason::BadRequestLine.into()),
            b' ' => return Ok(0..length),
            b'A'..=b'Z' | b'-' | b'_' => {}
            b'a'..=b'z' => return Err(Reason::MethodRefused.into()),
            _ => return Err(Reason::NotHttp1.into()),
        }
    }
    Err(Reason::BadRequestLine.into())
}

/// The authority of an absolute-form target (RFC 9112 section 3.2.2), up to the slash of its path.
///
/// A target without path is refused, and so is every other scheme and form: asterisk, authority.
fn authority(reader: &mut Reader<'_>) -> Read<Range<usize>> {
    for byte in b"http://" {
        if !reader.next()?.eq_ignore_ascii_case(byte) {
            return Err(Reason::BadRequestLine.into());
        }
    }
    let start = reader.at();
    for length in 0..HOST_MAX {
        match reader.peek()? {
            b'/' if length == 0 => return Err(Reason::BadRequestLine.into()),
            b'/' => return Ok(start..reader.at()),
            0x21..=0x7e => reader.skip(1),
            _ => return Err(Reason::BadRequestLine.into()),
        }
    }
    Err(Reason::BadRequestLine.into())
}
