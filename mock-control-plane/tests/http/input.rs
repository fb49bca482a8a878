//! Whatever is sent, the answer is an answer: a 4xx with a document that says what is wrong.

use serde_json::{Value, json};

use crate::plane::{API_KEY, Plane};

/// Every route that reads a body, with the credentials that it asks for.
fn routes(plane: &Plane) -> Vec<(&'static str, String, (&'static str, String))> {
    let (agent, secret) = plane.agent();
    plane.user("a@acme.com");
    let (token, _) = plane.tokens("a@acme.com");
    let key = || ("x-api-key", API_KEY.to_owned());
    let bearer = |token: &str| ("authorization", format!("Bearer {token}"));
    let scim = plane.scim_token("Okta", None);
    let m = |path: &str| format!("/manage/v1/acme/{path}");
    vec![
        ("POST", m("access/agents/register"), key()),
        ("POST", m("access/policies"), key()),
        ("PUT", m("access/policies/p"), key()),
        ("POST", m("keys"), key()),
        ("PUT", m("keys/rotation"), key()),
        ("POST", m("cloud/mappings"), key()),
        ("POST", m("revocations"), key()),
        ("PATCH", m("tenant"), key()),
        ("POST", m("scim/tokens"), key()),
        ("POST", m("test/faults"), key()),
        ("POST", m("test/clock"), key()),
        ("POST", m("access/logs"), bearer(&secret)),
        ("POST", m(&format!("access/agents/{agent}/heartbeat")), bearer(&secret)),
        ("POST", m(&format!("access/agents/{agent}/services")), bearer(&secret)),
        ("POST", m(&format!("access/agents/{agent}/endpoints")), bearer(&secret)),
        ("POST", "/v1/acme/test/mint".to_owned(), key()),
        ("POST", "/v1/acme/auth/login".to_owned(), key()),
        ("POST", "/v1/acme/auth/refresh".to_owned(), key()),
        ("POST", "/v1/acme/auth/step-up".to_owned(), bearer(&token)),
        ("POST", "/v1/acme/mfa/verify".to_owned(), bearer(&token)),
        ("POST", "/v1/acme/mfa/unenroll".to_owned(), bearer(&token)),
        ("POST", "/api/v1/orgs".to_owned(), key()),
        ("POST", "/api/v1/users".to_owned(), key()),
        ("PATCH", "/api/v1/users/u".to_owned(), key()),
        ("POST", "/api/v1/groups".to_owned(), key()),
        ("POST", "/api/v1/groups/g/roles".to_owned(), key()),
        ("POST", "/api/v1/roles".to_owned(), key()),
        ("PUT", "/api/v1/roles/r".to_owned(), key()),
        ("POST", "/scim/v2/acme/Users".to_owned(), bearer(&scim)),
        ("PUT", "/scim/v2/acme/Users/u".to_owned(), bearer(&scim)),
        ("PATCH", "/scim/v2/acme/Groups/g".to_owned(), bearer(&scim)),
        ("POST", "/scim/v2/acme/Groups/.search".to_owned(), bearer(&scim)),
    ]
}

#[test]
fn bodies_of_every_kind_on_every_route() {
    let plane = Plane::start();
    let deep = "[".repeat(10_000);
    let mut bodies: Vec<Vec<u8>> = [
        "",
        "{",
        "[]",
        // Members by position, which serde would take.
        "[null, null]",
        " [null, null, null, null, null, null, null]",
        "null",
        "1",
        "\"\"",
        "{}x",
        "{\"a\":1,\"a\":2}",
        "{\"unknown\":1}",
        "{\"\\u0000\":\"\\ud800\"}",
        "{\"hostname\":null,\"name\":1e999}",
        "{\"logs\":{}}",
        "{\"claims\":{\"exp\":1e400}}",
        &deep,
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    bodies.push(vec![0xff, 0xfe, 0x00]);
    for (method, path, (name, value)) in routes(&plane) {
        for body in &bodies {
            let headers = [(name, value.as_str()), ("content-type", "application/json")];
            let answer = plane.send(method, &path, &headers, body);
            let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
            // An object of what nobody knows is not wrong everywhere: `{}` asks the mint for the usual token.
            assert!(answer.status < 500, "{method} {path} {shown}: {} {}", answer.status, answer.body);
            if answer.status >= 400 {
                assert!(!answer.body["detail"].as_str().unwrap().is_empty(), "{method} {path} {shown}");
                let kind = answer.header("content-type").to_owned();
                let expected = if path.starts_with("/scim") {
                    "application/scim+json"
                } else {
                    "application/problem+json"
                };
                assert_eq!(kind, expected, "{method} {path} {shown}");
            }
            if shown.starts_with(['[', '"', '1', 'n']) && shown != "[]" {
                assert!(answer.status >= 400, "{method} {path} {shown}: {}", answer.status);
            }
        }
    }
    plane.directory("GET", "users", Value::Null).ok();
}

#[test]
fn the_place_of_a_syntax_error_is_named() {
    let plane = Plane::start();
    let body = b"{\n  \"hostname\": \"h\",,\n}";
    let answer =
        plane.send("POST", "/manage/v1/acme/access/agents/register", &[("x-api-key", API_KEY)], body);
    let detail = answer.problem(400);
    assert!(detail.contains("line 2 column 19"), "{detail}");
}

#[test]
fn what_is_not_json_is_refused_by_its_type() {
    let plane = Plane::start();
    let path = "/manage/v1/acme/access/agents/register";
    let send = |kind: &str| {
        plane.send("POST", path, &[("x-api-key", API_KEY), ("content-type", kind)], b"{\"hostname\":\"h\"}")
    };
    send("text/xml").problem(415);
    send("application/json; charset=utf-8").created();
    send("application/merge-patch+json").created();
    // What `curl -d` sends by itself, as in the documented calls.
    send("application/x-www-form-urlencoded").created();
}

/// A refusal that does not need the body leaves the connection good for the next request.
#[test]
fn a_refused_request_does_not_cost_the_connection() {
    use std::io::{Read, Write};
    let plane = Plane::start();
    let mut stream = std::net::TcpStream::connect(plane.url().strip_prefix("http://").unwrap()).unwrap();
    for _ in 0..3 {
        let head =
            "POST /manage/v1/acme/access/policies HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        stream.write_all(&[b'x'; 20_000]).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 401");
        let mut rest = [0; 4096];
        let length = stream.read(&mut rest).unwrap();
        assert!(length > 0);
    }
}

#[test]
fn a_body_over_the_limit_is_refused() {
    let plane = Plane::start();
    let name = "n".repeat(5 << 20);
    let body = json!({ "hostname": name }).to_string();
    let answer = plane.send(
        "POST",
        "/manage/v1/acme/access/agents/register",
        &[("x-api-key", API_KEY)],
        body.as_bytes(),
    );
    answer.problem(413);
}

#[test]
fn unknown_paths_and_methods() {
    let plane = Plane::start();
    let key = [("x-api-key", API_KEY)];
    for path in ["/", "/v1", "/manage/v1/acme", "/api/v1/nothing", "/manage/v1/acme/access/policies/p/x"] {
        plane.send("GET", path, &key, b"").problem(404);
    }
    let answer = plane.send("DELETE", "/manage/v1/acme/access/policies", &key, b"");
    assert!(answer.header("allow").contains("POST"), "{:?}", answer.headers);
    answer.problem(405);
    // Whatever is below SCIM's base is answered as SCIM does.
    let token = format!("Bearer {}", plane.scim_token("Okta", None));
    let post = |media: &str, body: &[u8]| {
        let headers = [("authorization", token.as_str()), ("content-type", media)];
        let answer = plane.send("POST", "/scim/v2/acme/Users", &headers, body);
        assert_eq!(answer.header("content-type"), "application/scim+json");
        answer.status
    };
    assert_eq!(post("application/scim+json", &vec![b' '; (4 << 20) + 1]), 413);
    assert_eq!(post("text/plain", b"{}"), 415);
    let answer = plane.send("GET", "/scim/v2/acme/Users/.search", &[], b"");
    assert_eq!((answer.status, answer.header("content-type")), (405, "application/scim+json"));
    assert_eq!((answer.header("allow"), &answer.body["status"]), ("POST", &json!("405")));
    // A path that is no UTF-8 once it is decoded.
    let status = plane.send("GET", "/manage/v1/%ff/access/policies", &key, b"").status;
    assert!((400..500).contains(&status), "{status}");
}

/// Members by position, deeper in the body: serde would take them, in an order that nobody documented.
#[test]
fn arrays_in_the_place_of_objects_are_refused_where_they_stand() {
    let plane = Plane::start();
    let (agent, secret) = plane.agent();
    let token = plane.scim_token("Okta", None);
    let policy = |rule: Value| json!({ "name": "p", "port_match": 80, "mode": "enforce", "default_action": "deny", "rules": [rule] });
    let rule = json!({ "method": "GET", "path_pattern": "/" });
    plane.manage("POST", "access/policies", policy(json!(["r", 1, "GET", "/"]))).invalid_at(&["/rules/0"]);
    let tried = json!({ "name": "c", "policies": [["p", "p", 80, null, "enforce", "deny", []]] });
    plane.manage("PUT", "access/candidate", tried).invalid_at(&["/policies/0"]);
    plane.manage("POST", "access/policies", policy(rule)).created();
    let services = format!("/manage/v1/acme/access/agents/{agent}/services");
    plane
        .bearer(&secret, "POST", &services, json!({ "services": [[80, "tcp"]] }))
        .invalid_at(&["/services/0"]);
    let logs = "/manage/v1/acme/access/logs";
    plane.bearer(&secret, "POST", logs, json!([[]])).invalid_at(&["/0"]);
    plane.bearer(&secret, "POST", logs, json!({ "logs": [["a"]] })).invalid_at(&["/logs/0"]);
    let patch = json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": [["replace", "active", false]],
    });
    let id =
        plane.bearer(&token, "POST", "/scim/v2/acme/Users", json!({ "userName": "a@acme.com" })).created();
    let user = format!("/scim/v2/acme/Users/{}", id["id"].as_str().unwrap());
    let refused = plane.bearer(&token, "PATCH", &user, patch);
    assert_eq!(refused.status, 400);
    assert!(
        refused.body["detail"].as_str().unwrap().contains("is an array, not an object"),
        "{}",
        refused.body
    );
    assert_eq!(plane.bearer(&token, "GET", &user, Value::Null).ok()["active"], true);
}
