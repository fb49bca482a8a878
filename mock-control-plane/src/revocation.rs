//! Revocations: tokens that agents refuse although they would verify.
//!
//! **Invariant:** a revocation only ever grows while it lasts; it is forgotten when whatever it covers has expired.

use portcullis_wire::{Revocation, RevokedClaim};
use serde::{Deserialize, Serialize};

use crate::config::ACCESS_TOKEN_TTL_MAX_S;
use crate::store::{Changes, Stored, Table, Unreadable};

/// A tenant's revocations.
#[derive(Debug, Default)]
pub(crate) struct Revocations {
    rows: Table<Row>,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Row {
    claim: RevokedClaim,
    value: String,
    not_before: Option<u64>,
    expires_at: u64,
}

/// Time past a token's `exp` for which it may still be accepted somewhere, seconds: the greatest sensible leeway.
const LEEWAY_MAX_S: u64 = 300;

// === impl Revocations ===

impl Revocations {
    /// Revokes tokens; `not_before` as in [`Revocation`]. Whether that changed anything.
    pub(crate) fn add(
        &mut self,
        claim: RevokedClaim,
        value: &str,
        not_before: Option<u64>,
        now_s: u64,
    ) -> bool {
        self.rows.retain(|row| now_s < row.expires_at);
        let last_s = not_before.unwrap_or(now_s).max(now_s);
        let expires_at = last_s.saturating_add(ACCESS_TOKEN_TTL_MAX_S).saturating_add(LEEWAY_MAX_S);
        let id = format!("{claim:?}:{value}");
        let new = Row { claim, value: value.to_owned(), not_before, expires_at };
        let merged = match self.rows.get(&id) {
            None => new,
            Some(old) => Row {
                // Absent is every token, the most that there is.
                not_before: old.not_before.and_then(|old| new.not_before.map(|new| new.max(old))),
                expires_at: old.expires_at.max(new.expires_at),
                ..new
            },
        };
        let changed = self.rows.get(&id) != Some(&merged);
        if changed {
            self.rows.insert(id, merged);
        }
        changed
    }

    /// All of them, as agents get them: of tokens of `issuer`.
    pub(crate) fn list(&self, issuer: &str) -> Vec<Revocation> {
        let revocation = |row: &Row| Revocation {
            issuer: issuer.to_owned(),
            claim: row.claim,
            value: row.value.clone(),
            not_before: row.not_before,
            expires_at: row.expires_at,
        };
        self.rows.values().map(revocation).collect()
    }

    /// Hands over what changed since the last time.
    pub(crate) fn drain(&mut self, changes: &mut Changes) {
        self.rows.drain("revocation", changes);
    }

    /// The revocations as they were written.
    pub(crate) fn load(stored: &mut Stored) -> Result<Revocations, Unreadable> {
        Ok(Revocations { rows: Table::load("revocation", stored)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revocation_grows_and_never_shrinks() {
        let mut revocations = Revocations::default();
        assert!(revocations.add(RevokedClaim::Sub, "u", Some(100), 99));
        assert!(!revocations.add(RevokedClaim::Sub, "u", Some(50), 99));
        assert_eq!(revocations.list("i")[0].not_before, Some(100));
        assert!(revocations.add(RevokedClaim::Sub, "u", None, 99));
        assert!(!revocations.add(RevokedClaim::Sub, "u", Some(50), 99));
        assert_eq!(revocations.list("i")[0].not_before, None);
    }

    #[test]
    fn it_is_forgotten_when_no_such_token_can_be_valid() {
        let mut revocations = Revocations::default();
        revocations.add(RevokedClaim::Jti, "old", None, 0);
        let expires_at = revocations.list("i")[0].expires_at;
        revocations.add(RevokedClaim::Jti, "new", None, expires_at - 1);
        assert_eq!(revocations.list("i").len(), 2);
        revocations.add(RevokedClaim::Jti, "newer", None, expires_at);
        assert_eq!(
            revocations.list("i").iter().map(|r| r.value.as_str()).collect::<Vec<_>>(),
            ["new", "newer"]
        );
    }
}
