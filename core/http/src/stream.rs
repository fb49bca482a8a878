//! The requests of one connection, one behind the other.
//!
//! **Invariant:** how the stream is cut into pieces changes neither heads nor refusals nor where bodies end.
//! **Invariant:** nothing is read behind a refusal.

use portcullis_wire::Reason;

use crate::chunked::{Chunked, Taken};
use crate::fields::Framing;
use crate::head::{self, Head};
use crate::limits::HEAD_MAX;

#[cfg(test)]
mod tests;

/// Reads what a client sends. A head that arrives in n pieces is looked at n times.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    state: State,
}

/// What the bytes of a stream turn out to be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// A whole head; [`Head::framing`] says whether a body follows.
    Head(Box<Head>),
    /// A part of the body, as it stands in the stream: the framing of chunks included.
    Body {
        /// How many bytes.
        len: usize,
        /// The request ends behind them.
        last: bool,
    },
    /// The stream cannot be read any further.
    Refused(Reason),
}

/// One thing read from the start of a piece.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Step {
    /// How many bytes of the piece are used up.
    pub taken: usize,
    /// What they were; `None` for a part of a head, which is kept.
    pub event: Option<Event>,
}

#[derive(Clone, Debug)]
enum State {
    /// The head that has arrived so far.
    Head(Vec<u8>),
    Length(u64),
    Chunked(Chunked),
    Refused {
        /// What was refused is a head that begins as that of a HEAD request.
        head_request: bool,
    },
}

// === impl Stream ===

impl Stream {
    /// A stream before its first request.
    #[must_use]
    pub fn new() -> Stream {
        Stream::default()
    }

    /// Reads a whole piece.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        while !bytes.is_empty() {
            let Step { taken, event } = self.step(bytes);
            events.extend(event);
            bytes = bytes.get(taken..).unwrap_or_default();
        }
        events
    }

    /// Reads one thing from a piece that is not empty; takes at least one byte of it.
    pub fn step(&mut self, bytes: &[u8]) -> Step {
        match &mut self.state {
            State::Head(_) => self.step_head(bytes),
            State::Length(left) => {
                let there = u64::try_from(bytes.len()).unwrap_or(u64::MAX).min(*left);
                *left -= there;
                let last = *left == 0;
                self.body(usize::try_from(there).unwrap_or(usize::MAX), last)
            }
            State::Chunked(chunked) => match chunked.take(bytes) {
                Taken::All => self.body(bytes.len(), false),
                Taken::End(len) => self.body(len, true),
                Taken::Malformed(0) => self.refuse(Reason::BadChunk, bytes.len(), false),
                Taken::Malformed(at) => self.body(at, false),
            },
            State::Refused { .. } => Step { taken: bytes.len(), event: None },
        }
    }

    /// How much of an incomplete head has arrived, bytes.
    #[must_use]
    pub fn held(&self) -> usize {
        match &self.state {
            State::Head(held) => held.len(),
            State::Length(_) | State::Chunked(_) | State::Refused { .. } => 0,
        }
    }

    /// Whether the next byte belongs to a head.
    #[must_use]
    pub fn is_in_head(&self) -> bool {
        matches!(self.state, State::Head(_))
    }

    /// Whether the stream stands between two requests, so that it may end here.
    #[must_use]
    pub fn is_between_requests(&self) -> bool {
        matches!(&self.state, State::Head(held) if held.is_empty())
    }

    /// Whether something was refused: all that follows is unreadable.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self.state, State::Refused { .. })
    }

    /// Whether what was refused is the head of a HEAD request, as far as its method tells.
    //= https://www.rfc-editor.org/rfc/rfc9110#section-9.3.2
    //# The HEAD method is identical to GET except that the server MUST NOT
    //# send content in the response.
    #[must_use]
    pub fn is_refused_head_request(&self) -> bool {
        matches!(self.state, State::Refused { head_request: true })
    }

    fn step_head(&mut self, bytes: &[u8]) -> Step {
        let State::Head(held) = &mut self.state else {
            return self.refuse(Reason::Internal, bytes.len(), false);
        };
        let before = held.len();
        held.extend_from_slice(&bytes[..bytes.len().min(HEAD_MAX.saturating_sub(before))]);
        match head::parse(held) {
            Ok(None) => Step { taken: bytes.len(), event: None },
            Ok(Some(head)) => {
                let taken = head.bytes().len().saturating_sub(before);
                self.state = match head.framing() {
                    Framing::Chunked => State::Chunked(Chunked::new()),
                    Framing::Length(0) => State::default(),
                    Framing::Length(left) => State::Length(left),
                };
                Step { taken, event: Some(Event::Head(Box::new(head))) }
            }
            Err(reason) => {
                let head_request = held.starts_with(b"HEAD ");
                self.refuse(reason, bytes.len(), head_request)
            }
        }
    }

    fn body(&mut self, len: usize, last: bool) -> Step {
        if last {
            self.state = State::default();
        }
        Step { taken: len, event: Some(Event::Body { len, last }) }
    }

    fn refuse(&mut self, reason: Reason, taken: usize, head_request: bool) -> Step {
        self.state = State::Refused { head_request };
        Step { taken, event: Some(Event::Refused(reason)) }
    }
}

// === impl State ===

impl Default for State {
    fn default() -> State {
        State::Head(Vec::new())
    }
}
