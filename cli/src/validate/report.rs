//! What a policy would change, grouped and ranked.

use std::collections::BTreeMap;

use portcullis_wire::Reason;
use serde::Serialize;

use super::Row;

/// The result.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Requests of the traffic.
    pub requests: u64,
    /// Of which to ports that the new policy does not protect.
    pub unprotected: u64,
    /// Who loses access, most requests first.
    pub loses: Vec<Counted>,
    /// Who gains access, most requests first.
    pub gains: Vec<Counted>,
    /// Rules that decided none of the traffic.
    pub unused: Vec<RuleNote>,
    /// Rules that cannot decide anything.
    pub shadowed: Vec<RuleNote>,
}

/// A change for one client and one kind of request.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub(super) struct Change {
    /// Who: subject, or roles, or `anonymous`.
    pub who: String,
    /// Port.
    pub port: u16,
    /// Host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Method.
    pub method: String,
    /// Canonical path.
    pub path: String,
    /// Why it is denied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Policy that decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Rule that decides; absent: the default action.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

/// A change, and how many requests it is about.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Counted {
    /// Requests.
    pub requests: u64,
    /// The change.
    #[serde(flatten)]
    pub change: Change,
}

/// A rule, and what is to be said about it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct RuleNote {
    /// Policy.
    pub policy: String,
    /// Rule.
    pub rule: String,
    /// For people.
    pub text: String,
}

/// Most requests first.
pub(super) fn ranked(changes: BTreeMap<Change, u64>) -> Vec<Counted> {
    let mut all: Vec<Counted> =
        changes.into_iter().map(|(change, requests)| Counted { requests, change }).collect();
    all.sort_by_key(|counted| std::cmp::Reverse(counted.requests));
    all
}

// === impl Change ===

impl Change {
    pub(super) fn new(
        row: &Row,
        reason: Option<Reason>,
        policy: Option<String>,
        rule: Option<String>,
    ) -> Change {
        let who = match (&row.claims, row.token_refused) {
            (Some(claims), _) => claims.who(),
            (None, Some(_)) => "a refused token".to_owned(),
            (None, None) => "anonymous".to_owned(),
        };
        let (host, method, path) = (row.host.clone(), row.method.clone(), row.path.clone());
        Change { who, port: row.port, host, method, path, reason, policy, rule }
    }

    fn text(&self) -> String {
        let Change { who, port, host, method, path, reason, policy, rule } = self;
        let host = host.as_deref().unwrap_or("");
        let why = reason.map_or_else(String::new, |reason| format!(": {}", reason.slug()));
        let by = match (policy, rule) {
            (Some(policy), Some(rule)) => format!(" (policy {policy}, rule {rule})"),
            (Some(policy), None) => format!(" (policy {policy}, default action)"),
            (None, _) => String::new(),
        };
        format!("{who}  {method} {host}:{port}{path}{why}{by}")
    }
}

// === impl Report ===

impl Report {
    /// For people.
    pub(super) fn to_text(&self) -> String {
        let Report { requests, unprotected, loses, gains, unused, shadowed } = self;
        let mut out = String::new();
        for (what, changes) in [("lose access", loses), ("gain access", gains)] {
            let sum: u64 = changes.iter().map(|change| change.requests).sum();
            out.push_str(&format!("{sum} of {requests} requests {what}\n"));
            for Counted { requests, change } in changes {
                out.push_str(&format!("  {requests:>8} × {}\n", change.text()));
            }
        }
        if *unprotected > 0 {
            out.push_str(&format!("{unprotected} requests are to ports that the policy does not protect\n"));
        }
        for (what, notes) in
            [("rules that no request used", unused), ("rules that can never decide", shadowed)]
        {
            if !notes.is_empty() {
                out.push_str(&format!("{} {what}\n", notes.len()));
            }
            for RuleNote { policy, rule, text } in notes {
                out.push_str(&format!("  {policy}/{rule}: {text}\n"));
            }
        }
        out
    }
}
