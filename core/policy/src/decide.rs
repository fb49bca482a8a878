//! The decision about one request: the order of the checks is that of `bpf/lib/policy.h`.

use portcullis_wire::{Action, Auth, Method, Mode, Reason, Verdict};

use crate::policy::{Policy, Rule};
use crate::requirement;
use crate::set::PolicySet;

#[cfg(test)]
mod tests;

/// What a decision looks at of a request, read already.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Request<'a> {
    /// Port that it came to.
    pub port: u16,
    /// Host in lower case, without port and trailing dot; `None` when the request names none (HTTP/1.0).
    pub host: Option<&'a str>,
    /// Method.
    pub method: Method,
    /// Canonical path, without query.
    pub path: &'a str,
}

/// What a verified token says, as far as policies ask for it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Claims<'a> {
    /// `roles`
    pub roles: &'a [String],
    /// `permissions`
    pub permissions: &'a [String],
    /// `groups`
    pub groups: &'a [String],
    /// `org_id`
    pub org_id: Option<&'a str>,
    /// `mfa_verified`; absent is false.
    pub mfa_verified: bool,
    /// `auth_time`, Unix seconds.
    pub auth_time: Option<u64>,
}

/// State of the token of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Token<'a> {
    /// None was sent.
    None,
    /// One was sent and refused for this reason.
    Invalid(Reason),
    /// One was sent and verified.
    Valid(Claims<'a>),
}

/// Policy and rule of a request: all that can be said before its token is looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Match {
    /// Index into [`PolicySet::policies`].
    pub policy: Option<usize>,
    /// Index into [`Policy::rules`].
    pub rule: Option<usize>,
    /// Mode that applies.
    pub mode: Mode,
    /// The decision, when no token can change it.
    settled: Option<Reason>,
}

/// What becomes of a request, and why.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Decision {
    /// Why.
    pub reason: Reason,
    /// Mode that applies: a denial is answered in enforce mode and only logged in monitor mode.
    pub mode: Mode,
    /// Index into [`PolicySet::policies`].
    pub policy: Option<usize>,
    /// Index into [`Policy::rules`].
    pub rule: Option<usize>,
    /// Greatest age of the authentication that the rule asks for, seconds; the challenge names it (RFC 9470
    /// section 3).
    pub mfa_max_age_s: Option<u32>,
}

// === impl PolicySet ===

impl PolicySet {
    /// Decides a request.
    ///
    /// `now_s` is Unix time, seconds. A port that no policy protects gives [`Reason::Internal`]: whoever lets
    /// requests of such a port through must not ask.
    #[must_use]
    pub fn decide(&self, request: &Request<'_>, token: &Token<'_>, now_s: u64) -> Decision {
        self.decide_matched(&self.match_request(request), token, now_s)
    }

    /// Whether the decision depends on the token: only then is it worth verifying.
    #[must_use]
    pub fn needs_token(&self, request: &Request<'_>) -> bool {
        self.match_request(request).needs_token()
    }

    /// Finds the policy and the rule of a request (`pc_policy_match`).
    #[must_use]
    pub fn match_request(&self, request: &Request<'_>) -> Match {
        let Some(enforces) = self.port_enforces(request.port) else {
            return Match { policy: None, rule: None, mode: Mode::Enforce, settled: Some(Reason::Internal) };
        };
        let Some(index) = self.index.select(request.port, request.host) else {
            let mode = if enforces { Mode::Enforce } else { Mode::Monitor };
            return Match { policy: None, rule: None, mode, settled: Some(Reason::HostNotCovered) };
        };
        let policy = &self.policies()[index];
        let rule = policy.index.first(&policy.rules, request.method, request.path);
        let (mode, settled) = match rule.map(|rule| &policy.rules[rule]) {
            None => match policy.default_action() {
                Action::Allow => (policy.mode(), Some(Reason::DefaultAllow)),
                Action::Deny => (policy.mode(), None),
            },
            Some(rule) => match rule.auth {
                Auth::None => (rule.mode, Some(Reason::Public)),
                Auth::Optional | Auth::Required => (rule.mode, None),
            },
        };
        Match { policy: Some(index), rule, mode, settled }
    }

    /// Decides a matched request (`pc_policy_decide`).
    #[must_use]
    pub fn decide_matched(&self, matched: &Match, token: &Token<'_>, now_s: u64) -> Decision {
        let Match { policy, rule, mode, settled } = *matched;
        let found = matched.rule(self);
        let reason = match (settled, token, found) {
            (Some(reason), _, _) => reason,
            // No allow, and nothing that is no denial, comes out of a token that was refused.
            (None, Token::Invalid(reason), _) if reason.status().is_none() => Reason::Internal,
            (None, Token::Invalid(reason), _) => *reason,
            (None, Token::None, None) => Reason::DefaultDenyAnonymous,
            (None, Token::Valid(_), None) => Reason::DefaultDeny,
            (None, Token::None, Some(rule)) => match rule.auth {
                Auth::Optional => Reason::OptionalAnonymous,
                Auth::None | Auth::Required => Reason::TokenMissing,
            },
            (None, Token::Valid(claims), Some(rule)) => requirement::check(&rule.wire, claims, now_s),
        };
        let mfa_max_age_s = found.and_then(|rule| rule.wire.mfa_max_age_s);
        Decision { reason, mode, policy, rule, mfa_max_age_s }
    }
}

// === impl Match ===

impl Match {
    /// Whether the decision depends on the token.
    #[must_use]
    pub fn needs_token(&self) -> bool {
        self.settled.is_none()
    }

    /// The policy, in the set that the match is of.
    #[must_use]
    pub fn policy<'a>(&self, set: &'a PolicySet) -> Option<&'a Policy> {
        set.policies().get(self.policy?)
    }

    /// The rule, in the set that the match is of.
    #[must_use]
    pub fn rule<'a>(&self, set: &'a PolicySet) -> Option<&'a Rule> {
        self.policy(set)?.rules().get(self.rule?)
    }
}

// === impl Decision ===

impl Decision {
    /// What the log calls it.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if self.reason.is_allow() {
            return Verdict::Allow;
        }
        match self.mode {
            Mode::Enforce => Verdict::Deny,
            Mode::Disabled | Mode::Monitor => Verdict::WouldDeny,
        }
    }

    /// Whether the request reaches the application.
    #[must_use]
    pub fn passes(&self) -> bool {
        match self.verdict() {
            Verdict::Allow | Verdict::WouldDeny => true,
            Verdict::Deny => false,
        }
    }

    /// Id of the policy, in the set that decided.
    #[must_use]
    pub fn policy_id<'a>(&self, set: &'a PolicySet) -> Option<&'a str> {
        set.policies().get(self.policy?).map(Policy::id)
    }

    /// Whether the rule lets the request switch its connection to websocket.
    #[must_use]
    pub fn allows_websocket(&self, set: &PolicySet) -> bool {
        let rule = self
            .policy
            .zip(self.rule)
            .and_then(|(policy, rule)| set.policies().get(policy)?.rules().get(rule));
        self.reason.is_allow() && rule.is_some_and(|rule| !rule.wire().upgrade.is_empty())
    }

    /// Id of the rule, in the set that decided.
    #[must_use]
    pub fn rule_id<'a>(&self, set: &'a PolicySet) -> Option<&'a str> {
        set.policies().get(self.policy?)?.rules().get(self.rule?).map(Rule::id)
    }
}
