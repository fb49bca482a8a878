//! The test mint: sound tokens, and each way to break one.

use serde_json::{Value, json};

use crate::plane::{Answer, Plane, decode, text, verify};

fn mint(plane: &Plane, order: Value) -> Answer {
    plane.send(
        "POST",
        "/v1/acme/test/mint",
        &[("content-type", "application/json")],
        order.to_string().as_bytes(),
    )
}

#[test]
fn a_sound_token_is_accepted() {
    let plane = Plane::start();
    let order = json!({ "claims": { "sub": "alice", "roles": ["admin"], "jti": null }, "expires_in_s": 60 });
    let answer = mint(&plane, order).ok();
    let (header, claims) = decode(&text(&answer, "token"));
    assert_eq!((&header, &claims), (&answer["header"], &answer["claims"]));
    assert_eq!(claims["sub"], "alice");
    assert_eq!(claims["aud"], "app");
    assert_eq!(claims["exp"], plane.now_s() + 60);
    assert!(claims.get("jti").is_none());
    let bundle = plane.bundle(&plane.agent());
    assert_eq!(verify(&bundle, &text(&answer, "token"), plane.now_s()), Ok(()));
    assert!(verify(&bundle, &text(&answer, "token"), plane.now_s() + 60).is_err());
}

#[test]
fn every_defect_is_one() {
    let plane = Plane::start();
    let bundle = plane.bundle(&plane.agent());
    for alg in ["RS256", "ES256"] {
        plane.manage("POST", "keys", json!({ "kid": alg, "alg": alg })).created();
        let defects = [
            "alg_none",
            "alg_none_signed",
            "flip_signature_bit",
            "flip_payload",
            "hs256_public_key",
            "foreign_key",
            "unknown_kid",
            "no_signature",
            "empty_signature",
            "padded",
        ];
        for defect in defects {
            let token = text(&mint(&plane, json!({ "defect": defect, "kid": alg })).ok(), "token");
            assert!(verify(&bundle, &token, plane.now_s()).is_err(), "{alg} {defect}");
        }
    }
}

#[test]
fn odd_orders_are_refused() {
    let plane = Plane::start();
    mint(&plane, json!({ "defect": "other" })).invalid_at(&["/defect"]);
    mint(&plane, json!({ "kid": "nobody" })).invalid_at(&["/kid"]);
    mint(&plane, json!({ "claims": [] })).invalid_at(&["/claims"]);
    mint(&plane, json!({ "claim": {} })).invalid_at(&["/claim"]);
    plane.send("POST", "/v1/nobody/test/mint", &[], b"{}").problem(404);
    assert_eq!(decode(&text(&mint(&plane, json!({ "expires_in_s": i64::MIN })).ok(), "token")).1["exp"], 0);
    mint(&plane, json!({ "expires_in_s": i64::MAX })).ok();
}

#[test]
fn without_the_test_interface_there_is_no_mint() {
    let plane = Plane::with(|config| config.test_api = false);
    mint(&plane, json!({})).problem(404);
    plane.manage("GET", "test/clock", Value::Null).problem(404);
    plane.manage("GET", "test/faults", Value::Null).problem(404);
}
