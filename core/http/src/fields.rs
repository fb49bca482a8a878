//! The header section, RFC 9112 section 5: which fields matter, and what they say.

use std::ops::Range;

use portcullis_wire::Reason;

use crate::limits::{
    HEAD_LINES_MAX, LENGTH_DIGITS_MAX, NAME_MORE_MAX, NAME_PLAIN_MAX, SPACE_BEFORE_MAX, SPACE_BEHIND_MAX,
};
use crate::reader::{Read, Reader, Stop};

/// How long the body is, RFC 9112 section 6.3.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Framing {
    /// Chunks, up to the last one.
    Chunked,
    /// So many bytes; 0 when the head says nothing.
    Length(u64),
}

/// The Authorization field.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Authorization {
    /// Token of the Bearer scheme (RFC 6750 section 2.1), a span of the head. It may be empty.
    Bearer(Range<usize>),
    /// There is none.
    #[default]
    None,
    /// Another scheme: no token.
    Other,
}

/// What the header section says, as far as it matters here; spans are of the head.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Fields {
    pub(crate) host: Option<Range<usize>>,
    pub(crate) authorization: Option<Authorization>,
    pub(crate) length: Option<u64>,
    pub(crate) chunked: bool,
    pub(crate) expect: bool,
    pub(crate) upgrade: bool,
    pub(crate) websocket: bool,
    /// `Connection: close` and `Connection: keep-alive`, each alone in its field.
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
}

/// Fields that are interpreted, each in its own way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Known {
    Authorization,
    Connection,
    ContentLength,
    Expect,
    Host,
    TransferEncoding,
    Upgrade,
}

/// Reads field lines up to the empty line, and that too.
pub(crate) fn read(reader: &mut Reader<'_>) -> Read<Fields> {
    let mut fields = Fields::default();
    for _ in 0..=HEAD_LINES_MAX {
        if ends(reader)? {
            return Ok(fields);
        }
        line(reader, &mut fields)?;
    }
    Err(Reason::HeadTooLarge.into())
}

/// Whether the empty line stands here; passes it.
fn ends(reader: &mut Reader<'_>) -> Read<bool> {
    if reader.peek()? != b'\r' {
        return Ok(false);
    }
    reader.skip(1);
    reader.expect(b'\n', Reason::BadHeader)?;
    Ok(true)
}

fn line(reader: &mut Reader<'_>, fields: &mut Fields) -> Read<()> {
    let known = Known::of(name(reader)?);
    if reader.skip_while(|byte| matches!(byte, b' ' | b'\t')) > SPACE_BEFORE_MAX {
        return Err(Reason::BadHeader.into());
    }
    // Refused before its value has come: it cannot be acceptable.
    if let Some(reason) = known.and_then(|known| fields.repeated(known)) {
        return Err(reason.into());
    }
    let start = reader.at();
    let authorization = value(reader, known)?;
    let value = start..reader.at();
    reader.expect(b'\r', Reason::BadHeader)?;
    reader.expect(b'\n', Reason::BadHeader)?;
    match known {
        Some(known) => fields.interpret(known, value, authorization, reader.bytes()),
        None => Ok(()),
    }
}

/// A field name and its colon.
///
/// RFC 9112 section 5.1: no white space is allowed between the two; it is no token character. A line that begins
/// with white space (obs-fold, section 5.2) has no name.
fn name<'a>(reader: &mut Reader<'a>) -> Read<&'a [u8]> {
    let from = reader.rest();
    let mut plain = 0;
    let mut more = 0;
    loop {
        let byte = reader.next()?;
        if byte == b':' {
            break;
        }
        if !is_token(byte) {
            return Err(Reason::BadHeader.into());
        }
        let is_plain = byte.is_ascii_alphanumeric() || byte == b'-';
        if is_plain && more == 0 && plain < NAME_PLAIN_MAX {
            plain += 1;
        } else if more < NAME_MORE_MAX {
            more += 1;
        } else {
            return Err(Reason::BadHeader.into());
        }
    }
    if plain + more == 0 {
        return Err(Reason::BadHeader.into());
    }
    Ok(&from[..plain + more])
}

/// Goes to the end of a value: the byte there is no part of it.
///
/// RFC 9110 section 5.5: visible characters, space, tab and obs-text. The fields that decide who is asking for what,
/// and where the request ends, are held to visible ASCII and spaces.
fn value(reader: &mut Reader<'_>, known: Option<Known>) -> Read<Option<Authorization>> {
    let ascii = |byte: u8| matches!(byte, 0x20..=0x7e);
    match known {
        Some(Known::Authorization) => return authorization(reader).map(Some),
        Some(Known::ContentLength | Known::Host | Known::TransferEncoding) => reader.skip_while(ascii),
        Some(Known::Connection | Known::Expect | Known::Upgrade) | None => {
            reader.skip_while(|byte| ascii(byte) || byte == b'\t' || byte >= 0x80)
        }
    };
    Ok(None)
}

/// `Bearer` in any case, one space, and the token: nothing behind it, no second one (THREATS T12, T13).
fn authorization(reader: &mut Reader<'_>) -> Read<Authorization> {
    let scheme = b"Bearer";
    let rest = reader.rest();
    let is_bearer = rest.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme))
        && matches!(rest.get(scheme.len()), Some(b' ' | b'\r'));
    if !is_bearer {
        reader.skip_while(|byte| matches!(byte, 0x20..=0x7e));
        return Ok(Authorization::Other);
    }
    reader.skip(scheme.len());
    if reader.peek()? == b' ' {
        reader.skip(1);
    }
    let start = reader.at();
    reader.skip_while(|byte| byte.is_ascii_graphic() && byte != b',');
    match reader.peek()? {
        b' ' | b',' => Err(Reason::BadAuthorization.into()),
        _ => Ok(Authorization::Bearer(start..reader.at())),
    }
}

/// tchar, RFC 9110 section 5.6.2.
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

// === impl Fields ===

impl Fields {
    /// Why a second occurrence is refused: which of two a server takes is its own affair.
    fn repeated(&self, known: Known) -> Option<Reason> {
        let (seen, reason) = match known {
            Known::Authorization => (self.authorization.is_some(), Reason::BadAuthorization),
            Known::Connection => (false, Reason::BadHeader),
            Known::ContentLength => (self.length.is_some(), Reason::BadFraming),
            Known::Expect => (self.expect, Reason::BadHeader),
            Known::Host => (self.host.is_some(), Reason::BadHost),
            Known::TransferEncoding => (self.chunked, Reason::BadFraming),
            Known::Upgrade => (self.upgrade, Reason::BadHeader),
        };
        seen.then_some(reason)
    }

    fn interpret(
        &mut self,
        known: Known,
        value: Range<usize>,
        authorization: Option<Authorization>,
        bytes: &[u8],
    ) -> Read<()> {
        let spaces = bytes[value.clone()].iter().rev().take_while(|byte| **byte == b' ').count();
        if spaces > SPACE_BEHIND_MAX {
            return Err(Reason::BadHeader.into());
        }
        let value = value.start..value.end - spaces;
        let text = &bytes[value.clone()];
        match known {
            Known::Authorization => self.authorization = authorization,
            Known::Connection => {
                self.close |= text.eq_ignore_ascii_case(b"close");
                self.keep_alive |= text.eq_ignore_ascii_case(b"keep-alive");
            }
            Known::ContentLength => self.length = Some(length(text)?),
            Known::Expect => self.expect = true,
            Known::Host if text.is_empty() => return Err(Reason::BadHost.into()),
            Known::Host => self.host = Some(value),
            // RFC 9112 section 6.1: a coding that is not understood must not be guessed.
            Known::TransferEncoding if !text.eq_ignore_ascii_case(b"chunked") => {
                return Err(Reason::BadFraming.into());
            }
            Known::TransferEncoding => self.chunked = true,
            Known::Upgrade => {
                self.upgrade = true;
                self.websocket = text.eq_ignore_ascii_case(b"websocket");
            }
        }
        Ok(())
    }

    /// The framing, once the whole section is read.
    ///
    /// RFC 9112 section 6.1: a message with both Content-Length and Transfer-Encoding ought to be handled as an
    /// error, and HTTP/1.0 has no Transfer-Encoding.
    pub(crate) fn framing(&self, minor: u8) -> Result<Framing, Reason> {
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(Reason::BadFraming),
            (true, None) if minor == 0 => Err(Reason::BadFraming),
            (true, None) => Ok(Framing::Chunked),
            (false, length) => Ok(Framing::Length(length.unwrap_or(0))),
        }
    }
}

/// RFC 9110 section 8.6: 1*DIGIT. Lists, signs, white space and numbers beyond any body are refused.
fn length(text: &[u8]) -> Read<u64> {
    if text.is_empty() || text.len() > LENGTH_DIGITS_MAX || !text.iter().all(u8::is_ascii_digit) {
        return Err(Stop::Refused(Reason::BadFraming));
    }
    Ok(text.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

// === impl Known ===

impl Known {
    /// RFC 9110 section 5.1: field names are case-insensitive.
    fn of(name: &[u8]) -> Option<Known> {
        let known: [(&[u8], Known); 7] = [
            (b"authorization", Known::Authorization),
            (b"connection", Known::Connection),
            (b"content-length", Known::ContentLength),
            (b"expect", Known::Expect),
            (b"host", Known::Host),
            (b"transfer-encoding", Known::TransferEncoding),
            (b"upgrade", Known::Upgrade),
        ];
        known.into_iter().find(|(text, _)| name.eq_ignore_ascii_case(text)).map(|(_, known)| known)
    }
}
