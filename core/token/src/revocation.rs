//! Tokens that are refused although they verify: the model of `bpf/lib/revoked.h`.
//!
//! **Invariant:** a revocation holds for tokens of its issuer only.
//! **Invariant:** of two revocations of the same value the one that refuses more holds.

use std::collections::HashMap;

use portcullis_wire::{Revocation, RevokedClaim};

use crate::claims::Claims;
use crate::limits;

/// What is revoked of one issuer: for each claim and value the second before which an `iat` is refused.
#[derive(Clone, Debug, Default)]
pub(crate) struct Revoked(HashMap<RevokedClaim, HashMap<String, u64>>);

// === impl Revoked ===

impl Revoked {
    /// Adds one of this issuer. `expires_at` only says when it can be forgotten: until then, and after, it refuses.
    pub(crate) fn add(&mut self, revocation: &Revocation) {
        let Revocation { issuer: _, claim, value, not_before, expires_at: _ } = revocation;
        let row = self.0.entry(*claim).or_default().entry(value.clone()).or_default();
        *row = not_before.unwrap_or(u64::MAX).max(*row);
    }

    /// Whether a token that says this is revoked.
    pub(crate) fn covers(&self, claims: &Claims) -> bool {
        let Claims { sub, sid, jti, org_id, iat, .. } = claims;
        let named = [
            (RevokedClaim::Sub, sub),
            (RevokedClaim::Sid, sid),
            (RevokedClaim::Jti, jti),
            (RevokedClaim::OrgId, org_id),
        ];
        named.into_iter().any(|(claim, value)| {
            let Some(value) = value else { return false };
            // The kernel cannot look up a longer value, so it cannot be known to be good.
            value.len() > limits::NAME_MAX
                || self
                    .0
                    .get(&claim)
                    .and_then(|rows| rows.get(value))
                    .is_some_and(|not_before| iat.is_none_or(|iat| iat < *not_before))
        })
    }
}
