//! Faults on demand: each shows, where and as often as asked for.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::plane::{API_KEY, Answer, Plane, text};
use crate::policies::policy;

fn fault(plane: &Plane, fault: Value) -> String {
    text(&plane.manage("POST", "test/faults", fault).created(), "id")
}

fn config(plane: &Plane, agent: &(String, String), tag: Option<&str>) -> Answer {
    let auth = format!("Bearer {}", agent.1);
    let headers = [("authorization", auth.as_str()), ("if-none-match", tag.unwrap_or("\"none\""))];
    plane.send("GET", &format!("/manage/v1/acme/access/agents/{}/config", agent.0), &headers, b"")
}

#[test]
fn a_status_so_many_times_and_there_only() {
    let plane = Plane::with_other();
    let id = fault(
        &plane,
        json!({ "kind": "status", "status": 503, "times": 2, "path": "/manage/v1/acme/access/policies" }),
    );
    plane.manage("GET", "tenant", Value::Null).ok();
    plane.send("GET", "/manage/v1/other/access/policies", &[("x-api-key", "sk_other")], b"").ok();
    plane.manage("GET", "access/policies", Value::Null).problem(503);
    plane.manage("GET", "access/policies", Value::Null).problem(503);
    plane.manage("GET", "access/policies", Value::Null).ok();
    let listing = plane.manage("GET", "test/faults", Value::Null).ok();
    assert_eq!((&listing["faults"][0]["id"], &listing["faults"][0]["shown"]), (&json!(id), &json!(2)));
}

#[test]
fn faults_last_until_they_are_taken_back() {
    let plane = Plane::start();
    let one = fault(&plane, json!({ "kind": "status", "status": 500 }));
    for _ in 0..3 {
        plane.manage("GET", "tenant", Value::Null).problem(500);
    }
    plane.manage("DELETE", &format!("test/faults/{one}"), Value::Null).done();
    plane.manage("GET", "tenant", Value::Null).ok();
    fault(&plane, json!({ "kind": "status", "status": 500 }));
    plane.manage("DELETE", "test/faults", Value::Null).done();
    plane.manage("GET", "tenant", Value::Null).ok();
    plane.manage("DELETE", &format!("test/faults/{one}"), Value::Null).problem(404);
}

#[test]
fn a_delay_delays() {
    let plane = Plane::start();
    fault(&plane, json!({ "kind": "delay", "ms": 300, "times": 1 }));
    let began = Instant::now();
    plane.manage("GET", "tenant", Value::Null).ok();
    assert!(began.elapsed() >= Duration::from_millis(300));
}

#[test]
fn a_torn_body_is_no_answer() {
    let plane = Plane::start();
    fault(&plane, json!({ "kind": "torn_body", "times": 1 }));
    let get = || plane.try_send("GET", "/manage/v1/acme/tenant", &[("x-api-key", API_KEY)], b"");
    get().expect_err("the body breaks off");
    get().unwrap().ok();
}

/// Half of the body arrives, and the length that was announced is the whole one's.
#[test]
fn a_torn_body_is_torn_in_the_middle() {
    use std::io::{Read, Write};
    let plane = Plane::start();
    fault(&plane, json!({ "kind": "torn_body" }));
    let mut stream = std::net::TcpStream::connect(plane.url().strip_prefix("http://").unwrap()).unwrap();
    stream
        .write_all(
            format!("GET /manage/v1/acme/tenant HTTP/1.1\r\nHost: x\r\nX-API-Key: {API_KEY}\r\n\r\n")
                .as_bytes(),
        )
        .unwrap();
    let mut bytes = Vec::new();
    // The end may be a reset.
    let _end = stream.read_to_end(&mut bytes);
    let answer = String::from_utf8(bytes).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let length =
        head.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
    let length: usize = length.unwrap().parse().unwrap();
    assert_eq!(body.len(), length / 2, "{answer}");
}

#[test]
fn bundles_that_lie_about_their_tag() {
    let plane = Plane::start();
    let agent = plane.agent();
    let tag = config(&plane, &agent, None).header("etag").to_owned();
    fault(&plane, json!({ "kind": "wrong_etag", "times": 1 }));
    assert_ne!(config(&plane, &agent, None).header("etag"), tag);
    assert_eq!(config(&plane, &agent, None).header("etag"), tag);
    plane.manage("POST", "access/policies", policy("p", 80)).created();
    fault(&plane, json!({ "kind": "false_not_modified", "times": 1 }));
    assert_eq!(config(&plane, &agent, Some(&tag)).status, 304);
    assert_eq!(config(&plane, &agent, Some(&tag)).status, 200);
}

#[test]
fn bundles_of_an_older_version_or_with_other_keys() {
    let plane = Plane::start();
    let agent = plane.agent();
    plane.manage("POST", "keys", json!({ "alg": "ES256", "kid": "new" })).created();
    let version = plane.bundle(&agent).version;
    let kids = || -> Vec<Option<String>> {
        plane.bundle(&agent).issuers[0].jwks.keys.iter().map(|key| key.kid.clone()).collect()
    };
    let is = |name: &str| Some(name.to_owned());
    fault(&plane, json!({ "kind": "older_version", "times": 1 }));
    assert_eq!(plane.bundle(&agent).version, version - 1);
    assert_eq!(plane.bundle(&agent).version, version);
    fault(&plane, json!({ "kind": "stale_keys", "times": 1 }));
    assert_eq!(kids(), [is("acme-1")]);
    fault(&plane, json!({ "kind": "duplicate_keys", "times": 1 }));
    assert_eq!(kids(), [is("acme-1"), is("new"), is("new")]);
    fault(&plane, json!({ "kind": "empty_keys", "times": 1 }));
    assert_eq!(kids(), []);
    assert_eq!(kids(), [is("acme-1"), is("new")]);
    fault(&plane, json!({ "kind": "stale_keys", "path": "/v1/acme/.well-known" }));
    assert_eq!(kids(), [is("acme-1"), is("new")]);
    let set = plane.send("GET", "/v1/acme/.well-known/jwks.json", &[], b"").ok();
    assert_eq!(set["keys"].as_array().unwrap().len(), 1);
}

#[test]
fn a_dropped_push_is_found_by_the_next_poll() {
    let plane = Plane::start();
    let agent = plane.agent();
    let tag = config(&plane, &agent, None).header("etag").to_owned();
    fault(&plane, json!({ "kind": "dropped_push", "times": 1 }));
    let auth = format!("Bearer {}", agent.1);
    let path = format!("/manage/v1/acme/access/agents/{}/config", agent.0);
    std::thread::scope(|scope| {
        let headers = [("authorization", auth.as_str()), ("if-none-match", &tag), ("prefer", "wait=2")];
        let path = &path;
        let plane = &plane;
        let waiting = scope.spawn(move || plane.send("GET", path, &headers, b"").status);
        std::thread::sleep(Duration::from_millis(300));
        plane.manage("POST", "access/policies", policy("p", 80)).created();
        assert_eq!(waiting.join().unwrap(), 304);
    });
    assert_eq!(config(&plane, &agent, Some(&tag)).status, 200);
}

#[test]
fn odd_faults_are_refused() {
    let plane = Plane::start();
    let add = |body| plane.manage("POST", "test/faults", body);
    add(json!({ "kind": "status", "status": 200 })).invalid_at(&["/status"]);
    add(json!({ "kind": "delay", "ms": 10_000_000 })).invalid_at(&["/ms"]);
    add(json!({ "kind": "other" })).problem(422);
    add(json!({})).problem(422);
    plane.send("GET", "/manage/v1/acme/test/faults", &[], b"").problem(401);
}

/// One member of the set is no key. What can be read of the rest verifies tokens.
#[test]
fn a_member_of_the_key_set_that_is_no_key() {
    for (kind, kid) in [("bad_key", "bad"), ("missing_kty", "no-kty")] {
        let plane = Plane::start();
        plane.need_not_conform();
        plane.user("a@acme.com");
        let agent = plane.agent();
        fault(&plane, json!({ "kind": kind, "path": "/manage/v1/acme/access/agents" }));
        fault(&plane, json!({ "kind": kind, "path": "/v1/acme/.well-known" }));
        let (token, _) = plane.tokens("a@acme.com");
        let bundle = plane.bundle(&agent);
        let jwks = plane.send("GET", "/v1/acme/.well-known/jwks.json", &[], b"").ok();
        assert_eq!(jwks["keys"][0]["kid"], kid);
        assert_ne!(jwks["keys"][0]["kty"], json!("RSA"));
        let (keys, problems) = portcullis_token::KeyStore::new(&bundle.issuers);
        assert_eq!((problems.len(), problems[0].position), (1, Some(1)), "{problems:?}");
        assert_eq!(problems[0].kid.as_deref(), Some(kid));
        portcullis_token::verify(token.as_bytes(), &keys, plane.now_s()).unwrap();
    }
}
