//! One connection, segment by segment: the model of `bpf/progs/run.h`.
//!
//! The datapath sees whole socket buffers, and each of them passes to the application or is dropped as a whole. So what
//! becomes of a request that is denied depends on what shares its segment:
//!
//! * alone, it is dropped and answered, and the connection goes on;
//! * with a part of its body or head missing, or with another request behind it, the answer closes the connection;
//! * behind bytes that were to be passed, or while the application owes a response, which the answer would overtake,
//!   the connection is destroyed.
//!
//! What cannot be read is answered with `Connection: close`, and a malformed body destroys the connection: where the
//! next request begins is no longer known. A port that only monitors passes everything as it is, and from a stream
//! that cannot be followed nothing more is read.
//!
//! A port that a new configuration protects no more is left alone from the next request on.
//!
//! **Invariant:** no byte of a segment that holds the end of a denied request's head reaches the application.
//! **Invariant:** in monitor mode every byte reaches the application and nothing is answered (THREATS T21).
//!
//! The model answers at once. In the kernel a segment can arrive while an answer is on its way; such a segment is
//! denied, or the connection is closed, never passed.

use portcullis_http::{Event, Head, Stream};
use portcullis_policy::PolicySet;
use portcullis_token::KeyStore;
use portcullis_wire::{Method, Reason};

use crate::decide::{Decision, decide, refuse};
use crate::response::response;

#[cfg(test)]
mod tests;

/// Requests decided in one segment; what lies beyond them is refused: `PC_MSGS_PER_SKB_MAX`.
pub const REQUESTS_PER_SEGMENT_MAX: usize = 10;

/// The state of a connection to a protected port.
#[derive(Clone, Debug)]
pub struct Connection {
    port: u16,
    next_decision_id: u64,
    stream: Stream,
    following: Following,
    /// A request was passed and the application has written nothing since.
    owed: bool,
    /// A request was passed while the response to another was owed. How many responses the application has written since
    /// is not known any more, and so not where the answer to a denied request would come.
    pipelined: bool,
    /// A request was decided, or refused.
    used: bool,
}

/// What becomes of a segment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fate {
    /// Dropped. The client gets this instead of a response of the application.
    Answer {
        /// The whole response.
        text: Vec<u8>,
        /// It is the last one of the connection.
        close: bool,
    },
    /// Dropped, and the connection ends without a word.
    Destroy,
    /// Dropped; the connection was closed before.
    Drop,
    /// To the application, as it is.
    Pass,
}

/// A segment, dealt with.
#[derive(Clone, Debug)]
pub struct Handled {
    /// What becomes of it.
    pub fate: Fate,
    /// What was decided about the requests whose heads ended in it, in order.
    pub records: Vec<Record>,
}

/// One decision, for the log. A request that was allowed can still be dropped with its segment.
#[derive(Clone, Debug)]
pub struct Record {
    /// Identifier, also in the answer.
    pub decision_id: u64,
    /// The decision.
    pub decision: Decision,
    /// The head; `None` when it could not be read.
    pub head: Option<Box<Head>>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Following {
    /// Every byte is read.
    Reading,
    /// Nothing passes any more.
    Closed,
    /// A request to switch to websocket was passed: the application's answer decides how the connection goes on.
    Asking,
    /// Lost while the port only monitored, or was not protected: everything passes, unread, until the port enforces.
    Unread,
    /// It speaks websocket, by a rule: everything passes, unread.
    Switched,
}

/// What decides.
struct Rules<'a> {
    policies: &'a PolicySet,
    keys: &'a KeyStore,
    now_s: u64,
}

/// One segment, being read.
struct Run<'a> {
    connection: &'a mut Connection,
    rules: Rules<'a>,
    records: Vec<Record>,
    /// What is to become of the segment, by what has been read of it.
    so_far: SoFar,
    /// A head ended in it that is to be passed.
    passes_head: bool,
    /// An answer must be the last one.
    close: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum SoFar {
    Pass,
    /// With the record of this number.
    Answer(usize),
    Destroy,
}

/// A place in the segment.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Where the head begins, bytes into the segment.
    at: usize,
    /// How much of it earlier segments brought, bytes.
    held: usize,
}

// === impl Connection ===

impl Connection {
    /// A new connection to `port`. Its decisions are numbered from `first_decision_id`.
    #[must_use]
    pub fn new(port: u16, first_decision_id: u64) -> Connection {
        Connection {
            port,
            next_decision_id: first_decision_id,
            stream: Stream::new(),
            following: Following::Reading,
            owed: false,
            pipelined: false,
            used: false,
        }
    }

    /// Deals with the next segment that the client sent, as of `now_s`, Unix seconds.
    pub fn segment(&mut self, bytes: &[u8], policies: &PolicySet, keys: &KeyStore, now_s: u64) -> Handled {
        let fate = match self.following {
            Following::Closed => Fate::Drop,
            Following::Switched => Fate::Pass,
            // Nobody has read what comes now.
            Following::Unread if policies.port_enforces(self.port) == Some(true) => {
                self.following = Following::Closed;
                Fate::Destroy
            }
            Following::Unread => Fate::Pass,
            Following::Reading | Following::Asking => {
                let rules = Rules { policies, keys, now_s };
                return Run::new(self, rules).read(bytes);
            }
        };
        Handled { fate, records: Vec::new() }
    }

    /// The application wrote this to the client.
    pub fn application_wrote(&mut self, bytes: &[u8]) {
        self.owed = false;
        if self.following == Following::Asking {
            let switched = bytes.starts_with(b"HTTP/1.1 101");
            self.following = if switched { Following::Switched } else { Following::Reading };
        }
    }

    /// Every response that was owed has been given: for who reads the responses and knows. None of them has switched the
    /// protocol.
    pub fn responses_given(&mut self) {
        self.application_wrote(b"");
        self.pipelined = false;
    }

    /// Whether nothing passes any more, in either direction.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.following == Following::Closed
    }
}

// === impl Run ===

impl<'a> Run<'a> {
    fn new(connection: &'a mut Connection, rules: Rules<'a>) -> Run<'a> {
        Run { connection, rules, records: Vec::new(), so_far: SoFar::Pass, passes_head: false, close: false }
    }

    fn read(mut self, bytes: &[u8]) -> Handled {
        let mut at = 0;
        if self.connection.following == Following::Asking {
            self.before_the_answer();
        }
        // Behind what destroys the connection nothing is read, the body of the denied request neither.
        while at < bytes.len()
            && self.connection.following == Following::Reading
            && self.so_far != SoFar::Destroy
        {
            let in_body = !self.connection.stream.is_in_head();
            if !in_body && (self.comes_too_late() || self.is_no_longer_protected()) {
                break;
            }
            let place = Place { at, held: self.connection.stream.held() };
            let step = self.connection.stream.step(&bytes[at..]);
            at += step.taken;
            match step.event {
                Some(Event::Head(head)) => self.head(head, place),
                Some(Event::Refused(reason)) if in_body => self.malformed_body(reason),
                Some(Event::Refused(reason)) => self.unreadable(reason, place),
                Some(Event::Body { .. }) | None => {}
            }
        }
        if at < bytes.len() && self.connection.following == Following::Asking {
            self.before_the_answer();
        }
        self.end()
    }

    /// Bytes behind a request to switch, before it is answered: nobody knows what they are.
    fn before_the_answer(&mut self) {
        if self.lost(Reason::UpgradeRefused) {
            self.so_far = SoFar::Destroy;
        }
    }

    /// A request begins that this segment can no longer be judged by.
    fn comes_too_late(&mut self) -> bool {
        match self.so_far {
            // Behind a denied one: it gets no answer of its own.
            SoFar::Answer(_) => {
                self.close = true;
                self.connection.following = Following::Closed;
                true
            }
            SoFar::Destroy => true,
            SoFar::Pass if self.records.len() == REQUESTS_PER_SEGMENT_MAX => {
                if self.lost(Reason::PipelineRefused) {
                    self.so_far = SoFar::Destroy;
                }
                true
            }
            SoFar::Pass => false,
        }
    }

    /// A new configuration protects the port no more: its connections of before are left alone.
    fn is_no_longer_protected(&mut self) -> bool {
        let unprotected = self.rules.policies.port_enforces(self.connection.port).is_none();
        if unprotected {
            self.connection.following = Following::Unread;
        }
        unprotected
    }

    fn head(&mut self, head: Box<Head>, place: Place) {
        let Rules { policies, keys, now_s } = self.rules;
        let decision = decide(&head, self.connection.port, policies, keys, now_s);
        let passes = decision.passes();
        let readable = decision.resource().is_some();
        // Behind other requests, an answer of 101 could be part of another one's response.
        let closes = head.closes();
        let switches =
            !self.connection.used && head.asks_for_websocket() && decision.allows_websocket(policies);
        let record = self.record(decision, Some(head));
        if passes {
            self.passes_head = true;
            if switches {
                self.connection.following = Following::Asking;
            }
            return;
        }
        self.deny(record, place);
        self.close |= closes;
        if !readable {
            // A client that writes such a path or host is not to be understood any further.
            self.close = true;
            self.connection.following = Following::Closed;
        }
    }

    /// A head that is not well formed: where it ends is not known.
    fn unreadable(&mut self, reason: Reason, place: Place) {
        if self.lost(reason) {
            self.deny(self.records.len() - 1, place);
            self.close = true;
        }
    }

    /// Its head, and perhaps the answer to it, are gone: no answer fits.
    fn malformed_body(&mut self, reason: Reason) {
        if self.lost(reason) {
            self.so_far = SoFar::Destroy;
        }
    }

    /// Records that the stream cannot be followed any further; whether that closes the connection.
    fn lost(&mut self, reason: Reason) -> bool {
        let decision = refuse(reason, self.connection.port, self.rules.policies);
        let closes = !decision.passes();
        self.record(decision, None);
        self.connection.following = if closes { Following::Closed } else { Following::Unread };
        closes
    }

    fn deny(&mut self, record: usize, place: Place) {
        self.so_far = match self.so_far {
            SoFar::Pass if place.at == 0 => SoFar::Answer(record),
            SoFar::Pass | SoFar::Answer(_) | SoFar::Destroy => SoFar::Destroy,
        };
        // The application holds the beginning of the request and waits for the rest of it.
        self.close |= place.held > 0;
    }

    /// Keeps a decision for the log; its number.
    fn record(&mut self, decision: Decision, head: Option<Box<Head>>) -> usize {
        let decision_id = self.connection.next_decision_id;
        self.connection.next_decision_id = decision_id.wrapping_add(1);
        self.connection.used = true;
        self.records.push(Record { decision_id, decision, head });
        self.records.len() - 1
    }

    fn end(mut self) -> Handled {
        let fate = match self.so_far {
            SoFar::Pass => {
                self.connection.pipelined |=
                    self.passes_head && (self.connection.owed || self.records.len() > 1);
                self.connection.owed |= self.passes_head;
                Fate::Pass
            }
            SoFar::Answer(record) if !self.connection.owed && !self.connection.pipelined => {
                self.answer(record)
            }
            SoFar::Answer(_) | SoFar::Destroy => Fate::Destroy,
        };
        if fate == Fate::Destroy {
            self.connection.following = Following::Closed;
        }
        Handled { fate, records: self.records }
    }

    fn answer(&mut self, record: usize) -> Fate {
        let Record { decision_id, decision, head } = &self.records[record];
        // The rest of a denied body would have to be dropped first.
        let close = self.close || !self.connection.stream.is_between_requests();
        if close {
            self.connection.following = Following::Closed;
        }
        let head_request = match head {
            Some(head) => head.method() == Method::Head,
            None => self.connection.stream.is_refused_head_request(),
        };
        let text = response(decision.reason(), close, head_request, *decision_id, decision.mfa_max_age_s());
        Fate::Answer { text, close }
    }
}
