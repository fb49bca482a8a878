//! Reading from left to right, where the end of what is there is not the end of the head.

use portcullis_wire::Reason;

/// Why reading stopped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stop {
    /// What is there is fine so far; the rest is missing.
    More,
    /// This is not acceptable, whatever follows.
    Refused(Reason),
}

pub(crate) type Read<T> = Result<T, Stop>;

/// A place in the bytes of a head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

// === impl Stop ===

impl From<Reason> for Stop {
    fn from(reason: Reason) -> Stop {
        Stop::Refused(reason)
    }
}

// === impl Reader ===

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    /// Position, bytes from the start of the head.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// The whole, as far as it has arrived.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// What stands before this place.
    pub(crate) fn seen(&self) -> &'a [u8] {
        &self.bytes[..self.at]
    }

    /// What stands here and behind, as far as it has arrived.
    pub(crate) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// The byte here.
    pub(crate) fn peek(&self) -> Read<u8> {
        self.rest().first().copied().ok_or(Stop::More)
    }

    /// The byte here; goes on behind it.
    pub(crate) fn next(&mut self) -> Read<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Ok(byte)
    }

    /// Goes on, by no more than has been seen.
    pub(crate) fn skip(&mut self, count: usize) {
        self.at = self.bytes.len().min(self.at + count);
    }

    /// Passes this byte, or refuses.
    pub(crate) fn expect(&mut self, byte: u8, otherwise: Reason) -> Read<()> {
        if self.next()? == byte { Ok(()) } else { Err(otherwise.into()) }
    }

    /// Goes on over bytes of a kind; how many there were.
    pub(crate) fn skip_while(&mut self, mut kind: impl FnMut(u8) -> bool) -> usize {
        let count = self.rest().iter().take_while(|byte| kind(**byte)).count();
        self.at += count;
        count
    }
}
