//! A strict reader of one JSON object (RFC 8259): the JOSE header or the claims set.
//!
//! It pulls: the caller says which type a known member must have ([`Reader::string`], [`Reader::integer`] ...) and
//! skips the others. Unknown members are checked for syntax, and their duplicates and escapes mean nothing.
//!
//! **Invariant:** what is accepted means one thing to every reader: well-formed UTF-8 (section 8.1), escapes that form
//! Unicode scalar values (section 8.2), nothing before or behind the object.
//! **Invariant:** bounded: [`limits::JSON_DEPTH_MAX`] levels, [`limits::JSON_TOKENS_MAX`] tokens,
//! [`limits::CLAIM_VALUES_MAX`] known strings; recursion is no deeper than the levels.

use std::borrow::Cow;

use crate::limits;

/// Not acceptable.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Refused;

/// Where the reader stands in the text.
pub(crate) struct Reader<'a> {
    text: &'a str,
    at: usize,
    tokens: usize,
    known_strings: usize,
}

/// A string token, between its quotes.
struct Raw<'a> {
    text: &'a str,
    escaped: bool,
}

// === impl Reader ===

impl<'a> Reader<'a> {
    /// Reads the object that the whole text is; `member` is called for each member of it, with the decoded name, and
    /// must read the value.
    pub(crate) fn object(
        text: &'a [u8],
        mut member: impl FnMut(&str, &mut Reader<'a>) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let text = std::str::from_utf8(text).map_err(|_| Refused)?;
        let mut reader = Reader { text, at: 0, tokens: 0, known_strings: 0 };
        reader.sequence(b'{', b'}', |reader| {
            let name = reader.raw_string()?.decode()?;
            reader.punctuation(b':')?;
            member(&name, reader)
        })?;
        match reader.peek() {
            None => Ok(()),
            Some(_) => Err(Refused),
        }
    }

    /// A known string: short if it contains an escape, and without U+0000.
    pub(crate) fn string(&mut self) -> Result<String, Refused> {
        self.known_strings += 1;
        let value = self.raw_string()?.decode()?;
        if self.known_strings > limits::CLAIM_VALUES_MAX || value.contains('\0') {
            return Err(Refused);
        }
        Ok(value.into_owned())
    }

    /// A known array of strings.
    pub(crate) fn strings(&mut self) -> Result<Vec<String>, Refused> {
        let mut values = Vec::new();
        self.sequence(b'[', b']', |reader| {
            values.push(reader.string()?);
            Ok(())
        })?;
        Ok(values)
    }

    /// A known string or array of strings (`aud`, RFC 7519 section 4.1.3).
    pub(crate) fn string_or_strings(&mut self) -> Result<Vec<String>, Refused> {
        match self.peek() {
            Some(b'[') => self.strings(),
            _ => Ok(vec![self.string()?]),
        }
    }

    /// A known number: digits only. A NumericDate may have a fraction (RFC 7519 section 2), but no issuer sends one.
    pub(crate) fn integer(&mut self) -> Result<u64, Refused> {
        let number = self.number()?;
        let digits = number.bytes().all(|b| b.is_ascii_digit());
        if digits && number.len() <= limits::DIGITS_MAX {
            number.parse().map_err(|_| Refused)
        } else {
            Err(Refused)
        }
    }

    /// A known boolean.
    pub(crate) fn boolean(&mut self) -> Result<bool, Refused> {
        match self.peek() {
            Some(b't') => self.literal("true").map(|()| true),
            _ => self.literal("false").map(|()| false),
        }
    }

    /// The value of an unknown member of the outermost object.
    pub(crate) fn skip(&mut self) -> Result<(), Refused> {
        self.skip_within(1)
    }

    /// Any value inside `depth` brackets.
    fn skip_within(&mut self, depth: usize) -> Result<(), Refused> {
        match self.peek().ok_or(Refused)? {
            b'{' | b'[' if depth == limits::JSON_DEPTH_MAX => Err(Refused),
            b'{' => self.sequence(b'{', b'}', |reader| {
                reader.raw_string()?;
                reader.punctuation(b':')?;
                reader.skip_within(depth + 1)
            }),
            b'[' => self.sequence(b'[', b']', |reader| reader.skip_within(depth + 1)),
            b'"' => self.raw_string().map(drop),
            b'-' | b'0'..=b'9' => self.number().map(drop),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            _ => self.literal("null"),
        }
    }

    /// `open`, items with commas between them, `close`.
    fn sequence(
        &mut self,
        open: u8,
        close: u8,
        mut item: impl FnMut(&mut Self) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        self.punctuation(open)?;
        if self.peek() == Some(close) {
            return self.punctuation(close);
        }
        loop {
            item(self)?;
            match self.peek() {
                Some(b',') => self.punctuation(b',')?,
                _ => return self.punctuation(close),
            }
        }
    }

    /// A string, checked but not decoded.
    fn raw_string(&mut self) -> Result<Raw<'a>, Refused> {
        self.punctuation(b'"')?;
        let start = self.at;
        let mut escaped = false;
        loop {
            match self.byte().ok_or(Refused)? {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    self.at += escape(&self.text[self.at..]).ok_or(Refused)?.1;
                }
                0..=0x1f => return Err(Refused),
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Ok(Raw { text: &self.text[start..self.at - 1], escaped })
    }

    /// A number (section 6), as it stands.
    fn number(&mut self) -> Result<&'a str, Refused> {
        self.token()?;
        let start = self.at;
        self.accept(b"-");
        if !self.accept(b"0") {
            self.digits()?;
        }
        if self.accept(b".") {
            self.digits()?;
        }
        if self.accept(b"eE") {
            self.accept(b"+-");
            self.digits()?;
        }
        Ok(&self.text[start..self.at])
    }

    /// One digit or more.
    fn digits(&mut self) -> Result<(), Refused> {
        let digits = self.text[self.at..].bytes().take_while(u8::is_ascii_digit).count();
        self.at += digits;
        if digits > 0 { Ok(()) } else { Err(Refused) }
    }

    fn literal(&mut self, word: &str) -> Result<(), Refused> {
        self.token()?;
        self.at += self.text[self.at..].strip_prefix(word).map(|_| word.len()).ok_or(Refused)?;
        Ok(())
    }

    /// One of the structural characters, or the quote that opens a string.
    fn punctuation(&mut self, wanted: u8) -> Result<(), Refused> {
        self.token()?;
        if self.accept(&[wanted]) { Ok(()) } else { Err(Refused) }
    }

    /// Counts a token and goes to its start.
    fn token(&mut self) -> Result<(), Refused> {
        self.peek();
        self.tokens += 1;
        if self.tokens <= limits::JSON_TOKENS_MAX { Ok(()) } else { Err(Refused) }
    }

    /// First byte of the next token: what follows white space (section 2).
    fn peek(&mut self) -> Option<u8> {
        while self.accept(b" \t\n\r") {}
        self.byte()
    }

    /// Takes the next byte if it is one of these ASCII characters.
    fn accept(&mut self, set: &[u8]) -> bool {
        let found = self.byte().is_some_and(|byte| set.contains(&byte));
        self.at += usize::from(found);
        found
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }
}

// === impl Raw ===

impl<'a> Raw<'a> {
    /// The characters that the string means.
    fn decode(&self) -> Result<Cow<'a, str>, Refused> {
        if !self.escaped {
            return Ok(Cow::Borrowed(self.text));
        }
        if self.text.len() > limits::JSON_ESCAPED_MAX {
            return Err(Refused);
        }
        let mut decoded = String::with_capacity(self.text.len());
        let mut rest = self.text;
        while let Some(at) = rest.find('\\') {
            decoded.push_str(&rest[..at]);
            let (character, length) = escape(&rest[at..]).ok_or(Refused)?;
            decoded.push(character);
            rest = &rest[at + length..];
        }
        decoded.push_str(rest);
        Ok(Cow::Owned(decoded))
    }
}

/// The character that the escape at the start of a text means (section 7), and the escape's length.
fn escape(text: &str) -> Option<(char, usize)> {
    let character = match text.as_bytes().get(1)? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return unicode_escape(text),
        _ => return None,
    };
    Some((character, 2))
}

/// `\u` and four digits, or two of these that are a surrogate pair; a surrogate alone is no character.
fn unicode_escape(text: &str) -> Option<(char, usize)> {
    let unit = |at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
        // from_str_radix would accept a sign
        if digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            u16::from_str_radix(digits, 16).ok()
        } else {
            None
        }
    };
    let first = unit(0)?;
    if let Some(character) = char::from_u32(u32::from(first)) {
        return Some((character, 6));
    }
    char::decode_utf16([first, unit(6)?]).next()?.ok().map(|character| (character, 12))
}

#[cfg(test)]
mod tests;
