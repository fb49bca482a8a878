use portcullis_http::parse;

use super::*;
use crate::testing::{NOW_S, PORT, Tokens, policies, request};

fn decided(tokens: &Tokens, mode: Mode, line: &str, token: Option<&str>) -> Decision {
    let authorization = token.map(|token| format!("Authorization: Bearer {token}"));
    let fields: Vec<&str> = authorization.iter().map(String::as_str).collect();
    let head = parse(request(line, &fields).as_bytes()).unwrap().unwrap();
    decide(&head, PORT, &policies(mode), &tokens.keys, NOW_S)
}

/// Reason and status of a denial, or of an allow.
fn check(line: &str, token: Option<&str>, expected: Reason) -> Decision {
    let tokens = Tokens::new();
    let token = token.map(|more| tokens.token(more));
    let decision = decided(&tokens, Mode::Enforce, line, token.as_deref());
    assert_eq!(decision.reason(), expected, "{line}");
    assert_eq!(decision.status(), expected.status());
    assert_eq!(decision.passes(), expected.is_allow());
    decision
}

#[test]
fn a_public_path_is_open() {
    let decision = check("GET /open/a", None, Reason::Public);
    assert_eq!(decision.verdict(), Verdict::Allow);
    let policies = policies(Mode::Enforce);
    assert_eq!((decision.policy_id(&policies), decision.rule_id(&policies)), (Some("p"), Some("open")));
}

#[test]
fn a_token_on_a_public_path_is_not_believed() {
    assert!(check("GET /open/a", Some(""), Reason::Public).identity().is_none());
}

#[test]
fn a_good_token_opens_a_protected_path() {
    let decision = check("GET /closed/a", Some(""), Reason::RuleAllow);
    let identity = decision.identity().unwrap();
    assert_eq!((identity.claims().sub.as_deref(), identity.kid()), (Some("u1"), "k1"));
    assert_eq!(decision.resource().unwrap().path, "/closed/a");
}

#[test]
fn no_token_a_bad_one_and_another_scheme_do_not() {
    let decision = check("GET /closed/a", None, Reason::TokenMissing);
    assert_eq!(decision.verdict(), Verdict::Deny);
    let tokens = Tokens::new();
    for (token, reason) in [
        ("", Reason::TokenMalformed),
        ("a.b.c", Reason::TokenMalformed),
        (&Tokens::new().token(""), Reason::TokenSignature),
    ] {
        let decision = decided(&tokens, Mode::Enforce, "GET /closed/a", Some(token));
        assert_eq!(decision.reason(), reason, "{token}");
        assert!(decision.identity().is_none());
    }
    let basic = parse(request("GET /closed/a", &["Authorization: Basic YTpi"]).as_bytes()).unwrap().unwrap();
    let decision = decide(&basic, PORT, &policies(Mode::Enforce), &tokens.keys, NOW_S);
    assert_eq!(decision.reason(), Reason::TokenMissing);
}

#[test]
fn time_is_that_of_the_request() {
    let tokens = Tokens::new();
    let token = tokens.token("");
    let head = parse(request("GET /closed/a", &[&format!("Authorization: Bearer {token}")]).as_bytes());
    let head = head.unwrap().unwrap();
    let at = |now_s| decide(&head, PORT, &policies(Mode::Enforce), &tokens.keys, now_s).reason();
    assert_eq!((at(NOW_S + 59), at(NOW_S + 60)), (Reason::RuleAllow, Reason::TokenExpired));
}

#[test]
fn roles_and_mfa_are_asked_for() {
    check("GET /admin/a", Some(r#""roles":["user"]"#), Reason::RoleMissing);
    check("GET /admin/a", Some(r#""roles":["user","admin"]"#), Reason::RuleAllow);
    let decision = check("GET /mfa/a", Some(""), Reason::MfaRequired);
    assert_eq!(decision.mfa_max_age_s(), Some(300));
    let old = format!(r#""mfa_verified":true,"auth_time":{}"#, NOW_S - 301);
    check("GET /mfa/a", Some(&old), Reason::MfaStale);
    let fresh = format!(r#""mfa_verified":true,"auth_time":{}"#, NOW_S - 300);
    check("GET /mfa/a", Some(&fresh), Reason::RuleAllow);
}

#[test]
fn what_no_rule_names_is_denied() {
    check("GET /other", None, Reason::DefaultDenyAnonymous);
    check("GET /other", Some(""), Reason::DefaultDeny);
}

#[test]
fn every_spelling_of_a_path_meets_the_same_rule() {
    check("GET /%63losed/%40me", None, Reason::TokenMissing);
    check("GET http://h/closed/a", None, Reason::TokenMissing);
    let decision = check("GET /open/../closed/a", None, Reason::PathAmbiguous);
    assert!(decision.resource().is_none());
    check("GET http://other/open/a", None, Reason::BadHost);
}

#[test]
fn monitor_mode_passes_what_it_would_deny() {
    let tokens = Tokens::new();
    for (line, reason) in [("GET /closed/a", Reason::TokenMissing), ("GET /a//b", Reason::PathAmbiguous)] {
        let decision = decided(&tokens, Mode::Monitor, line, None);
        assert_eq!((decision.reason(), decision.mode()), (reason, Mode::Monitor));
        assert_eq!((decision.passes(), decision.verdict()), (true, Verdict::WouldDeny));
        assert!(decision.status().is_some());
    }
}

#[test]
fn a_port_without_policy_is_denied() {
    let tokens = Tokens::new();
    let head = parse(request("GET /open/a", &[]).as_bytes()).unwrap().unwrap();
    let decision = decide(&head, 81, &policies(Mode::Monitor), &tokens.keys, NOW_S);
    assert_eq!((decision.reason(), decision.passes()), (Reason::Internal, false));
    assert!(!refuse(Reason::BadHeader, 81, &policies(Mode::Monitor)).passes());
}
