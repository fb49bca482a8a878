//! SCIM as directories use it: users, groups, memberships, and the sync log of it.

use serde_json::{Value, json};

use crate::plane::{Answer, Plane, decode, text};

pub const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";

/// A directory that provisions `acme`.
pub struct Directory<'a> {
    plane: &'a Plane,
    token: String,
}

impl Directory<'_> {
    pub fn new<'a>(plane: &'a Plane, source: &str) -> Directory<'a> {
        Directory { plane, token: plane.scim_token(source, None) }
    }

    pub fn call(&self, method: &str, path: &str, body: Value) -> Answer {
        self.plane.bearer(&self.token, method, &format!("/scim/v2/acme/{path}"), body)
    }

    pub fn with(&self, method: &str, path: &str, header: (&str, &str), body: &Value) -> Answer {
        let auth = format!("Bearer {}", self.token);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.plane.send(
            method,
            &format!("/scim/v2/acme/{path}"),
            &[("authorization", &auth), header],
            body.as_bytes(),
        )
    }

    pub fn user(&self, name: &str) -> String {
        text(&self.call("POST", "Users", json!({ "userName": name })).created(), "id")
    }

    pub fn patch(&self, path: &str, operations: Value) -> Answer {
        let body =
            json!({ "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": operations });
        self.call("PATCH", path, body)
    }
}

/// As Entra ID creates a user.
#[test]
fn a_user_from_entra() {
    let plane = Plane::start();
    let entra = Directory::new(&plane, "Entra ID");
    let body = json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User", ENTERPRISE],
        "externalId": "0a21f0f2-8d2a-4f8e-bf98-7363c4aed4ef", "userName": "alice@acme.com", "active": "True",
        "displayName": "Alice Chen", "emails": [{ "primary": true, "type": "work", "value": "alice@acme.com" }],
        "meta": { "resourceType": "User" }, "name": { "formatted": "Alice Chen", "familyName": "Chen", "givenName": "Alice" },
        "roles": [], "title": "Doctor", ENTERPRISE: { "department": "Oncology", "manager": "usr-9" },
    });
    let answer = entra.call("POST", "Users", body);
    assert_eq!(answer.header("content-type"), "application/scim+json");
    let location = answer.header("location").to_owned();
    let user = answer.created();
    let id = text(&user, "id");
    assert_eq!(location, format!("{}/scim/v2/acme/Users/{id}", plane.url()));
    assert_eq!(user["meta"]["location"], location.as_str());
    assert_eq!(user["meta"]["created"], "2027-01-15T08:00:00Z");
    assert_eq!(
        (&user["active"], &user["externalId"]),
        (&json!(true), &json!("0a21f0f2-8d2a-4f8e-bf98-7363c4aed4ef"))
    );
    assert_eq!(user[ENTERPRISE], json!({ "department": "Oncology", "manager": { "value": "usr-9" } }));
    assert_eq!(user["schemas"], json!(["urn:ietf:params:scim:schemas:core:2.0:User", ENTERPRISE]));
    assert_eq!(entra.call("GET", &format!("Users/{id}"), Value::Null).ok(), user);
    // The same user by the product's own interface.
    let own = plane.directory("GET", &format!("users/{id}"), Value::Null).ok();
    assert_eq!(
        (&own["email"], &own["name"], &own["title"]),
        (&json!("alice@acme.com"), &json!("Alice Chen"), &json!("Doctor"))
    );
    // Entra ID asks first whether there is one.
    let found = entra.call(
        "GET",
        "Users?filter=externalId%20eq%20%220a21f0f2-8d2a-4f8e-bf98-7363c4aed4ef%22",
        Value::Null,
    );
    assert_eq!(found.ok()["totalResults"], 1);
    let none = entra.call("GET", "Users?filter=userName%20eq%20%22nobody%22", Value::Null).ok();
    assert_eq!((&none["totalResults"], &none["Resources"]), (&json!(0), &json!([])));
}

#[test]
fn a_group_gives_its_roles_to_whoever_is_synced_into_it() {
    let plane = Plane::start();
    let okta = Directory::new(&plane, "Okta");
    let body = json!({ "userName": "alice@acme.com", "password": crate::plane::PASSWORD });
    let user = okta.call("POST", "Users", body).created();
    assert!(user.get("password").is_none(), "never returned");
    let id = text(&user, "id");
    let group = text(&okta.call("POST", "Groups", json!({ "displayName": "Engineering" })).created(), "id");
    let role = json!({ "role_name": "developer", "permissions": ["deploy:staging"] });
    plane.directory("POST", &format!("groups/{group}/roles"), role).created();
    let add = json!([{ "op": "add", "path": "members", "value": [{ "value": id, "display": "alice" }] }]);
    let group_now = okta.patch(&format!("Groups/{group}"), add).ok();
    assert_eq!(group_now["members"][0]["value"], id.as_str());
    assert_eq!(group_now["members"][0]["$ref"], format!("{}/scim/v2/acme/Users/{id}", plane.url()));
    let user = okta.call("GET", &format!("Users/{id}"), Value::Null).ok();
    assert_eq!(user["groups"][0]["display"], "Engineering");
    let claims = decode(&plane.tokens("alice@acme.com").0).1;
    assert_eq!((&claims["roles"], &claims["groups"]), (&json!(["developer"]), &json!(["Engineering"])));
    let remove = json!([{ "op": "remove", "path": format!("members[value eq \"{id}\"]") }]);
    okta.patch(&format!("Groups/{group}"), remove).ok();
    assert_eq!(decode(&plane.tokens("alice@acme.com").0).1["roles"], json!([]));
}

/// As Google Workspace changes a user: the whole resource.
#[test]
fn put_replaces_the_whole() {
    let plane = Plane::start();
    let google = Directory::new(&plane, "Google Workspace");
    let body = json!({ "userName": "a@acme.com", "title": "T", "nickName": "N", "password": crate::plane::PASSWORD });
    let id = text(&google.call("POST", "Users", body).created(), "id");
    let body = json!({ "id": "usr-other", "userName": "a@acme.com", "title": "U", "groups": [{ "value": "grp-x" }] });
    let user = google.call("PUT", &format!("Users/{id}"), body).ok();
    assert_eq!((&user["id"], &user["title"]), (&json!(id), &json!("U")));
    assert!(user.get("nickName").is_none() && user.get("groups").is_none());
    plane.tokens("a@acme.com");
    // What is not said about `active` changes nothing: nobody comes back by mistake.
    google.patch(&format!("Users/{id}"), json!([{ "op": "replace", "value": { "active": false } }])).ok();
    let user = google.call("PUT", &format!("Users/{id}"), json!({ "userName": "a@acme.com" })).ok();
    assert_eq!(user["active"], false);
    let group = json!({ "displayName": "g", "members": [{ "value": id }] });
    let group = text(&google.call("POST", "Groups", group).created(), "id");
    let emptied = google.call("PUT", &format!("Groups/{group}"), json!({ "displayName": "h" })).ok();
    assert_eq!((&emptied["displayName"], emptied.get("members")), (&json!("h"), None));
}

#[test]
fn patches_of_users_hold_or_change_nothing() {
    let plane = Plane::start();
    let entra = Directory::new(&plane, "Entra ID");
    let id = entra.user("a@acme.com");
    entra.user("b@acme.com");
    let path = format!("Users/{id}");
    let replace =
        |value| entra.patch(&path, json!([{ "op": "Replace", "path": "userName", "value": value }]));
    let taken = replace("B@acme.com");
    assert_eq!((taken.status, &taken.body["scimType"]), (409, &json!("uniqueness")));
    for required in ["userName", "active"] {
        let removed = entra.patch(&path, json!([{ "op": "remove", "path": required }]));
        assert_eq!((removed.status, &removed.body["scimType"]), (400, &json!("mutability")), "{required}");
    }
    let read_only =
        entra.patch(&path, json!([{ "op": "add", "path": "groups", "value": [{ "value": "g" }] }]));
    assert_eq!((read_only.status, &read_only.body["scimType"]), (400, &json!("mutability")));
    assert_eq!(entra.call("GET", &path, Value::Null).ok()["meta"]["version"], "W/\"1\"");
    assert_eq!(replace("c@acme.com").ok()["meta"]["version"], "W/\"2\"");
    assert_eq!(replace("c@acme.com").ok()["meta"]["version"], "W/\"2\"", "no change, no new version");
}

#[test]
fn deletion() {
    let plane = Plane::start();
    let okta = Directory::new(&plane, "Okta");
    let id = okta.user("a@acme.com");
    let group = json!({ "displayName": "g", "members": [{ "value": id }] });
    let group = text(&okta.call("POST", "Groups", group).created(), "id");
    okta.call("DELETE", &format!("Users/{id}"), Value::Null).done();
    for method in ["GET", "DELETE"] {
        let gone = okta.call(method, &format!("Users/{id}"), Value::Null);
        assert_eq!((gone.status, &gone.body["status"]), (404, &json!("404")));
    }
    assert!(okta.call("GET", &format!("Groups/{group}"), Value::Null).ok().get("members").is_none());
    okta.call("DELETE", &format!("Groups/{group}"), Value::Null).done();
    okta.user("a@acme.com");
}

#[test]
fn the_sync_log_tells_what_happened() {
    let plane = Plane::start();
    let entra = Directory::new(&plane, "Entra ID");
    let id = entra.user("alice@acme.com");
    let group = text(&entra.call("POST", "Groups", json!({ "displayName": "Engineering" })).created(), "id");
    let member = |op: &str| json!([{ "op": op, "path": "members", "value": [{ "value": id }] }]);
    entra.patch(&format!("Groups/{group}"), member("Add")).ok();
    entra.patch(&format!("Users/{id}"), json!([{ "op": "Replace", "path": "title", "value": "T" }])).ok();
    entra.patch(&format!("Groups/{group}"), member("Remove")).ok();
    entra.call("POST", "Users", json!({ "userName": "alice@acme.com" }));
    let log = plane.manage("GET", "directory/sync-log", Value::Null).ok();
    let rows: Vec<(String, String, String)> = log["entries"]
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .map(|row| {
            assert_eq!((&row["source"], &row["time"]), (&json!("Entra ID"), &json!(plane.now_s())));
            assert!(row["latency_ms"].is_u64(), "{row}");
            (text(row, "event"), text(row, "detail"), text(row, "status"))
        })
        .collect();
    let row =
        |event: &str, detail: &str, status: &str| (event.to_owned(), detail.to_owned(), status.to_owned());
    assert_eq!(
        rows,
        [
            row("User created", "alice@acme.com", "synced"),
            row("Group created", "Engineering", "synced"),
            row("Group add", "alice@acme.com → Engineering", "synced"),
            row("User updated", "alice@acme.com", "synced"),
            row("Group removed", "alice@acme.com → Engineering", "synced"),
            row("User create", "a user `alice@acme.com` exists", "failed"),
        ]
    );
    let none = plane.manage("GET", "directory/sync-log?source=Okta", Value::Null).ok();
    assert_eq!(none["entries"], json!([]));
    plane.manage("GET", "directory/sync-log?limit=0", Value::Null).problem(400);
}

/// Whoever does not ask for a version has each change made, on top of the others'; of those who do, one.
#[test]
fn changes_at_the_same_time() {
    let plane = Plane::start();
    let entra = Directory::new(&plane, "Entra ID");
    let user = format!("Users/{}", entra.user("a@acme.com"));
    let both = |work: &(dyn Fn(usize) -> u16 + Sync)| {
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..12).map(|n| scope.spawn(move || work(n))).collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<u16>>()
        })
    };
    let add = |n: usize| json!([{ "op": "add", "path": "emails", "value": [{ "value": format!("{n}@acme.com") }] }]);
    assert_eq!(both(&|n| entra.patch(&user, add(n)).status), [200; 12]);
    assert_eq!(entra.call("GET", &user, Value::Null).ok()["emails"].as_array().unwrap().len(), 12);

    let tag = entra.call("GET", &user, Value::Null).header("etag").to_owned();
    let title = |n: usize| {
        let body = json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
            "Operations": [{ "op": "replace", "path": "title", "value": format!("{n}") }],
        });
        entra.with("PATCH", &user, ("if-match", &tag), &body).status
    };
    let mut statuses = both(&title);
    statuses.sort_unstable();
    assert_eq!((statuses[0], &statuses[1..]), (200, [412; 11].as_slice()));
}

/// A password takes time to be worked on; who is deactivated meanwhile is not brought back by it.
#[test]
fn a_deactivation_is_not_undone_by_a_change_that_began_before() {
    let slow = std::num::NonZeroU32::new(3_000_000).unwrap();
    let plane = Plane::with(|config| config.password_rounds = slow);
    let entra = Directory::new(&plane, "Entra ID");
    for by_scim in [false, true] {
        let id = entra.user(&format!("{by_scim}@acme.com"));
        let user = format!("Users/{id}");
        std::thread::scope(|scope| {
            let change = scope.spawn(|| {
                let value = json!({ "title": "Doctor", "password": "another horse battery" });
                if by_scim {
                    return entra.patch(&user, json!([{ "op": "replace", "value": value }])).status;
                }
                plane.directory("PATCH", &format!("users/{id}"), value).status
            });
            std::thread::sleep(std::time::Duration::from_millis(100));
            entra.patch(&user, json!([{ "op": "replace", "path": "active", "value": false }])).ok();
            assert!(!change.is_finished(), "the password took no time: nothing is shown");
            assert_eq!(change.join().unwrap(), 200);
        });
        let after = entra.call("GET", &user, Value::Null).ok();
        assert_eq!((&after["active"], &after["title"]), (&json!(false), &json!("Doctor")), "SCIM: {by_scim}");
    }
}
