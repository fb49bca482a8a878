//! The bytes of one HTTP/1 connection, segment by segment: what the HTTP stack is given, and what the client is
//! answered instead.
//!
//! The fates of segments are those of [`portcullis_verdict::Connection`], which is what the kernel does. What passes
//! is written anew, head by head: a stack behind this sees nothing of a head before the head is whole and decided, and
//! no target in a spelling of the client's.
//!
//! **Invariant:** pure: no I/O, no clock.
//! **Invariant:** a head is given out with its permit, in the same order, and never without one.

use portcullis_http::{Event, Head, Stream};
use portcullis_verdict::{Connection, Decision, Fate, Handled, Record, decide, refuse, response};
use portcullis_wire::Reason;

use crate::permit::Permit;
use crate::rules::Rules;

/// A connection.
#[derive(Debug)]
pub(crate) struct Judge {
    port: u16,
    /// Absent while the port is not protected, and when the model follows the stream no longer.
    model: Option<Connection>,
    /// The same bytes, for where heads and bodies begin and end.
    stream: Stream,
    next_decision_id: u64,
}

/// What becomes of a segment.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The client gets this; nothing goes to the HTTP stack.
    Answer {
        /// The whole response.
        text: Vec<u8>,
        /// It is the last one.
        close: bool,
    },
    /// The connection ends without a word.
    Destroy,
    /// These bytes go to the HTTP stack, with the permits of the heads in them.
    Pass(Vec<u8>, Vec<Permit>),
}

/// A segment, dealt with.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) outcome: Outcome,
    /// For the log.
    pub(crate) records: Vec<Verdict>,
}

/// One decision, for the log.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) decision_id: u64,
    pub(crate) decision: Decision,
    pub(crate) head: Option<Box<Head>>,
    /// It would have passed in monitor mode, but a proxy cannot forward what cannot be read.
    pub(crate) refused: bool,
}

/// Decision numbers of one connection.
pub(crate) const DECISIONS_PER_CONNECTION: u64 = 1 << 20;

// === impl Judge ===

impl Judge {
    pub(crate) fn new(port: u16, first_decision_id: u64) -> Judge {
        // Behind those of the model.
        let next_decision_id = first_decision_id.wrapping_add(DECISIONS_PER_CONNECTION / 2);
        let model = Some(Connection::new(port, first_decision_id));
        Judge { port, model, stream: Stream::new(), next_decision_id }
    }

    /// Whether the next byte belongs to a head.
    pub(crate) fn is_in_head(&self) -> bool {
        self.stream.is_in_head()
    }

    /// Whether a part of a head has come.
    pub(crate) fn is_within_head(&self) -> bool {
        self.stream.held() > 0
    }

    /// Every response that was owed has been given, and none of them switched the protocol: then nothing more is judged.
    pub(crate) fn responses_given(&mut self) {
        if let Some(model) = &mut self.model {
            model.responses_given();
        }
    }

    /// Deals with the next segment, as of `now_s`.
    pub(crate) fn segment(&mut self, bytes: &[u8], rules: &Rules, now_s: u64) -> Judged {
        let protected = rules.policies.port_enforces(self.port).is_some();
        if !protected {
            self.model = None;
        } else if self.model.is_none() && self.stream.is_between_requests() {
            self.model = Some(Connection::new(self.port, self.next_decision_id));
            self.next_decision_id = self.next_decision_id.wrapping_add(DECISIONS_PER_CONNECTION / 2);
        }
        let (fate, records) = match &mut self.model {
            None => (Fate::Pass, Vec::new()),
            Some(model) => {
                let Handled { fate, records } = model.segment(bytes, &rules.policies, &rules.keys, now_s);
                (fate, records)
            }
        };
        let records: Vec<Verdict> = records.into_iter().map(Verdict::of).collect();
        match fate {
            Fate::Answer { text, close } => Judged { outcome: Outcome::Answer { text, close }, records },
            Fate::Destroy | Fate::Drop => Judged { outcome: Outcome::Destroy, records },
            Fate::Pass => self.pass(bytes, records, rules, now_s),
        }
    }

    /// Writes what passes for the HTTP stack.
    fn pass(&mut self, mut bytes: &[u8], mut records: Vec<Verdict>, rules: &Rules, now_s: u64) -> Judged {
        let (mut out, mut permits) = (Vec::with_capacity(bytes.len() + 64), Vec::new());
        let mut decided = 0;
        while !bytes.is_empty() {
            let step = self.stream.step(bytes);
            let (taken, rest) = bytes.split_at(step.taken.min(bytes.len()));
            bytes = rest;
            let permit = match step.event {
                None => continue,
                Some(Event::Body { .. }) => {
                    out.extend_from_slice(taken);
                    continue;
                }
                Some(Event::Refused(reason)) => {
                    return self.unreadable(reason, permits.is_empty() && out.is_empty(), records, rules);
                }
                Some(Event::Head(head)) => {
                    if decided == records.len() && !self.decide(&head, &mut records, rules, now_s) {
                        Permit::unprotected(&head).map(|permit| (permit, head))
                    } else {
                        let Verdict { decision_id, decision, .. } = &records[decided];
                        decided += 1;
                        Permit::decided(&head, decision, rules, *decision_id).map(|permit| (permit, head))
                    }
                }
            };
            match permit {
                Some((permit, head)) => {
                    write(&head, &permit, &mut out);
                    permits.push(permit);
                }
                // Denied by a configuration that came between the segments of a connection.
                None => return Judged { outcome: Outcome::Destroy, records },
            }
        }
        Judged { outcome: Outcome::Pass(out, permits), records }
    }

    /// Decides about a head that the model did not look at; `false` when the port is not protected.
    fn decide(&mut self, head: &Head, records: &mut Vec<Verdict>, rules: &Rules, now_s: u64) -> bool {
        self.model = None;
        if rules.policies.port_enforces(self.port).is_none() {
            return false;
        }
        let decision = decide(head, self.port, &rules.policies, &rules.keys, now_s);
        let decision_id = self.decision_id();
        records.push(Verdict { decision_id, decision, head: Some(Box::new(head.clone())), refused: false });
        true
    }

    fn decision_id(&mut self) -> u64 {
        let id = self.next_decision_id;
        self.next_decision_id = id.wrapping_add(1);
        id
    }

    /// What cannot be read cannot be forwarded, in no mode: where it ends would be the application's guess.
    fn unreadable(
        &mut self,
        reason: Reason,
        alone: bool,
        mut records: Vec<Verdict>,
        rules: &Rules,
    ) -> Judged {
        let protected = rules.policies.port_enforces(self.port).is_some();
        let last = records.iter_mut().rev().find(|record| record.head.is_none());
        let decision_id = match last {
            Some(record) => {
                record.refused = record.decision.passes();
                record.decision_id
            }
            None => {
                let decision_id = self.decision_id();
                if protected {
                    let decision = refuse(reason, self.port, &rules.policies);
                    let refused = decision.passes();
                    records.push(Verdict { decision_id, decision, head: None, refused });
                }
                decision_id
            }
        };
        let outcome = match reason {
            Reason::BadChunk => Outcome::Destroy,
            _ if !alone => Outcome::Destroy,
            _ => {
                let head_request = self.stream.is_refused_head_request();
                let text = response(reason, true, head_request, decision_id, None);
                Outcome::Answer { text, close: true }
            }
        };
        Judged { outcome, records }
    }
}

// === impl Verdict ===

impl Verdict {
    fn of(record: Record) -> Verdict {
        let Record { decision_id, decision, head } = record;
        Verdict { decision_id, decision, head, refused: false }
    }
}

/// The head in our own words: the request line is ours, the field lines are those that were read.
fn write(head: &Head, permit: &Permit, out: &mut Vec<u8>) {
    let bytes = head.bytes();
    let line = bytes.windows(2).position(|two| two == b"\r\n").map_or(bytes.len(), |at| at + 2);
    out.extend_from_slice(head.method_token());
    out.push(b' ');
    out.extend_from_slice(permit.target().as_str().as_bytes());
    out.extend_from_slice(if head.minor() == 0 { b" HTTP/1.0\r\n" } else { b" HTTP/1.1\r\n" });
    out.extend_from_slice(&bytes[line..]);
}
