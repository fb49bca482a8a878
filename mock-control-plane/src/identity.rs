//! What follows for tokens and sessions from a change of the directory.
//!
//! A token says what its user could do when it was made. **Invariant:** when something is taken from a user, tokens
//! made before are revoked: agents refuse them from the next bundle on. When the user is deactivated or deleted the
//! sessions end too, so that no new token is made.

use std::time::Duration;

use portcullis_wire::RevokedClaim;

use crate::directory::{Directory, Refusal, Scope};
use crate::mfa::MfaPolicy;
use crate::store::Tenant;
use crate::sync_log::What;

/// The product's name, where people read it: authenticator apps, the sync log.
pub(crate) const PRODUCT: &str = "AuthFI";

// === impl Tenant ===

impl Tenant {
    /// Changes the directory by `change`, which may take rights from the users `affected` and from no others.
    pub(crate) fn change<T>(
        &mut self,
        affected: &[String],
        now: Duration,
        change: impl FnOnce(&mut Directory) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let before: Vec<_> =
            affected.iter().map(|id| (id, self.directory.rights(id), self.who(id))).collect();
        let value = change(&mut self.directory)?;
        for (id, before, who) in before {
            match (before, self.directory.rights(id)) {
                (Some(_), None) => self.cut_off(id, who, now),
                (Some(before), Some(after)) if !after.keep(&before) => {
                    self.revoke(RevokedClaim::Sub, id, Some(now.as_secs() + 1), now);
                }
                (Some(_) | None, Some(_)) | (None, None) => {}
            }
        }
        Ok(value)
    }

    /// Ends all sessions of a user and revokes all tokens made so far; how many sessions that were.
    pub(crate) fn end_sessions(&mut self, user: &str, now: Duration) -> usize {
        let ended = self.sessions.end_all(user);
        // Tokens of this second too: a second is the finest that `iat` tells.
        self.revoke(RevokedClaim::Sub, user, Some(now.as_secs() + 1), now);
        ended
    }

    /// Ends one session and revokes its tokens; whether there was one.
    pub(crate) fn end_session(&mut self, sid: &str, now: Duration) -> bool {
        let ended = self.sessions.end(sid);
        if ended {
            self.revoke(RevokedClaim::Sid, sid, None, now);
        }
        ended
    }

    /// Revokes tokens; see [`portcullis_wire::Revocation`].
    pub(crate) fn revoke(
        &mut self,
        claim: RevokedClaim,
        value: &str,
        not_before: Option<u64>,
        now: Duration,
    ) {
        if self.revocations.add(claim, value, not_before, now.as_secs()) {
            self.version.bump();
        }
    }

    /// The stricter of the tenant's policy and the organisation's.
    pub(crate) fn mfa_policy_of(&self, org: Option<&str>) -> MfaPolicy {
        let org = org.and_then(|id| self.directory.org(&Scope::Tenant, id).ok());
        org.and_then(|org| org.mfa_policy).map_or(self.mfa_policy, |own| own.max(self.mfa_policy))
    }

    fn cut_off(&mut self, user: &str, who: Option<(String, Option<String>)>, now: Duration) {
        self.end_sessions(user, now);
        let (name, org) = who.unwrap_or_default();
        let what = What {
            source: PRODUCT.to_owned(),
            event: "Session revoked",
            detail: format!("{name} (all sessions)"),
            org,
        };
        self.sync_log.pending(what, self.version.get(), now);
    }

    fn who(&self, user: &str) -> Option<(String, Option<String>)> {
        let user = self.directory.user(&Scope::Tenant, user).ok()?;
        Some((user.email().unwrap_or(&user.user_name).to_owned(), user.org.clone()))
    }
}
