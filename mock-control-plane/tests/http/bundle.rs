//! The bundle: entity tags, versions, waiting for changes.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::plane::{Answer, Plane};
use crate::policies::policy;

fn get(plane: &Plane, agent: &(String, String), headers: &[(&str, &str)]) -> Answer {
    let auth = format!("Bearer {}", agent.1);
    let mut all = vec![("authorization", auth.as_str())];
    all.extend(headers);
    plane.send("GET", &format!("/manage/v1/acme/access/agents/{}/config", agent.0), &all, b"")
}

#[test]
fn a_known_bundle_is_not_sent_again() {
    let plane = Plane::start();
    let agent = plane.agent();
    let first = get(&plane, &agent, &[]);
    let tag = first.header("etag").to_owned();
    assert!(tag.starts_with("\"v") && tag.ends_with('"'), "{tag}");
    for known in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()] {
        let again = get(&plane, &agent, &[("if-none-match", &known)]);
        assert_eq!((again.status, again.body.clone()), (304, Value::Null), "{known}");
        assert_eq!(again.header("etag"), tag);
    }
    for other in ["\"x\"", "", tag.trim_matches('"')] {
        assert_eq!(get(&plane, &agent, &[("if-none-match", other)]).status, 200, "{other}");
    }
}

#[test]
fn every_change_is_a_greater_version_and_another_tag() {
    let plane = Plane::start();
    let agent = plane.agent();
    let mut seen = vec![(get(&plane, &agent, &[]).header("etag").to_owned(), plane.bundle(&agent).version)];
    let mut changed = |what: &str| {
        let answer = get(&plane, &agent, &[]);
        let (tag, version) = (answer.header("etag").to_owned(), answer.body["version"].as_u64().unwrap());
        assert!(version > seen.last().unwrap().1, "{what}");
        assert!(seen.iter().all(|(old, _)| *old != tag), "{what}");
        seen.push((tag, version));
    };
    plane.manage("POST", "access/policies", policy("p1", 80)).created();
    changed("policy created");
    plane.manage("PUT", "access/policies/p1", policy("p1", 81)).ok();
    changed("policy replaced");
    plane.manage("DELETE", "access/policies/p1", Value::Null).done();
    changed("policy deleted");
    plane.manage("POST", "keys", json!({ "alg": "ES256", "kid": "e" })).created();
    changed("key published");
    plane.manage("DELETE", "keys/e", Value::Null).done();
    changed("key retired");
    plane.manage("POST", "revocations", json!({ "claim": "jti", "value": "j" })).created();
    changed("token revoked");
}

#[test]
fn what_changes_nothing_is_no_new_version() {
    let plane = Plane::start();
    let agent = plane.agent();
    plane.manage("POST", "access/policies", policy("p1", 80)).created();
    let version = plane.bundle(&agent).version;
    plane.manage("PUT", "access/policies/p1", policy("p1", 80)).ok();
    plane.manage("POST", "access/policies", policy("p2", 80)).problem(409);
    plane.user("a@acme.com");
    assert_eq!(plane.bundle(&agent).version, version);
}

#[test]
fn a_waiting_agent_is_told_at_once() {
    let plane = Plane::start();
    let agent = plane.agent();
    let tag = get(&plane, &agent, &[]).header("etag").to_owned();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let began = Instant::now();
            let answer =
                get(&plane, &agent, &[("if-none-match", &tag), ("prefer", "respond-async, wait=30")]);
            (began.elapsed(), answer)
        });
        std::thread::sleep(Duration::from_millis(200));
        plane.manage("POST", "access/policies", policy("p1", 80)).created();
        let (waited, answer) = waiting.join().unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body["policies"][0]["id"], "p1");
        assert!(waited >= Duration::from_millis(150) && waited < Duration::from_secs(10), "{waited:?}");
    });
}

#[test]
fn a_wait_ends_without_a_change() {
    let plane = Plane::start();
    let agent = plane.agent();
    let tag = get(&plane, &agent, &[]).header("etag").to_owned();
    let began = Instant::now();
    assert_eq!(get(&plane, &agent, &[("if-none-match", &tag), ("prefer", "wait=1")]).status, 304);
    assert!(began.elapsed() >= Duration::from_millis(900));
    // What cannot be read is no wait.
    for odd in ["wait", "wait=", "wait=-1", "wait=x", "wait=99999999999999999999"] {
        let began = Instant::now();
        assert_eq!(get(&plane, &agent, &[("if-none-match", &tag), ("prefer", odd)]).status, 304);
        assert!(began.elapsed() < Duration::from_secs(5), "{odd}");
    }
}

#[test]
fn the_version_that_an_agent_confirms_is_listed() {
    let plane = Plane::start();
    let agent = plane.agent();
    let up_to_date =
        || plane.manage("GET", "access/agents", Value::Null).ok()["agents"][0]["up_to_date"].clone();
    let tag = get(&plane, &agent, &[]).header("etag").to_owned();
    assert_eq!(up_to_date(), false, "what was sent may not have arrived");
    get(&plane, &agent, &[("if-none-match", &tag)]);
    assert_eq!(up_to_date(), true);
    plane.manage("POST", "access/policies", policy("p1", 80)).created();
    assert_eq!(up_to_date(), false);
}
