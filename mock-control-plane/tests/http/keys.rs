//! Signing keys: the whole way of one, and the key sets that follow.

use serde_json::{Value, json};

use crate::plane::{Plane, decode, text, verify};

fn mint(plane: &Plane) -> String {
    text(&plane.send("POST", "/v1/acme/test/mint", &[], b"{}").ok(), "token")
}

fn kids(plane: &Plane) -> Vec<String> {
    let set = plane.send("GET", "/v1/acme/.well-known/jwks.json", &[], b"").ok();
    set["keys"].as_array().unwrap().iter().map(|key| text(key, "kid")).collect()
}

#[test]
fn publish_activate_retire() {
    let plane = Plane::start();
    let agent = plane.agent();
    let old = mint(&plane);
    plane.manage("POST", "keys", json!({ "kid": "next", "alg": "ES256" })).created();
    assert_eq!(kids(&plane), ["acme-1", "next"]);
    assert_eq!(decode(&mint(&plane)).0["kid"], "acme-1", "published is not yet used");

    let listing = plane.manage("POST", "keys/next/activate", Value::Null).ok();
    let states: Vec<&str> =
        listing["keys"].as_array().unwrap().iter().map(|k| k["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["retiring", "active"]);
    let new = mint(&plane);
    assert_eq!(decode(&new).0, json!({ "alg": "ES256", "typ": "JWT", "kid": "next" }));
    let bundle = plane.bundle(&agent);
    assert_eq!(verify(&bundle, &old, plane.now_s()), Ok(()));
    assert_eq!(verify(&bundle, &new, plane.now_s()), Ok(()));

    plane.manage("DELETE", "keys/acme-1", Value::Null).done();
    let bundle = plane.bundle(&agent);
    assert!(verify(&bundle, &old, plane.now_s()).is_err());
    assert_eq!(verify(&bundle, &new, plane.now_s()), Ok(()));
}

#[test]
fn the_active_key_stays() {
    let plane = Plane::start();
    plane.manage("DELETE", "keys/acme-1", Value::Null).problem(409);
    plane.manage("POST", "keys/nothing/activate", Value::Null).problem(404);
    plane.manage("DELETE", "keys/nothing", Value::Null).problem(404);
}

#[test]
fn rotation_keeps_the_old_key_and_never_reuses_its_name() {
    let plane = Plane::start();
    let old = mint(&plane);
    let second = text(&plane.manage("POST", "keys/rotate", Value::Null).created(), "kid");
    assert_eq!(kids(&plane), ["acme-1", second.as_str()]);
    assert_eq!(verify(&plane.bundle(&plane.agent()), &old, plane.now_s()), Ok(()));
    plane.manage("POST", "keys/acme-1/activate", Value::Null).ok();
    plane.manage("DELETE", &format!("keys/{second}"), Value::Null).done();
    let third = text(&plane.manage("POST", "keys/rotate", Value::Null).created(), "kid");
    assert_ne!(third, second);
}

#[test]
fn an_emergency_takes_the_active_key_at_once() {
    let plane = Plane::start();
    let stolen = mint(&plane);
    plane.manage("POST", "keys/acme-1/revoke", Value::Null).ok();
    assert!(!kids(&plane).contains(&"acme-1".to_owned()));
    let bundle = plane.bundle(&plane.agent());
    assert!(verify(&bundle, &stolen, plane.now_s()).is_err());
    assert_eq!(verify(&bundle, &mint(&plane), plane.now_s()), Ok(()));
    plane.manage("POST", "keys/acme-1/revoke", Value::Null).problem(404);
}

#[test]
fn key_sets_have_no_private_members() {
    let plane = Plane::with_other();
    plane.manage("POST", "keys", json!({ "alg": "ES256" })).created();
    let set = plane.send("GET", "/v1/acme/.well-known/jwks.json", &[], b"").ok();
    for key in set["keys"].as_array().unwrap() {
        for private in ["d", "p", "q", "dp", "dq", "qi", "k"] {
            assert!(key.get(private).is_none(), "{key}");
        }
        assert_eq!(key["use"], "sig");
    }
    assert_ne!(set, plane.send("GET", "/v1/other/.well-known/jwks.json", &[], b"").ok());
}

#[test]
fn discovery_leads_to_the_keys() {
    let plane = Plane::start();
    let metadata = plane.send("GET", "/v1/acme/.well-known/openid-configuration", &[], b"").ok();
    let issuer = text(&metadata, "issuer");
    assert_eq!(issuer, format!("{}/v1/acme", plane.url()));
    assert_eq!(decode(&mint(&plane)).1["iss"], issuer.as_str());
    let path = text(&metadata, "jwks_uri").strip_prefix(plane.url()).unwrap().to_owned();
    assert_eq!(plane.send("GET", &path, &[], b"").ok()["keys"][0]["kid"], "acme-1");
    plane.send("GET", "/v1/nobody/.well-known/openid-configuration", &[], b"").problem(404);
    plane.send("GET", "/v1/nobody/.well-known/jwks.json", &[], b"").problem(404);
}

#[test]
fn odd_keys_are_refused() {
    let plane = Plane::start();
    let add = |body| plane.manage("POST", "keys", body);
    add(json!({ "alg": "HS256" })).invalid_at(&["/alg"]);
    add(json!({ "bits": 1024 })).invalid_at(&["/bits"]);
    add(json!({ "kid": "" })).invalid_at(&["/kid"]);
    add(json!({ "kid": "a/b" })).invalid_at(&["/kid"]);
    add(json!({ "kid": "acme-1", "alg": "ES256" })).problem(409);
    add(json!({ "bitz": 1 })).invalid_at(&["/bitz"]);
}
