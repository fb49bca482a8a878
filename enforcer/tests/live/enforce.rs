//! Who is let in, and what the others are told.

use portcullis_enforcer::kernel::DenyMode;
use portcullis_testkit::need;
use portcullis_wire::{Mode, Policy, Verdict};
use serde_json::json;

use crate::app::App;
use crate::client::{Client, get, once};
use crate::world::{World, now_s, policy};

fn enforced(name: &str) -> (World, App) {
    let mut world = World::new(name);
    let app = App::local();
    world.apply(vec![policy(app.port(), Mode::Enforce)]);
    (world, app)
}

/// 1,000 requests over 100 connections, each with `status`; how many responses have `field`.
fn thousand(app: &App, request: &str, status: u16, field: &str) -> usize {
    let mut with = 0;
    for _ in 0..100 {
        let mut client = Client::connect(app.addr);
        for _ in 0..10 {
            let response = client.ask(request);
            assert_eq!(response.status, status, "{response:?}");
            with += usize::from(response.has(field));
        }
    }
    with
}

#[test]
fn a_thousand_requests_without_a_token_are_answered_401_and_the_app_reads_nothing() {
    need!(Bpf, BpfFs, Cgroup2);
    let (world, app) = enforced("none");
    world.expect_agent_mode();
    assert_eq!(
        thousand(&app, &get("/orders/1", None), 401, "WWW-Authenticate: Bearer realm=\"portcullis\"\r\n"),
        1000
    );
    assert_eq!((app.requests(), app.bytes().len(), app.errors()), (0, 0, 0));
    let records = world.records();
    assert_eq!(records.len(), 1000);
    assert!(
        records
            .iter()
            .all(|r| r.decision == Verdict::Deny && r.reason == "token_missing" && r.path == "/orders/1")
    );
    assert_eq!(world.stats().events_lost, 0);
}

#[test]
fn a_thousand_requests_with_the_role_reach_the_app() {
    need!(Bpf, BpfFs, Cgroup2);
    let (world, app) = enforced("role");
    let token = world.role("reader");
    assert_eq!(thousand(&app, &get("/orders/1", Some(&token)), 200, "Content-Length"), 1000);
    assert_eq!(app.requests(), 1000);
    let records = world.records();
    assert_eq!(records.len(), 1000);
    let first = &records[0];
    assert_eq!(first.decision, Verdict::Allow);
    assert_eq!(first.user_id.as_deref(), Some("user-1"));
    assert_eq!(first.roles, ["reader"]);
    assert_eq!(first.policy_id.as_deref(), Some("orders"));
}

#[test]
fn another_role_is_answered_403() {
    need!(Bpf, BpfFs, Cgroup2);
    let (world, app) = enforced("wrong");
    let token = world.role("guest");
    let field = "WWW-Authenticate: Bearer realm=\"portcullis\", error=\"insufficient_scope\"";
    assert_eq!(thousand(&app, &get("/orders/1", Some(&token)), 403, field), 1000);
    assert_eq!(app.requests(), 0);
    assert_eq!(world.reasons()["role_missing"], 1000);
}

#[test]
fn tokens_with_a_fault_are_answered_401() {
    need!(Bpf, BpfFs, Cgroup2);
    let (world, app) = enforced("faults");
    let now = now_s();
    let good = world.role("reader");
    let (signed, signature) = good.rsplit_once('.').expect("three parts");
    let flip = |at: usize| {
        let mut signature = signature.as_bytes().to_vec();
        signature[at] = if signature[at] == b'A' { b'B' } else { b'A' };
        format!("{signed}.{}", String::from_utf8(signature).expect("ASCII"))
    };
    let none = |signature: &str| {
        let (_, rest) = signed.split_once('.').expect("two parts");
        // {"alg":"none"}
        format!("eyJhbGciOiJub25lIn0.{rest}.{signature}")
    };
    let cases = [
        ("token_expired", world.token(json!({ "exp": now - 1 }))),
        ("token_not_yet", world.token(json!({ "nbf": now + 60 }))),
        ("token_issuer", world.token(json!({ "iss": "https://other.example" }))),
        ("token_audience", world.token(json!({ "aud": ["billing"] }))),
        ("token_signature", flip(0)),
        ("token_signature", flip(200)),
        ("token_malformed", none("")),
        ("token_alg", none(signature)),
        ("token_malformed", "x".to_owned()),
    ];
    for (reason, token) in &cases {
        let response = once(app.addr, get("/orders/1", Some(token)));
        assert_eq!(response.status, 401, "{reason}: {response:?}");
        assert!(
            response.has("WWW-Authenticate: Bearer realm=\"portcullis\", error=\"invalid_token\""),
            "{reason}: {response:?}"
        );
        assert_eq!(world.records().last().expect("a record").reason, *reason, "{response:?}");
    }
    assert_eq!(app.requests(), 0);
    assert_eq!(once(app.addr, get("/orders/1", Some(&good))).status, 200);
}

#[test]
fn an_open_path_needs_no_token() {
    need!(Bpf, BpfFs, Cgroup2);
    let (world, app) = enforced("open");
    let mut client = Client::connect(app.addr);
    for _ in 0..20 {
        assert_eq!(client.ask(get("/health", None)).status, 200);
        assert_eq!(client.ask(get("/healthy", None)).status, 401);
    }
    assert_eq!((app.requests(), world.reasons()["public"]), (20, 20));
}

#[test]
fn a_connection_goes_on_after_each_denial() {
    need!(Bpf, BpfFs, Cgroup2);
    let (world, app) = enforced("reuse");
    let (reader, guest) = (world.role("reader"), world.role("guest"));
    let mut client = Client::connect(app.addr);
    for round in 0..100 {
        let (denied, status) =
            if round % 2 == 0 { (get("/a", None), 401) } else { (get("/a", Some(&guest)), 403) };
        assert_eq!(client.ask(denied).status, status, "round {round}");
        assert_eq!(client.ask(get("/a", Some(&reader))).status, 200, "round {round}");
    }
    // A blocking server: a spurious wake-up would have been an error of its read.
    assert_eq!((app.requests(), app.errors()), (100, 0));
}

#[test]
fn the_kernel_alone_denies_too() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::with("alone", |c| c.deny_mode = Some(DenyMode::Kernel));
    // Without the agent the reply has exactly the length of the request, so it has to be long enough for one.
    let request =
        format!("GET /orders/1 HTTP/1.1\r\nHost: app.example\r\nX-Padding: {}\r\n\r\n", "x".repeat(100));
    let (patient, blocking) = (App::patient(), App::local());
    let both = [&patient, &blocking]
        .map(|app| Policy { id: app.port().to_string(), ..policy(app.port(), Mode::Enforce) });
    world.apply(both.to_vec());
    for _ in 0..100 {
        let response = once(patient.addr, &request);
        assert_eq!(response.status, 401, "{response:?}");
        assert!(response.has("WWW-Authenticate: Bearer realm=\"portcullis\"\r\n"), "{response:?}");
    }
    // The application is woken for nothing; one that gives up then may close before the reply is out.
    for _ in 0..50 {
        let mut client = Client::connect(blocking.addr);
        client.send(&request);
        assert!(client.response().map_or(true, |response| response.status == 401));
    }
    assert_eq!((patient.bytes().len(), blocking.bytes().len()), (0, 0));
    assert_eq!((world.stats().replies_kernel, world.stats().replies_agent), (150, 0));
}

/// The kernel's reply is as long as the request: short requests get short replies.
#[test]
fn the_kernel_alone_answers_short_requests_in_few_words() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::with("short", |c| c.deny_mode = Some(DenyMode::Kernel));
    let app = App::patient();
    world.apply(vec![policy(app.port(), Mode::Enforce)]);
    let mut answered = [0; 2];
    for length in 26..160 {
        let request = format!("GET / HTTP/1.1\r\nHost:{}\r\n\r\n", "a".repeat(length - 25));
        assert_eq!(request.len(), length);
        let mut client = Client::connect(app.addr);
        client.send(&request);
        let response = client.response();
        if length < 40 {
            // Shorter than any reply: nothing passes, and nobody is told.
            assert!(response.is_err(), "{length}: {response:?}");
            continue;
        }
        let response = response.unwrap_or_else(|error| panic!("{length} bytes: {error}"));
        match response.status {
            401 => assert!(response.has("WWW-Authenticate:"), "{response:?}"),
            503 => assert!(length < 80, "{length}: {response:?}"),
            _ => panic!("{length}: {response:?}"),
        }
        answered[usize::from(response.status == 401)] += 1;
    }
    assert!(answered[0] > 20 && answered[1] > 70, "503s, 401s: {answered:?}");
    assert_eq!(app.bytes().len(), 0);
}

#[test]
fn the_body_of_a_denial_names_the_decision() {
    need!(Bpf, BpfFs, Cgroup2);
    let (world, app) = enforced("body");
    let response = once(app.addr, get("/orders/1", None));
    let body: serde_json::Value = serde_json::from_str(&response.body).expect("JSON");
    let record = world.records().pop().expect("a record");
    assert_eq!(body["decision_id"], record.decision_id.as_str());
    assert_eq!(record.status, Some(401));
}
