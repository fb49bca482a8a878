//! Organisations see nothing of each other, whichever way they try.

use serde_json::{Value, json};

use crate::plane::{Answer, PASSWORD, Plane, decode, text};

/// Two organisations with a user, a group and a role each, and an administrator's token of the first.
struct World {
    plane: Plane,
    one: Side,
    two: Side,
    admin: String,
}

struct Side {
    org: String,
    user: String,
    group: String,
    role: String,
}

fn side(plane: &Plane, slug: &str) -> Side {
    let org = text(&plane.directory("POST", "orgs", json!({ "slug": slug, "name": slug })).created(), "id");
    let user = json!({ "email": format!("u@{slug}.example"), "password": PASSWORD, "org_id": org });
    let user = text(&plane.directory("POST", "users", user).created(), "id");
    let group = json!({ "name": "staff", "org_id": org });
    let group = text(&plane.directory("POST", "groups", group).created(), "id");
    let role = json!({ "name": "member", "permissions": ["read"], "org_id": org });
    let role = text(&plane.directory("POST", "roles", role).created(), "id");
    Side { org, user, group, role }
}

fn world() -> World {
    let plane = Plane::start();
    let (one, two) = (side(&plane, "one"), side(&plane, "two"));
    let path = format!("orgs/{}/admins", one.org);
    plane.directory("POST", &path, json!({ "user_id": one.user })).ok();
    let (admin, _) = plane.tokens("u@one.example");
    World { plane, one, two, admin }
}

impl World {
    fn admin(&self, method: &str, path: &str, body: Value) -> Answer {
        self.plane.bearer(&self.admin, method, &format!("/api/v1/{path}"), body)
    }
}

#[test]
fn an_administrator_manages_the_own_organisation() {
    let world = world();
    let World { one, .. } = &world;
    assert_eq!(decode(&world.admin).1["org_role"], "admin");
    for (what, name) in [("users", "users"), ("groups", "groups"), ("roles", "roles"), ("orgs", "orgs")] {
        assert_eq!(world.admin("GET", what, Value::Null).ok()[name].as_array().unwrap().len(), 1, "{what}");
    }
    let user = world.admin("POST", "users", json!({ "email": "new@one.example" })).created();
    assert_eq!(user["org_id"], one.org.as_str(), "new users are in the own organisation");
    let id = text(&user, "id");
    world.admin("POST", &format!("groups/{}/members", one.group), json!({ "user_id": id })).done();
    world.admin("POST", &format!("groups/{}/roles", one.group), json!({ "role_id": one.role })).created();
    let permissions = world.admin("GET", &format!("users/{id}/permissions"), Value::Null).ok();
    assert_eq!(permissions["effective"], json!(["read"]));
    world.admin("PATCH", &format!("orgs/{}", one.org), json!({ "mfa_policy": "encouraged" })).ok();
    world.admin("POST", &format!("orgs/{}/admins", one.org), json!({ "user_id": id })).ok();
    world.admin("DELETE", &format!("users/{id}"), Value::Null).done();
}

#[test]
fn nothing_of_another_organisation_exists() {
    let world = world();
    let World { one, two, plane, .. } = &world;
    let nothing: Vec<(&str, String, Value)> = vec![
        ("GET", format!("users/{}", two.user), Value::Null),
        ("PATCH", format!("users/{}", two.user), json!({ "active": false })),
        ("DELETE", format!("users/{}", two.user), Value::Null),
        ("GET", format!("users/{}/permissions", two.user), Value::Null),
        ("DELETE", format!("users/{}/sessions", two.user), Value::Null),
        ("POST", format!("users/{}/roles", two.user), json!({ "role_name": "x" })),
        ("POST", format!("users/{}/roles", one.user), json!({ "role_id": two.role })),
        ("GET", format!("groups/{}", two.group), Value::Null),
        ("PUT", format!("groups/{}", two.group), json!({ "name": "x" })),
        ("DELETE", format!("groups/{}", two.group), Value::Null),
        ("POST", format!("groups/{}/members", two.group), json!({ "user_id": one.user })),
        ("POST", format!("groups/{}/members", one.group), json!({ "user_id": two.user })),
        ("POST", format!("groups/{}/roles", one.group), json!({ "role_id": two.role })),
        ("GET", format!("roles/{}", two.role), Value::Null),
        ("PUT", format!("roles/{}", two.role), json!({ "name": "x" })),
        ("DELETE", format!("roles/{}", two.role), Value::Null),
        ("GET", format!("orgs/{}", two.org), Value::Null),
        ("PATCH", format!("orgs/{}", two.org), json!({ "name": "x" })),
        ("POST", format!("orgs/{}/admins", two.org), json!({ "user_id": two.user })),
        ("POST", format!("orgs/{}/admins", one.org), json!({ "user_id": two.user })),
        ("POST", "users".to_owned(), json!({ "email": "x@x", "org_id": two.org })),
        ("POST", "groups".to_owned(), json!({ "name": "x", "org_id": two.org })),
        ("POST", "roles".to_owned(), json!({ "name": "x", "org_id": two.org })),
    ];
    let before = plane.directory("GET", "users", Value::Null).ok();
    let lists = ["users", "groups", "roles", "orgs"];
    let lists = lists.map(|list| ("GET", format!("{list}?org_id={}", two.org), Value::Null));
    // Each attempt leaves a record, which only who manages the tenant reads.
    let newest = || plane.manage("GET", "audit?limit=1", Value::Null).ok();
    assert_eq!(newest()["entries"], json!([]));
    for (at, (method, path, body)) in nothing.into_iter().chain(lists).enumerate() {
        let shown = format!("{method} {path} {body}");
        let answer = world.admin(method, &path, body);
        assert_eq!(answer.status, 404, "{shown}: {}", answer.body);
        let path = path.split('?').next().unwrap();
        let page = newest();
        let expected = json!({
            "time": plane.now_s(), "event": "cross_organisation", "actor": one.user, "org_id": one.org,
            "method": method, "path": format!("/api/v1/{path}"),
        });
        assert_eq!((&page["entries"][0], page["cursor"].as_u64()), (&expected, Some(at as u64)), "{shown}");
    }
    assert_eq!(plane.directory("GET", "users", Value::Null).ok(), before);
}

#[test]
fn what_does_not_exist_at_all_is_no_attempt() {
    let world = world();
    let World { plane, one, two, .. } = &world;
    world.admin("GET", "users/usr-none", Value::Null).problem(404);
    world.admin("POST", &format!("groups/{}/members", one.group), json!({ "user_id": "none" })).problem(404);
    plane.directory("GET", &format!("users/{}", two.user), Value::Null).ok();
    assert_eq!(plane.manage("GET", "audit", Value::Null).ok()["entries"], json!([]));
}

#[test]
fn attempts_over_scim_are_recorded_by_source() {
    let world = world();
    let World { plane, one, two, .. } = &world;
    let token = plane.scim_token("Okta", Some(&one.org));
    let path = format!("/scim/v2/acme/Users/{}", two.user);
    assert_eq!(plane.bearer(&token, "GET", &path, Value::Null).status, 404);
    let group = json!({ "displayName": "x", "members": [{ "value": two.user }] });
    assert_eq!(plane.bearer(&token, "POST", "/scim/v2/acme/Groups", group).status, 400);
    let page = plane.manage("GET", &format!("audit?actor=Okta&org_id={}", one.org), Value::Null).ok();
    let paths: Vec<&Value> = page["entries"].as_array().unwrap().iter().map(|entry| &entry["path"]).collect();
    assert_eq!(paths, [&json!("/scim/v2/acme/Groups"), &json!(path)]);
    assert_eq!(plane.manage("GET", "audit?actor=nobody", Value::Null).ok()["entries"], json!([]));
    plane.manage("GET", "audit?limit=0", Value::Null).problem(400);
}

/// Not even who manages the tenant links two of them.
#[test]
fn organisations_are_not_linked() {
    let world = world();
    let World { one, two, plane, .. } = &world;
    plane
        .directory("POST", &format!("groups/{}/members", one.group), json!({ "user_id": two.user }))
        .problem(404);
    plane
        .directory("POST", &format!("groups/{}/roles", one.group), json!({ "role_id": two.role }))
        .problem(404);
    plane
        .directory("POST", &format!("users/{}/roles", two.user), json!({ "role_id": one.role }))
        .problem(404);
    plane.directory("POST", &format!("orgs/{}/admins", one.org), json!({ "user_id": two.user })).problem(404);
}

#[test]
fn an_administrator_cannot_grant_what_the_tenant_grants() {
    let world = world();
    let World { one, plane, .. } = &world;
    let root = json!({ "name": "root", "permissions": ["everything"] });
    let root = text(&plane.directory("POST", "roles", root).created(), "id");
    world.admin("POST", &format!("users/{}/roles", one.user), json!({ "role_id": root })).problem(404);
    // Nor by a role or a group of the same name.
    world.admin("POST", "roles", json!({ "name": "Root" })).problem(409);
    world.admin("POST", &format!("users/{}/roles", one.user), json!({ "role_name": "ROOT" })).problem(409);
    plane.directory("POST", "groups", json!({ "name": "operators" })).created();
    world.admin("POST", "groups", json!({ "name": "Operators" })).problem(409);
    // Who manages the tenant can.
    plane.directory("POST", &format!("users/{}/roles", one.user), json!({ "role_id": root })).created();
}

#[test]
fn administrators_are_made_and_unmade() {
    let world = world();
    let World { one, two, plane, .. } = &world;
    world.admin("POST", "orgs", json!({ "slug": "x", "name": "x" })).problem(403);
    let (other, _) = plane.tokens("u@two.example");
    assert_eq!(decode(&other).1["org_role"], "member");
    plane.bearer(&other, "GET", "/api/v1/users", Value::Null).problem(403);
    plane.bearer("nobody", "GET", "/api/v1/users", Value::Null).problem(401);
    plane.directory("DELETE", &format!("orgs/{}/admins/{}", one.org, one.user), Value::Null).done();
    world.admin("GET", "users", Value::Null).problem(403);
    let bundle = plane.bundle(&plane.agent());
    assert_eq!(bundle.revocations[0].value, one.user, "the token that says `admin` is revoked");
    plane.directory("DELETE", &format!("orgs/{}/admins/{}", one.org, two.user), Value::Null).problem(404);
    plane.directory("POST", "orgs", json!({ "slug": "one", "name": "x" })).problem(409);
    plane.directory("POST", "orgs", json!({ "slug": "A b", "name": "x" })).invalid_at(&["/slug"]);
}

#[test]
fn a_directory_provisions_its_organisation_only() {
    let world = world();
    let World { one, two, plane, .. } = &world;
    let token = plane.scim_token("Okta", Some(&one.org));
    let scim = |method: &str, path: &str, body: Value| {
        plane.bearer(&token, method, &format!("/scim/v2/acme/{path}"), body)
    };
    assert_eq!(scim("GET", "Users", Value::Null).ok()["totalResults"], 1);
    assert_eq!(scim("GET", &format!("Users/{}", two.user), Value::Null).status, 404);
    assert_eq!(scim("DELETE", &format!("Users/{}", two.user), Value::Null).status, 404);
    assert_eq!(scim("DELETE", &format!("Groups/{}", two.group), Value::Null).status, 404);
    let created = scim("POST", "Users", json!({ "userName": "new@one.example" })).created();
    let shown = plane.directory("GET", &format!("users/{}", text(&created, "id")), Value::Null).ok();
    assert_eq!(shown["org_id"], one.org.as_str());
    let body = json!({ "displayName": "g", "members": [{ "value": two.user }] });
    assert_eq!(scim("POST", "Groups", body).body["scimType"], "invalidValue");
    plane.manage("POST", "scim/tokens", json!({ "source": "x", "org_id": "org-x" })).problem(404);
}
