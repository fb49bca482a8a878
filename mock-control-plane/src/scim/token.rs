//! Credentials of the directories that provision users here.

use std::collections::BTreeMap;

use crate::directory::Scope;
use crate::secret::SecretHash;

/// A tenant's SCIM tokens.
#[derive(Debug, Default)]
pub(crate) struct ScimTokens {
    rows: BTreeMap<String, ScimToken>,
}

/// The credentials of one directory.
#[derive(Clone, Debug)]
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

    /// The one with that secret. All are compared: the time does not tell which one matched.
    pub(crate) fn by_secret(&self, presented: &[u8]) -> Option<&ScimToken> {
        self.rows.values().fold(None, |found, row| {
            let matches = row.secret.matches(presented);
            if matches { Some(row) } else { found }
        })
    }
}
