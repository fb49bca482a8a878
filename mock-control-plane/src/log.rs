//! The access log: a bounded, numbered sequence of records, and how far each agent's stream of them came.
//!
//! **Invariant:** the oldest records go first, and how many went is known. **Invariant:** a record that carries a
//! sequence number is taken once, however often it is sent.

use portcullis_wire::AccessLog;
use serde::{Deserialize, Serialize};

use crate::store::{Changes, Sequence, Stored, Table, Unreadable};

/// A bounded, numbered sequence of log records.
#[derive(Default)]
pub(crate) struct Log {
    records: Sequence<Received>,
    /// By agent and name, with a slash between them.
    streams: Table<Stream>,
}

/// A record, and when it came, seconds since the epoch.
#[derive(Debug, Deserialize, Serialize)]
struct Received {
    at_s: u64,
    record: AccessLog,
}

/// One agent's numbered records; an agent starts a new stream when it has lost its old one's numbers.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Stream {
    /// Sequence number that comes next.
    pub next_seq: u64,
    /// Records that were skipped: numbers that never came.
    pub missing: u64,
    /// Records that the agent says it lost.
    pub dropped: u64,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Taken {
    /// New records.
    pub accepted: u64,
    /// Records that had come before.
    pub duplicates: u64,
    /// The stream afterwards.
    pub stream: Stream,
}

/// Most records kept for a tenant.
const RECORDS_MAX: usize = 200_000;
/// Most streams of one agent: it starts a new one when it has lost its numbers, which is rare.
const STREAMS_MAX: usize = 64;

// === impl Log ===

impl Log {
    /// Appends records without numbers: at least once each.
    pub(crate) fn append(&mut self, records: Vec<AccessLog>, now_s: u64) {
        records.into_iter().for_each(|record| self.push(record, now_s));
    }

    /// Takes a batch whose records are numbered from `first_seq` on; those that came before are left out. `None` when
    /// the agent has too many streams.
    pub(crate) fn take(
        &mut self,
        agent: &str,
        stream: &str,
        first_seq: u64,
        dropped: u64,
        records: Vec<AccessLog>,
        now_s: u64,
    ) -> Option<Taken> {
        let key = format!("{agent}/{stream}");
        let known = self.streams.get(&key).copied();
        if known.is_none() && self.streams().filter(|(of, _, _)| *of == agent).count() >= STREAMS_MAX {
            return None;
        }
        let mut state = known.unwrap_or_default();
        let count = records.len() as u64;
        let duplicates = state.next_seq.saturating_sub(first_seq).min(count);
        state.missing += first_seq.saturating_sub(state.next_seq);
        state.next_seq = state.next_seq.max(first_seq.saturating_add(count));
        state.dropped = state.dropped.max(dropped);
        for record in records.into_iter().skip(usize::try_from(duplicates).unwrap_or(usize::MAX)) {
            self.push(record, now_s);
        }
        self.streams.insert(key, state);
        Some(Taken { accepted: count - duplicates, duplicates, stream: state })
    }

    /// Each stream with its agent and name.
    pub(crate) fn streams(&self) -> impl Iterator<Item = (&str, &str, Stream)> {
        self.streams
            .iter()
            .filter_map(|(key, state)| key.split_once('/').map(|(agent, stream)| (agent, stream, *state)))
    }

    /// Records from number `after` on, oldest first, each with its number.
    pub(crate) fn since(&self, after: u64) -> impl DoubleEndedIterator<Item = (u64, &AccessLog)> {
        self.records.since(after).map(|(number, received)| (number, &received.record))
    }

    /// Number that the next record will get: how many there ever were.
    pub(crate) fn next(&self) -> u64 {
        self.records.next()
    }

    /// How many were forgotten.
    pub(crate) fn forgotten(&self) -> u64 {
        self.records.forgotten()
    }

    /// Forgets the records that came before `from_s`; how many. An agent's own times do not count: its clock may be
    /// wrong, and what it spooled would go before anybody saw it.
    pub(crate) fn forget_before(&mut self, from_s: u64) -> u64 {
        self.records.forget_while(|received| received.at_s < from_s)
    }

    /// Hands over what changed since the last time.
    pub(crate) fn drain(&mut self, changes: &mut Changes) {
        self.records.drain("log", changes);
        self.streams.drain("stream", changes);
    }

    /// The log as it was written.
    pub(crate) fn load(stored: &mut Stored, forgotten: u64) -> Result<Log, Unreadable> {
        Ok(Log {
            records: Sequence::load("log", stored, forgotten)?,
            streams: Table::load("stream", stored)?,
        })
    }

    fn push(&mut self, record: AccessLog, now_s: u64) {
        self.records.push(Received { at_s: now_s, record }, RECORDS_MAX);
    }
}
