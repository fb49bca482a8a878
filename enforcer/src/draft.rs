//! A policy from learnt endpoints: what was seen is allowed to whom it was seen from, everything else is denied.
//!
//! It is a draft: it knows what happened, not what should. Its mode is monitor, so that it can be put into force as it is
//! and shows in the log what it would deny.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use portcullis_policy::{Claims, PolicyError, PolicySet, Request, Token};
use portcullis_wire::{AccessLog, Action, Auth, Method, Mode, Policy, Rule, Verdict};

use crate::learn::{Endpoint, Usage};

/// A draft.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// One policy for each port.
    pub policies: Vec<Policy>,
    /// What a person should know about it.
    pub notes: Vec<String>,
}

/// What a draft would do to the traffic that it came from.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Replay {
    /// Requests that passed then and would pass.
    pub pass: u64,
    /// Requests that passed then and would be denied: a few of them, and why.
    pub denied: Vec<String>,
    /// How many those are.
    pub denied_count: u64,
}

/// Denials that are told.
const TOLD_MAX: usize = 10;

/// Drafts policies.
#[must_use]
pub fn draft(endpoints: &[Endpoint]) -> Draft {
    let mut ports: BTreeMap<u16, Vec<&Endpoint>> = BTreeMap::new();
    for endpoint in endpoints {
        ports.entry(endpoint.port).or_default().push(endpoint);
    }
    let mut draft = Draft::default();
    for (port, endpoints) in ports {
        let mut rules = Vec::new();
        for endpoint in endpoints {
            let Endpoint { port: _, method, pattern, usage } = endpoint;
            if Method::parse(method.as_bytes()) == Method::Other {
                draft.notes.push(format!("{method} {pattern}: no rule, a policy cannot name the method"));
                continue;
            }
            if usage.anonymous == usage.hits {
                draft
                    .notes
                    .push(format!("{method} {pattern}: nobody showed a token, so the rule asks for none"));
            }
            rules.push(rule(rules.len() + 1, method, pattern, usage));
        }
        draft.policies.push(Policy {
            id: String::new(),
            name: format!("draft-{port}"),
            port_match: port,
            host_match: None,
            mode: Mode::Monitor,
            default_action: Action::Deny,
            rules,
        });
    }
    draft
}

/// Decides again, with the draft, about the requests that passed.
///
/// # Errors
/// When the draft is not valid.
pub fn replay(policies: &[Policy], records: &[AccessLog]) -> Result<Replay, Vec<PolicyError>> {
    let set = PolicySet::new(policies.to_vec())?;
    let mut replay = Replay::default();
    for record in records {
        let AccessLog { destination_port, method, host, path, user_id, kid, roles, decision, .. } = record;
        if !matches!(decision, Verdict::Allow | Verdict::WouldDeny) || !path.starts_with('/') {
            continue;
        }
        let claims = Claims {
            roles,
            permissions: &[],
            groups: &[],
            org_id: None,
            mfa_verified: record.mfa_verified,
            auth_time: None,
        };
        let token = if user_id.is_some() || kid.is_some() { Token::Valid(claims) } else { Token::None };
        let request = Request {
            port: *destination_port,
            host: host.as_deref(),
            method: Method::parse(method.as_bytes()),
            path,
        };
        let decided = set.decide(&request, &token, 0);
        if decided.reason.is_allow() {
            replay.pass += 1;
        } else {
            replay.denied_count += 1;
            if replay.denied.len() < TOLD_MAX {
                replay.denied.push(format!("{method} {path}: {}", decided.reason));
            }
        }
    }
    Ok(replay)
}

/// Policies as YAML that [`Policy`] reads.
#[must_use]
pub fn yaml(policies: &[Policy]) -> String {
    let mut out = String::new();
    for policy in policies {
        let Policy { id: _, name, port_match, host_match: _, mode: _, default_action: _, rules } = policy;
        // Writing to a string cannot fail.
        let mut line = |text: String| writeln!(out, "{text}").unwrap_or_default();
        line(format!("- name: {}", quoted(name)));
        line(format!("  port_match: {port_match}"));
        line("  mode: monitor".to_owned());
        line("  default_action: deny".to_owned());
        line("  rules:".to_owned());
        for rule in rules {
            let Rule { id, method, path_pattern, required_roles, auth, .. } = rule;
            let asks = match (auth, required_roles.as_slice()) {
                (Some(Auth::None), _) => "auth: none".to_owned(),
                (Some(Auth::Optional), _) => "auth: optional".to_owned(),
                (Some(Auth::Required) | None, []) => "auth: required".to_owned(),
                (Some(Auth::Required) | None, roles) => {
                    let roles: Vec<String> = roles.iter().map(|role| quoted(role)).collect();
                    format!("required_roles: [{}]", roles.join(", "))
                }
            };
            let path = quoted(path_pattern);
            line(format!("    - {{ id: {}, method: {method}, path_pattern: {path}, {asks} }}", quoted(id)));
        }
    }
    out
}

fn rule(number: usize, method: &str, pattern: &str, usage: &Usage) -> Rule {
    let Usage { hits, anonymous, roles: _, more_roles: _ } = usage;
    let (auth, required_roles) = match *anonymous {
        0 => (Auth::Required, cover(usage)),
        anonymous if anonymous == *hits => (Auth::None, Vec::new()),
        _ => (Auth::Optional, Vec::new()),
    };
    Rule {
        id: format!("seen-{number}"),
        method: method.to_owned(),
        path_pattern: pattern.to_owned(),
        required_roles,
        auth: Some(auth),
        ..Rule::default()
    }
}

/// Few roles of which everybody who was seen had at least one; none when there are no such roles.
fn cover(usage: &Usage) -> Vec<String> {
    if usage.more_roles || usage.roles.iter().any(Vec::is_empty) {
        return Vec::new();
    }
    let mut open: Vec<&Vec<String>> = usage.roles.iter().collect();
    let mut cover = Vec::new();
    while !open.is_empty() {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for role in open.iter().copied().flatten() {
            *counts.entry(role).or_default() += 1;
        }
        // The first of those that most have, by name: the same traffic gives the same draft.
        let Some((best, _)) = counts.iter().max_by(|a, b| a.1.cmp(b.1).then(b.0.cmp(a.0))) else { break };
        let best = (*best).to_owned();
        open.retain(|roles| !roles.contains(&best));
        cover.push(best);
    }
    cover.sort_unstable();
    cover
}

/// A JSON string is a YAML string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::Learner;

    fn record(method: &str, path: &str, user: Option<&str>, roles: &[&str]) -> AccessLog {
        AccessLog {
            destination_port: 80,
            method: method.to_owned(),
            path: path.to_owned(),
            user_id: user.map(str::to_owned),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            decision: Verdict::Allow,
            ..AccessLog::default()
        }
    }

    fn traffic() -> Vec<AccessLog> {
        let mut records = Vec::new();
        for n in 0..50 {
            records.push(record("GET", &format!("/orders/{n}"), Some("a"), &["reader", "staff"]));
            records.push(record("GET", &format!("/orders/{n}"), Some("b"), &["admin", "staff"]));
            records.push(record("DELETE", &format!("/orders/{n}"), Some("b"), &["admin"]));
        }
        records.push(record("GET", "/orders/recent", Some("c"), &[]));
        records.push(record("GET", "/health", None, &[]));
        records.push(record("GET", "/search", None, &[]));
        records.push(record("GET", "/search", Some("a"), &["reader"]));
        records.push(record("PROPFIND", "/dav", Some("a"), &[]));
        records
    }

    fn drafted(records: &[AccessLog]) -> Draft {
        let mut learner = Learner::default();
        records.iter().for_each(|record| learner.observe(record));
        draft(&learner.endpoints())
    }

    #[test]
    fn it_asks_what_was_seen_and_no_more() {
        let draft = drafted(&traffic());
        let rules: Vec<_> = draft.policies[0]
            .rules
            .iter()
            .map(|r| (r.method.as_str(), r.path_pattern.as_str(), r.auth, r.required_roles.join(",")))
            .collect();
        let (none, optional, required) = (Some(Auth::None), Some(Auth::Optional), Some(Auth::Required));
        assert_eq!(
            rules,
            [
                ("GET", "/health", none, String::new()),
                ("GET", "/orders/recent", required, String::new()),
                ("DELETE", "/orders/{id}", required, "admin".to_owned()),
                ("GET", "/orders/{id}", required, "staff".to_owned()),
                ("GET", "/search", optional, String::new()),
            ]
        );
        assert!(draft.notes.iter().any(|note| note.starts_with("PROPFIND /dav")), "{:?}", draft.notes);
        assert!(draft.notes.iter().any(|note| note.starts_with("GET /health")), "{:?}", draft.notes);
    }

    #[test]
    fn what_passed_passes_and_what_was_never_seen_does_not() {
        let mut records = traffic();
        records.retain(|record| record.method != "PROPFIND");
        let draft = drafted(&records);
        let replayed = replay(&draft.policies, &records).unwrap();
        assert_eq!(replayed, Replay { pass: records.len() as u64, ..Replay::default() });
        let never = [
            record("DELETE", "/orders/7", Some("a"), &["reader", "staff"]),
            record("GET", "/orders/7", None, &[]),
            record("GET", "/orders/7/lines", Some("b"), &["admin", "staff"]),
            record("POST", "/orders/7", Some("b"), &["admin", "staff"]),
            record("GET", "/", Some("b"), &["admin"]),
        ];
        let replayed = replay(&draft.policies, &never).unwrap();
        assert_eq!((replayed.pass, replayed.denied_count), (0, 5), "{replayed:?}");
    }

    #[test]
    fn roles_without_a_common_one_are_covered_by_few() {
        let sets = |sets: &[&[&str]]| Usage {
            hits: 1,
            roles: sets.iter().map(|set| set.iter().map(|role| (*role).to_owned()).collect()).collect(),
            ..Usage::default()
        };
        assert_eq!(cover(&sets(&[&["a", "x"], &["b", "x"], &["c"]])), ["c", "x"]);
        assert_eq!(cover(&sets(&[&["b"], &["a"]])), ["a", "b"]);
        assert_eq!(cover(&sets(&[&["a"], &[]])), [""; 0]);
        assert_eq!(cover(&Usage { more_roles: true, ..sets(&[&["a"]]) }), [""; 0]);
    }
}
