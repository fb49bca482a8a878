//! Policies: create, read, replace, delete; their form is checked.

use serde_json::{Value, json};

use crate::plane::{API_KEY, Plane, text};

pub fn policy(id: &str, port: u16) -> Value {
    json!({ "id": id, "name": id, "port_match": port, "mode": "enforce", "default_action": "deny", "rules": [] })
}

#[test]
fn the_documented_policy_reaches_the_bundle() {
    let plane = Plane::start();
    let body = json!({
        "name": "Admin Panel Protection", "port_match": 3000, "mode": "enforce", "default_action": "deny",
        "rules": [
            { "method": "GET", "path_pattern": "/api/*", "required_roles": ["admin", "viewer"], "priority": 10 },
            { "method": "POST", "path_pattern": "/api/admin/*", "required_roles": ["admin"], "require_mfa": true, "priority": 20 },
            { "method": "GET", "path_pattern": "/health", "priority": 1 },
        ],
    });
    let answer = plane.manage("POST", "access/policies", body);
    assert_eq!(answer.status, 201, "{}", answer.body);
    let id = text(&answer.body, "id");
    assert_eq!(answer.header("location"), format!("/manage/v1/acme/access/policies/{id}"));
    let bundle = plane.bundle(&plane.agent());
    assert_eq!(bundle.policies.len(), 1);
    assert_eq!(bundle.policies[0].id, id);
    assert!(bundle.policies[0].rules[1].require_mfa);
}

#[test]
fn create_read_replace_delete() {
    let plane = Plane::start();
    plane.manage("POST", "access/policies", policy("p1", 80)).created();
    assert_eq!(plane.manage("GET", "access/policies/p1", Value::Null).ok()["port_match"], 80);
    plane.manage("PUT", "access/policies/p1", policy("p1", 81)).ok();
    let listing = plane.manage("GET", "access/policies", Value::Null).ok();
    assert_eq!(listing["policies"].as_array().unwrap().len(), 1);
    assert_eq!(listing["policies"][0]["port_match"], 81);
    plane.manage("DELETE", "access/policies/p1", Value::Null).done();
    plane.manage("GET", "access/policies/p1", Value::Null).problem(404);
    plane.manage("DELETE", "access/policies/p1", Value::Null).problem(404);
    plane.manage("PUT", "access/policies/p1", policy("p1", 81)).problem(404);
}

#[test]
fn identifiers_are_unique_and_fixed() {
    let plane = Plane::start();
    plane.manage("POST", "access/policies", policy("p1", 80)).created();
    plane.manage("POST", "access/policies", policy("p1", 81)).problem(409);
    plane.manage("PUT", "access/policies/p1", policy("p2", 81)).invalid_at(&["/id"]);
}

#[test]
fn policies_that_tie_are_refused_with_both_names() {
    let plane = Plane::start();
    let named = |id: &str, host: Option<&str>, mode: &str| {
        let mut policy = policy(id, 80);
        policy["host_match"] = json!(host);
        policy["mode"] = json!(mode);
        policy
    };
    plane.manage("POST", "access/policies", named("one", Some("a.example"), "enforce")).created();
    let detail =
        plane.manage("POST", "access/policies", named("two", Some("A.example"), "monitor")).problem(409);
    assert!(detail.contains("`one`") && detail.contains("`two`"), "{detail}");
    plane.manage("POST", "access/policies", named("two", Some("b.example"), "enforce")).created();
    plane.manage("POST", "access/policies", named("three", None, "enforce")).created();
    plane.manage("POST", "access/policies", named("four", None, "disabled")).created();
    plane.manage("PUT", "access/policies/four", named("four", None, "enforce")).problem(409);
}

#[test]
fn every_mistake_is_named_at_once() {
    let plane = Plane::start();
    let body = json!({
        "name": " ", "port_match": 0, "host_match": "a b", "mode": "enforce", "default_action": "deny",
        "rules": [
            { "id": "r", "method": "get", "path_pattern": "/a" },
            { "id": "r", "method": "GET", "path_pattern": "a", "mfa_max_age_s": 5 },
        ],
    });
    plane.manage("POST", "access/policies", body).invalid_at(&[
        "/name",
        "/port_match",
        "/host_match",
        "/rules/0/method",
        "/rules/1/path_pattern",
        "/rules/1/mfa_max_age_s",
        "/rules/1/id",
    ]);
}

#[test]
fn misspelt_and_mistyped_members_are_refused_where_they_are() {
    let plane = Plane::start();
    let check = |change: fn(&mut Value), pointer: &str| {
        let mut body = policy("p", 80);
        body["rules"] = json!([{ "method": "GET", "path_pattern": "/a" }]);
        change(&mut body);
        plane.manage("POST", "access/policies", body).invalid_at(&[pointer]);
    };
    check(|p| p["rules"][0]["requird_roles"] = json!(["x"]), "/rules/0/requird_roles");
    check(|p| p["rules"][0]["required_roles"] = json!("x"), "/rules/0/required_roles");
    check(|p| p["rules"][0]["required_roles"] = json!(["x", 1]), "/rules/0/required_roles/1");
    check(|p| p["mode"] = json!("enforced"), "/mode");
    check(|p| p["port_match"] = json!(65536), "/port_match");
    check(|p| p["port_match"] = json!("80"), "/port_match");
    check(|p| p["rules"] = json!({}), "/rules");
}

#[test]
fn only_the_api_key_of_the_tenant_manages() {
    let plane = Plane::with_other();
    let path = "/manage/v1/acme/access/policies";
    for key in ["", "sk_other", "sk_tes", "sk_testt"] {
        let answer = plane.send("GET", path, &[("x-api-key", key)], b"");
        assert!(answer.header("www-authenticate").starts_with("Bearer"), "{key}");
        answer.problem(401);
    }
    plane.send("GET", path, &[], b"").problem(401);
    plane.send("GET", path, &[("x-api-key", API_KEY)], b"").ok();
    // A tenant that does not exist looks like a wrong key.
    plane.send("GET", "/manage/v1/nobody/access/policies", &[("x-api-key", API_KEY)], b"").problem(401);
}

#[test]
fn a_candidate_stands_in_the_bundle_while_it_is_on_trial() {
    let plane = Plane::start();
    let agent = plane.agent();
    plane.manage("POST", "access/policies", policy("live", 80)).created();
    let before = plane.bundle(&agent);
    assert_eq!(before.candidate, None);
    let tried = json!({ "name": "stricter", "policies": [policy("next", 80)] });
    plane.manage("PUT", "access/candidate", tried.clone()).ok();
    let bundle = plane.bundle(&agent);
    assert!(bundle.version > before.version);
    assert_eq!(bundle.policies, before.policies);
    assert_eq!(bundle.candidate.as_ref().map(|tried| tried.name.as_str()), Some("stricter"));
    assert_eq!(plane.manage("GET", "access/candidate", Value::Null).ok()["policies"][0]["id"], "next");
    // The same again is nothing new.
    plane.manage("PUT", "access/candidate", tried).ok();
    assert_eq!(plane.bundle(&agent).version, bundle.version);
    assert_eq!(plane.manage("DELETE", "access/candidate", Value::Null).status, 204);
    assert_eq!(plane.bundle(&agent).candidate, None);
    assert_eq!(plane.manage("DELETE", "access/candidate", Value::Null).status, 404);
}

#[test]
fn a_candidate_that_is_wrong_is_refused_with_every_place() {
    let plane = Plane::start();
    let mut twice = policy("next", 80);
    twice["rules"] = json!([{ "method": "GET", "path_pattern": "a", "upgrade": ["h2c"] }]);
    let tried = json!({ "name": "", "policies": [policy("next", 80), twice] });
    let answer = plane.manage("PUT", "access/candidate", tried);
    assert_eq!(answer.status, 422, "{}", answer.body);
    let places: Vec<&str> =
        answer.body["errors"].as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap()).collect();
    assert_eq!(
        places,
        [
            "/name",
            "/policies/1/rules/0/path_pattern",
            "/policies/1/rules/0/upgrade",
            "/policies/1/id",
            "/policies/1/host_match"
        ]
    );
}
