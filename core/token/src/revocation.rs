//! Revoked users, sessions, tokens and organisations: tokens that are refused although they would verify.

use portcullis_wire::{Revocation, RevokedClaim};

use crate::claims::Claims;
use crate::limits::NAME_MAX;

/// What is revoked of one issuer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Revocations {
    /// Claim, value, and the `iat` from which on a token is spared; `None` spares none.
    entries: Vec<(RevokedClaim, String, Option<u64>)>,
}

// === impl Revocations ===

impl Revocations {
    pub(crate) fn add(&mut self, revocation: &Revocation) {
        let Revocation { issuer: _, claim, value, not_before, expires_at: _ } = revocation;
        self.entries.push((*claim, value.clone(), *not_before));
    }

    /// Whether a verified token of the issuer is revoked.
    ///
    /// A claim that is longer than a name may be is refused as well: the kernel cannot look it up, so nobody knows
    /// that it is good.
    pub(crate) fn refuse(&self, claims: &Claims) -> bool {
        let too_long = |value: &Option<String>| value.as_ref().is_some_and(|value| value.len() > NAME_MAX);
        [&claims.sub, &claims.sid, &claims.jti, &claims.org_id].into_iter().any(too_long)
            || self.entries.iter().any(|(claim, value, not_before)| {
                let held = match claim {
                    RevokedClaim::Sub => &claims.sub,
                    RevokedClaim::Sid => &claims.sid,
                    RevokedClaim::Jti => &claims.jti,
                    RevokedClaim::OrgId => &claims.org_id,
                };
                held.as_ref() == Some(value) && is_before(claims.iat, *not_before)
            })
    }
}

/// Without a limit every token is meant, and one that does not say when it was issued always is.
fn is_before(iat: Option<u64>, not_before: Option<u64>) -> bool {
    match (iat, not_before) {
        (Some(iat), Some(not_before)) => iat < not_before,
        (None, _) | (_, None) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revocations(claim: RevokedClaim, value: &str, not_before: Option<u64>) -> Revocations {
        let mut all = Revocations::default();
        let issuer = "i".to_owned();
        all.add(&Revocation { issuer, claim, value: value.to_owned(), not_before, expires_at: 9 });
        all
    }

    fn claims(iat: Option<u64>) -> Claims {
        let some = |text: &str| Some(text.to_owned());
        Claims { sub: some("u"), sid: some("s"), jti: some("j"), org_id: some("o"), iat, ..Claims::default() }
    }

    #[test]
    fn each_claim_is_compared_with_its_own_values() {
        let all = [
            (RevokedClaim::Sub, "u"),
            (RevokedClaim::Sid, "s"),
            (RevokedClaim::Jti, "j"),
            (RevokedClaim::OrgId, "o"),
        ];
        for (claim, value) in all {
            assert!(revocations(claim, value, None).refuse(&claims(Some(1))), "{claim:?}");
            for (_, other) in all.iter().filter(|(_, other)| *other != value) {
                assert!(!revocations(claim, other, None).refuse(&claims(Some(1))), "{claim:?} {other}");
            }
        }
    }

    #[test]
    fn tokens_that_were_issued_later_are_spared() {
        let all = revocations(RevokedClaim::Sub, "u", Some(100));
        let refused = [None, Some(99), Some(100)].map(|iat| all.refuse(&claims(iat)));
        assert_eq!(refused, [true, true, false]);
    }

    #[test]
    fn what_the_kernel_cannot_look_up_is_refused() {
        let named = |length: usize| Claims { sid: Some("x".repeat(length)), ..Claims::default() };
        let none = Revocations::default();
        assert_eq!((none.refuse(&named(NAME_MAX)), none.refuse(&named(NAME_MAX + 1))), (false, true));
    }
}
