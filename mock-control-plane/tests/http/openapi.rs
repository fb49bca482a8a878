//! The description of the interface: whole, true, and served.

use std::collections::BTreeSet;

use portcullis_mock_control_plane::openapi;
use serde_json::{Value, json};

use crate::plane::Plane;

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    let of_path = |(path, item): (&String, &'_ Value)| (path.clone(), item.clone());
    let mut all = Vec::new();
    for (path, item) in paths.map(of_path) {
        for method in item.as_object().unwrap().keys() {
            all.push((path.clone(), method.clone(), &document["paths"][&path][method]));
        }
    }
    all
}

/// Routes and their descriptions are one list, so that none is missing; here is that they are served as described.
#[test]
fn what_is_described_is_served_and_nothing_else() {
    let plane = Plane::start();
    let document = openapi();
    assert!(operations(&document).len() > 100);
    for (path, item) in document["paths"].as_object().unwrap() {
        let real = path.replace("{tenant}", "acme").replace(['{', '}'], "x");
        for method in METHODS {
            let answer = plane.send(&method.to_ascii_uppercase(), &real, &[], b"{}");
            let detail = answer.body["detail"].as_str().unwrap_or_default();
            assert!(!detail.starts_with("no resource at"), "{method} {path}: {detail}");
            let served = answer.status != 405;
            assert_eq!(served, item.get(method).is_some(), "{method} {path}: {}", answer.status);
            if !served {
                let allowed: BTreeSet<String> =
                    answer.header("allow").split(',').map(str::to_ascii_lowercase).collect();
                assert!(item.as_object().unwrap().keys().all(|method| allowed.contains(method)), "{path}");
            }
        }
    }
}

/// Every path of the product's documents.
#[test]
fn the_documented_paths_are_there() {
    let document = openapi();
    let rows = [
        ("post", "/manage/v1/{tenant}/access/agents/register"),
        ("post", "/manage/v1/{tenant}/access/policies"),
        ("get", "/manage/v1/{tenant}/access/logs"),
        ("get", "/manage/v1/{tenant}/access/agents/{agent}/config"),
        ("patch", "/manage/v1/{tenant}/tenant"),
        ("post", "/v1/{tenant}/mfa/enroll"),
        ("post", "/v1/{tenant}/mfa/verify"),
        ("get", "/v1/{tenant}/mfa/factors"),
        ("post", "/v1/{tenant}/mfa/unenroll"),
        ("post", "/v1/{tenant}/auth/login"),
        ("get", "/v1/{tenant}/.well-known/jwks.json"),
        ("post", "/scim/v2/{tenant}/Users"),
        ("get", "/api/v1/users"),
        ("post", "/api/v1/groups"),
        ("post", "/api/v1/groups/{group}/roles"),
        ("get", "/api/v1/users/{user}/permissions"),
    ];
    for (method, path) in rows {
        assert!(document["paths"][path][method].is_object(), "{method} {path}");
    }
}

#[test]
fn types_say_who_may_and_what_is_taken() {
    let document = openapi();
    let of = |path: &str, method: &str| document["paths"][path][method].clone();
    let register = of("/manage/v1/{tenant}/access/agents/register", "post");
    assert_eq!(register["security"], json!([{ "ApiKey": [] }]));
    let schema = &register["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(schema["$ref"], "#/components/schemas/Registration");
    let registration = &document["components"]["schemas"]["Registration"];
    assert_eq!(
        (&registration["required"], &registration["additionalProperties"]),
        (&json!(["hostname"]), &json!(false))
    );
    assert!(register["responses"]["201"].is_object() && register["responses"]["4XX"].is_object());
    let users = of("/api/v1/users", "get");
    assert_eq!(users["security"], json!([{ "ApiKey": [] }, { "AccessToken": [] }]));
    let names: Vec<&Value> = users["parameters"].as_array().unwrap().iter().map(|p| &p["name"]).collect();
    assert_eq!(names, ["cursor", "limit", "org_id"]);
    assert_eq!(of("/v1/{tenant}/auth/login", "post")["security"], json!([]));
    let scim = of("/scim/v2/{tenant}/Users/{id}", "get");
    assert!(scim["responses"]["200"]["content"]["application/scim+json"].is_object());
}

#[test]
fn references_and_names_hold() {
    fn refs(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                if let Some(Value::String(at)) = members.get("$ref") {
                    found.insert(at.clone());
                }
                members.values().for_each(|value| refs(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| refs(value, found)),
            _ => {}
        }
    }
    let document = openapi();
    let mut found = BTreeSet::new();
    refs(&document, &mut found);
    assert!(found.len() > 30, "{found:?}");
    for at in found {
        let at = at.strip_prefix('#').unwrap();
        assert!(document.pointer(at).is_some(), "{at}");
    }
    let mut ids = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id.to_owned()), "{method} {path}: {id}");
        assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()));
    }
}

#[test]
fn it_is_served_as_far_as_it_goes() {
    let plane = Plane::start();
    assert_eq!(plane.send("GET", "/openapi.json", &[], b"").ok(), openapi());
    let plane = Plane::with(|config| config.test_api = false);
    let document = plane.send("GET", "/openapi.json", &[], b"").ok();
    assert!(document["paths"].as_object().unwrap().keys().all(|path| !path.contains("/test/")));
    assert!(document["paths"]["/manage/v1/{tenant}/keys"].is_object());
}

/// Whether a schema says what an answer holds: members, or which of several objects it is.
fn says_something(document: &Value, schema: &Value) -> bool {
    if let Some(at) = schema["$ref"].as_str() {
        return says_something(document, document.pointer(at.strip_prefix('#').unwrap()).unwrap());
    }
    let any =
        schema["anyOf"].as_array().is_some_and(|any| any.iter().all(|one| says_something(document, one)));
    any || schema["properties"].as_object().is_some_and(|members| !members.is_empty())
}

#[test]
fn every_answer_has_a_schema() {
    let document = openapi();
    let mut with_body = 0;
    for (path, method, operation) in operations(&document) {
        for (status, answer) in operation["responses"].as_object().unwrap() {
            let Some(content) = answer["content"].as_object() else {
                assert!(["204", "304"].contains(&status.as_str()), "{method} {path} {status} has no body");
                continue;
            };
            for (media, about) in content {
                assert!(
                    says_something(&document, &about["schema"]),
                    "{method} {path} {status} {media}: {about}"
                );
                with_body += 1;
            }
        }
    }
    assert!(with_body > 200, "{with_body}");
    let scim = &document["components"]["schemas"]["ScimUser"]["properties"];
    assert_eq!((&scim["active"]["type"], &scim["password"]), (&json!("boolean"), &Value::Null));
}
