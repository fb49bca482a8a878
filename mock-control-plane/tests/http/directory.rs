//! Users, groups, roles, effective permissions; what follows for tokens when something is taken away.

use portcullis_wire::RevokedClaim;
use serde_json::{Value, json};

use crate::plane::{PASSWORD, Plane, text};

fn group(plane: &Plane, name: &str) -> String {
    text(&plane.directory("POST", "groups", json!({ "name": name })).created(), "id")
}

fn give(plane: &Plane, to: &str, role: &str, permissions: &[&str]) -> String {
    let body = json!({ "role_name": role, "permissions": permissions });
    text(&plane.directory("POST", &format!("{to}/roles"), body).created(), "role_id")
}

fn join(plane: &Plane, group: &str, user: &str) {
    plane.directory("POST", &format!("groups/{group}/members"), json!({ "user_id": user })).done();
}

fn revocations(plane: &Plane) -> Vec<(RevokedClaim, String, Option<u64>)> {
    let list = plane.manage("GET", "revocations", Value::Null).ok()["revocations"].clone();
    let rows: Vec<portcullis_wire::Revocation> = serde_json::from_value(list).unwrap();
    rows.into_iter().map(|r| (r.claim, r.value, r.not_before)).collect()
}

/// The example of the product's documentation.
#[test]
fn effective_permissions_with_their_sources() {
    let plane = Plane::start();
    let alice = plane.user("alice@acme.com");
    let viewer = give(&plane, &format!("users/{alice}"), "viewer", &["read:dashboard"]);
    let doctors = group(&plane, "doctors");
    let physician = give(
        &plane,
        &format!("groups/{doctors}"),
        "physician",
        &["read:patients", "write:notes", "write:prescriptions"],
    );
    let oncology = group(&plane, "oncology-dept");
    give(
        &plane,
        &format!("groups/{oncology}"),
        "specialist",
        &["read:imaging", "order:labs", "read:patients"],
    );
    join(&plane, &doctors, &alice);
    join(&plane, &oncology, &alice);
    let answer = plane.directory("GET", &format!("users/{alice}/permissions"), Value::Null).ok();
    let effective = [
        "order:labs",
        "read:dashboard",
        "read:imaging",
        "read:patients",
        "write:notes",
        "write:prescriptions",
    ];
    assert_eq!(answer["effective"], json!(effective));
    assert_eq!(answer["roles"], json!(["physician", "specialist", "viewer"]));
    let direct = json!([{ "type": "direct", "role_id": viewer, "role_name": "viewer" }]);
    assert_eq!(answer["source"]["read:dashboard"], direct);
    let by_group = json!([{
        "type": "group", "role_id": physician, "role_name": "physician", "group_id": doctors, "group_name": "doctors",
    }]);
    assert_eq!(answer["source"]["write:notes"], by_group);
    assert_eq!(answer["source"]["read:patients"].as_array().unwrap().len(), 2);
    let permissions = plane.directory("GET", "permissions", Value::Null).ok();
    assert_eq!(permissions["permissions"].as_array().unwrap().len(), 6);
}

#[test]
fn the_documented_calls() {
    let plane = Plane::start();
    let body = json!({ "name": "engineering", "description": "Engineering team" });
    let created = plane.directory("POST", "groups", body).created();
    assert_eq!(
        (&created["name"], &created["description"]),
        (&json!("engineering"), &json!("Engineering team"))
    );
    let id = text(&created, "id");
    assert!(id.starts_with("grp-"));
    let body = json!({ "role_name": "developer", "permissions": ["read:code", "deploy:staging"] });
    let role = plane.directory("POST", &format!("groups/{id}/roles"), body.clone()).created();
    assert_eq!(role["permissions"], json!(["deploy:staging", "read:code"]));
    // Again, by name and by identifier.
    assert_eq!(plane.directory("POST", &format!("groups/{id}/roles"), body).created(), role);
    let by_id = json!({ "role_id": role["role_id"] });
    assert_eq!(plane.directory("POST", &format!("groups/{id}/roles"), by_id).created(), role);
    let other = json!({ "role_name": "developer", "permissions": ["everything"] });
    plane.directory("POST", &format!("groups/{id}/roles"), other).problem(409);
    plane.directory("POST", &format!("groups/{id}/roles"), json!({})).invalid_at(&["/role_id"]);
    plane.directory("POST", &format!("groups/{id}/roles"), json!({ "role_id": "rol-x" })).problem(404);
}

#[test]
fn pages_of_users() {
    let plane = Plane::start();
    for n in 0..5 {
        plane.directory("POST", "users", json!({ "email": format!("u{n}@acme.com") })).created();
    }
    let mut seen = Vec::new();
    let mut cursor = String::new();
    for expected in [2, 2, 1] {
        let page = plane.directory("GET", &format!("users?limit=2{cursor}"), Value::Null).ok();
        assert_eq!(page["total"], 5);
        let users = page["users"].as_array().unwrap();
        assert_eq!(users.len(), expected);
        seen.extend(users.iter().map(|user| text(user, "email")));
        cursor = format!("&cursor={}", page["cursor"].as_str().unwrap_or_default());
    }
    seen.sort();
    assert_eq!(seen, ["u0@acme.com", "u1@acme.com", "u2@acme.com", "u3@acme.com", "u4@acme.com"]);
    assert_eq!(cursor, "&cursor=", "the last page has no cursor");
    for bad in ["limit=0", "limit=1001", "limit=-1", "limt=1"] {
        plane.directory("GET", &format!("users?{bad}"), Value::Null).problem(400);
    }
}

#[test]
fn users_are_unique_by_name_and_by_address() {
    let plane = Plane::start();
    plane.user("alice@acme.com");
    plane.directory("POST", "users", json!({ "email": "ALICE@acme.com" })).problem(409);
    plane
        .directory("POST", "users", json!({ "email": "x@acme.com", "user_name": "Alice@acme.com" }))
        .problem(409);
    let bob = plane.user("bob@acme.com");
    plane.directory("PATCH", &format!("users/{bob}"), json!({ "email": "alice@acme.com" })).problem(409);
    plane.directory("PATCH", &format!("users/{bob}"), json!({ "email": "bob@new.example" })).ok();
    plane.login(json!({ "email": "bob@new.example", "password": PASSWORD })).ok();
}

#[test]
fn wrong_users_name_the_place() {
    let plane = Plane::start();
    let add = |body| plane.directory("POST", "users", body);
    add(json!({})).invalid_at(&["/email"]);
    add(json!({ "email": "nobody" })).invalid_at(&["/email"]);
    add(json!({ "email": "a@b", "password": "short", "name": "" })).invalid_at(&["/name", "/password"]);
    add(json!({ "email": "a@b", "org_id": "org-x" })).problem(404);
    add(json!({ "email": "a@b", "roles": [] })).invalid_at(&["/roles"]);
    plane.directory("POST", "groups", json!({ "name": "a\u{1b}b" })).invalid_at(&["/name"]);
    plane
        .directory("POST", "roles", json!({ "name": "r", "permissions": ["a b"] }))
        .invalid_at(&["/permissions"]);
    plane.directory("PATCH", "users/usr-x", json!({ "name": "n" })).problem(404);
}

#[test]
fn the_address_that_changes_is_not_verified() {
    let plane = Plane::start();
    let body = json!({ "email": "a@acme.com", "email_verified": true });
    let id = text(&plane.directory("POST", "users", body).created(), "id");
    let change = |body| plane.directory("PATCH", &format!("users/{id}"), body).ok()["email_verified"].clone();
    assert_eq!(change(json!({ "name": "A" })), true);
    assert_eq!(change(json!({ "email": "b@acme.com" })), false);
    assert_eq!(change(json!({ "email": "c@acme.com", "email_verified": true })), true);
}

#[test]
fn what_is_taken_revokes_and_what_is_given_does_not() {
    let plane = Plane::start();
    let user = plane.user("a@acme.com");
    let group = group(&plane, "g");
    let role = give(&plane, &format!("groups/{group}"), "r", &["p", "q"]);
    join(&plane, &group, &user);
    let direct = give(&plane, &format!("users/{user}"), "direct", &[]);
    assert_eq!(revocations(&plane), []);
    let (token, _) = plane.tokens("a@acme.com");

    let taken: [(&str, &str, String, Value); 5] = [
        ("a permission", "PUT", format!("roles/{role}"), json!({ "name": "r", "permissions": ["p"] })),
        ("a direct role", "DELETE", format!("users/{user}/roles/{direct}"), Value::Null),
        ("a name", "PUT", format!("groups/{group}"), json!({ "name": "h" })),
        ("a group's role", "DELETE", format!("groups/{group}/roles/{role}"), Value::Null),
        ("a membership", "DELETE", format!("groups/{group}/members/{user}"), Value::Null),
    ];
    for (what, method, path, body) in taken {
        plane.advance(10);
        assert!(plane.directory(method, &path, body).status < 300, "{what}");
        let expected = [(RevokedClaim::Sub, user.clone(), Some(plane.now_s() + 1))];
        assert_eq!(revocations(&plane), expected, "{what}");
    }
    // The session goes on: the next token says what is left.
    plane.bearer(&token, "GET", "/v1/acme/userinfo", Value::Null).ok();
    plane.advance(10);
    let before = revocations(&plane);
    join(&plane, &group, &user);
    give(&plane, &format!("groups/{group}"), "more", &["x"]);
    assert_eq!(revocations(&plane), before);
}

#[test]
fn the_same_permission_by_another_way_is_not_taken() {
    let plane = Plane::start();
    let user = plane.user("a@acme.com");
    let (one, two) = (group(&plane, "one"), group(&plane, "two"));
    let role = give(&plane, &format!("groups/{one}"), "r", &["p"]);
    plane.directory("POST", &format!("groups/{two}/roles"), json!({ "role_id": role })).created();
    join(&plane, &one, &user);
    join(&plane, &two, &user);
    plane.directory("DELETE", &format!("groups/{one}/roles/{role}"), Value::Null).done();
    assert_eq!(revocations(&plane), []);
    plane.directory("DELETE", &format!("groups/{two}"), Value::Null).done();
    assert_eq!(revocations(&plane).len(), 1);
}

#[test]
fn deleted_things_are_gone_everywhere() {
    let plane = Plane::start();
    let user = plane.user("a@acme.com");
    let group = group(&plane, "g");
    let role = give(&plane, &format!("groups/{group}"), "r", &["p"]);
    join(&plane, &group, &user);
    plane.directory("DELETE", &format!("roles/{role}"), Value::Null).done();
    assert_eq!(plane.directory("GET", &format!("groups/{group}"), Value::Null).ok()["roles"], json!([]));
    plane.directory("DELETE", &format!("users/{user}"), Value::Null).done();
    assert_eq!(plane.directory("GET", &format!("groups/{group}"), Value::Null).ok()["members"], json!([]));
    plane.directory("GET", &format!("users/{user}/permissions"), Value::Null).problem(404);
    plane.directory("DELETE", &format!("groups/{group}/members/{user}"), Value::Null).problem(404);
}

#[test]
fn an_administrator_ends_all_sessions_of_a_user() {
    let plane = Plane::start();
    let user = plane.user("a@acme.com");
    let tokens = [plane.tokens("a@acme.com").0, plane.tokens("a@acme.com").0];
    assert_eq!(plane.directory("DELETE", &format!("users/{user}/sessions"), Value::Null).ok()["ended"], 2);
    for token in tokens {
        plane.bearer(&token, "GET", "/v1/acme/userinfo", Value::Null).problem(401);
    }
    assert_eq!(revocations(&plane), [(RevokedClaim::Sub, user, Some(plane.now_s() + 1))]);
}

#[test]
fn revocations_by_hand() {
    let plane = Plane::start();
    let revoke = |body| plane.manage("POST", "revocations", body);
    for (claim, value) in [("jti", "t-1"), ("sid", "ses-1"), ("sub", "usr-1"), ("org_id", "org-1")] {
        revoke(json!({ "claim": claim, "value": value, "not_before": plane.now_s() })).created();
    }
    let bundle = plane.bundle(&plane.agent());
    assert_eq!(bundle.revocations.len(), 4);
    for row in &bundle.revocations {
        assert_eq!(row.issuer, bundle.issuers[0].issuer);
        assert_eq!(row.not_before, Some(plane.now_s()));
        assert!(row.expires_at >= plane.now_s() + 86_400, "no token may outlive its revocation");
    }
    revoke(json!({ "claim": "aud", "value": "x" })).invalid_at(&["/claim"]);
    revoke(json!({ "claim": "jti", "value": "" })).invalid_at(&["/value"]);
    revoke(json!({ "claim": "sub", "value": "x", "not_before": plane.now_s() + 60 }))
        .invalid_at(&["/not_before"]);
}
