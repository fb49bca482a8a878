//! Paths in canonical form: what rules are matched against (THREATS T16).
//!
//! A server decodes `%40` to `@` before it looks for a resource, and most take `/a/%40b` and `/a/@b` for the same. The
//! canonical form writes every character in one way only, so that no spelling gets around a rule:
//!
//! * what RFC 3986 section 3.3 lets stand in a path stands for itself, `*` and `;` excepted;
//! * everything else is `%XX`, in upper case;
//! * what servers take for something else than itself is refused: `\`, `;`, `#`, control characters, an encoded
//!   slash, double encoding, octets that are no UTF-8, empty segments but the last, `.` and `..`.
//!
//! **Invariant:** a canonical path is its own canonical form.

use portcullis_wire::Reason;

use crate::limits::PATH_MAX;

#[cfg(test)]
mod tests;

/// The canonical path of a target in origin form: `/`, visible ASCII, a query perhaps.
///
/// # Errors
/// [`Reason::PathAmbiguous`] or [`Reason::PathTooLong`], whichever is met first.
pub fn canonical(target: &[u8]) -> Result<String, Reason> {
    let mut path = Path::default();
    let mut rest = target;
    loop {
        match rest {
            [] | [b'?', ..] => return path.end(),
            [b'%', tail @ ..] => {
                path.encoded(octet(tail).ok_or(Reason::PathAmbiguous)?)?;
                rest = &tail[2..];
            }
            [byte, tail @ ..] => {
                path.plain(*byte)?;
                rest = tail;
            }
        }
        if path.text.len() > PATH_MAX {
            return Err(Reason::PathTooLong);
        }
    }
}

/// A path in the making.
#[derive(Debug, Default)]
struct Path {
    text: String,
    /// The octets of a character that is not complete.
    character: Vec<u8>,
}

// === impl Path ===

impl Path {
    /// A character that stands for itself.
    fn plain(&mut self, byte: u8) -> Result<(), Reason> {
        if !self.character.is_empty() {
            return Err(Reason::PathAmbiguous);
        }
        match byte {
            b'/' => self.slash(),
            b'\\' | b';' | b'#' => Err(Reason::PathAmbiguous),
            0x21..=0x7e => self.push(byte),
            _ => Err(Reason::PathAmbiguous),
        }
    }

    /// `%XX`.
    fn encoded(&mut self, octet: u8) -> Result<(), Reason> {
        match octet {
            0x80.. => self.part_of_character(octet),
            _ if !self.character.is_empty() => Err(Reason::PathAmbiguous),
            0..0x20 | 0x7f | b'/' | b'\\' => Err(Reason::PathAmbiguous),
            _ => self.push(octet),
        }
    }

    /// A visible character or an encoded space, however it was written.
    fn push(&mut self, byte: u8) -> Result<(), Reason> {
        if stands_for_itself(byte) {
            self.text.push(char::from(byte));
        } else {
            self.push_encoded(byte);
        }
        // `%2541`, and `%25%34%31` no less: a server that decodes twice finds something else.
        let text = self.text.as_bytes();
        match text.len().checked_sub(5).map(|from| &text[from..]) {
            Some([b'%', b'2', b'5', high, low]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                Err(Reason::PathAmbiguous)
            }
            _ => Ok(()),
        }
    }

    fn push_encoded(&mut self, octet: u8) {
        self.text += &format!("%{octet:02X}");
    }

    /// An octet of a character beyond ASCII: RFC 3629 section 4, shortest form, no surrogates.
    fn part_of_character(&mut self, octet: u8) -> Result<(), Reason> {
        self.push_encoded(octet);
        self.character.push(octet);
        match std::str::from_utf8(&self.character) {
            Ok(_) => self.character.clear(),
            // There is a character that goes on like this.
            Err(error) if error.error_len().is_none() => {}
            Err(_) => return Err(Reason::PathAmbiguous),
        }
        Ok(())
    }

    fn slash(&mut self) -> Result<(), Reason> {
        if !self.text.is_empty() {
            match self.segment() {
                "" | "." | ".." => return Err(Reason::PathAmbiguous),
                _ => {}
            }
        }
        self.text.push('/');
        Ok(())
    }

    fn end(self) -> Result<String, Reason> {
        match self.segment() {
            "." | ".." => Err(Reason::PathAmbiguous),
            _ if self.character.is_empty() => Ok(self.text),
            _ => Err(Reason::PathAmbiguous),
        }
    }

    /// What stands behind the last slash.
    fn segment(&self) -> &str {
        self.text.rsplit('/').next().unwrap_or_default()
    }
}

/// pchar of RFC 3986 section 3.3, without `;` (parameters) and `*` (a wildcard of rules).
fn stands_for_itself(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()+,=:@".contains(&byte)
}

/// The octet of two hexadecimal digits at the start of `text`.
fn octet(text: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*text.get(at)?).to_digit(16);
    u8::try_from(digit(0)? << 4 | digit(1)?).ok()
}
