//! The protocol around SCIM's resources: credentials, discovery, pages, projections, versions, errors.

use serde_json::{Value, json};

use crate::plane::{API_KEY, Plane, text};
use crate::scim::{Directory, ENTERPRISE};

#[test]
fn only_a_scim_token_provisions() {
    let plane = Plane::start();
    let agent = plane.agent();
    for token in ["", "x", API_KEY, &agent.1] {
        let answer = plane.bearer(token, "GET", "/scim/v2/acme/Users", Value::Null);
        assert_eq!(answer.status, 401, "{token}");
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
        assert_eq!(answer.header("content-type"), "application/scim+json");
        assert_eq!(answer.body["schemas"], json!(["urn:ietf:params:scim:api:messages:2.0:Error"]));
        assert_eq!(answer.body["status"], "401");
    }
    let created = plane.manage("POST", "scim/tokens", json!({ "source": "Okta" })).created();
    let (id, token) = (text(&created, "token_id"), text(&created, "token"));
    let listing = plane.manage("GET", "scim/tokens", Value::Null).ok();
    assert_eq!(listing["tokens"], json!([{ "token_id": id, "source": "Okta", "org_id": null }]));
    plane.bearer(&token, "GET", "/scim/v2/acme/Users", Value::Null).ok();
    assert_eq!(plane.bearer(&token, "GET", "/scim/v2/nobody/Users", Value::Null).status, 401);
    plane.manage("DELETE", &format!("scim/tokens/{id}"), Value::Null).done();
    assert_eq!(plane.bearer(&token, "GET", "/scim/v2/acme/Users", Value::Null).status, 401);
    plane.manage("DELETE", &format!("scim/tokens/{id}"), Value::Null).problem(404);
}

#[test]
fn discovery() {
    let plane = Plane::start();
    let scim = Directory::new(&plane, "x");
    let get = |path: &str| scim.call("GET", path, Value::Null).ok();
    let config = get("ServiceProviderConfig");
    for (feature, supported) in
        [("patch", true), ("filter", true), ("etag", true), ("bulk", false), ("sort", false)]
    {
        assert_eq!(config[feature]["supported"], supported, "{feature}");
    }
    let types = get("ResourceTypes");
    for kind in types["Resources"].as_array().unwrap() {
        assert_eq!(get(&format!("ResourceTypes/{}", text(kind, "id"))), *kind);
        get(&format!("Schemas/{}", text(kind, "schema")));
        get(text(kind, "endpoint").trim_start_matches('/'));
    }
    let schemas = get("Schemas");
    assert_eq!(schemas["totalResults"], 3);
    let enterprise = get(&format!("Schemas/{ENTERPRISE}"));
    assert_eq!(enterprise["attributes"].as_array().unwrap().len(), 6);
    for missing in ["Schemas/x", "ResourceTypes/x", "Nothing", "Users/a/b"] {
        assert_eq!(scim.call("GET", missing, Value::Null).body["status"], "404", "{missing}");
    }
    assert_eq!(scim.call("POST", "Bulk", json!({})).status, 501);
    assert_eq!(scim.call("GET", "Me", Value::Null).status, 501);
}

#[test]
fn pages_and_filters() {
    let plane = Plane::start();
    let scim = Directory::new(&plane, "x");
    for n in 0..5 {
        scim.user(&format!("user{n}@acme.com"));
    }
    let page = |query: &str| {
        let answer = scim.call("GET", &format!("Users?{query}"), Value::Null).ok();
        let number = |name: &str| answer[name].as_u64().unwrap();
        assert_eq!(number("itemsPerPage"), answer["Resources"].as_array().unwrap().len() as u64, "{query}");
        (number("totalResults"), number("startIndex"), number("itemsPerPage"))
    };
    assert_eq!(page(""), (5, 1, 5));
    assert_eq!(page("startIndex=2&count=2"), (5, 2, 2));
    assert_eq!(page("startIndex=5&count=2"), (5, 5, 1));
    assert_eq!(page("startIndex=9&count=2"), (5, 9, 0));
    assert_eq!(page("startIndex=0&count=-1"), (5, 1, 0));
    assert_eq!(page("count=0"), (5, 1, 0));
    assert_eq!(page("count=9223372036854775807"), (5, 1, 5));
    assert_eq!(page("filter=userName+sw+%22user1%22+or+userName+sw+%22user2%22"), (2, 1, 2));
    let search = json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"], "filter": "userName eq \"USER3@acme.com\"",
        "attributes": ["userName"], "startIndex": 1, "count": 10,
    });
    let found = scim.call("POST", "Users/.search", search).ok();
    assert_eq!(
        (&found["totalResults"], &found["Resources"][0]["userName"]),
        (&json!(1), &json!("user3@acme.com"))
    );
    scim.call("POST", "Groups", json!({ "displayName": "user3" })).created();
    let both = json!({ "filter": "userName sw \"user3\" or displayName eq \"user3\"" });
    let both = scim.call("POST", ".search", both).ok();
    let kinds: Vec<&Value> =
        both["Resources"].as_array().unwrap().iter().map(|r| &r["meta"]["resourceType"]).collect();
    assert_eq!(kinds, ["User", "Group"]);
    for (query, kind) in [
        ("filter=userName", "invalidFilter"),
        ("filter=userName+xx+%22a%22", "invalidFilter"),
        ("startIndex=x", "invalidValue"),
        ("count=1.5", "invalidValue"),
    ] {
        let answer = scim.call("GET", &format!("Users?{query}"), Value::Null);
        assert_eq!((answer.status, &answer.body["scimType"]), (400, &json!(kind)), "{query}");
    }
}

#[test]
fn projections() {
    let plane = Plane::start();
    let scim = Directory::new(&plane, "x");
    let body = json!({
        "userName": "a@acme.com", "name": { "givenName": "A", "familyName": "B" }, "title": "T",
        "emails": [{ "value": "a@acme.com", "type": "work" }], ENTERPRISE: { "department": "D", "division": "E" },
    });
    let id = text(&scim.call("POST", "Users", body).created(), "id");
    let keys = |query: &str| -> Value {
        let mut user = scim.call("GET", &format!("Users/{id}?{query}"), Value::Null).ok();
        for always in ["id", "schemas"] {
            assert!(
                user.as_object_mut().unwrap().remove(always).is_some(),
                "{query}: {always} is always there"
            );
        }
        user
    };
    assert_eq!(keys("attributes=userName"), json!({ "userName": "a@acme.com" }));
    assert_eq!(keys("attributes=USERNAME,title"), json!({ "userName": "a@acme.com", "title": "T" }));
    assert_eq!(
        keys("attributes=name.givenName,emails.value"),
        json!({
            "name": { "givenName": "A" }, "emails": [{ "value": "a@acme.com" }],
        })
    );
    assert_eq!(
        keys(&format!("attributes={ENTERPRISE}:department")),
        json!({ ENTERPRISE: { "department": "D" } })
    );
    assert_eq!(
        keys(&format!("attributes={ENTERPRISE}")),
        json!({ ENTERPRISE: { "department": "D", "division": "E" } })
    );
    assert_eq!(keys("attributes=urn:ietf:params:scim:schemas:core:2.0:User:title"), json!({ "title": "T" }));
    let without = keys("excludedAttributes=emails,name.familyName,meta,id");
    assert!(without.get("emails").is_none() && without.get("meta").is_none());
    assert_eq!((&without["name"], &without["title"]), (&json!({ "givenName": "A" }), &json!("T")));
    // As Okta and Entra ID list large groups.
    scim.call("POST", "Groups", json!({ "displayName": "g", "members": [{ "value": id }] })).created();
    let groups = scim.call("GET", "Groups?excludedAttributes=members", Value::Null).ok();
    assert!(groups["Resources"][0].get("members").is_none());
}

#[test]
fn versions() {
    let plane = Plane::start();
    let scim = Directory::new(&plane, "x");
    let id = scim.user("a@acme.com");
    let path = format!("Users/{id}");
    let first = scim.call("GET", &path, Value::Null);
    let tag = first.header("etag").to_owned();
    assert_eq!(first.body["meta"]["version"], tag.as_str());
    assert_eq!(scim.with("GET", &path, ("if-none-match", &tag), &Value::Null).status, 304);
    let body = json!({ "userName": "a@acme.com", "title": "T" });
    let changed = scim.with("PUT", &path, ("if-match", &tag), &body);
    assert_ne!(changed.header("etag"), tag);
    changed.ok();
    for (method, body) in [("PUT", &body), ("DELETE", &Value::Null)] {
        let stale = scim.with(method, &path, ("if-match", &tag), body);
        assert_eq!((stale.status, &stale.body["status"]), (412, &json!("412")), "{method}");
    }
    scim.with("DELETE", &path, ("if-match", "*"), &Value::Null).done();
}

#[test]
fn bodies_that_cannot_be_read() {
    let plane = Plane::start();
    let scim = Directory::new(&plane, "x");
    let id = scim.user("a@acme.com");
    let post = |body: Value| {
        let answer = scim.call("POST", "Users", body.clone());
        assert_eq!(answer.status, 400, "{body}: {}", answer.body);
        text(&answer.body, "scimType")
    };
    assert_eq!(post(json!({})), "invalidValue");
    assert_eq!(post(json!({ "userName": "" })), "invalidValue");
    assert_eq!(post(json!({ "userName": 1 })), "invalidValue");
    assert_eq!(post(json!({ "userName": "u", "active": "maybe" })), "invalidValue");
    assert_eq!(post(json!({ "userName": "u", "emails": [1] })), "invalidValue");
    assert_eq!(post(json!({ "userName": "u", "name": [] })), "invalidValue");
    assert_eq!(post(json!({ "userName": "u", ENTERPRISE: "x" })), "invalidValue");
    assert_eq!(post(json!({ "userName": "u", "password": "short" })), "invalidValue");
    let group = |body| scim.call("POST", "Groups", body).body["scimType"].clone();
    assert_eq!(group(json!({ "members": [] })), "invalidValue");
    assert_eq!(group(json!({ "displayName": "g", "members": [{ "display": "x" }] })), "invalidValue");
    assert_eq!(group(json!({ "displayName": "g", "members": [{ "value": "usr-x" }] })), "invalidValue");
    assert_eq!(
        group(json!({ "displayName": "g", "members": [{ "value": id, "type": "Group" }] })),
        "invalidValue"
    );
    let patch = scim.call("PATCH", &format!("Users/{id}"), json!({ "Operations": [] }));
    assert_eq!((patch.status, &patch.body["scimType"]), (400, &json!("invalidSyntax")));
}
