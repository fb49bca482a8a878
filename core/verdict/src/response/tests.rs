use serde_json::Value;

use super::*;

fn text(reason: Reason) -> String {
    String::from_utf8(response(reason, false, false, 0x1234, None)).unwrap()
}

fn parts(text: &str) -> (&str, &str) {
    text.split_once("\r\n\r\n").unwrap()
}

/// The challenge, if there is one.
fn challenge(text: &str) -> Option<&str> {
    parts(text).0.lines().find_map(|line| line.strip_prefix("WWW-Authenticate: "))
}

fn denials() -> impl Iterator<Item = Reason> {
    Reason::ALL.iter().copied().filter(|reason| reason.status().is_some())
}

#[test]
fn a_missing_token_is_challenged_without_an_error() {
    assert_eq!(challenge(&text(Reason::TokenMissing)), Some("Bearer realm=\"portcullis\""));
    assert_eq!(challenge(&text(Reason::DefaultDenyAnonymous)), Some("Bearer realm=\"portcullis\""));
}

#[test]
fn a_bad_token_and_a_missing_role_are_named() {
    assert_eq!(
        challenge(&text(Reason::TokenExpired)),
        Some("Bearer realm=\"portcullis\", error=\"invalid_token\", error_description=\"token has expired\"")
    );
    let scope = text(Reason::RoleMissing);
    assert!(scope.starts_with("HTTP/1.1 403 Forbidden\r\n"));
    assert!(challenge(&scope).unwrap().contains("error=\"insufficient_scope\""));
}

//= https://www.rfc-editor.org/rfc/rfc9470#section-3
//= type=test
//# max_age:  Indicates the allowable elapsed time in seconds
#[test]
fn a_request_without_fresh_mfa_is_told_what_to_get() {
    let with_age = |reason| String::from_utf8(response(reason, false, false, 0, Some(300))).unwrap();
    let stale = with_age(Reason::MfaStale);
    assert!(stale.starts_with("HTTP/1.1 401 Unauthorized\r\n"));
    let challenge_of_stale = challenge(&stale).unwrap();
    assert!(challenge_of_stale.contains("error=\"insufficient_user_authentication\""));
    assert!(challenge_of_stale.ends_with(", max_age=\"300\""));
    assert!(!text(Reason::MfaRequired).contains("max_age"));
    // The age belongs to the rule, and only the authentication is missing it.
    assert!(!with_age(Reason::RoleMissing).contains("max_age"));
}

//= https://www.rfc-editor.org/rfc/rfc9110#section-15.5.2
//= type=test
//# The server generating a 401 response MUST send a WWW-Authenticate header field
#[test]
fn every_401_has_a_challenge_and_no_400_has_one() {
    for reason in denials() {
        let text = text(reason);
        match reason.status() {
            Some(401) => assert!(challenge(&text).is_some(), "{reason}"),
            Some(403) => assert_eq!(challenge(&text).is_some(), reason.error().is_some(), "{reason}"),
            _ => assert_eq!(challenge(&text), None, "{reason}"),
        }
    }
}

#[test]
fn every_denial_is_a_whole_response() {
    for reason in denials() {
        let text = text(reason);
        let (head, body) = parts(&text);
        assert!(head.starts_with(&format!("HTTP/1.1 {} ", reason.status().unwrap())), "{reason}");
        assert!(!head.starts_with("HTTP/1.1 4xx") && !head.contains(" Denied\r\n"), "{reason} has no phrase");
        assert!(head.contains(&format!("\r\nContent-Length: {}", body.len())), "{reason}");
        assert!(head.contains("\r\nContent-Type: application/json\r\n"), "{reason}");
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["reason"], reason.slug());
        assert_eq!(body["message"], reason.text());
        assert_eq!(body["decision_id"], "0000000000001234");
        assert_eq!(body["error"], reason.error().unwrap_or(reason.slug()));
    }
}

#[test]
fn the_connection_ends_when_it_must() {
    assert!(!text(Reason::TokenMissing).contains("Connection:"));
    let last = String::from_utf8(response(Reason::TokenMissing, true, false, 0, None)).unwrap();
    assert!(last.contains("\r\nConnection: close\r\n"));
}

//= https://www.rfc-editor.org/rfc/rfc9110#section-9.3.2
//= type=test
//# the server MUST NOT send content in the response
#[test]
fn a_head_request_gets_the_same_header_section_alone() {
    let get = text(Reason::RoleMissing);
    let head = String::from_utf8(response(Reason::RoleMissing, false, true, 0x1234, None)).unwrap();
    assert_eq!(parts(&head), (parts(&get).0, ""));
}

#[test]
fn what_is_no_denial_is_an_internal_error() {
    assert!(text(Reason::RuleAllow).starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
    assert!(text(Reason::None).contains("\"reason\":\"internal\""));
}
