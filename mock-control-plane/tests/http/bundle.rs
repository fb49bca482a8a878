//! The bundle: entity tags, versions, waiting for changes.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::plane::{Answer, Plane, text};
use crate::policies::policy;

fn get(plane: &Plane, agent: &(String, String), headers: &[(&str, &str)]) -> Answer {
    let auth = format!("Bearer {}", agent.1);
    let mut all = vec![("authorization", auth.as_str())];
    all.extend(headers);
    plane.send("GET", &format!("/manage/v1/acme/access/agents/{}/config", agent.0), &all, b"")
}

#[test]
fn a_known_bundle_is_not_sent_again() {
    let plane = Plane::start();
    let agent = plane.agent();
    let first = get(&plane, &agent, &[]);
    let tag = first.header("etag").to_owned();
    assert!(tag.starts_with("\"v") && tag.ends_with('"'), "{tag}");
    for known in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()] {
        let again = get(&plane, &agent, &[("if-none-match", &known)]);
        assert_eq!((again.status, again.body.clone()), (304, Value::Null), "{known}");
        assert_eq!(again.header("etag"), tag);
    }
    for other in ["\"x\"", "", tag.trim_matches('"')] {
        assert_eq!(get(&plane, &agent, &[("if-none-match", other)]).status, 200, "{other}");
    }
}

#[test]
fn every_change_is_a_greater_version_and_another_tag() {
    let plane = Plane::start();
    let agent = plane.agent();
    let mut seen = vec![(get(&plane, &agent, &[]).header("etag").to_owned(), plane.bundle(&agent).version)];
    let mut changed = |what: &str| {
        let answer = get(&plane, &agent, &[]);
        let (tag, version) = (answer.header("etag").to_owned(), answer.body["version"].as_u64().unwrap());
        assert!(version > seen.last().unwrap().1, "{what}");
        assert!(seen.iter().all(|(old, _)| *old != tag), "{what}");
        seen.push((tag, version));
    };
    plane.manage("POST", "access/policies", policy("p1", 80)).created();
    changed("policy created");
    plane.manage("PUT", "access/policies/p1", policy("p1", 81)).ok();
    changed("policy replaced");
    plane.manage("DELETE", "access/policies/p1", Value::Null).done();
    changed("policy deleted");
    plane.manage("POST", "keys", json!({ "alg": "ES256", "kid": "e" })).created();
    changed("key published");
    plane.manage("DELETE", "keys/e", Value::Null).done();
    changed("key retired");
    plane.manage("POST", "revocations", json!({ "claim": "jti", "value": "j" })).created();
    changed("token revoked");
}

#[test]
fn what_changes_nothing_is_no_new_version() {
    let plane = Plane::start();
    let agent = plane.agent();
    plane.manage("POST", "access/policies", policy("p1", 80)).created();
    let version = plane.bundle(&agent).version;
    plane.manage("PUT", "access/policies/p1", policy("p1", 80)).ok();
    plane.manage("POST", "access/policies", policy("p2", 80)).problem(409);
    plane.user("a@acme.com");
    assert_eq!(plane.bundle(&agent).version, version);
}

#[test]
fn a_waiting_agent_is_told_at_once() {
    let plane = Plane::start();
    let agent = plane.agent();
    let tag = get(&plane, &agent, &[]).header("etag").to_owned();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let began = Instant::now();
            let answer =
                get(&plane, &agent, &[("if-none-match", &tag), ("prefer", "respond-async, wait=30")]);
            (began.elapsed(), answer)
        });
        std::thread::sleep(Duration::from_millis(200));
        plane.manage("POST", "access/policies", policy("p1", 80)).created();
        let (waited, answer) = waiting.join().unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body["policies"][0]["id"], "p1");
        assert!(waited >= Duration::from_millis(150) && waited < Duration::from_secs(10), "{waited:?}");
    });
}

#[test]
fn a_wait_ends_without_a_change() {
    let plane = Plane::start();
    let agent = plane.agent();
    let tag = get(&plane, &agent, &[]).header("etag").to_owned();
    let began = Instant::now();
    assert_eq!(get(&plane, &agent, &[("if-none-match", &tag), ("prefer", "wait=1")]).status, 304);
    assert!(began.elapsed() >= Duration::from_millis(900));
    // What cannot be read is no wait.
    for odd in ["wait", "wait=", "wait=-1", "wait=x", "wait=99999999999999999999"] {
        let began = Instant::now();
        assert_eq!(get(&plane, &agent, &[("if-none-match", &tag), ("prefer", odd)]).status, 304);
        assert!(began.elapsed() < Duration::from_secs(5), "{odd}");
    }
}

#[test]
fn the_version_that_an_agent_confirms_is_listed() {
    let plane = Plane::start();
    let agent = plane.agent();
    let up_to_date =
        || plane.manage("GET", "access/agents", Value::Null).ok()["agents"][0]["up_to_date"].clone();
    let tag = get(&plane, &agent, &[]).header("etag").to_owned();
    assert_eq!(up_to_date(), false, "what was sent may not have arrived");
    get(&plane, &agent, &[("if-none-match", &tag)]);
    assert_eq!(up_to_date(), true);
    plane.manage("POST", "access/policies", policy("p1", 80)).created();
    assert_eq!(up_to_date(), false);
}

/// The body exactly as it was sent, and its signature.
fn signed(plane: &Plane, agent: &(String, String)) -> (Vec<u8>, String) {
    let url = format!("{}/manage/v1/acme/access/agents/{}/config", plane.url(), agent.0);
    let request = ureq::get(url).header("authorization", format!("Bearer {}", agent.1));
    let mut response = request.call().unwrap();
    let signature = response.headers()["portcullis-bundle-signature"].to_str().unwrap().to_owned();
    (response.body_mut().read_to_vec().unwrap(), signature)
}

/// The protected header, if the signature is the key's over `body`: RFC 7515 appendix F.
fn opened(jwk: &Value, signature: &str, body: &[u8]) -> Option<Value> {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
    let (header, signature) = signature.split_once("..").unwrap();
    let input = format!("{header}.{}", BASE64.encode(body));
    let number = |name: &str| BASE64.decode(text(jwk, name)).unwrap();
    let point = [vec![4], number("x"), number("y")].concat();
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    key.verify(input.as_bytes(), &BASE64.decode(signature).unwrap()).ok()?;
    Some(serde_json::from_slice(&BASE64.decode(header).unwrap()).unwrap())
}

#[test]
fn every_bundle_is_signed_for_its_agent() {
    let plane = Plane::start();
    let register = || plane.manage("POST", "access/agents/register", json!({ "hostname": "h" })).created();
    let (one, two) = (register(), register());
    assert_eq!(one["bundle_key"], two["bundle_key"]);
    let jwk = &one["bundle_key"];
    assert_eq!(
        (&jwk["kty"], &jwk["crv"], &jwk["alg"], &jwk["use"]),
        (&json!("EC"), &json!("P-256"), &json!("ES256"), &json!("sig"))
    );
    for (agent, version) in [(&one, 1), (&two, 1), (&one, 2)] {
        if version == 2 {
            plane.manage("POST", "access/policies", policy("p1", 80)).created();
        }
        let (id, secret) = (text(agent, "agent_id"), text(agent, "agent_secret"));
        let (body, signature) = signed(&plane, &(id.clone(), secret.clone()));
        let header = opened(jwk, &signature, &body).expect("a signature");
        let expected = json!({
            "alg": "ES256", "kid": jwk["kid"], "typ": "portcullis-bundle+jws", "agent": id, "version": version,
        });
        assert_eq!(header, expected);
        let bundle: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(bundle["version"], version);
        let mut other = body.clone();
        *other.last_mut().unwrap() ^= 1;
        assert_eq!(opened(jwk, &signature, &other), None);
        let path = format!("/manage/v1/acme/access/agents/{id}/bundle-key");
        assert_eq!(&plane.bearer(&secret, "GET", &path, Value::Null).ok(), jwk);
    }
    // It signs no tokens: no verifier of tokens knows it.
    let jwks = plane.send("GET", "/v1/acme/.well-known/jwks.json", &[], b"").ok();
    assert!(jwks["keys"].as_array().unwrap().iter().all(|key| key["kid"] != jwk["kid"]));
    let path = format!("/manage/v1/acme/access/agents/{}/bundle-key", text(&two, "agent_id"));
    plane.bearer(&text(&one, "agent_secret"), "GET", &path, Value::Null).problem(404);
}
