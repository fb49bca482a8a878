//! The documented off-boarding: deactivated in the directory, out everywhere, and the log says when.

use std::time::{Duration, Instant};

use portcullis_wire::RevokedClaim;
use serde_json::{Value, json};

use crate::plane::{PASSWORD, Plane, decode, text};
use crate::scim::Directory;

#[test]
fn from_the_directory_to_every_agent() {
    let plane = Plane::start();
    let entra = Directory::new(&plane, "Entra ID");
    let body = json!({ "userName": "charlie@acme.com", "password": PASSWORD });
    let user = text(&entra.call("POST", "Users", body).created(), "id");
    let (token, refresh_token) = plane.tokens("charlie@acme.com");
    let (one, two) = (plane.agent(), plane.agent());
    let path = |agent: &(String, String)| format!("/manage/v1/acme/access/agents/{}/config", agent.0);
    let confirm = |agent: &(String, String), wait: &str| {
        let auth = format!("Bearer {}", agent.1);
        let tag = plane.send("GET", &path(agent), &[("authorization", &auth)], b"").header("etag").to_owned();
        let headers = [("authorization", auth.as_str()), ("if-none-match", &tag), ("prefer", wait)];
        plane.send("GET", &path(agent), &headers, b"")
    };
    let status = || {
        let log = plane.manage("GET", "directory/sync-log?source=AuthFI", Value::Null).ok();
        log["entries"][0].clone()
    };

    std::thread::scope(|scope| {
        let pushed = scope.spawn(|| (confirm(&one, "wait=30"), Instant::now()));
        std::thread::sleep(Duration::from_millis(300));
        let began = Instant::now();
        entra
            .patch(&format!("Users/{user}"), json!([{ "op": "Replace", "path": "active", "value": "False" }]))
            .ok();
        let (answer, at) = pushed.join().unwrap();
        let bundle: portcullis_wire::Bundle = serde_json::from_value(answer.ok()).unwrap();
        let revocation = &bundle.revocations[0];
        assert_eq!((revocation.claim, &revocation.value), (RevokedClaim::Sub, &user));
        assert!(revocation.not_before.unwrap() > decode(&token).1["iat"].as_u64().unwrap());
        assert!(at - began < Duration::from_secs(5), "pushed, not polled: {:?}", at - began);
    });

    plane.bearer(&token, "GET", "/v1/acme/userinfo", Value::Null).problem(401);
    let body = json!({ "refresh_token": refresh_token }).to_string();
    plane.send("POST", "/v1/acme/auth/refresh", &[], body.as_bytes()).problem(401);
    plane.login(json!({ "email": "charlie@acme.com", "password": PASSWORD })).problem(403);

    assert_eq!(text(&status(), "event"), "Session revoked");
    assert_eq!(text(&status(), "detail"), "charlie@acme.com (all sessions)");
    assert_eq!(status()["status"], "pending");
    plane.advance(2);
    confirm(&one, "wait=0");
    assert_eq!(status()["status"], "pending", "one agent of two has it");
    plane.advance(28);
    confirm(&two, "wait=0");
    assert_eq!(status()["status"], "enforced");
    assert_eq!(status()["latency_ms"], 30_000);
}

#[test]
fn a_user_who_comes_back_gets_new_tokens_only() {
    let plane = Plane::start();
    let okta = Directory::new(&plane, "Okta");
    let body = json!({ "userName": "a@acme.com", "password": PASSWORD });
    let user = text(&okta.call("POST", "Users", body).created(), "id");
    let (old, _) = plane.tokens("a@acme.com");
    let active = |active: bool| {
        okta.patch(&format!("Users/{user}"), json!([{ "op": "replace", "value": { "active": active } }]))
            .ok();
    };
    active(false);
    plane.advance(60);
    active(true);
    let (new, _) = plane.tokens("a@acme.com");
    plane.bearer(&old, "GET", "/v1/acme/userinfo", Value::Null).problem(401);
    plane.bearer(&new, "GET", "/v1/acme/userinfo", Value::Null).ok();
    let not_before = plane.bundle(&plane.agent()).revocations[0].not_before.unwrap();
    let iat = |token: &str| decode(token).1["iat"].as_u64().unwrap();
    assert!(iat(&old) < not_before && not_before <= iat(&new));
}
