//! Login, tokens, refresh, sessions, logout.

use portcullis_wire::RevokedClaim;
use serde_json::{Value, json};

use crate::plane::{PASSWORD, Plane, decode, text, verify};

fn refresh(plane: &Plane, token: &str) -> crate::plane::Answer {
    plane.send("POST", "/v1/acme/auth/refresh", &[], json!({ "refresh_token": token }).to_string().as_bytes())
}

#[test]
fn a_token_says_all_that_policies_ask_for() {
    let plane = Plane::start();
    let org = text(
        &plane.directory("POST", "orgs", json!({ "slug": "memorial", "name": "Memorial" })).created(),
        "id",
    );
    let body = json!({
        "email": "Alice@acme.com", "name": "Alice Chen", "password": PASSWORD, "org_id": org, "email_verified": true,
    });
    let user = text(&plane.directory("POST", "users", body).created(), "id");
    let group = json!({ "name": "doctors", "org_id": org });
    let group = text(&plane.directory("POST", "groups", group).created(), "id");
    let role = json!({ "role_name": "physician", "permissions": ["write:notes", "read:patients"] });
    plane.directory("POST", &format!("groups/{group}/roles"), role).created();
    plane.directory("POST", &format!("groups/{group}/members"), json!({ "user_id": user })).done();
    plane.directory("POST", &format!("users/{user}/roles"), json!({ "role_name": "viewer" })).created();

    let answer = plane.login(json!({ "email": " alice@ACME.com ", "password": PASSWORD }));
    assert_eq!(answer.header("cache-control"), "no-store");
    let answer = answer.ok();
    assert_eq!((&answer["token_type"], &answer["expires_in"]), (&json!("Bearer"), &json!(900)));
    let token = text(&answer, "access_token");
    let (header, claims) = decode(&token);
    assert_eq!(header, json!({ "alg": "RS256", "typ": "JWT", "kid": "acme-1" }));
    let mut expected = json!({
        "sub": user, "email": "Alice@acme.com", "email_verified": true, "name": "Alice Chen", "tenant_id": "acme",
        "org_id": org, "org_slug": "memorial", "org_role": "member", "roles": ["physician", "viewer"],
        "permissions": ["read:patients", "write:notes"], "groups": ["doctors"], "sid": answer["session_id"],
        "amr": ["pwd"], "auth_time": plane.now_s(), "mfa_verified": false, "iat": plane.now_s(),
        "exp": plane.now_s() + 900, "iss": format!("{}/v1/acme", plane.url()), "aud": "app",
    });
    expected["jti"] = claims["jti"].clone();
    assert_eq!(claims, expected);
    assert_eq!(verify(&plane.bundle(&plane.agent()), &token, plane.now_s()), Ok(()));
}

#[test]
fn es256_tokens_are_accepted_everywhere() {
    let plane = Plane::start();
    plane.user("a@acme.com");
    plane.manage("POST", "keys", json!({ "kid": "e", "alg": "ES256" })).created();
    plane.manage("POST", "keys/e/activate", Value::Null).ok();
    let (token, _) = plane.tokens("a@acme.com");
    assert_eq!(decode(&token).0["alg"], "ES256");
    assert_eq!(verify(&plane.bundle(&plane.agent()), &token, plane.now_s()), Ok(()));
    assert_eq!(plane.bearer(&token, "GET", "/v1/acme/userinfo", Value::Null).ok()["email"], "a@acme.com");
}

#[test]
fn unknown_users_and_wrong_passwords_look_the_same() {
    let plane = Plane::start();
    plane.user("a@acme.com");
    plane.directory("POST", "users", json!({ "email": "nopassword@acme.com" })).created();
    let wrong = plane.login(json!({ "email": "a@acme.com", "password": "wrong" }));
    let unknown = plane.login(json!({ "email": "b@acme.com", "password": "wrong" }));
    let none = plane.login(json!({ "email": "nopassword@acme.com", "password": "" }));
    assert_eq!(wrong.body, unknown.body);
    assert_eq!(wrong.body, none.body);
    wrong.problem(401);
    plane.login(json!({ "email": "a@acme.com" })).invalid_at(&["/password"]);
    plane.login(json!({ "password": "x" })).invalid_at(&["/email"]);
    plane.login(json!({ "email": "a", "password": "x".repeat(1000) })).invalid_at(&["/password"]);
}

#[test]
fn guessing_is_throttled_for_known_and_unknown_alike() {
    let plane = Plane::start();
    plane.user("a@acme.com");
    for email in ["a@acme.com", "nobody@acme.com"] {
        for _ in 0..5 {
            plane.login(json!({ "email": email, "password": "wrong" })).problem(401);
        }
        let answer = plane.login(json!({ "email": email.to_uppercase(), "password": PASSWORD }));
        assert_eq!(answer.header("retry-after"), "300");
        answer.problem(429);
    }
    plane.advance(300);
    plane.tokens("a@acme.com");
}

#[test]
fn parallel_guesses_get_no_more_answers() {
    let plane = Plane::start();
    plane.user("a@acme.com");
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let guess = || plane.login(json!({ "email": "a@acme.com", "password": "wrong" })).status;
        let all: Vec<_> = (0..20).map(|_| scope.spawn(guess)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 5, "{statuses:?}");
}

#[test]
fn a_refresh_token_is_used_once() {
    let plane = Plane::start();
    plane.user("a@acme.com");
    let (_, first) = plane.tokens("a@acme.com");
    plane.advance(1000);
    let answer = refresh(&plane, &first).ok();
    let (token, second) = (text(&answer, "access_token"), text(&answer, "refresh_token"));
    assert_eq!(decode(&token).1["iat"], plane.now_s());
    assert_eq!(decode(&token).1["auth_time"], plane.now_s() - 1000);
    assert_ne!(first, second);

    // The old one again: it was stolen, or the new one was. The session ends, for the kernel too.
    refresh(&plane, &first).problem(401);
    refresh(&plane, &second).problem(401);
    plane.bearer(&token, "GET", "/v1/acme/userinfo", Value::Null).problem(401);
    let revocations = plane.bundle(&plane.agent()).revocations;
    assert_eq!(revocations.len(), 1);
    assert_eq!(revocations[0].claim, RevokedClaim::Sid);
    assert_eq!(revocations[0].value, text(&answer, "session_id"));
}

#[test]
fn odd_refresh_tokens() {
    let plane = Plane::start();
    plane.user("a@acme.com");
    let (access, good) = plane.tokens("a@acme.com");
    for odd in ["", "rt_", "rt__", "x", &access, &good[..good.len() - 1], &format!("{good}0")] {
        refresh(&plane, odd).problem(401);
    }
    // None of them ended the session.
    refresh(&plane, &good).ok();
}

#[test]
fn sessions_end_by_time() {
    let plane = Plane::start();
    plane.user("a@acme.com");
    let (token, refresh_token) = plane.tokens("a@acme.com");
    plane.advance(900);
    plane.bearer(&token, "GET", "/v1/acme/userinfo", Value::Null).problem(401);
    plane.advance(7 * 86_400 - 901);
    let answer = refresh(&plane, &refresh_token).ok();
    // No token outlives its session.
    assert_eq!(decode(&text(&answer, "access_token")).1["exp"], plane.now_s() + 1);
    plane.advance(1);
    refresh(&plane, &text(&answer, "refresh_token")).problem(401);
}

#[test]
fn logout_ends_this_session_and_revokes_its_tokens() {
    let plane = Plane::start();
    plane.user("a@acme.com");
    let (one, two) = (plane.tokens("a@acme.com"), plane.tokens("a@acme.com"));
    plane.bearer(&one.0, "POST", "/v1/acme/auth/logout", Value::Null).done();
    plane.bearer(&one.0, "GET", "/v1/acme/userinfo", Value::Null).problem(401);
    refresh(&plane, &one.1).problem(401);
    plane.bearer(&two.0, "GET", "/v1/acme/userinfo", Value::Null).ok();
    let revoked = plane.bundle(&plane.agent()).revocations;
    assert_eq!(
        revoked.iter().map(|r| r.value.as_str()).collect::<Vec<_>>(),
        [decode(&one.0).1["sid"].as_str().unwrap()]
    );
    assert_eq!(revoked[0].not_before, None);
}

#[test]
fn a_user_sees_and_ends_only_own_sessions() {
    let plane = Plane::start();
    plane.user("a@acme.com");
    plane.user("b@acme.com");
    let (a, a2, b) =
        (plane.tokens("a@acme.com").0, plane.tokens("a@acme.com").0, plane.tokens("b@acme.com").0);
    let list = plane.bearer(&a, "GET", "/v1/acme/auth/sessions", Value::Null).ok();
    let rows = list["sessions"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    let current: Vec<&Value> = rows.iter().filter(|row| row["current"] == true).collect();
    assert_eq!(current[0]["session_id"], decode(&a).1["sid"]);
    let sid = |token: &str| format!("/v1/acme/auth/sessions/{}", decode(token).1["sid"].as_str().unwrap());
    plane.bearer(&a, "DELETE", &sid(&b), Value::Null).problem(404);
    plane.bearer(&a, "DELETE", &sid(&a2), Value::Null).done();
    plane.bearer(&a2, "GET", "/v1/acme/userinfo", Value::Null).problem(401);
    plane.bearer(&b, "GET", "/v1/acme/userinfo", Value::Null).ok();
    plane.bearer(&a, "DELETE", "/v1/acme/auth/sessions", Value::Null).done();
    plane.bearer(&a, "GET", "/v1/acme/userinfo", Value::Null).problem(401);
}

#[test]
fn forged_tokens_are_nobody() {
    let plane = Plane::with_other();
    let user = plane.user("a@acme.com");
    let (good, _) = plane.tokens("a@acme.com");
    let claims = decode(&good).1;
    for defect in
        ["alg_none", "flip_payload", "flip_signature_bit", "hs256_public_key", "foreign_key", "no_signature"]
    {
        let order = json!({ "claims": claims, "defect": defect }).to_string();
        let token = text(&plane.send("POST", "/v1/acme/test/mint", &[], order.as_bytes()).ok(), "token");
        plane.bearer(&token, "GET", "/v1/acme/userinfo", Value::Null).problem(401);
    }
    // A sound token of no session, and one of another tenant.
    let order = json!({ "claims": { "sub": user, "sid": "ses-1" } }).to_string();
    let token = text(&plane.send("POST", "/v1/acme/test/mint", &[], order.as_bytes()).ok(), "token");
    plane.bearer(&token, "GET", "/v1/acme/userinfo", Value::Null).problem(401);
    plane.bearer(&good, "GET", "/v1/other/userinfo", Value::Null).problem(401);
    for odd in ["", ".", "..", "a.b.c", &"x".repeat(60_000)] {
        plane.bearer(odd, "GET", "/v1/acme/userinfo", Value::Null).problem(401);
    }
}

#[test]
fn a_deactivated_user_is_out() {
    let plane = Plane::start();
    let user = plane.user("a@acme.com");
    let (token, refresh_token) = plane.tokens("a@acme.com");
    plane.directory("PATCH", &format!("users/{user}"), json!({ "active": false })).ok();
    plane.bearer(&token, "GET", "/v1/acme/userinfo", Value::Null).problem(401);
    refresh(&plane, &refresh_token).problem(401);
    plane.login(json!({ "email": "a@acme.com", "password": PASSWORD })).problem(403);
    plane.login(json!({ "email": "a@acme.com", "password": "wrong" })).problem(401);
    plane.directory("PATCH", &format!("users/{user}"), json!({ "active": true })).ok();
    plane.tokens("a@acme.com");
}

#[test]
fn a_new_password_ends_the_sessions_of_the_old_one() {
    let plane = Plane::start();
    let user = plane.user("a@acme.com");
    let (token, _) = plane.tokens("a@acme.com");
    plane.directory("PATCH", &format!("users/{user}"), json!({ "password": "another password" })).ok();
    plane.bearer(&token, "GET", "/v1/acme/userinfo", Value::Null).problem(401);
    plane.login(json!({ "email": "a@acme.com", "password": PASSWORD })).problem(401);
    plane.login(json!({ "email": "a@acme.com", "password": "another password" })).ok();
}
