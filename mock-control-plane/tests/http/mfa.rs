//! The second factor, as documented: enrol, verify, log in, step up, unenrol; and what attackers try.

use serde_json::{Value, json};

use crate::plane::{Answer, PASSWORD, Plane, decode, text};
use crate::totp::code;

const EMAIL: &str = "alice@acme.com";

/// Alice, enrolled: her token, the secret, the backup codes. The clock stands at a step that was not used.
pub fn enrolled(plane: &Plane) -> (String, String, Vec<String>) {
    plane.user(EMAIL);
    let (token, _) = plane.tokens(EMAIL);
    let answer = plane.bearer(&token, "POST", "/v1/acme/mfa/enroll", Value::Null).ok();
    let secret = text(&answer, "secret");
    let body = json!({ "code": code(&secret, plane.now_s()) });
    let answer = plane.bearer(&token, "POST", "/v1/acme/mfa/verify", body).ok();
    let codes =
        answer["backup_codes"].as_array().unwrap().iter().map(|c| c.as_str().unwrap().to_owned()).collect();
    plane.advance(30);
    (token, secret, codes)
}

fn login(plane: &Plane, mfa_code: &str) -> Answer {
    plane.login(json!({ "email": EMAIL, "password": PASSWORD, "mfa_code": mfa_code }))
}

#[test]
fn the_documented_enrolment() {
    let plane = Plane::start();
    plane.user(EMAIL);
    let (token, _) = plane.tokens(EMAIL);
    let answer = plane.bearer(&token, "POST", "/v1/acme/mfa/enroll", Value::Null);
    assert_eq!(answer.header("cache-control"), "no-store");
    let answer = answer.ok();
    let secret = text(&answer, "secret");
    assert_eq!(secret.len(), 32, "160 bits");
    let factor_id = text(&answer, "factor_id");
    assert_eq!(answer["type"], "totp");
    assert_eq!(
        text(&answer, "uri"),
        format!("otpauth://totp/AuthFI:alice@acme.com?secret={secret}&issuer=AuthFI")
    );
    assert!(text(&answer, "qr_code").starts_with("data:image/png;base64,"));

    let factors = || plane.bearer(&token, "GET", "/v1/acme/mfa/factors", Value::Null).ok()["factors"].clone();
    assert_eq!(factors()[0]["verified"], false);
    // Not verified, it is not asked for.
    assert!(plane.login(json!({ "email": EMAIL, "password": PASSWORD })).ok().get("mfa_required").is_none());

    let body = json!({ "code": code(&secret, plane.now_s()) });
    let answer = plane.bearer(&token, "POST", "/v1/acme/mfa/verify", body).ok();
    assert_eq!(answer["verified"], true);
    let codes = answer["backup_codes"].as_array().unwrap();
    assert_eq!(codes.len(), 10);
    for code in codes {
        let code = code.as_str().unwrap();
        assert!(
            code.len() == 8 && code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()),
            "{code}"
        );
    }
    assert_eq!(factors()[0]["verified"], true);
    assert_eq!(text(&factors()[0], "factor_id"), factor_id);
    assert!(!factors().to_string().contains(&secret), "secrets are never returned");
    plane.bearer(&token, "POST", "/v1/acme/mfa/enroll", Value::Null).problem(409);
    plane.bearer(&token, "POST", "/v1/acme/mfa/verify", json!({ "code": "000000" })).problem(409);
}

#[test]
fn login_asks_for_the_code_and_the_token_says_so() {
    let plane = Plane::start();
    let (_, secret, _) = enrolled(&plane);
    let answer = plane.login(json!({ "email": EMAIL, "password": PASSWORD })).ok();
    assert_eq!(answer["mfa_required"], true);
    assert!(answer.get("access_token").is_none());
    let mfa_token = text(&answer, "mfa_token");

    let answer = login(&plane, &code(&secret, plane.now_s())).ok();
    let claims = decode(&text(&answer, "access_token")).1;
    assert_eq!(claims["mfa_verified"], true);
    assert_eq!(claims["amr"], json!(["pwd", "otp", "mfa"]));
    assert_eq!(claims["auth_time"], plane.now_s());

    // The ticket is spent with the login that it belonged to.
    plane.advance(30);
    let body = json!({ "mfa_token": mfa_token, "mfa_code": code(&secret, plane.now_s()) });
    plane.login(body).problem(401);
}

#[test]
fn the_ticket_stands_for_the_password_for_a_while() {
    let plane = Plane::start();
    let (_, secret, _) = enrolled(&plane);
    let ticket = || text(&plane.login(json!({ "email": EMAIL, "password": PASSWORD })).ok(), "mfa_token");
    let with =
        |ticket: &str| plane.login(json!({ "mfa_token": ticket, "mfa_code": code(&secret, plane.now_s()) }));
    plane.login(json!({ "mfa_token": ticket() })).invalid_at(&["/mfa_code"]);
    assert_eq!(decode(&text(&with(&ticket()).ok(), "access_token")).1["mfa_verified"], true);
    let late = ticket();
    plane.advance(300);
    with(&late).problem(401);
    // It is no access token.
    plane.bearer(&ticket(), "GET", "/v1/acme/userinfo", Value::Null).problem(401);
    plane.bearer(&ticket(), "POST", "/v1/acme/mfa/enroll", Value::Null).problem(401);
}

#[test]
fn a_code_is_accepted_once() {
    let plane = Plane::start();
    let (token, secret, _) = enrolled(&plane);
    let now = code(&secret, plane.now_s());
    login(&plane, &now).ok();
    login(&plane, &now).problem(401);
    plane.bearer(&token, "POST", "/v1/acme/auth/step-up", json!({ "mfa_code": now })).problem(401);
    // Nor is the one before, though it is within the drift that is allowed.
    login(&plane, &code(&secret, plane.now_s() - 30)).problem(401);
    plane.advance(30);
    login(&plane, &code(&secret, plane.now_s())).ok();
}

#[test]
fn the_code_of_enrolment_does_not_log_in() {
    let plane = Plane::start();
    let (_, secret, _) = enrolled(&plane);
    login(&plane, &code(&secret, plane.now_s() - 30)).problem(401);
}

#[test]
fn a_code_used_by_many_at_once_lets_one_in() {
    let plane = Plane::start();
    let (_, secret, backup) = enrolled(&plane);
    for code in [code(&secret, plane.now_s()), backup[0].clone()] {
        let in_at_once = std::thread::scope(|scope| {
            let all: Vec<_> = (0..4).map(|_| scope.spawn(|| login(&plane, &code).status)).collect();
            all.into_iter().filter_map(|one| one.join().ok()).filter(|status| *status == 200).count()
        });
        assert_eq!(in_at_once, 1);
    }
}

#[test]
fn backup_codes_are_used_once_each() {
    let plane = Plane::start();
    let (token, _, codes) = enrolled(&plane);
    for code in &codes {
        assert_eq!(decode(&text(&login(&plane, code).ok(), "access_token")).1["mfa_verified"], true);
        login(&plane, code).problem(401);
    }
    let factors = plane.bearer(&token, "GET", "/v1/acme/mfa/factors", Value::Null).ok();
    assert_eq!(factors["factors"][0]["backup_codes_left"], 0);
    login(&plane, "zzzzzzzz").problem(401);
}

#[test]
fn guessing_codes_is_throttled_by_whatever_way() {
    let plane = Plane::start();
    let (_, secret, codes) = enrolled(&plane);
    for wrong in ["000000", "111111", "zzzzzzzz", "", "12345678901"] {
        login(&plane, wrong).problem(401);
    }
    let good = code(&secret, plane.now_s());
    login(&plane, &good).problem(429);
    login(&plane, &codes[0]).problem(429);
    let ticket = text(&plane.login(json!({ "email": EMAIL, "password": PASSWORD })).ok(), "mfa_token");
    let answer = plane.login(json!({ "mfa_token": ticket, "mfa_code": good }));
    assert_eq!(answer.header("retry-after"), "300");
    answer.problem(429);
    plane.advance(300);
    login(&plane, &code(&secret, plane.now_s())).ok();
}

#[test]
fn tickets_do_not_reset_the_throttle() {
    let plane = Plane::start();
    enrolled(&plane);
    let guess = || {
        let ticket = text(&plane.login(json!({ "email": EMAIL, "password": PASSWORD })).ok(), "mfa_token");
        plane.login(json!({ "mfa_token": ticket, "mfa_code": "000000" })).status
    };
    let statuses: Vec<u16> = (0..7).map(|_| guess()).collect();
    assert_eq!(statuses, [401, 401, 401, 401, 401, 429, 429]);
}

#[test]
fn step_up_gives_a_fresh_token() {
    let plane = Plane::start();
    let (_, secret, codes) = enrolled(&plane);
    let token = text(&login(&plane, &codes[0]).ok(), "access_token");
    plane.advance(600);
    let body = json!({ "mfa_code": code(&secret, plane.now_s()) });
    let answer = plane.bearer(&token, "POST", "/v1/acme/auth/step-up", body).ok();
    let claims = decode(&text(&answer, "access_token")).1;
    assert_eq!((&claims["auth_time"], &claims["mfa_verified"]), (&json!(plane.now_s()), &json!(true)));
    assert_eq!(claims["sid"], decode(&token).1["sid"]);
    plane.bearer(&token, "POST", "/v1/acme/auth/step-up", json!({ "mfa_code": "000000" })).problem(401);
    plane.bearer(&token, "POST", "/v1/acme/auth/step-up", json!({ "mfa_code": codes[1] })).ok();
    plane.user("bob@acme.com");
    let (bob, _) = plane.tokens("bob@acme.com");
    plane.bearer(&bob, "POST", "/v1/acme/auth/step-up", json!({ "mfa_code": "000000" })).problem(409);
}

#[test]
fn unenrolment_needs_the_code() {
    let plane = Plane::start();
    let (token, secret, codes) = enrolled(&plane);
    let factors = plane.bearer(&token, "GET", "/v1/acme/mfa/factors", Value::Null).ok();
    let id = text(&factors["factors"][0], "factor_id");
    let unenroll = |id: &str, code: &str| {
        plane.bearer(&token, "POST", "/v1/acme/mfa/unenroll", json!({ "factor_id": id, "code": code }))
    };
    let good = code(&secret, plane.now_s());
    unenroll("factor-x", &good).problem(404);
    unenroll(&id, "000000").problem(401);
    unenroll(&id, &codes[0]).problem(401);
    unenroll(&id, &good).ok();
    assert_eq!(plane.bearer(&token, "GET", "/v1/acme/mfa/factors", Value::Null).ok()["factors"], json!([]));
    assert!(plane.login(json!({ "email": EMAIL, "password": PASSWORD })).ok().get("access_token").is_some());
    login(&plane, &codes[0]).ok();
}

#[test]
fn policies_of_tenant_and_organisation() {
    let plane = Plane::start();
    let org = text(&plane.directory("POST", "orgs", json!({ "slug": "o", "name": "O" })).created(), "id");
    plane.user(EMAIL);
    let body = json!({ "email": "bob@acme.com", "password": PASSWORD, "org_id": org });
    plane.directory("POST", "users", body).created();
    let answer = |email: &str| plane.login(json!({ "email": email, "password": PASSWORD })).ok();
    let policy = |policy: &str| plane.manage("PATCH", "tenant", json!({ "mfa_policy": policy })).ok();
    assert_eq!(plane.manage("GET", "tenant", Value::Null).ok()["mfa_policy"], "optional");
    assert!(answer(EMAIL).get("mfa_encouraged").is_none());
    policy("encouraged");
    assert_eq!(answer(EMAIL)["mfa_encouraged"], true);
    plane.directory("PATCH", &format!("orgs/{org}"), json!({ "mfa_policy": "required" })).ok();
    assert_eq!(answer("bob@acme.com")["mfa_enrollment_required"], true);
    assert!(answer(EMAIL).get("access_token").is_some());
    // The stricter of the two.
    plane.directory("PATCH", &format!("orgs/{org}"), json!({ "mfa_policy": "optional" })).ok();
    policy("required");
    assert_eq!(answer("bob@acme.com")["mfa_enrollment_required"], true);
    plane.manage("PATCH", "tenant", json!({ "mfa_policy": "always" })).invalid_at(&["/mfa_policy"]);
}

#[test]
fn where_a_factor_is_required_one_is_enrolled_before_the_first_session() {
    let plane = Plane::start();
    plane.user(EMAIL);
    plane.manage("PATCH", "tenant", json!({ "mfa_policy": "required" })).ok();
    let answer = plane.login(json!({ "email": EMAIL, "password": PASSWORD })).ok();
    assert!(answer.get("access_token").is_none());
    let ticket = text(&answer, "enrollment_token");
    plane.bearer(&ticket, "GET", "/v1/acme/userinfo", Value::Null).problem(401);
    plane.bearer(&ticket, "GET", "/v1/acme/mfa/factors", Value::Null).problem(401);
    let secret = text(&plane.bearer(&ticket, "POST", "/v1/acme/mfa/enroll", Value::Null).ok(), "secret");
    plane.bearer(&ticket, "POST", "/v1/acme/mfa/verify", json!({ "code": "000000" })).problem(401);
    let body = json!({ "code": code(&secret, plane.now_s()) });
    plane.bearer(&ticket, "POST", "/v1/acme/mfa/verify", body).ok();
    plane.bearer(&ticket, "POST", "/v1/acme/mfa/enroll", Value::Null).problem(401);
    plane.advance(30);
    login(&plane, &code(&secret, plane.now_s())).ok();
}

#[test]
fn verification_strengthens_the_session_that_it_happens_in() {
    let plane = Plane::start();
    plane.user(EMAIL);
    let (token, refresh_token) = plane.tokens(EMAIL);
    let secret = text(&plane.bearer(&token, "POST", "/v1/acme/mfa/enroll", Value::Null).ok(), "secret");
    let body = json!({ "code": code(&secret, plane.now_s()) });
    plane.bearer(&token, "POST", "/v1/acme/mfa/verify", body).ok();
    let body = json!({ "refresh_token": refresh_token }).to_string();
    let answer = plane.send("POST", "/v1/acme/auth/refresh", &[], body.as_bytes()).ok();
    assert_eq!(decode(&text(&answer, "access_token")).1["mfa_verified"], true);
}
