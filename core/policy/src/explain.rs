//! A decision, traced: what was looked at, in order, and why it did or did not apply.
//!
//! **Invariant:** a trace is made by the functions that decide, so it cannot tell another story.

use std::fmt;

use portcullis_wire::{Method, Mode, Reason, Requirements, Verdict};
use serde::Serialize;

use crate::decide::{Decision, Request, Token};
use crate::policy::{Policy, Rule};
use crate::requirement::Requirement;
use crate::set::PolicySet;

#[cfg(test)]
mod tests;

/// How one request was decided.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Trace {
    /// Port of the request.
    pub port: u16,
    /// Host of the request.
    pub host: Option<String>,
    /// Method of the request, `OTHER` when policies cannot name it.
    pub method: String,
    /// Canonical path of the request.
    pub path: String,
    /// Policies of the port, in the order given.
    pub policies: Vec<PolicyStep>,
    /// Rules of the policy that covers the request, in evaluation order: all up to the one that decides, and behind
    /// it those that would have decided without it.
    pub rules: Vec<RuleStep>,
    /// State of the token, when the decision depends on it.
    pub token: Option<String>,
    /// What the rule asks of a valid token, in order.
    pub requirements: Vec<RequirementStep>,
    /// Allow, deny or would deny.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// Mode that applied.
    pub mode: Mode,
    /// Policy that applied.
    pub policy_id: Option<String>,
    /// Rule that applied.
    pub rule_id: Option<String>,
}

/// One policy of the port.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct PolicyStep {
    /// Its id.
    pub id: String,
    /// Host that it covers; absent: every host that no other policy covers.
    pub host_match: Option<String>,
    /// Whether it applies.
    pub outcome: PolicyOutcome,
}

/// Whether a policy applies to a request, and why not.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyOutcome {
    /// It covers the request.
    Covers,
    /// It is disabled.
    Disabled,
    /// It covers the host, but another policy does so more exactly.
    LessExact,
    /// It covers another host.
    OtherHost,
}

/// One rule.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct RuleStep {
    /// Its id.
    pub id: String,
    /// Its method.
    pub method: String,
    /// Its path pattern.
    pub path_pattern: String,
    /// Its priority.
    pub priority: i32,
    /// Whether it decides.
    pub outcome: RuleOutcome,
}

/// Whether a rule decides about a request, and why not.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleOutcome {
    /// It decides.
    Decides,
    /// It, or the policy's mode, is disabled.
    Disabled,
    /// It matches, but comes behind the one that decides.
    Later,
    /// It is about another method.
    OtherMethod,
    /// It is about other paths.
    OtherPath,
}

/// One requirement of the rule that decides.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct RequirementStep {
    /// Which.
    pub requirement: Requirement,
    /// What is asked for, in words.
    pub asked: String,
    /// The reason that it gives when it is not met; the first of all such reasons decides.
    pub failure: Option<Reason>,
}

// === impl PolicySet ===

impl PolicySet {
    /// Decides a request as [`PolicySet::decide`] does, and says how.
    #[must_use]
    pub fn explain(&self, request: &Request<'_>, token: &Token<'_>, now_s: u64) -> Trace {
        let matched = self.match_request(request);
        let decision = self.decide_matched(&matched, token, now_s);
        let Request { port, host, method, path } = *request;
        let policies = self.policies().iter().enumerate().filter(|(_, policy)| policy.port() == port);
        let rules = matched.policy(self).map_or(&[][..], Policy::rules);
        Trace {
            port,
            host: host.map(str::to_owned),
            method: method.to_string(),
            path: path.to_owned(),
            policies: policies.map(|(index, policy)| policy_step(index, policy, host, &decision)).collect(),
            rules: rules
                .iter()
                .enumerate()
                .filter_map(|(index, rule)| rule_step(index, rule, method, path, &decision))
                .collect(),
            token: matched.needs_token().then(|| token_text(token)),
            requirements: match (matched.needs_token(), matched.rule(self), token) {
                (true, Some(rule), Token::Valid(claims)) => Requirement::ORDER
                    .into_iter()
                    .filter(|requirement| requirement.asked_by(rule.wire()))
                    .map(|requirement| RequirementStep {
                        requirement,
                        asked: asked(requirement, rule),
                        failure: requirement.failure(rule.wire(), claims, now_s),
                    })
                    .collect(),
                _ => Vec::new(),
            },
            verdict: decision.verdict(),
            reason: decision.reason,
            mode: decision.mode,
            policy_id: decision.policy_id(self).map(str::to_owned),
            rule_id: decision.rule_id(self).map(str::to_owned),
        }
    }
}

fn policy_step(index: usize, policy: &Policy, host: Option<&str>, decision: &Decision) -> PolicyStep {
    let outcome = if policy.mode() == Mode::Disabled {
        PolicyOutcome::Disabled
    } else if decision.policy == Some(index) {
        PolicyOutcome::Covers
    } else if policy.host().is_none_or(|pattern| host.is_some_and(|host| pattern.matches(host))) {
        PolicyOutcome::LessExact
    } else {
        PolicyOutcome::OtherHost
    };
    PolicyStep { id: policy.id().to_owned(), host_match: policy.host().map(ToString::to_string), outcome }
}

fn rule_step(index: usize, rule: &Rule, method: Method, path: &str, decision: &Decision) -> Option<RuleStep> {
    let later = decision.rule.is_some_and(|decided| index > decided);
    let outcome = if decision.rule == Some(index) {
        RuleOutcome::Decides
    } else if rule.mode() == Mode::Disabled {
        RuleOutcome::Disabled
    } else if !rule.covers_method(method) {
        RuleOutcome::OtherMethod
    } else if !rule.glob().matches(path) {
        RuleOutcome::OtherPath
    } else {
        RuleOutcome::Later
    };
    let step = RuleStep {
        id: rule.id().to_owned(),
        method: rule.wire().method.clone(),
        path_pattern: rule.glob().to_string(),
        priority: rule.wire().priority,
        outcome,
    };
    (!later || outcome == RuleOutcome::Later).then_some(step)
}

fn token_text(token: &Token<'_>) -> String {
    match token {
        Token::None => "none was sent".to_owned(),
        Token::Invalid(reason) => format!("refused ({reason}): {}", reason.text()),
        Token::Valid(_) => "valid".to_owned(),
    }
}

fn asked(requirement: Requirement, rule: &Rule) -> String {
    let rule = rule.wire();
    let lists = |lists: &Option<Requirements>| {
        let Some(Requirements { roles, permissions, groups }) = lists else {
            return String::new();
        };
        let kinds = [("role", roles), ("permission", permissions), ("group", groups)];
        let names =
            kinds.iter().flat_map(|(noun, names)| names.iter().map(move |name| format!("{noun} {name}")));
        names.collect::<Vec<_>>().join(", ")
    };
    match requirement {
        Requirement::Org => format!("organisation {}", rule.required_org.as_deref().unwrap_or_default()),
        Requirement::Roles => format!("role {}", rule.required_roles.join(" or ")),
        Requirement::Permissions => format!("permission {}", rule.required_permissions.join(" or ")),
        Requirement::Groups => format!("group {}", rule.required_groups.join(" or ")),
        Requirement::AllOf => format!("all of {}", lists(&rule.all_of)),
        Requirement::NoneOf => format!("none of {}", lists(&rule.none_of)),
        Requirement::Mfa => match rule.mfa_max_age_s {
            None => "MFA".to_owned(),
            Some(age_s) => format!("MFA within {age_s} s"),
        },
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host.as_deref().unwrap_or("(no host)");
        writeln!(f, "{} {} to {host}, port {}", self.method, self.path, self.port)?;
        if self.policies.is_empty() {
            writeln!(f, "  no policy covers the port")?;
        }
        for PolicyStep { id, host_match, outcome } in &self.policies {
            let host = host_match.as_deref().unwrap_or("any host");
            let outcome = match outcome {
                PolicyOutcome::Covers => "covers the request",
                PolicyOutcome::Disabled => "is disabled",
                PolicyOutcome::LessExact => "covers the host less exactly than another",
                PolicyOutcome::OtherHost => "covers another host",
            };
            writeln!(f, "  policy {id} ({host}): {outcome}")?;
        }
        for RuleStep { id, method, path_pattern, priority, outcome } in &self.rules {
            let outcome = match outcome {
                RuleOutcome::Decides => "decides",
                RuleOutcome::Disabled => "is disabled",
                RuleOutcome::Later => "matches too, but comes later",
                RuleOutcome::OtherMethod => "is about another method",
                RuleOutcome::OtherPath => "is about other paths",
            };
            writeln!(f, "  rule {id} ({method} {path_pattern}, priority {priority}): {outcome}")?;
        }
        if self.policy_id.is_some() && self.rule_id.is_none() {
            writeln!(f, "  no rule matches: the default action applies")?;
        }
        if let Some(token) = &self.token {
            writeln!(f, "  token: {token}")?;
        }
        for RequirementStep { asked, failure, .. } in &self.requirements {
            match failure {
                None => writeln!(f, "  requires {asked}: met")?,
                Some(reason) => writeln!(f, "  requires {asked}: not met ({reason})")?,
            }
        }
        let verdict = match self.verdict {
            Verdict::Allow => "allow",
            Verdict::Deny => "deny",
            Verdict::WouldDeny => "would deny (monitor mode)",
        };
        write!(f, "{verdict}")?;
        if let (false, Some(status)) = (self.reason.is_allow(), self.reason.status()) {
            write!(f, ", {status}")?;
        }
        write!(f, ": {} ({})", self.reason.text(), self.reason)
    }
}
