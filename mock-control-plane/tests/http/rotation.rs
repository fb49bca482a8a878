//! Key rotation by schedule, on virtual time.

use portcullis_wire::Reason;
use serde_json::{Value, json};

use crate::plane::{Plane, decode, verify};

const HOUR_S: u64 = 3600;

fn schedule() -> Value {
    json!({ "every_s": 24 * HOUR_S, "publish_ahead_s": HOUR_S, "retire_after_s": 2 * HOUR_S, "alg": "ES256" })
}

/// Each key's name and state.
fn keys(plane: &Plane) -> Vec<(String, String)> {
    let listing = plane.manage("GET", "keys", Value::Null).ok();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    listing["keys"].as_array().unwrap().iter().map(|key| (text(&key["kid"]), text(&key["state"]))).collect()
}

fn named(rows: &[(&str, &str)]) -> Vec<(String, String)> {
    rows.iter().map(|(kid, state)| ((*kid).to_owned(), (*state).to_owned())).collect()
}

#[test]
fn publish_ahead_activate_retire() {
    let plane = Plane::start();
    let set = plane.manage("PUT", "keys/rotation", schedule()).ok();
    assert_eq!(set["rotation"]["every_s"], 24 * HOUR_S);
    plane.advance(23 * HOUR_S - 1);
    assert_eq!(keys(&plane), named(&[("acme-1", "active")]));
    plane.advance(1);
    assert_eq!(keys(&plane), named(&[("acme-1", "active"), ("acme-2", "published")]));
    plane.advance(HOUR_S - 1);
    assert_eq!(keys(&plane), named(&[("acme-1", "active"), ("acme-2", "published")]));
    plane.advance(1);
    assert_eq!(keys(&plane), named(&[("acme-1", "retiring"), ("acme-2", "active")]));
    plane.advance(2 * HOUR_S - 1);
    assert_eq!(keys(&plane), named(&[("acme-1", "retiring"), ("acme-2", "active")]));
    plane.advance(1);
    assert_eq!(keys(&plane), named(&[("acme-2", "active")]));
    plane.advance(21 * HOUR_S);
    assert_eq!(keys(&plane), named(&[("acme-2", "active"), ("acme-3", "published")]));
}

/// B3: whoever polls within `publish_ahead_s`, and takes tokens that live shorter than `retire_after_s`, never meets a key
/// that is not there, however the clock jumps.
#[test]
fn no_token_meets_a_bundle_without_its_key() {
    let plane = Plane::start();
    plane.user("a@acme.com");
    plane.manage("PUT", "keys/rotation", schedule()).ok();
    let agent = plane.agent();
    let mut bundle = plane.bundle(&agent);
    let mut kids = std::collections::BTreeSet::new();
    let mut polled_s = plane.now_s();
    for step in 0..200_u64 {
        let (token, _) = plane.tokens("a@acme.com");
        kids.insert(decode(&token).0["kid"].as_str().unwrap().to_owned());
        // With the configuration of the last poll, and at the end of its life with the one of then.
        assert_eq!(verify(&bundle, &token, plane.now_s()), Ok(()), "step {step}, before the poll");
        plane.advance(600 + step % 7 * 41);
        if plane.now_s() - polled_s >= HOUR_S / 2 {
            bundle = plane.bundle(&agent);
            polled_s = plane.now_s();
        }
        let exp = decode(&token).1["exp"].as_u64().unwrap();
        assert_eq!(verify(&bundle, &token, exp - 1), Ok(()), "step {step}, after the poll");
    }
    assert!(kids.len() >= 2, "only {kids:?} signed");
}

#[test]
fn after_a_long_sleep_a_key_is_published_before_it_signs() {
    let plane = Plane::start();
    plane.manage("PUT", "keys/rotation", schedule()).ok();
    plane.advance(1000 * HOUR_S);
    assert_eq!(keys(&plane), named(&[("acme-1", "active"), ("acme-2", "published")]));
    plane.advance(HOUR_S - 1);
    assert_eq!(keys(&plane)[0].1, "active");
    plane.advance(1);
    assert_eq!(keys(&plane), named(&[("acme-1", "retiring"), ("acme-2", "active")]));
}

#[test]
fn a_waiting_agent_hears_of_a_scheduled_key() {
    let plane = Plane::start();
    let agent = plane.agent();
    plane.manage("PUT", "keys/rotation", schedule()).ok();
    let path = format!("/manage/v1/acme/access/agents/{}/config", agent.0);
    let auth = format!("Bearer {}", agent.1);
    let tag = plane.send("GET", &path, &[("authorization", &auth)], b"").header("etag").to_owned();
    let headers = [("authorization", auth.as_str()), ("if-none-match", &tag), ("prefer", "wait=30")];
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| plane.send("GET", &path, &headers, b""));
        std::thread::sleep(std::time::Duration::from_millis(100));
        // Nobody asks for anything: the clock alone does it.
        plane.advance(23 * HOUR_S);
        let bundle = waiting.join().unwrap().ok();
        assert_eq!(bundle["issuers"][0]["jwks"]["keys"][1]["kid"], "acme-2");
    });
}

#[test]
fn a_key_published_by_hand_is_the_next_one() {
    let plane = Plane::start();
    plane.manage("PUT", "keys/rotation", schedule()).ok();
    plane.manage("POST", "keys", json!({ "kid": "mine", "alg": "ES256" })).created();
    plane.advance(24 * HOUR_S);
    assert_eq!(keys(&plane), named(&[("acme-1", "retiring"), ("mine", "active")]));
}

#[test]
fn without_a_schedule_keys_stay() {
    let plane = Plane::start();
    plane.manage("PUT", "keys/rotation", schedule()).ok();
    plane.manage("DELETE", "keys/rotation", Value::Null).done();
    assert_eq!(plane.manage("GET", "keys/rotation", Value::Null).ok()["rotation"], Value::Null);
    plane.advance(1000 * HOUR_S);
    assert_eq!(keys(&plane), named(&[("acme-1", "active")]));
}

#[test]
fn in_an_emergency_the_published_key_takes_over() {
    let plane = Plane::start();
    plane.user("a@acme.com");
    plane.manage("POST", "keys", json!({ "kid": "spare", "alg": "ES256" })).created();
    let before = plane.bundle(&plane.agent());
    let (stolen, _) = plane.tokens("a@acme.com");
    plane.manage("POST", "keys/acme-1/revoke", Value::Null).ok();
    assert_eq!(keys(&plane), named(&[("spare", "active")]));
    let (token, _) = plane.tokens("a@acme.com");
    assert_eq!(
        verify(&before, &token, plane.now_s()),
        Ok(()),
        "agents know the key before they hear of it all"
    );
    let after = plane.bundle(&plane.agent());
    assert_eq!(verify(&after, &stolen, plane.now_s()), Err(Reason::TokenKey));
}

#[test]
fn odd_schedules_are_refused() {
    let plane = Plane::start();
    let rows = [
        ("every_s", json!(59), &["/every_s", "/publish_ahead_s"][..]),
        ("every_s", json!(u64::MAX), &["/every_s"]),
        ("publish_ahead_s", json!(24 * HOUR_S), &["/publish_ahead_s"]),
        ("retire_after_s", json!(899), &["/retire_after_s"]),
        ("alg", json!("HS256"), &["/alg"]),
        ("every_s", json!(-1), &["/every_s"]),
    ];
    for (member, value, pointers) in rows {
        let mut odd = schedule();
        odd[member] = value;
        plane.manage("PUT", "keys/rotation", odd).invalid_at(pointers);
    }
    let mut odd = schedule();
    odd["alg"] = json!("RS256");
    odd["bits"] = json!(1024);
    plane.manage("PUT", "keys/rotation", odd).invalid_at(&["/bits"]);
    assert_eq!(plane.manage("GET", "keys/rotation", Value::Null).ok()["rotation"], Value::Null);
}
