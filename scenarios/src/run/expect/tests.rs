//! Each expectation is seen to fail.

use serde_json::json;

use super::*;

fn step(expect: serde_json::Value) -> Step {
    let step = json!({ "name": "s", "request": {}, "repeat": 2, "expect": expect });
    serde_json::from_value(step).unwrap()
}

fn answer(status: u16) -> Reply {
    let headers = vec![("WWW-Authenticate".to_owned(), "Bearer realm=\"x\"".to_owned())];
    let answer = Answer { status, headers, body: b"hello".to_vec(), ..Answer::default() };
    Reply { answers: vec![answer], ..Reply::default() }
}

fn seen(expect: serde_json::Value, replies: Vec<Reply>) -> Vec<String> {
    let mut out = Vec::new();
    responses(&step(expect), &Sent { replies, ..Sent::default() }, &mut out);
    out
}

fn logged(expect: serde_json::Value, records: &[AccessLog]) -> Vec<String> {
    let mut out = Vec::new();
    log(&step(json!({ "log": expect })), 2, records, &mut out);
    out
}

fn record(decision: Verdict, reason: &str) -> AccessLog {
    AccessLog { decision, reason: reason.to_owned(), rule_id: Some("r".to_owned()), ..AccessLog::default() }
}

#[test]
fn what_is_as_expected_says_nothing() {
    let expect =
        json!({ "status": 401, "headers": { "www-authenticate": "Bearer" }, "body_contains": "ell" });
    assert_eq!(seen(expect, vec![answer(401), answer(401)]), Vec::<String>::new());
}

#[test]
fn one_wrong_status_of_many_is_found_and_counted() {
    let found = seen(json!({ "status": 401 }), vec![answer(401), answer(200)]);
    assert_eq!(found, ["status: 1 of 2 wrong; number 2: 200, expected 401"]);
}

#[test]
fn absent_and_different_fields_are_found() {
    let found = seen(json!({ "headers": { "X-A": "1", "WWW-Authenticate": "Basic" } }), vec![answer(401)]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[1].contains("absent"), "{found:?}");
}

#[test]
fn a_missing_response_fails_whatever_is_expected() {
    let lost = Reply { error: Some("reset".to_owned()), ..Reply::default() };
    assert_eq!(seen(json!({ "app_requests": 0 }), vec![lost]), ["no whole response: reset"]);
}

#[test]
fn responses_to_one_text_are_compared_in_order_and_number() {
    let two = || Reply { answers: [answer(200).answers, answer(401).answers].concat(), ..Reply::default() };
    assert_eq!(seen(json!({ "statuses": [200, 401] }), vec![two()]), Vec::<String>::new());
    assert_eq!(seen(json!({ "statuses": [401, 200] }), vec![two()]).len(), 1);
    assert_eq!(seen(json!({ "statuses": [200] }), vec![two()]).len(), 1);
}

#[test]
fn a_connection_left_open_and_bytes_too_many_are_found() {
    let open = Reply { closed: Some(false), ..answer(400) };
    assert_eq!(seen(json!({ "closed": true }), vec![open]).len(), 1);
    let more = Reply { closed: Some(true), extra: b"HTTP/1.1 200".to_vec(), ..answer(400) };
    assert_eq!(
        seen(json!({ "closed": true }), vec![more]),
        ["end of the connection: 12 bytes behind the last response"]
    );
    let good = Reply { closed: Some(true), ..answer(400) };
    assert_eq!(seen(json!({ "closed": true }), vec![good]), Vec::<String>::new());
}

#[test]
fn a_request_that_reached_the_application_is_found() {
    let mut out = Vec::new();
    app(&step(json!({ "app_requests": 0, "app_bytes": 0 })), 1, 40, &mut out);
    assert_eq!(
        out,
        ["the application saw 1 requests, expected 0", "the application saw 40 bytes, expected 0"]
    );
}

#[test]
fn records_are_counted_and_none_may_be_left_over() {
    let deny = || record(Verdict::Deny, "token_missing");
    let wanted = json!([{ "decision": "deny", "reason": "token_missing" }]);
    assert_eq!(logged(wanted.clone(), &[deny(), deny()]), Vec::<String>::new());
    assert_eq!(logged(wanted.clone(), &[deny()]).len(), 1, "one too few");
    assert_eq!(logged(wanted.clone(), &[deny(), deny(), deny()]).len(), 1, "one too many");
    let stranger = record(Verdict::Allow, "public");
    assert!(logged(wanted, &[deny(), deny(), stranger])[0].contains("no entry describes"));
}

#[test]
fn a_record_counts_for_the_first_entry_that_it_fits() {
    let wanted = json!([{ "decision": "deny", "rule": "r", "count": 1 }, { "decision": "deny", "count": 1 }]);
    let other = AccessLog { rule_id: None, ..record(Verdict::Deny, "default_deny") };
    assert_eq!(logged(wanted, &[other, record(Verdict::Deny, "role_missing")]), Vec::<String>::new());
}

#[test]
fn only_the_date_may_differ_between_two_runs() {
    let with = |raw: &[u8], app: &[u8]| Seen {
        sent: Sent {
            replies: vec![Reply {
                answers: vec![Answer { raw: raw.to_vec(), ..Answer::default() }],
                ..Reply::default()
            }],
            ..Sent::default()
        },
        app: vec![app.to_vec()],
    };
    let base = with(b"HTTP/1.1 200 OK\r\nDate: Mon\r\n\r\nDate: 1", b"GET /");
    let differences = |other: Seen| {
        let mut out = Vec::new();
        same(&base, &other, &mut out);
        out.len()
    };
    assert_eq!(
        differences(with(b"HTTP/1.1 200 OK\r\ndate: Tue\r\n\r\nDate: 1", b"GET /")),
        1,
        "its name changed"
    );
    assert_eq!(differences(with(b"HTTP/1.1 200 OK\r\nDate: Tue\r\n\r\nDate: 1", b"GET /")), 0);
    assert_eq!(differences(with(b"HTTP/1.1 200 OK\r\nDate: Mon\r\n\r\nDate: 2", b"GET /")), 1, "in the body");
    assert_eq!(
        differences(with(b"HTTP/1.1 200 OK\r\nDate: Mon\r\n\r\nDate: 1", b"GET /x")),
        1,
        "the application"
    );
}
