//! Short ways to write policies in tests, and the slow reference that the real thing is compared with.

use portcullis_wire::{Action, Auth, Method, Mode, Policy, Reason, Requirements, Rule};
use proptest::prelude::*;

use crate::{Claims, PolicyError, PolicySet, Request, Token};

/// Now in tests, Unix seconds.
pub(crate) const NOW_S: u64 = 1_800_000_000;

/// An enforcing policy for port 80 that denies by default.
pub(crate) fn policy(rules: Vec<Rule>) -> Policy {
    Policy {
        id: "p".to_owned(),
        name: "Policy".to_owned(),
        port_match: 80,
        host_match: None,
        mode: Mode::Enforce,
        default_action: Action::Deny,
        rules,
    }
}

/// The same for a host.
pub(crate) fn for_host(id: &str, host: Option<&str>) -> Policy {
    Policy { id: id.to_owned(), host_match: host.map(str::to_owned), ..policy(vec![]) }
}

/// `rule("GET /a/*")`: a rule that asks for nothing.
pub(crate) fn rule(text: &str) -> Rule {
    let (method, path) = text.split_once(' ').unwrap();
    Rule { method: method.to_owned(), path_pattern: path.to_owned(), ..Rule::default() }
}

/// The same with an id.
pub(crate) fn named(id: &str, text: &str) -> Rule {
    Rule { id: id.to_owned(), ..rule(text) }
}

/// The same that asks for a token.
pub(crate) fn protected(text: &str) -> Rule {
    Rule { auth: Some(Auth::Required), ..rule(text) }
}

pub(crate) fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

pub(crate) fn roles(list: &[&str]) -> Requirements {
    Requirements { roles: names(list), ..Requirements::default() }
}

pub(crate) fn set(policies: Vec<Policy>) -> PolicySet {
    PolicySet::new(policies).unwrap()
}

pub(crate) fn errors(policies: Vec<Policy>) -> Vec<PolicyError> {
    PolicySet::new(policies).unwrap_err()
}

/// `request("GET a.example/path")`, or `GET /path` for one without host; port 80.
pub(crate) fn request(text: &str) -> Request<'_> {
    let (method, target) = text.split_once(' ').unwrap();
    let (host, path) = target.split_at(target.find('/').unwrap());
    let host = (!host.is_empty()).then_some(host);
    Request { port: 80, host, method: Method::parse(method.as_bytes()), path }
}

/// Id of the rule that decides a request.
pub(crate) fn deciding(set: &PolicySet, text: &str) -> Option<String> {
    set.decide(&request(text), &Token::None, NOW_S).rule_id(set).map(str::to_owned)
}

/// Reason of the decision.
pub(crate) fn reason(set: &PolicySet, text: &str, token: &Token<'_>) -> Reason {
    set.decide(&request(text), token, NOW_S).reason
}

/// Matching by the definition: every way to spread the segments is tried.
pub(crate) fn naive_matches(pattern: &str, path: &str) -> bool {
    let (mut pattern, path): (Vec<&str>, Vec<&str>) =
        (pattern.split('/').skip(1).collect(), path.split('/').skip(1).collect());
    let rest = matches!(pattern.last(), Some(&"*" | &"**"));
    if rest {
        pattern.pop();
    }
    naive_segments(&pattern, rest, &path)
}

fn naive_segments(pattern: &[&str], rest: bool, path: &[&str]) -> bool {
    let Some((first, more)) = pattern.split_first() else { return rest || path.is_empty() };
    if *first == "**" {
        let takes = |n: usize| path[..n].iter().all(|segment| !segment.is_empty());
        return (0..=path.len()).any(|n| takes(n) && naive_segments(more, rest, &path[n..]));
    }
    let Some((segment, tail)) = path.split_first() else { return false };
    let fits = match *first {
        "*" => !segment.is_empty(),
        name if name.starts_with('{') => !segment.is_empty(),
        text => naive_text(text.as_bytes(), segment.as_bytes()),
    };
    fits && naive_segments(more, rest, tail)
}

fn naive_text(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', more)) => (0..=text.len()).any(|n| naive_text(more, &text[n..])),
        Some((byte, more)) => text.first() == Some(byte) && naive_text(more, &text[1..]),
    }
}

/// Patterns over few words, so that they meet often.
pub(crate) fn pattern() -> impl Strategy<Value = String> {
    let segment = prop_oneof![
        4 => prop::sample::select(vec!["a", "b", "ab", "aa"]),
        2 => Just("{id}"),
        1 => Just("*"),
        2 => Just("**"),
        2 => prop::sample::select(vec!["a*", "*b", "*a*", "a*b", "b*a", "a*b*a"]),
    ];
    let end = prop_oneof![3 => Just(""), 1 => Just("/"), 1 => Just("/*"), 1 => Just("/**")];
    (prop::collection::vec(segment, 0..4), end).prop_map(|(segments, end)| {
        let body: String = segments.iter().map(|segment| format!("/{segment}")).collect();
        let pattern = body + end;
        if pattern.is_empty() { "/".to_owned() } else { pattern }
    })
}

/// Paths over the same words.
pub(crate) fn path() -> impl Strategy<Value = String> {
    let segment = prop::sample::select(vec!["a", "b", "ab", "ba", "aa", "aba", "x"]);
    (prop::collection::vec(segment, 0..6), prop::bool::weighted(0.2)).prop_map(|(segments, slash)| {
        let body: String = segments.iter().map(|segment| format!("/{segment}")).collect();
        if slash || body.is_empty() { body + "/" } else { body }
    })
}

/// The owned form of claims.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    pub(crate) roles: Vec<String>,
    pub(crate) org_id: Option<String>,
    pub(crate) mfa_verified: bool,
    pub(crate) auth_time: Option<u64>,
}

impl Holder {
    pub(crate) fn claims(&self) -> Claims<'_> {
        let Holder { roles, org_id, mfa_verified, auth_time } = self;
        Claims {
            roles,
            org_id: org_id.as_deref(),
            mfa_verified: *mfa_verified,
            auth_time: *auth_time,
            ..Claims::default()
        }
    }
}
