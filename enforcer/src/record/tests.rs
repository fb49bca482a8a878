use portcullis_bpf::abi;
use zerocopy::IntoBytes;

use super::*;
use crate::compile::{PolicyEntry, Principal, RuleEntry};

const DAY_NS: i64 = 86_400_000_000_000;

fn tables() -> Tables {
    let principal = |kind, name: &str| Principal { kind, name: name.to_owned() };
    Tables {
        version: 7,
        policies: vec![PolicyEntry { id: "patients".to_owned(), name: "Patients".to_owned() }],
        rules: vec![
            RuleEntry { id: "health".to_owned(), text: "GET /health needs no token".to_owned() },
            RuleEntry {
                id: "write".to_owned(),
                text: "POST /api/patients/* requires role doctor".to_owned(),
            },
        ],
        issuers: vec!["https://issuer.example".to_owned()],
        principals: vec![
            principal(PrincipalKind::Role, "nurse"),
            principal(PrincipalKind::Group, "night"),
            principal(PrincipalKind::Role, "doctor"),
        ],
        candidate: Some("stricter".to_owned()),
    }
}

fn text64(text: &str) -> abi::Text64 {
    let mut value = abi::Text64 { len: text.len().min(255) as u8, ..abi::Text64::zeroed() };
    let held = text.len().min(63);
    value.s[..held].copy_from_slice(&text.as_bytes()[..held]);
    value
}

fn event(reason: u16) -> Event {
    let mut event = Event {
        boot_ns: 1_500_000_000,
        decision: 0xab,
        generation: 9,
        kernel_ns: 45_250,
        verify_ns: 39_000,
        policy: 1,
        rule: 2,
        reason,
        flags: event_flag::TOKEN_SENT | event_flag::TOKEN_VERIFIED,
        mode: mode::ENFORCE,
        dport: 8080,
        sport: 50_000,
        path_len: 17,
        host_len: 11,
        sub: text64("u-1"),
        email: text64("alice@acme.example"),
        kid_len: 2,
        ..Event::zeroed()
    };
    event.saddr[..4].copy_from_slice(&[10, 0, 1, 50]);
    event.bits.w[0] = 0b110;
    event.kid[..2].copy_from_slice(b"k1");
    event.method_text.copy_from_slice(b"POST /api/patien");
    event.host[..11].copy_from_slice(b"api.example");
    event.path[..17].copy_from_slice(b"/api/patients/123");
    event
}

fn record(event: &Event) -> AccessLog {
    to_access_log(event.as_bytes(), Some(&tables()), "agent-1", DAY_NS).unwrap()
}

#[test]
fn an_allow_is_explained_by_its_rule() {
    let record = record(&event(1));
    assert_eq!(record.decision, Verdict::Allow);
    assert_eq!(record.decision_reason, "matched rule: POST /api/patients/* requires role doctor");
    assert_eq!((record.policy_id.as_deref(), record.rule_id.as_deref()), (Some("patients"), Some("write")));
    assert_eq!(
        (record.user_id.as_deref(), record.user_email.as_deref()),
        (Some("u-1"), Some("alice@acme.example"))
    );
    assert_eq!(record.roles, ["doctor"]);
    assert_eq!(record.kid.as_deref(), Some("k1"));
    assert_eq!((record.method.as_str(), record.path.as_str()), ("POST", "/api/patients/123"));
    assert_eq!(record.host.as_deref(), Some("api.example"));
    assert_eq!(
        (record.source_ip.as_str(), record.source_port, record.destination_port),
        ("10.0.1.50", 50_000, 8080)
    );
    assert_eq!(record.decision_id, "00000000000000ab");
    assert_eq!(record.timestamp, "1970-01-02T00:00:01.500Z");
    assert_eq!((record.status, record.policy_generation, record.verify_ns), (None, 9, 39_000));
    assert!((record.latency_us - 45.25).abs() < f64::EPSILON);
}

#[test]
fn a_denial_names_what_was_missing_and_the_rule() {
    let record = record(&event(40));
    assert_eq!((record.decision, record.status), (Verdict::Deny, Some(403)));
    assert_eq!(record.reason, "role_missing");
    assert_eq!(
        record.decision_reason,
        "none of the required roles; matched rule: POST /api/patients/* requires role doctor"
    );
}

#[test]
fn a_monitored_denial_is_would_deny() {
    let mut event = event(40);
    event.flags |= event_flag::WOULD_DENY;
    event.mode = mode::MONITOR;
    let record = record(&event);
    assert_eq!((record.decision, record.mode), (Verdict::WouldDeny, Some(Mode::Monitor)));
}

#[test]
fn the_candidates_verdict_stands_beside() {
    assert_eq!(record(&event(1)).candidate, None);
    let tried = Event { candidate_policy: 1, candidate_rule: 1, candidate_reason: 40, ..event(1) };
    let record = record(&tried);
    assert_eq!(record.decision, Verdict::Allow);
    let expected = CandidateVerdict {
        name: "stricter".to_owned(),
        decision: Verdict::Deny,
        reason: "role_missing".to_owned(),
        policy_id: Some("patients".to_owned()),
        rule_id: Some("health".to_owned()),
    };
    assert_eq!(record.candidate, Some(expected));
}

#[test]
fn nothing_of_an_unverified_token_is_reported() {
    let mut event = event(29);
    event.flags = event_flag::TOKEN_SENT;
    let record = record(&event);
    assert_eq!((record.user_id, record.user_email, record.kid), (None, None, None));
    assert!(record.roles.is_empty());
}

#[test]
fn hostile_bytes_are_escaped_and_truncation_is_marked() {
    let mut event = event(65);
    event.path[..8].copy_from_slice(b"/\x1b[2J\r\n\xff");
    event.path_len = 8;
    event.host_len = 300;
    let record = record(&event);
    assert_eq!(record.path, r"/\x1b[2J\x0d\x0a\xff");
    assert!(record.host.unwrap().ends_with('…'));
    let json = serde_json::to_string(&record.path).unwrap();
    assert_eq!(serde_json::from_str::<String>(&json).unwrap(), record.path);
}

#[test]
fn ipv6_peers_are_canonical() {
    let mut event = event(1);
    event.flags |= event_flag::IPV6;
    event.saddr = std::net::Ipv6Addr::LOCALHOST.octets();
    assert_eq!(record(&event).source_ip, "::1");
    event.saddr = std::net::Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets();
    assert_eq!(record(&event).source_ip, "127.0.0.1");
}

#[test]
fn indices_of_the_second_half_name_the_same_rules() {
    let mut event = event(1);
    event.policy += limits::POLICIES_MAX as u32;
    event.rule += limits::RULES_MAX as u32;
    let record = record(&event);
    assert_eq!((record.policy_id.as_deref(), record.rule_id.as_deref()), (Some("patients"), Some("write")));
}

#[test]
fn without_tables_numbers_stand_for_ids() {
    let record = to_access_log(event(40).as_bytes(), None, "agent-1", 0).unwrap();
    assert_eq!((record.policy_id.as_deref(), record.rule_id.as_deref()), (Some("#0"), Some("#1")));
    assert!(record.roles.is_empty());
}

#[test]
fn events_of_another_version_are_refused() {
    let bytes = event(1).as_bytes().to_vec();
    assert_eq!(to_access_log(&bytes[1..], None, "a", 0), Err(RecordError::Size(bytes.len() - 1)));
    assert_eq!(to_access_log(event(999).as_bytes(), None, "a", 0), Err(RecordError::Reason(999)));
    assert_eq!(version(&bytes), Ok(9));
}
