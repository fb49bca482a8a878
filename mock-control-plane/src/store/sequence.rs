//! A bounded, numbered sequence that remembers which of its entries changed. The oldest go first, and how many went is
//! known.

use std::collections::{BTreeSet, VecDeque};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::change::{Changes, Stored, Unreadable};

/// Entries by ascending number, without gaps.
#[derive(Debug)]
pub(crate) struct Sequence<T> {
    entries: VecDeque<T>,
    /// Number of the oldest entry held; also how many were forgotten.
    first: u64,
    changed: BTreeSet<u64>,
}

// === impl Sequence ===

impl<T> Sequence<T> {
    /// Appends an entry; beyond `max` the oldest one goes.
    pub(crate) fn push(&mut self, entry: T, max: usize) {
        while self.entries.len() >= max && self.forget_oldest() {}
        self.changed.insert(self.next());
        self.entries.push_back(entry);
    }

    /// Forgets the oldest entries as long as they are `old`; how many.
    pub(crate) fn forget_while(&mut self, old: impl Fn(&T) -> bool) -> u64 {
        let before = self.first;
        while self.entries.front().is_some_and(&old) {
            self.forget_oldest();
        }
        self.first - before
    }

    /// Shows every entry to `change`, which says of which it changed.
    pub(crate) fn change_each(&mut self, mut change: impl FnMut(&mut T) -> bool) {
        let numbered = (self.first..).zip(&mut self.entries);
        self.changed.extend(numbered.filter_map(|(number, entry)| change(entry).then_some(number)));
    }

    /// Entries from number `from` on, oldest first, each with its number.
    pub(crate) fn since(&self, from: u64) -> impl DoubleEndedIterator<Item = (u64, &T)> {
        let skip = usize::try_from(from.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let first = self.first;
        self.entries.iter().enumerate().skip(skip).map(move |(n, entry)| (first + n as u64, entry))
    }

    /// Number that the next entry will get: how many there ever were.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// How many were forgotten.
    pub(crate) fn forgotten(&self) -> u64 {
        self.first
    }

    fn forget_oldest(&mut self) -> bool {
        let gone = self.entries.pop_front().is_some();
        if gone {
            self.changed.insert(self.first);
            self.first += 1;
        }
        gone
    }
}

impl<T: Serialize> Sequence<T> {
    /// Hands over what changed since the last time.
    pub(crate) fn drain(&mut self, kind: &'static str, changes: &mut Changes) {
        for number in std::mem::take(&mut self.changed) {
            let at = number.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
            changes.note(kind, &id(number), at.and_then(|at| self.entries.get(at)));
        }
    }
}

impl<T: DeserializeOwned> Sequence<T> {
    /// The entries as they were written; `forgotten` is how many there were before them.
    pub(crate) fn load(
        kind: &'static str,
        stored: &mut Stored,
        forgotten: u64,
    ) -> Result<Sequence<T>, Unreadable> {
        let mut entries = VecDeque::new();
        for row in stored.take(kind) {
            let (found, entry) = row?;
            if found != id(forgotten + entries.len() as u64) {
                return Err(Unreadable::new(kind, &found, "an entry before it is missing"));
            }
            entries.push_back(entry);
        }
        Ok(Sequence { entries, first: forgotten, changed: BTreeSet::new() })
    }
}

impl<T> Default for Sequence<T> {
    fn default() -> Sequence<T> {
        Sequence { entries: VecDeque::new(), first: 0, changed: BTreeSet::new() }
    }
}

/// Sorts as the numbers do.
fn id(number: u64) -> String {
    format!("{number:020}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(sequence: &mut Sequence<u32>) -> Vec<(u64, Option<String>)> {
        let mut changes = Changes::recorded();
        sequence.drain("s", &mut changes);
        let rows = changes.into_rows().into_iter();
        rows.map(|change| (change.id.parse().expect("a number"), change.body)).collect()
    }

    #[test]
    fn entries_come_and_go_with_their_numbers() {
        let mut sequence = Sequence::default();
        (10..14).for_each(|n| sequence.push(n, 3));
        assert_eq!((sequence.next(), sequence.forgotten()), (4, 1));
        assert_eq!(sequence.since(0).collect::<Vec<_>>(), [(1, &11), (2, &12), (3, &13)]);
        assert_eq!(sequence.since(3).collect::<Vec<_>>(), [(3, &13)]);
        assert_eq!(sequence.since(9).count(), 0);
        let text = |n: u32| Some(n.to_string());
        // What came and went in between has left nothing to delete, which costs nothing.
        assert_eq!(drained(&mut sequence), [(0, None), (1, text(11)), (2, text(12)), (3, text(13))]);
        sequence.change_each(|entry| {
            *entry += 100;
            *entry == 112
        });
        assert_eq!(drained(&mut sequence), [(2, text(112))]);
        assert_eq!(sequence.forget_while(|entry| *entry < 113), 2);
        assert_eq!(drained(&mut sequence), [(1, None), (2, None)]);
        assert_eq!(sequence.since(0).collect::<Vec<_>>(), [(3, &113)]);
        assert_eq!(sequence.forget_while(|_| true), 1);
        assert_eq!((sequence.next(), sequence.forgotten()), (4, 4));
    }
}
