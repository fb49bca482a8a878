//! The decision about one request: from its head, through path, policy and token, to a reason.

use portcullis_http::{Head, Resource};
use portcullis_policy::{Claims, PolicySet, Request, Token};
use portcullis_token::{KeyStore, VerifiedToken};
use portcullis_wire::{CandidateVerdict, Mode, Reason, Verdict};

#[cfg(test)]
mod tests;

/// What becomes of a request, why, and who asked.
#[derive(Clone, Debug)]
pub struct Decision {
    outcome: portcullis_policy::Decision,
    resource: Option<Resource>,
    identity: Option<VerifiedToken>,
}

/// Decides a request that came to `port`, as of `now_s`, Unix seconds.
///
/// A port that no policy protects gives [`Reason::Internal`], denied: its requests are not to be asked about.
#[must_use]
pub fn decide(head: &Head, port: u16, policies: &PolicySet, keys: &KeyStore, now_s: u64) -> Decision {
    let resource = match head.resource() {
        Ok(resource) => resource,
        Err(reason) => return refuse(reason, port, policies),
    };
    let request =
        Request { port, host: resource.host.as_deref(), method: head.method(), path: &resource.path };
    let matched = policies.match_request(&request);
    // What no rule asks about is neither verified nor believed (THREATS T40).
    let verified = match head.token() {
        Some(token) if matched.needs_token() => Some(portcullis_token::verify(token, keys, now_s)),
        Some(_) | None => None,
    };
    let token = match &verified {
        None => Token::None,
        Some(Err(reason)) => Token::Invalid(*reason),
        Some(Ok(verified)) => Token::Valid(claims(verified)),
    };
    let outcome = policies.decide_matched(&matched, &token, now_s);
    Decision { outcome, resource: Some(resource), identity: verified.and_then(Result::ok) }
}

/// What policies on trial say of a request; `None` when they have no policy for the port, and when the request cannot be
/// read far enough to ask them. It has no effect.
#[must_use]
pub fn tried(
    name: &str,
    head: &Head,
    port: u16,
    candidate: &PolicySet,
    keys: &KeyStore,
    now_s: u64,
) -> Option<CandidateVerdict> {
    candidate.port_enforces(port)?;
    let decision = decide(head, port, candidate, keys, now_s);
    decision.resource()?;
    let allowed = decision.reason().is_allow();
    Some(CandidateVerdict {
        name: name.to_owned(),
        decision: if allowed { Verdict::Allow } else { Verdict::Deny },
        reason: decision.reason().slug().to_owned(),
        policy_id: decision.policy_id(candidate).map(str::to_owned),
        rule_id: decision.rule_id(candidate).map(str::to_owned),
    })
}

/// Decides a request that could not be read far enough to find its policy: denied, unless the port only monitors.
#[must_use]
pub fn refuse(reason: Reason, port: u16, policies: &PolicySet) -> Decision {
    let mode = match policies.port_enforces(port) {
        Some(false) => Mode::Monitor,
        Some(true) | None => Mode::Enforce,
    };
    let outcome = portcullis_policy::Decision { reason, mode, policy: None, rule: None, mfa_max_age_s: None };
    Decision { outcome, resource: None, identity: None }
}

fn claims(token: &VerifiedToken) -> Claims<'_> {
    let claims = token.claims();
    Claims {
        roles: &claims.roles,
        permissions: &claims.permissions,
        groups: &claims.groups,
        org_id: claims.org_id.as_deref(),
        mfa_verified: claims.mfa_verified,
        auth_time: claims.auth_time,
    }
}

// === impl Decision ===

impl Decision {
    /// Why.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.outcome.reason
    }

    /// Mode that applies: a denial is answered in enforce mode and only logged in monitor mode.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.outcome.mode
    }

    /// HTTP status of the denial, sent or not; `None` for an allow.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.outcome.reason.status()
    }

    /// What the log calls it.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.outcome.verdict()
    }

    /// Whether the request reaches the application.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.outcome.passes()
    }

    /// Id of the policy, in the set that decided.
    #[must_use]
    pub fn policy_id<'a>(&self, policies: &'a PolicySet) -> Option<&'a str> {
        self.outcome.policy_id(policies)
    }

    /// Id of the rule, in the set that decided.
    #[must_use]
    pub fn rule_id<'a>(&self, policies: &'a PolicySet) -> Option<&'a str> {
        self.outcome.rule_id(policies)
    }

    /// Whether the rule lets the request switch its connection to websocket.
    #[must_use]
    pub fn allows_websocket(&self, policies: &PolicySet) -> bool {
        self.outcome.allows_websocket(policies)
    }

    /// Greatest age of the authentication that the rule asks for, seconds.
    #[must_use]
    pub fn mfa_max_age_s(&self) -> Option<u32> {
        self.outcome.mfa_max_age_s
    }

    /// Host and path; `None` when they could not be read.
    #[must_use]
    pub fn resource(&self) -> Option<&Resource> {
        self.resource.as_ref()
    }

    /// The token, when one was needed, sent, and found good.
    #[must_use]
    pub fn identity(&self) -> Option<&VerifiedToken> {
        self.identity.as_ref()
    }
}
