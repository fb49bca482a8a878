//! What is written to the state file, and what is read from it: rows of JSON by kind and identifier.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What changed, if anybody is going to write it.
#[derive(Debug)]
pub(crate) struct Changes {
    rows: Option<Vec<Change>>,
}

/// One row as it is now.
#[derive(Debug)]
pub(crate) struct Change {
    /// What it is a row of.
    pub kind: &'static str,
    /// Its identifier.
    pub id: String,
    /// JSON; absent: there is no such row any more.
    pub body: Option<String>,
}

/// The rows of one tenant as they were written: kind, identifier, JSON.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    rows: BTreeMap<String, BTreeMap<String, String>>,
}

/// A row that this version cannot read.
#[derive(Debug, thiserror::Error)]
#[error("{kind} `{id}`: {reason}")]
pub(crate) struct Unreadable {
    kind: String,
    id: String,
    reason: String,
}

// === impl Changes ===

impl Changes {
    /// To be written.
    pub(crate) fn recorded() -> Changes {
        Changes { rows: Some(Vec::new()) }
    }

    /// To be forgotten: the state is in memory only.
    pub(crate) fn forgotten() -> Changes {
        Changes { rows: None }
    }

    /// Notes a row as it is now; `None`: it is gone.
    pub(crate) fn note<T: Serialize>(&mut self, kind: &'static str, id: &str, row: Option<&T>) {
        if let Some(rows) = &mut self.rows {
            let body = row.map(|row| {
                serde_json::to_string(row).expect("rows have text keys and no other way to fail as JSON")
            });
            rows.push(Change { kind, id: id.to_owned(), body });
        }
    }

    /// Notes the one row of a kind, if it is another than the one `written`.
    pub(crate) fn note_one<T: Serialize>(
        &mut self,
        kind: &'static str,
        written: &mut Option<String>,
        row: &T,
    ) {
        self.note(kind, "", Some(row));
        if let Some(rows) = &mut self.rows {
            let same = rows.last().is_some_and(|change| change.body == *written);
            if same {
                rows.pop();
            } else {
                *written = rows.last().and_then(|change| change.body.clone());
            }
        }
    }

    /// The rows.
    pub(crate) fn into_rows(self) -> Vec<Change> {
        self.rows.unwrap_or_default()
    }
}

// === impl Stored ===

impl Stored {
    /// Adds a row.
    pub(crate) fn add(&mut self, kind: String, id: String, body: String) {
        self.rows.entry(kind).or_default().insert(id, body);
    }

    /// The rows of a kind by ascending identifier; they are not here any more.
    pub(crate) fn take<T: DeserializeOwned>(
        &mut self,
        kind: &'static str,
    ) -> impl Iterator<Item = Result<(String, T), Unreadable>> + use<T> {
        let rows = self.rows.remove(kind).unwrap_or_default();
        rows.into_iter().map(move |(id, body)| match serde_json::from_str(&body) {
            Ok(row) => Ok((id, row)),
            Err(error) => Err(Unreadable::new(kind, &id, error)),
        })
    }

    /// The only row of a kind.
    pub(crate) fn take_one<T: DeserializeOwned>(
        &mut self,
        kind: &'static str,
    ) -> Result<Option<T>, Unreadable> {
        self.take(kind).next().transpose().map(|row| row.map(|(_, row)| row))
    }

    /// Whether everything was taken.
    pub(crate) fn end(self) -> Result<(), Unreadable> {
        match self.rows.into_iter().next() {
            Some((kind, rows)) => {
                let id = rows.into_keys().next().unwrap_or_default();
                Err(Unreadable::new(&kind, &id, "a kind that this version does not know"))
            }
            None => Ok(()),
        }
    }
}

// === impl Unreadable ===

impl Unreadable {
    /// About one row.
    pub(crate) fn new(kind: &str, id: &str, reason: impl std::fmt::Display) -> Unreadable {
        Unreadable { kind: kind.to_owned(), id: id.to_owned(), reason: reason.to_string() }
    }
}
