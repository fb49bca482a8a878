//! Agents: registration, listing, what they report.

use serde_json::{Value, json};

use crate::plane::{Plane, text};

#[test]
fn the_documented_registration() {
    let plane = Plane::start();
    let body = json!({
        "hostname": "web-server-01", "agent_version": "1.0.0", "os": "linux", "kernel_version": "5.15.0",
        "arch": "amd64", "labels": { "env": "production", "team": "platform" },
    });
    let answer = plane.manage("POST", "access/agents/register", body).created();
    assert_eq!(answer["hostname"], "web-server-01");
    assert!(text(&answer, "agent_secret").starts_with("as_"));
    assert!(!text(&answer, "note").is_empty());
}

#[test]
fn the_secret_is_shown_once() {
    let plane = Plane::start();
    let (id, secret) = plane.agent();
    let listing = plane.manage("GET", "access/agents", Value::Null).ok();
    assert_eq!(listing["agents"][0]["agent_id"], id.as_str());
    assert!(!listing.to_string().contains(secret.trim_start_matches("as_")), "{listing}");
}

#[test]
fn two_agents_have_nothing_in_common() {
    let plane = Plane::with_other();
    let (one, two) = (plane.agent(), plane.agent());
    assert_ne!(one.0, two.0);
    assert_ne!(one.1, two.1);
    let path = format!("/manage/v1/acme/access/agents/{}/config", two.0);
    plane.bearer(&one.1, "GET", &path, Value::Null).problem(404);
    // Nor with another tenant.
    let path = format!("/manage/v1/other/access/agents/{}/config", one.0);
    plane.bearer(&one.1, "GET", &path, Value::Null).problem(401);
}

#[test]
fn a_removed_agent_is_locked_out() {
    let plane = Plane::start();
    let agent = plane.agent();
    plane.bundle(&agent);
    plane.manage("DELETE", &format!("access/agents/{}", agent.0), Value::Null).done();
    let path = format!("/manage/v1/acme/access/agents/{}/config", agent.0);
    plane.bearer(&agent.1, "GET", &path, Value::Null).problem(401);
    plane.manage("DELETE", &format!("access/agents/{}", agent.0), Value::Null).problem(404);
}

#[test]
fn wrong_registrations_name_the_place() {
    let plane = Plane::start();
    let register = |body| plane.manage("POST", "access/agents/register", body);
    register(json!({})).invalid_at(&[""]);
    register(json!({ "hostname": "" })).invalid_at(&["/hostname"]);
    register(json!({ "hostname": 5 })).invalid_at(&["/hostname"]);
    register(json!({ "hostname": "h", "hostnam": "x" })).invalid_at(&["/hostnam"]);
    register(json!({ "hostname": "h".repeat(300), "os": "o".repeat(300) })).invalid_at(&["/hostname", "/os"]);
    register(json!({ "hostname": "h", "labels": { "a": 1 } })).invalid_at(&["/labels/a"]);
}

#[test]
fn heartbeat_says_what_is_enforced() {
    let plane = Plane::start();
    let (id, secret) = plane.agent();
    let path = format!("/manage/v1/acme/access/agents/{id}/heartbeat");
    let version = plane.bearer(&secret, "POST", &path, json!({})).ok()["config_version"].as_u64().unwrap();
    let row = || plane.manage("GET", "access/agents", Value::Null).ok()["agents"][0].clone();
    assert_eq!(row()["up_to_date"], false);
    plane.bearer(&secret, "POST", &path, json!({ "status": "protected", "config_version": version })).ok();
    assert_eq!(row()["up_to_date"], true);
    assert_eq!(row()["status"], "protected");
    assert_eq!(row()["last_seen_at"], plane.now_s());
    let newer = json!({ "config_version": version + 1 });
    plane.bearer(&secret, "POST", &path, newer).invalid_at(&["/config_version"]);
}

#[test]
fn services_and_endpoints_as_documented() {
    let plane = Plane::start();
    let (id, secret) = plane.agent();
    let post = |what: &str, body| {
        plane.bearer(&secret, "POST", &format!("/manage/v1/acme/access/agents/{id}/{what}"), body)
    };
    post("services", json!({ "services": [
        { "port": 3000, "protocol": "tcp", "process_name": "node", "process_cmdline": "node server.js" },
        { "port": 8080, "protocol": "tcp", "k8s_namespace": "default", "k8s_service_name": "patient-api", "status": "monitoring" },
    ] }))
    .done();
    post(
        "endpoints",
        json!({ "endpoints": [
        { "method": "GET", "pattern": "/api/patients/{id}", "port": 8080, "hit_count": 8921 },
    ] }),
    )
    .done();
    let services = plane.manage("GET", "access/services", Value::Null).ok();
    assert_eq!(services["services"][0]["status"], "unprotected");
    assert_eq!(services["services"][1]["status"], "monitoring");
    assert_eq!(services["services"][1]["agent_id"], id.as_str());
    let endpoints = plane.manage("GET", "access/endpoints", Value::Null).ok();
    assert_eq!(endpoints["endpoints"][0]["hit_count"], 8921);
    post("services", json!({ "services": [{ "port": 70000, "protocol": "tcp" }] }))
        .invalid_at(&["/services/0/port"]);
    post("services", json!({ "services": [] })).done();
    assert_eq!(plane.manage("GET", "access/services", Value::Null).ok()["services"], json!([]));
}
