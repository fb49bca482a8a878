//! Revocations: tokens that agents refuse although they would verify.
//!
//! **Invariant:** a revocation only ever grows while it lasts; it is forgotten when whatever it covers has expired.

use std::collections::BTreeMap;

use portcullis_wire::{Revocation, RevokedClaim};

use crate::config::ACCESS_TOKEN_TTL_MAX_S;

/// A tenant's revocations.
#[derive(Debug)]
pub(crate) struct Revocations {
    issuer: String,
    rows: BTreeMap<(RevokedClaim, String), Row>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Row {
    not_before: Option<u64>,
    expires_at: u64,
}

/// Time past a token's `exp` for which it may still be accepted somewhere, seconds: the greatest sensible leeway.
const LEEWAY_MAX_S: u64 = 300;

// === impl Revocations ===

impl Revocations {
    /// None yet, of tokens of `issuer`.
    pub(crate) fn new(issuer: String) -> Revocations {
        Revocations { issuer, rows: BTreeMap::new() }
    }

    /// Revokes tokens; `not_before` as in [`Revocation`]. Whether that changed anything.
    pub(crate) fn add(
        &mut self,
        claim: RevokedClaim,
        value: &str,
        not_before: Option<u64>,
        now_s: u64,
    ) -> bool {
        self.rows.retain(|_, row| now_s < row.expires_at);
        let last_s = not_before.unwrap_or(now_s).max(now_s);
        let expires_at = last_s.saturating_add(ACCESS_TOKEN_TTL_MAX_S).saturating_add(LEEWAY_MAX_S);
        let new = Row { not_before, expires_at };
        let row =
            self.rows.entry((claim, value.to_owned())).or_insert(Row { not_before: Some(0), expires_at: 0 });
        let merged = Row {
            // Absent is every token, the most that there is.
            not_before: row.not_before.and_then(|old| new.not_before.map(|new| new.max(old))),
            expires_at: row.expires_at.max(new.expires_at),
        };
        let changed = merged != *row;
        *row = merged;
        changed
    }

    /// All of them, as agents get them.
    pub(crate) fn list(&self) -> Vec<Revocation> {
        let revocation = |((claim, value), row): (&(RevokedClaim, String), &Row)| Revocation {
            issuer: self.issuer.clone(),
            claim: *claim,
            value: value.clone(),
            not_before: row.not_before,
            expires_at: row.expires_at,
        };
        self.rows.iter().map(revocation).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revocation_grows_and_never_shrinks() {
        let mut revocations = Revocations::new("i".to_owned());
        assert!(revocations.add(RevokedClaim::Sub, "u", Some(100), 99));
        assert!(!revocations.add(RevokedClaim::Sub, "u", Some(50), 99));
        assert_eq!(revocations.list()[0].not_before, Some(100));
        assert!(revocations.add(RevokedClaim::Sub, "u", None, 99));
        assert!(!revocations.add(RevokedClaim::Sub, "u", Some(50), 99));
        assert_eq!(revocations.list()[0].not_before, None);
    }

    #[test]
    fn it_is_forgotten_when_no_such_token_can_be_valid() {
        let mut revocations = Revocations::new("i".to_owned());
        revocations.add(RevokedClaim::Jti, "old", None, 0);
        let expires_at = revocations.list()[0].expires_at;
        revocations.add(RevokedClaim::Jti, "new", None, expires_at - 1);
        assert_eq!(revocations.list().len(), 2);
        revocations.add(RevokedClaim::Jti, "newer", None, expires_at);
        assert_eq!(revocations.list().iter().map(|r| r.value.as_str()).collect::<Vec<_>>(), ["new", "newer"]);
    }
}
