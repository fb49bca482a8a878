//! Rows by identifier that remember which of them changed, so that they can be written.

use std::collections::{BTreeMap, BTreeSet, btree_map};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::change::{Changes, Stored, Unreadable};

/// Rows by identifier.
#[derive(Debug)]
pub(crate) struct Table<T> {
    rows: BTreeMap<String, T>,
    changed: BTreeSet<String>,
}

// === impl Table ===

impl<T> Table<T> {
    /// One row.
    pub(crate) fn get(&self, id: &str) -> Option<&T> {
        self.rows.get(id)
    }

    /// One row, to change it: it is written again.
    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut T> {
        let row = self.rows.get_mut(id)?;
        self.changed.insert(id.to_owned());
        Some(row)
    }

    /// One row, made by `new` if there is none, to change it.
    pub(crate) fn get_or_insert(&mut self, id: &str, new: impl FnOnce() -> T) -> &mut T {
        self.changed.insert(id.to_owned());
        self.rows.entry(id.to_owned()).or_insert_with(new)
    }

    /// Whether there is such a row.
    pub(crate) fn contains(&self, id: &str) -> bool {
        self.rows.contains_key(id)
    }

    /// Puts a row in the place of whatever was there.
    pub(crate) fn insert(&mut self, id: String, row: T) -> &T {
        self.changed.insert(id.clone());
        match self.rows.entry(id) {
            btree_map::Entry::Occupied(mut place) => {
                place.insert(row);
                place.into_mut()
            }
            btree_map::Entry::Vacant(place) => place.insert(row),
        }
    }

    /// Takes a row away.
    pub(crate) fn remove(&mut self, id: &str) -> Option<T> {
        let row = self.rows.remove(id)?;
        self.changed.insert(id.to_owned());
        Some(row)
    }

    /// Takes away the rows that are not to be kept; how many.
    pub(crate) fn retain(&mut self, keep: impl Fn(&T) -> bool) -> usize {
        let gone = self.rows.extract_if(.., |_, row| !keep(row)).map(|(id, _)| id);
        let gone: Vec<String> = gone.collect();
        let count = gone.len();
        self.changed.extend(gone);
        count
    }

    /// Shows every row to `change`, which says of which it changed.
    pub(crate) fn change_each(&mut self, mut change: impl FnMut(&mut T) -> bool) {
        let changed = self.rows.iter_mut().filter_map(|(id, row)| change(row).then(|| id.clone()));
        self.changed.extend(changed);
    }

    /// The rows by ascending identifier.
    pub(crate) fn values(&self) -> btree_map::Values<'_, String, T> {
        self.rows.values()
    }

    /// The rows with their identifiers.
    pub(crate) fn iter(&self) -> btree_map::Iter<'_, String, T> {
        self.rows.iter()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }
}

impl<T: Serialize> Table<T> {
    /// Hands over what changed since the last time.
    pub(crate) fn drain(&mut self, kind: &'static str, changes: &mut Changes) {
        for id in std::mem::take(&mut self.changed) {
            changes.note(kind, &id, self.rows.get(&id));
        }
    }
}

impl<T: DeserializeOwned> Table<T> {
    /// The rows as they were written.
    pub(crate) fn load(kind: &'static str, stored: &mut Stored) -> Result<Table<T>, Unreadable> {
        Ok(Table { rows: stored.take(kind).collect::<Result<_, _>>()?, changed: BTreeSet::new() })
    }
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table { rows: BTreeMap::new(), changed: BTreeSet::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(table: &mut Table<u32>) -> Vec<(String, Option<String>)> {
        let mut changes = Changes::recorded();
        table.drain("t", &mut changes);
        changes.into_rows().into_iter().map(|change| (change.id, change.body)).collect()
    }

    #[test]
    fn each_way_to_change_a_row_is_noted_once() {
        let row = |id: &str, body: Option<&str>| (id.to_owned(), body.map(str::to_owned));
        let mut table = Table::default();
        table.insert("a".to_owned(), 1);
        table.insert("b".to_owned(), 2);
        *table.get_or_insert("c", || 3) += 1;
        assert_eq!(drained(&mut table), [row("a", Some("1")), row("b", Some("2")), row("c", Some("4"))]);
        assert_eq!(drained(&mut table), []);
        table.get_mut("a").map(|value| *value = 9).expect("a row");
        table.get_mut("a").map(|value| *value += 1).expect("a row");
        assert_eq!(drained(&mut table), [row("a", Some("10"))]);
        table.remove("b");
        assert_eq!(table.remove("b"), None);
        assert_eq!(drained(&mut table), [row("b", None)]);
        assert_eq!(table.retain(|value| *value == 10), 1);
        assert_eq!(drained(&mut table), [row("c", None)]);
        table.change_each(|value| *value > 100);
        assert_eq!(drained(&mut table), []);
        table.change_each(|value| {
            *value += 1;
            true
        });
        assert_eq!(drained(&mut table), [row("a", Some("11"))]);
    }

    #[test]
    fn looking_is_no_change() {
        let mut table = Table::default();
        table.insert("a".to_owned(), 1);
        drained(&mut table);
        assert_eq!((table.get("a"), table.contains("b"), table.len()), (Some(&1), false, 1));
        assert_eq!(table.values().chain(table.iter().map(|(_, row)| row)).sum::<u32>(), 2);
        assert_eq!(table.get_mut("b"), None);
        assert_eq!(drained(&mut table), []);
    }
}
