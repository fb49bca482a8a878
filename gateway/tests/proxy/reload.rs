//! Configurations that change, and those that cannot be used.

use portcullis_wire::{Mode, Revocation, RevokedClaim};

use crate::world::{NOW_S, Recorder, World, policy, request};

#[tokio::test]
async fn a_new_policy_holds_for_the_next_request_of_an_open_connection() {
    let recorder = Recorder::start().await;
    let port = recorder.app.addr.port();
    let world = World::before(recorder.app.addr, |_| {}).await;
    let mut client = world.connect().await;
    assert_eq!(client.ask(request("GET /closed/a", &[])).await.what, "401");
    world.publish(|bundle| bundle.policies = vec![policy(port, Mode::Monitor)]).await;
    assert_eq!(client.ask(request("GET /closed/a", &[])).await.what, "200");
    world.publish(|bundle| bundle.policies = vec![policy(port, Mode::Enforce)]).await;
    assert_eq!(client.ask(request("GET /closed/a", &[])).await.what, "401");
    let records = world.records(3).await;
    let versions: Vec<u64> = records.iter().map(|record| record.policy_generation).collect();
    assert_eq!(versions, [1, 2, 3]);
}

#[tokio::test]
async fn a_port_without_policy_is_not_protected_and_becomes_so() {
    let recorder = Recorder::start().await;
    let port = recorder.app.addr.port();
    let world = World::before(recorder.app.addr, |_| {}).await;
    world.publish(|bundle| bundle.policies = vec![]).await;
    assert!(!world.gateway.status().protected);
    let mut client = world.connect().await;
    let spoof = "X-AuthFI-User-ID: root";
    assert_eq!(client.ask(request("GET /closed/a", &[spoof])).await.what, "200");
    assert!(!recorder.take()[0].has("x-authfi-user-id"));
    world.publish(|bundle| bundle.policies = vec![policy(port, Mode::Enforce)]).await;
    assert_eq!(client.ask(request("GET /closed/a", &[])).await.what, "401");
    assert_eq!(world.records(1).await.len(), 1);
}

#[tokio::test]
async fn what_cannot_be_used_changes_nothing() {
    let recorder = Recorder::start().await;
    let world = World::before(recorder.app.addr, |_| {}).await;
    let good = world.bundle.lock().unwrap().clone().unwrap();
    *world.bundle.lock().unwrap() = Err("policy.yaml:3:1: no such field".to_owned());
    world.gateway.reload();
    world.until(|status| status.error.as_deref() == Some("policy.yaml:3:1: no such field")).await;
    let mut bad = good.clone();
    bad.policies[0].rules[0].path_pattern = "no-slash".to_owned();
    *world.bundle.lock().unwrap() = Ok(bad);
    world.gateway.reload();
    world.until(|status| status.error.as_ref().is_some_and(|error| error.contains("no-slash"))).await;
    let mut client = world.connect().await;
    assert_eq!(client.ask(request("GET /closed/a", &[])).await.what, "401");
    assert_eq!(world.gateway.status().version, 1);
    *world.bundle.lock().unwrap() = Ok(good);
    world.publish(|_| {}).await;
    assert_eq!(world.gateway.status().error, None);
}

#[tokio::test]
async fn revoked_tokens_are_refused() {
    let recorder = Recorder::start().await;
    let world = World::before(recorder.app.addr, |_| {}).await;
    let mut client = world.connect().await;
    let bearer = world.bearer();
    let ask = request("GET /closed/a", &[&bearer]);
    assert_eq!(client.ask(&ask).await.what, "200");
    let revocation = Revocation {
        issuer: "https://id.example".to_owned(),
        claim: RevokedClaim::Sub,
        value: "u1".to_owned(),
        not_before: None,
        expires_at: NOW_S + 9,
    };
    world.publish(|bundle| bundle.revocations = vec![revocation]).await;
    let response = client.ask(&ask).await;
    assert!(response.what == "401" && response.text().contains("token_revoked"), "{response:?}");
    assert_eq!(recorder.take().len(), 1);
}

#[tokio::test]
async fn records_say_what_was_decided_and_never_the_token() {
    let recorder = Recorder::start().await;
    let world = World::before(recorder.app.addr, |_| {}).await;
    let mut client = world.connect().await;
    let token = world.token(r#""roles":["admin","other"],"email":"u1@example""#);
    let bearer = format!("Authorization: Bearer {token}");
    assert_eq!(client.ask(request("GET /admin/%61?secret=1", &[&bearer])).await.what, "200");
    let denied = client.ask(request("PUT /admin/a", &[&world.bearer()])).await;
    let [allow, deny] = &world.records(2).await[..] else { panic!("two records") };
    assert_eq!(allow.decision_reason, "matched rule: * /admin/* requires role admin");
    assert_eq!(
        (allow.path.as_str(), allow.host.as_deref(), allow.method.as_str()),
        ("/admin/a", Some("h"), "GET")
    );
    assert_eq!(allow.roles, ["admin"]);
    assert_eq!(
        (allow.user_id.as_deref(), allow.kid.as_deref(), allow.status),
        (Some("u1"), Some("k1"), None)
    );
    assert_eq!(allow.destination_port, recorder.app.addr.port());
    assert_eq!(allow.source_port, client.stream.local_addr().unwrap().port());
    assert_eq!(allow.timestamp, "2027-01-15T08:00:00.000Z");
    assert_eq!(
        deny.decision_reason,
        "none of the required roles; matched rule: * /admin/* requires role admin"
    );
    assert_eq!((deny.rule_id.as_deref(), deny.status), (Some("admin"), Some(403)));
    assert!(denied.text().contains(&deny.decision_id));
    let text = serde_json::to_string(&[allow, deny]).unwrap();
    assert!(!text.contains(&token) && !text.contains("secret"), "{text}");
}
