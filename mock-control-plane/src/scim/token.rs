//! Credentials of the directories that provision users here.

use serde::{Deserialize, Serialize};

use crate::directory::Scope;
use crate::secret::SecretHash;
use crate::store::{Changes, Stored, Table, Unreadable};

/// A tenant's SCIM tokens.
#[derive(Debug, Default)]
pub(crate) struct ScimTokens {
    rows: Table<ScimToken>,
}

/// The credentials of one directory.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct ScimToken {
    /// Identifier.
    pub id: String,
    /// The directory's name, for the sync log.
    pub source: String,
    /// What it may provision.
    pub scope: Scope,
    /// Hash of the secret.
    pub secret: SecretHash,
}

// === impl ScimTokens ===

impl ScimTokens {
    /// Adds one.
    pub(crate) fn add(&mut self, token: ScimToken) {
        self.rows.insert(token.id.clone(), token);
    }

    /// Takes one away; whether there was one.
    pub(crate) fn remove(&mut self, id: &str) -> bool {
        self.rows.remove(id).is_some()
    }

    /// All of them.
    pub(crate) fn list(&self) -> impl Iterator<Item = &ScimToken> {
        self.rows.values()
    }

    /// Hands over what changed since the last time.
    pub(crate) fn drain(&mut self, changes: &mut Changes) {
        self.rows.drain("scim_token", changes);
    }

    /// The tokens as they were written.
    pub(crate) fn load(stored: &mut Stored) -> Result<ScimTokens, Unreadable> {
        Ok(ScimTokens { rows: Table::load("scim_token", stored)? })
    }

    /// The one with that secret. All are compared: the time does not tell which one matched.
    pub(crate) fn by_secret(&self, presented: &[u8]) -> Option<&ScimToken> {
        self.rows.values().fold(None, |found, row| {
            let matches = row.secret.matches(presented);
            if matches { Some(row) } else { found }
        })
    }
}
