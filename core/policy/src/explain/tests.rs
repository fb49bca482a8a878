//! Traces: what a person reads, and that they tell what was decided.

use portcullis_wire::{Policy, Rule};

use super::*;
use crate::decide::Claims;
use crate::testing::{NOW_S, for_host, named, names, policy, request, roles, rule, set};

#[track_caller]
fn check(set: &PolicySet, text: &str, token: &Token<'_>, expected: &str) {
    let expected: Vec<&str> = expected.lines().map(|line| line.trim_start_matches(' ')).collect();
    let trace = set.explain(&request(text), token, NOW_S).to_string();
    let trace: Vec<&str> = trace.lines().map(|line| line.trim_start_matches(' ')).collect();
    assert_eq!(trace, expected);
}

fn hospital() -> PolicySet {
    set(vec![
        Policy {
            rules: vec![
                Rule { mode: Some(Mode::Disabled), ..named("old", "GET /api/patients/7") },
                named("health", "GET /health"),
                Rule {
                    required_roles: names(&["doctor", "nurse"]),
                    none_of: Some(roles(&["suspended"])),
                    require_mfa: true,
                    mfa_max_age_s: Some(300),
                    ..named("patients", "* /api/patients/*")
                },
                named("rest", "* /*"),
            ],
            ..for_host("hospital", Some("*.example"))
        },
        for_host("fallback", None),
        for_host("lab", Some("lab.example")),
        Policy { mode: Mode::Disabled, ..for_host("draft", Some("a.example")) },
        Policy { port_match: 81, ..for_host("other port", None) },
    ])
}

#[test]
fn trace_shows_every_step() {
    let held = names(&["doctor"]);
    let claims =
        Claims { roles: &held, mfa_verified: true, auth_time: Some(NOW_S - 301), ..Claims::default() };
    check(
        &hospital(),
        "GET a.example/api/patients/7",
        &Token::Valid(claims),
        "GET /api/patients/7 to a.example, port 80
         policy hospital (*.example): covers the request
         policy fallback (any host): covers the host less exactly than another
         policy lab (lab.example): covers another host
         policy draft (a.example): is disabled
         rule old (GET /api/patients/7, priority 0): is disabled
         rule patients (* /api/patients/*, priority 0): decides
         rule rest (* /*, priority 0): matches too, but comes later
         token: valid
         requires role doctor or nurse: met
         requires none of role suspended: met
         requires MFA within 300 s: not met (mfa_stale)
         deny, 401: MFA is older than the rule allows (mfa_stale)",
    );
}

#[test]
fn trace_shows_why_rules_do_not_match() {
    let policy = policy(vec![named("a", "POST /api/*"), named("b", "GET /v1/*"), named("c", "GET /api/x")]);
    check(
        &set(vec![policy]),
        "GET /api/y",
        &Token::Invalid(Reason::TokenExpired),
        "GET /api/y to (no host), port 80
         policy p (any host): covers the request
         rule c (GET /api/x, priority 0): is about other paths
         rule a (POST /api/*, priority 0): is about another method
         rule b (GET /v1/*, priority 0): is about other paths
         no rule matches: the default action applies
         token: refused (token_expired): token has expired
         deny, 401: token has expired (token_expired)",
    );
}

#[test]
fn trace_of_monitor_mode_says_would_deny() {
    let watched = Policy { mode: Mode::Monitor, ..policy(vec![]) };
    check(
        &set(vec![watched]),
        "GET /",
        &Token::None,
        "GET / to (no host), port 80
         policy p (any host): covers the request
         no rule matches: the default action applies
         token: none was sent
         would deny (monitor mode), 401: no rule matched; default_action is deny; no token was sent \
         (default_deny_anonymous)",
    );
}

#[test]
fn trace_of_an_allow_needs_no_token() {
    check(
        &set(vec![policy(vec![rule("GET /health")])]),
        "GET /health",
        &Token::None,
        "GET /health to (no host), port 80
         policy p (any host): covers the request
         rule rule-1 (GET /health, priority 0): decides
         allow: matched a rule that needs no token (public)",
    );
}

#[test]
fn trace_is_machine_readable() {
    let trace = hospital().explain(&request("GET lab.example/"), &Token::None, NOW_S);
    let json = serde_json::to_value(trace).unwrap();
    assert_eq!(json["policies"][2]["outcome"], "covers");
    assert_eq!(json["policies"][0]["outcome"], "less_exact");
    assert_eq!(json["verdict"], "deny");
    assert_eq!(json["reason"], "default_deny_anonymous");
    assert_eq!(json["policy_id"], "lab");
}
