//! Who may do what, for every operation that is described: nobody without the credentials that it asks for, and nobody
//! with those of another tenant.

use std::collections::BTreeMap;

use portcullis_mock_control_plane::openapi;
use serde_json::{Value, json};

use crate::plane::{API_KEY, PASSWORD, Plane, text};

/// A header by the name of the security scheme that it is for.
type Credentials = BTreeMap<&'static str, (&'static str, String)>;

/// Good ones of `acme`, and identifiers of things that it has, by the names that paths have for them.
fn acme(plane: &Plane) -> (Credentials, BTreeMap<&'static str, String>) {
    let bearer = |token: &str| ("authorization", format!("Bearer {token}"));
    let (agent, secret) = plane.agent();
    let user = plane.user("a@acme.com");
    let scim = plane.scim_token("Okta", None);
    let credentials = BTreeMap::from([
        ("ApiKey", ("x-api-key", API_KEY.to_owned())),
        ("AgentSecret", bearer(&secret)),
        ("AccessToken", bearer(&plane.tokens("a@acme.com").0)),
        ("ScimToken", bearer(&scim)),
    ]);
    let made = |path: &str, body: Value| text(&plane.directory("POST", path, body).created(), "id");
    let policy =
        json!({ "name": "p", "port_match": 80, "mode": "enforce", "default_action": "deny", "rules": [] });
    let things = BTreeMap::from([
        ("agent", agent),
        ("user", user.clone()),
        ("id", user),
        ("org", made("orgs", json!({ "slug": "o", "name": "O" }))),
        ("group", made("groups", json!({ "name": "g" }))),
        ("role", made("roles", json!({ "name": "r" }))),
        ("policy", text(&plane.manage("POST", "access/policies", policy).created(), "id")),
        ("kid", text(&plane.manage("POST", "keys", json!({ "alg": "ES256" })).created(), "kid")),
    ]);
    (credentials, things)
}

/// Every operation: method, path with the tenant and the things in it, and alternatives of what it asks for.
fn operations(tenant: &str, things: &BTreeMap<&'static str, String>) -> Vec<(String, String, Vec<String>)> {
    let document = openapi();
    let mut all = Vec::new();
    for (template, item) in document["paths"].as_object().unwrap() {
        let mut path = template.replace("{tenant}", tenant);
        for (name, id) in things {
            path = path.replace(&format!("{{{name}}}"), id);
        }
        let path = path.replace(['{', '}'], "x");
        for (method, operation) in item.as_object().unwrap() {
            let asks = operation["security"].as_array().unwrap().iter();
            let asks = asks.flat_map(|one| one.as_object().unwrap().keys().cloned()).collect();
            all.push((method.to_ascii_uppercase(), path.clone(), asks));
        }
    }
    all
}

#[test]
fn nobody_without_the_right_credentials() {
    let plane = Plane::start();
    let (credentials, things) = acme(&plane);
    let mut tried = 0;
    for (method, path, asks) in operations("acme", &things) {
        if asks.is_empty() {
            continue;
        }
        assert_eq!(plane.send(&method, &path, &[], b"{}").status, 401, "{method} {path} without any");
        let others = credentials.iter().filter(|(scheme, _)| !asks.contains(&(**scheme).to_owned()));
        for (scheme, (name, value)) in others {
            let status = plane.send(&method, &path, &[(name, value)], b"{}").status;
            assert_eq!(status, 401, "{method} {path} with {scheme}");
            tried += 1;
        }
        for scheme in &asks {
            let (name, value) = &credentials[scheme.as_str()];
            let status = plane.send(&method, &path, &[(name, &format!("{value}x"))], b"{}").status;
            assert_eq!(status, 401, "{method} {path} with a wrong {scheme}");
        }
    }
    assert!(tried > 250, "{tried}");
}

#[test]
fn nobody_of_another_tenant() {
    let plane = Plane::with_other();
    let (credentials, things) = acme(&plane);
    let own = |method: &str, path: &str, body: Value| {
        plane.send(method, path, &[("x-api-key", "sk_other")], body.to_string().as_bytes())
    };
    let body = json!({ "email": "a@acme.com", "password": PASSWORD });
    let before =
        (own("POST", "/api/v1/users", body).created(), own("GET", "/manage/v1/other/tenant", json!({})).ok());
    for (method, path, asks) in operations("other", &things) {
        for (scheme, (name, value)) in &credentials {
            // What is open to all is no matter here; the directory's paths do not name the tenant.
            if asks.is_empty() || !path.contains("/other/") {
                continue;
            }
            let status = plane.send(&method, &path, &[(name, value)], b"{}").status;
            assert_eq!(status, 401, "{method} {path} with {scheme} of acme");
        }
        if path.starts_with("/api/v1/") && asks.contains(&"ApiKey".to_owned()) {
            // With its own key the other tenant sees nothing of acme's.
            let status = plane.send(&method, &path, &[("x-api-key", "sk_other")], b"{}").status;
            let names_one = things.values().any(|id| path.contains(id.as_str()));
            assert!(!names_one || [404, 422].contains(&status), "{method} {path}: {status}");
        }
    }
    let user = format!("/api/v1/users/{}", text(&before.0, "id"));
    assert_eq!(own("GET", &user, json!({})).ok(), before.0);
    assert_eq!(own("GET", "/manage/v1/other/tenant", json!({})).ok(), before.1);
    // And everything of acme's is still there.
    let path = format!("users/{}", things["user"]);
    assert_eq!(plane.directory("GET", &path, Value::Null).ok()["active"], true);
}
