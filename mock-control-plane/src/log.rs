//! The access log: a bounded, numbered sequence of records, and how far each agent's stream of them came.
//!
//! **Invariant:** the oldest records go first, and how many went is known. **Invariant:** a record that carries a
//! sequence number is taken once, however often it is sent.

use std::collections::{BTreeMap, VecDeque};

use portcullis_wire::AccessLog;

/// A bounded, numbered sequence of log records.
#[derive(Default)]
pub(crate) struct Log {
    records: VecDeque<AccessLog>,
    /// Number of the oldest record held; also how many were forgotten.
    first: u64,
    streams: BTreeMap<(String, String), Stream>,
}

/// One agent's numbered records; an agent starts a new stream when it has lost its old one's numbers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
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
    pub(crate) fn append(&mut self, records: Vec<AccessLog>) {
        records.into_iter().for_each(|record| self.push(record));
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
    ) -> Option<Taken> {
        let key = (agent.to_owned(), stream.to_owned());
        let known = self.streams.get(&key).copied();
        if known.is_none() && self.streams.keys().filter(|(of, _)| of == agent).count() >= STREAMS_MAX {
            return None;
        }
        let mut state = known.unwrap_or_default();
        let count = records.len() as u64;
        let duplicates = state.next_seq.saturating_sub(first_seq).min(count);
        state.missing += first_seq.saturating_sub(state.next_seq);
        state.next_seq = state.next_seq.max(first_seq.saturating_add(count));
        state.dropped = state.dropped.max(dropped);
        for record in records.into_iter().skip(usize::try_from(duplicates).unwrap_or(usize::MAX)) {
            self.push(record);
        }
        self.streams.insert(key, state);
        Some(Taken { accepted: count - duplicates, duplicates, stream: state })
    }

    /// Each stream with its agent and name.
    pub(crate) fn streams(&self) -> impl Iterator<Item = (&str, &str, Stream)> {
        self.streams.iter().map(|((agent, stream), state)| (agent.as_str(), stream.as_str(), *state))
    }

    /// Records from number `after` on, oldest first, each with its number.
    pub(crate) fn since(&self, after: u64) -> impl DoubleEndedIterator<Item = (u64, &AccessLog)> {
        let skip = usize::try_from(after.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let first = self.first;
        self.records.iter().enumerate().skip(skip).map(move |(n, record)| (first + n as u64, record))
    }

    /// Number that the next record will get: how many there ever were.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.records.len() as u64
    }

    /// How many were forgotten.
    pub(crate) fn forgotten(&self) -> u64 {
        self.first
    }

    fn push(&mut self, record: AccessLog) {
        if self.records.len() == RECORDS_MAX {
            self.records.pop_front();
            self.first += 1;
        }
        self.records.push_back(record);
    }
}
