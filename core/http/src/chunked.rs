//! Chunked bodies, RFC 9112 section 7.1: strict about every byte of framing.
//!
//! Refused: bare CR or LF, a size that is empty or too long, white space around the size, control characters in
//! extensions and trailers, trailer lines that are no field lines, obs-fold.

use crate::fields::is_token;
use crate::limits::{CHUNK_DIGITS_MAX, CHUNK_EXTENSION_MAX, TRAILER_MAX};

#[cfg(test)]
mod tests;

/// A place in a chunked body.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Chunked {
    place: Place,
    /// Bytes of the trailer section, line feeds apart.
    trailer: usize,
}

/// What comes next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    Size {
        size: u64,
        digits: usize,
    },
    Extension {
        size: u64,
        length: usize,
    },
    SizeLf {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// First byte of a trailer line, or of the final empty line.
    LineStart,
    Name,
    Value,
    LineLf,
    EndLf,
}

/// What a piece of a body was.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Taken {
    /// All of it belongs to the body, and more follows.
    All,
    /// The body ends, so many bytes into it.
    End(usize),
    /// The byte at this place belongs to no body; those before it do.
    Malformed(usize),
}

// === impl Chunked ===

impl Chunked {
    pub(crate) fn new() -> Chunked {
        Chunked { place: Place::Size { size: 0, digits: 0 }, trailer: 0 }
    }

    /// Goes on over `bytes`, up to the first that cannot stand there.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Taken {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if let Place::Data { left } = self.place {
                let there = u64::try_from(bytes.len() - at).unwrap_or(u64::MAX).min(left);
                at += usize::try_from(there).unwrap_or(usize::MAX);
                self.place = if left == there { Place::DataCr } else { Place::Data { left: left - there } };
                continue;
            }
            match self.step(byte) {
                Some(Some(place)) => self.place = place,
                Some(None) => return Taken::End(at + 1),
                None => return Taken::Malformed(at),
            }
            at += 1;
        }
        Taken::All
    }

    /// Where a byte of framing leads: `Some(None)` is the end, `None` nowhere.
    fn step(&mut self, byte: u8) -> Option<Option<Place>> {
        let next = match self.place {
            Place::Size { size, digits } => after_size(size, digits, byte)?,
            Place::Extension { size, .. } if byte == b'\r' => Place::SizeLf { size },
            Place::Extension { size, length } if is_text(byte) && length < CHUNK_EXTENSION_MAX => {
                Place::Extension { size, length: length + 1 }
            }
            Place::SizeLf { size: 0 } if byte == b'\n' => Place::LineStart,
            Place::SizeLf { size } if byte == b'\n' => Place::Data { left: size },
            Place::DataCr if byte == b'\r' => Place::DataLf,
            Place::DataLf if byte == b'\n' => Place::Size { size: 0, digits: 0 },
            Place::LineStart | Place::Name | Place::Value => self.trailer_byte(byte)?,
            Place::LineLf if byte == b'\n' => Place::LineStart,
            Place::EndLf if byte == b'\n' => return Some(None),
            Place::Data { .. }
            | Place::Extension { .. }
            | Place::SizeLf { .. }
            | Place::DataCr
            | Place::DataLf
            | Place::LineLf
            | Place::EndLf => return None,
        };
        Some(Some(next))
    }

    fn trailer_byte(&mut self, byte: u8) -> Option<Place> {
        self.trailer += 1;
        if self.trailer > TRAILER_MAX {
            return None;
        }
        match (self.place, byte) {
            (Place::LineStart, b'\r') => Some(Place::EndLf),
            (Place::Name, b':') => Some(Place::Value),
            (Place::LineStart | Place::Name, byte) if is_token(byte) => Some(Place::Name),
            (Place::Value, b'\r') => Some(Place::LineLf),
            (Place::Value, byte) if is_text(byte) => Some(Place::Value),
            _ => None,
        }
    }
}

/// A size is hexadecimal digits and nothing else; a line end or an extension follows.
fn after_size(size: u64, digits: usize, byte: u8) -> Option<Place> {
    match (char::from(byte).to_digit(16), byte) {
        (Some(_), _) if digits == CHUNK_DIGITS_MAX => None,
        (Some(digit), _) => Some(Place::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }),
        (None, b'\r') if digits > 0 => Some(Place::SizeLf { size }),
        (None, b';') if digits > 0 => Some(Place::Extension { size, length: 0 }),
        (None, _) => None,
    }
}

/// What extensions and trailer values may hold: tab, visible ASCII, space, obs-text.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= 0x20 && byte != 0x7f)
}
