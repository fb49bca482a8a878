//! Revoked users, sessions, tokens and organisations as entries of `pc_revoked`.
//!
//! They are part of an image because their keys hold the issuer's index, which is of a generation.

use std::collections::BTreeMap;

use portcullis_bpf::{abi::name_kind, limits};
use portcullis_token::TrustedIssuer;
use portcullis_wire::{Revocation, RevokedClaim};

use super::error::{CompileError, within};

/// What is revoked.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Revoked {
    /// `name_kind::REVOKED_*`
    pub(super) kind: u8,
    pub(super) issuer: u32,
    pub(super) value: String,
}

/// Revocations with the second before which a token's `iat` is refused; `u64::MAX` refuses every token.
///
/// Those of other issuers are left out, their tokens are refused anyway; so are values that are too long for a map key,
/// because the programs refuse every token with such a claim (lib/revoked.h).
pub(super) fn lower(
    revocations: &[Revocation],
    issuers: &[TrustedIssuer],
) -> Result<BTreeMap<Revoked, u64>, CompileError> {
    let mut revoked: BTreeMap<Revoked, u64> = BTreeMap::new();
    for Revocation { issuer, claim, value, not_before, expires_at: _ } in revocations {
        let index = issuers.iter().position(|trusted| trusted.issuer() == issuer);
        let Some(index) = index.filter(|_| value.len() <= limits::NAME_MAX) else { continue };
        let kind = match claim {
            RevokedClaim::Sub => name_kind::REVOKED_SUB,
            RevokedClaim::Sid => name_kind::REVOKED_SID,
            RevokedClaim::Jti => name_kind::REVOKED_JTI,
            RevokedClaim::OrgId => name_kind::REVOKED_ORG,
        };
        let entry = revoked.entry(Revoked { kind, issuer: index as u32, value: value.clone() }).or_default();
        *entry = not_before.unwrap_or(u64::MAX).max(*entry);
    }
    within(
        "PC_REVOCATIONS_MAX / 2",
        "revocations",
        revoked.len(),
        limits::REVOCATIONS_MAX / limits::HALVES,
        "revoke users or organisations rather than single sessions and tokens, or let tokens expire sooner",
    )?;
    Ok(revoked)
}
