//! Cloud role mapping: groups to roles at simulated providers, and the off-boarding step of its own.

use serde_json::{Value, json};

use crate::plane::{Plane, text};
use crate::scim::Directory;

/// A group `devops` with Charlie in it, mapped to `roles/editor`; the group, the user, the mapping.
fn world(plane: &Plane) -> (String, String, String) {
    let group = text(&plane.directory("POST", "groups", json!({ "name": "devops" })).created(), "id");
    let user = plane.user("charlie@acme.com");
    plane.directory("POST", &format!("groups/{group}/members"), json!({ "user_id": user })).done();
    let mapping = mapping(&group);
    let mapping = text(&plane.manage("POST", "cloud/mappings", mapping).created(), "id");
    (group, user, mapping)
}

fn mapping(group: &str) -> Value {
    json!({ "group_id": group, "provider": "gcp", "role": "roles/editor", "resource": "projects/p1" })
}

fn bindings(plane: &Plane, query: &str) -> Vec<Value> {
    let answer = plane.manage("GET", &format!("cloud/bindings{query}"), Value::Null).ok();
    answer["bindings"].as_array().unwrap().clone()
}

/// Event, status and latency of a provider's entries, newest first.
fn events(plane: &Plane, source: &str) -> Vec<(String, String, Value)> {
    let log = plane.manage("GET", &format!("directory/sync-log?source={source}"), Value::Null).ok();
    let row = |entry: &Value| (text(entry, "event"), text(entry, "status"), entry["latency_ms"].clone());
    log["entries"].as_array().unwrap().iter().map(row).collect()
}

fn event(event: &str, status: &str, latency_ms: Value) -> (String, String, Value) {
    (event.to_owned(), status.to_owned(), latency_ms)
}

#[test]
fn members_of_the_group_have_the_role() {
    let plane = Plane::start();
    let (group, _, _) = world(&plane);
    let expected = json!({
        "provider": "gcp", "resource": "projects/p1", "role": "roles/editor", "member": "charlie@acme.com",
    });
    assert_eq!(bindings(&plane, ""), [expected]);
    let dave = plane.user("dave@acme.com");
    plane.directory("POST", &format!("groups/{group}/members"), json!({ "user_id": dave })).done();
    let aws = json!({
        "group_id": group, "provider": "aws", "role": "arn:aws:iam::1:role/ops", "resource": "1",
    });
    plane.manage("POST", "cloud/mappings", aws).created();
    assert_eq!((bindings(&plane, "").len(), bindings(&plane, "?provider=aws").len()), (4, 2));
    assert_eq!(bindings(&plane, "?member=dave@acme.com&provider=gcp").len(), 1);
    plane.directory("DELETE", &format!("groups/{group}/members/{dave}"), Value::Null).done();
    assert_eq!(bindings(&plane, "?member=dave@acme.com"), [] as [Value; 0]);
    plane.directory("DELETE", &format!("groups/{group}"), Value::Null).done();
    assert_eq!(bindings(&plane, ""), [] as [Value; 0]);
}

/// The documented off-boarding: the cloud's step takes 30 seconds and is one of its own.
#[test]
fn off_boarding_takes_cloud_access_back() {
    let plane = Plane::start();
    plane.manage("PATCH", "tenant", json!({ "cloud_delay_s": 30 })).ok();
    let (_, user, _) = world(&plane);
    assert_eq!(bindings(&plane, ""), [] as [Value; 0]);
    assert_eq!(events(&plane, "GCP"), [event("Cloud access granted", "pending", Value::Null)]);
    plane.advance(30);
    assert_eq!(bindings(&plane, "").len(), 1);
    assert_eq!(events(&plane, "GCP"), [event("Cloud access granted", "enforced", json!(30_000))]);

    let entra = Directory::new(&plane, "Entra ID");
    entra
        .patch(&format!("Users/{user}"), json!([{ "op": "replace", "path": "active", "value": false }]))
        .ok();
    let log = plane.manage("GET", "directory/sync-log", Value::Null).ok();
    let newest: Vec<&Value> =
        log["entries"].as_array().unwrap().iter().take(3).map(|e| &e["event"]).collect();
    assert_eq!(newest, ["Cloud access revoked", "User deactivated", "Session revoked"]);
    assert_eq!(log["entries"][0]["detail"], "charlie@acme.com (roles/editor on projects/p1)");
    plane.advance(29);
    assert_eq!(bindings(&plane, "").len(), 1, "the cloud does not know yet");
    assert_eq!(events(&plane, "GCP")[0], event("Cloud access revoked", "pending", Value::Null));
    plane.advance(1);
    assert_eq!(bindings(&plane, ""), [] as [Value; 0]);
    assert_eq!(events(&plane, "GCP")[0], event("Cloud access revoked", "enforced", json!(30_000)));
}

#[test]
fn a_provider_that_is_down_is_asked_again() {
    let plane = Plane::start();
    let (group, user, mapping) = world(&plane);
    let fault = plane.manage("POST", "test/faults", json!({ "kind": "cloud_down" })).created();
    plane.directory("DELETE", &format!("groups/{group}/members/{user}"), Value::Null).done();
    plane.advance(100);
    assert_eq!(bindings(&plane, "").len(), 1);
    assert_eq!(events(&plane, "GCP")[0], event("Cloud access revoked", "pending", Value::Null));
    plane.manage("DELETE", &format!("test/faults/{}", text(&fault, "id")), Value::Null).done();
    assert_eq!(bindings(&plane, ""), [] as [Value; 0]);
    assert_eq!(events(&plane, "GCP")[0], event("Cloud access revoked", "enforced", json!(100_000)));
    plane.manage("DELETE", &format!("cloud/mappings/{mapping}"), Value::Null).done();
    plane.manage("DELETE", &format!("cloud/mappings/{mapping}"), Value::Null).problem(404);
}

#[test]
fn a_grant_that_nobody_wants_any_more_never_arrives() {
    let plane = Plane::start();
    plane.manage("PATCH", "tenant", json!({ "cloud_delay_s": 30 })).ok();
    let (_, user, _) = world(&plane);
    plane.advance(10);
    plane.directory("DELETE", &format!("users/{user}"), Value::Null).done();
    assert_eq!(events(&plane, "GCP"), [event("Cloud access granted", "cancelled", json!(10_000))]);
    plane.advance(100);
    assert_eq!(bindings(&plane, ""), [] as [Value; 0]);
}

#[test]
fn odd_mappings_are_refused() {
    let plane = Plane::start();
    let (group, _, _) = world(&plane);
    plane.manage("POST", "cloud/mappings", mapping(&group)).problem(409);
    plane.manage("POST", "cloud/mappings", mapping("grp-none")).problem(404);
    for (member, value, pointer) in [
        ("provider", json!("azure"), "/provider"),
        ("role", json!(""), "/role"),
        ("role", json!("a b"), "/role"),
        ("resource", json!("x".repeat(241)), "/resource"),
    ] {
        let mut odd = mapping(&group);
        odd[member] = value;
        plane.manage("POST", "cloud/mappings", odd).invalid_at(&[pointer]);
    }
    plane.manage("GET", "cloud/bindings?provider=azure", Value::Null).problem(400);
    plane.manage("PATCH", "tenant", json!({ "cloud_delay_s": 86_401 })).invalid_at(&["/cloud_delay_s"]);
}
