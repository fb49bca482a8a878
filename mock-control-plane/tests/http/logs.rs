//! The access log: batches once each, queries with filters and cursors.

use serde_json::{Value, json};

use crate::plane::{Answer, Plane};

pub fn record(n: u64, decision: &str) -> Value {
    json!({
        "agent_id": "somebody else", "decision_id": format!("{n:016x}"), "source_ip": format!("10.0.0.{}", n % 250),
        "source_port": 1, "destination_port": 8000 + n % 2, "method": "GET", "path": "/", "decision": decision,
        "reason": "role_missing", "decision_reason": "r", "mode": "enforce", "policy_generation": 1, "latency_us": 1.5,
        "verify_ns": 1, "token_cache_hit": false, "mfa_verified": false, "timestamp": "2026-03-22T10:30:05Z",
    })
}

pub fn ingest(plane: &Plane, secret: &str, body: Value) -> Answer {
    plane.bearer(secret, "POST", "/manage/v1/acme/access/logs", body)
}

pub fn ids(page: &Value) -> Vec<u64> {
    let id = |record: &Value| u64::from_str_radix(record["decision_id"].as_str().unwrap(), 16).unwrap();
    page["logs"].as_array().unwrap().iter().map(id).collect()
}

pub fn query(plane: &Plane, query: &str) -> Value {
    plane.manage("GET", &format!("access/logs?{query}"), Value::Null).ok()
}

#[test]
fn a_record_is_its_agents() {
    let plane = Plane::start();
    let (id, secret) = plane.agent();
    let answer = ingest(&plane, &secret, json!({ "logs": [record(1, "deny")] }));
    assert_eq!((answer.status, &answer.body["accepted"]), (202, &json!(1)));
    assert_eq!(query(&plane, "")["logs"][0]["agent_id"], id.as_str());
    ingest(&plane, "as_wrong", json!({ "logs": [] })).problem(401);
}

#[test]
fn a_numbered_batch_counts_once() {
    let plane = Plane::start();
    let (id, secret) = plane.agent();
    let batch = |first: u64, count: u64| {
        let logs: Vec<Value> = (first..first + count).map(|n| record(n, "allow")).collect();
        json!({ "logs": logs, "stream": "boot-1", "first_seq": first })
    };
    let send = |body| ingest(&plane, &secret, body).body;
    assert_eq!(send(batch(0, 3))["next_seq"], 3);
    let again = send(batch(0, 3));
    assert_eq!((&again["accepted"], &again["duplicates"]), (&json!(0), &json!(3)));
    let half = send(batch(2, 3));
    assert_eq!(
        (&half["accepted"], &half["duplicates"], &half["next_seq"]),
        (&json!(2), &json!(1), &json!(5))
    );
    assert_eq!(ids(&query(&plane, "after=0")), [0, 1, 2, 3, 4]);
    // A gap is known.
    let mut late = batch(8, 1);
    late["dropped"] = json!(3);
    assert_eq!(send(late)["missing"], 3);
    let streams = plane.manage("GET", "access/logs/streams", Value::Null).ok();
    let expected = json!([{ "agent_id": id, "stream": "boot-1", "next_seq": 9, "missing": 3, "dropped": 3 }]);
    assert_eq!(streams["streams"], expected);
}

#[test]
fn streams_and_agents_are_numbered_apart() {
    let plane = Plane::start();
    let (one, two) = (plane.agent(), plane.agent());
    let batch = |stream: &str| json!({ "logs": [record(1, "allow")], "stream": stream, "first_seq": 0 });
    for (secret, stream) in [(&one.1, "a"), (&one.1, "b"), (&two.1, "a")] {
        assert_eq!(ingest(&plane, secret, batch(stream)).body["accepted"], 1);
    }
    assert_eq!(ids(&query(&plane, "")).len(), 3);
    let many = (0..70).map(|n| ingest(&plane, &one.1, batch(&format!("s{n}"))).status);
    assert!(many.collect::<Vec<_>>().contains(&409), "streams are bounded");
}

#[test]
fn newest_first_in_pages() {
    let plane = Plane::start();
    let (_, secret) = plane.agent();
    let logs: Vec<Value> = (0..7).map(|n| record(n, if n == 3 { "deny" } else { "allow" })).collect();
    ingest(&plane, &secret, json!(logs));
    let first = query(&plane, "limit=3");
    assert_eq!(ids(&first), [6, 5, 4]);
    let second = query(&plane, &format!("limit=3&cursor={}", first["cursor"]));
    assert_eq!(ids(&second), [3, 2, 1]);
    let third = query(&plane, &format!("limit=3&cursor={}", second["cursor"]));
    assert_eq!((ids(&third), &third["cursor"]), (vec![0], &Value::Null));
    assert_eq!(ids(&query(&plane, "decision=deny&limit=50")), [3]);
}

#[test]
fn oldest_first_from_a_number_on() {
    let plane = Plane::start();
    let (_, secret) = plane.agent();
    ingest(&plane, &secret, json!((0..5).map(|n| record(n, "allow")).collect::<Vec<_>>()));
    let page = query(&plane, "after=1&limit=2");
    assert_eq!((ids(&page), &page["next"]), (vec![1, 2], &json!(3)));
    let page = query(&plane, "after=3&limit=10");
    assert_eq!((ids(&page), &page["next"]), (vec![3, 4], &json!(5)));
    assert_eq!(ids(&query(&plane, "after=18446744073709551615")), [0_u64; 0]);
}

#[test]
fn filters_hold_together() {
    let plane = Plane::start();
    let (id, secret) = plane.agent();
    let mut special = record(9, "would_deny");
    special["user_id"] = json!("u");
    special["policy_id"] = json!("p");
    special["rule_id"] = json!("r");
    special["source_ip"] = json!("2001:db8::1");
    ingest(&plane, &secret, json!([record(2, "allow"), special]));
    let only = [
        "decision=would_deny",
        "user_id=u",
        "policy_id=p",
        "rule_id=r",
        "destination_port=8001",
        "source_ip=2001:DB8:0::1",
        "user_id=u&policy_id=p&method=GET&reason=role_missing",
    ];
    for filter in only {
        assert_eq!(ids(&query(&plane, filter)), [9], "{filter}");
    }
    assert_eq!(ids(&query(&plane, &format!("agent_id={id}"))).len(), 2);
    assert_eq!(ids(&query(&plane, "user_id=u&policy_id=x")).len(), 0);
}

#[test]
fn bad_batches_and_queries() {
    let plane = Plane::start();
    let (_, secret) = plane.agent();
    let mut wrong = record(1, "deny");
    wrong["destination_port"] = json!(-1);
    ingest(&plane, &secret, json!({ "logs": [record(1, "deny"), wrong.clone()] }))
        .invalid_at(&["/logs/1/destination_port"]);
    ingest(&plane, &secret, json!([record(1, "deny"), wrong])).invalid_at(&["/1/destination_port"]);
    ingest(&plane, &secret, json!("x")).invalid_at(&[""]);
    ingest(&plane, &secret, json!({ "logs": [], "first_seq": 0, "stream": "s".repeat(99) }))
        .invalid_at(&["/stream"]);
    assert_eq!(query(&plane, "")["next"], 0, "a wrong batch leaves nothing behind");
    for bad in [
        "limit=0",
        "limit=x",
        "limit=10001",
        "decision=maybe",
        "unknown=1",
        "source_ip=x",
        "after=1&cursor=1",
    ] {
        let detail = plane.manage("GET", &format!("access/logs?{bad}"), Value::Null).problem(400);
        assert!(!detail.is_empty(), "{bad}");
    }
    let numbered = |first: u64| json!({ "logs": [record(1, "deny")], "first_seq": first });
    for beyond in [1_u64 << 53, u64::MAX] {
        ingest(&plane, &secret, numbered(beyond)).invalid_at(&["/first_seq"]);
    }
    assert_eq!(ingest(&plane, &secret, numbered((1 << 53) - 1)).status, 202);
}
