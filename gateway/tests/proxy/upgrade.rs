//! Websockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use portcullis_wire::{JwkSet, Mode, Policy, Revocation, RevokedClaim};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::world::{App, Client, NOW_S, PATIENCE, World, policy, request};

/// An application that grants websockets and echoes what comes.
async fn echo() -> App {
    App::start(|stream| async move {
        let mut client = Client::of(stream);
        while let Some(request) = client.request().await {
            if request.field("upgrade") != Some("websocket") {
                client.send("HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n").await;
                continue;
            }
            assert!(request.field("connection").unwrap().eq_ignore_ascii_case("upgrade"));
            let user = request.field("x-authfi-user-id").unwrap_or("nobody");
            client
                .send(format!(
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-User: {user}\r\n\r\n"
                ))
                .await;
            let (mut read, mut write) = client.stream.into_split();
            drop(tokio::io::copy(&mut read, &mut write).await);
            return;
        }
    })
    .await
}

/// The policy of the other tests, whose rules let connections switch.
fn websocket(port: u16) -> Policy {
    let mut policy = policy(port, Mode::Enforce);
    for rule in &mut policy.rules {
        rule.upgrade = vec!["websocket".to_owned()];
    }
    policy
}

/// A client whose connection has become a tunnel to an echo.
async fn tunnel(world: &World, path: &str, more: &[&str]) -> Client {
    let mut client = world.connect().await;
    client.send(request(&format!("GET {path}"), &[&ASK[..], more].concat())).await;
    assert_eq!(client.response(false).await.unwrap().what, "101");
    assert_echo(&mut client).await;
    client
}

async fn assert_echo(client: &mut Client) {
    client.send("ping").await;
    let mut back = [0; 4];
    timeout(PATIENCE, client.stream.read_exact(&mut back)).await.expect("an echo").unwrap();
    assert_eq!(&back, b"ping");
}

/// Longer than the gateway leaves a silent tunnel whose token is not good any more.
const WHILE: Duration = Duration::from_millis(1500);

/// The tunnel of a token goes on, and still does when everything has been looked at again.
async fn assert_lives(client: &mut Client) {
    assert_echo(client).await;
    tokio::time::sleep(WHILE).await;
    assert_echo(client).await;
}

const ASK: [&str; 2] = ["Connection: keep-alive, Upgrade", "Upgrade: websocket"];

#[tokio::test]
async fn an_allowed_websocket_is_a_tunnel_in_both_directions() {
    let app = echo().await;
    let world = World::with(app.addr, websocket(app.addr.port()), |_| {}).await;
    let mut client = world.connect().await;
    let bearer = world.bearer();
    client.send(request("GET /closed/a", &[ASK[0], ASK[1], &bearer])).await;
    let response = client.response(false).await.unwrap();
    assert_eq!((response.what.as_str(), response.field("x-user")), ("101", Some("u1")));
    assert_eq!(response.field("upgrade"), Some("websocket"));
    // Frames are not HTTP, and some look like requests that would be denied.
    for text in ["\u{0}\u{1}frame", &request("GET /admin/a", &[]), &"z".repeat(300_000)] {
        let (mut read, mut write) = client.stream.split();
        let mut back = vec![0; text.len()];
        let work = async { tokio::join!(write.write_all(text.as_bytes()), read.read_exact(&mut back)) };
        let (sent, got) = timeout(PATIENCE, work).await.expect("an echo");
        sent.unwrap();
        got.unwrap();
        assert!(back == text.as_bytes());
    }
    assert_eq!(world.records(1).await[0].reason, "rule_allow");
    drop(client);
    world.gateway.stop().await;
}

#[tokio::test]
async fn a_denied_websocket_is_denied() {
    let app = echo().await;
    let world = World::with(app.addr, websocket(app.addr.port()), |_| {}).await;
    let mut client = world.connect().await;
    let response = client.ask(request("GET /closed/a", &ASK)).await;
    assert_eq!(
        (response.what.as_str(), app.connections.load(std::sync::atomic::Ordering::SeqCst)),
        ("401", 0)
    );
}

#[tokio::test]
async fn without_a_rule_that_says_so_a_websocket_is_a_plain_request() {
    let app = echo().await;
    let world = World::before(app.addr, |_| {}).await;
    let mut client = world.connect().await;
    assert_eq!(client.ask(request("GET /open/a", &ASK)).await.what, "426");
    // The connection still speaks HTTP, and is still guarded.
    assert_eq!(client.ask(request("GET /closed/a", &[])).await.what, "401");
}

#[tokio::test]
async fn other_upgrades_and_half_asked_ones_are_plain_requests() {
    let app = echo().await;
    let world = World::with(app.addr, websocket(app.addr.port()), |_| {}).await;
    let mut client = world.connect().await;
    for fields in [
        ["Connection: Upgrade", "Upgrade: h2c"],
        ["Connection: Upgrade", "Upgrade: websocket, h2c"],
        ["Connection: close-not", "Upgrade: websocket"],
    ] {
        assert_eq!(client.ask(request("GET /open/a", &fields)).await.what, "426", "{fields:?}");
    }
    assert_eq!(client.ask(request("POST /open/a", &ASK)).await.what, "426");
    // A request that announces a body asks for nothing else.
    let with_body = request("GET /open/a", &[ASK[0], ASK[1], "Content-Length: 5"]) + "hello";
    assert_eq!(client.ask(with_body).await.what, "426");
    assert_eq!(client.ask(request("GET /closed/a", &[])).await.what, "401");
}

#[tokio::test]
async fn an_application_cannot_switch_what_nobody_asked_for() {
    let app = App::start(|stream| async move {
        let mut client = Client::of(stream);
        while client.request().await.is_some() {
            client
                .send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
                .await;
        }
    })
    .await;
    let world = World::with(app.addr, websocket(app.addr.port()), |_| {}).await;
    for fields in [&ASK[..], &[]] {
        let mut client = world.connect().await;
        assert_eq!(client.ask(request("GET /open/a", fields)).await.what, "502");
    }
}

#[tokio::test]
async fn a_tunnel_ends_when_its_token_expires() {
    let app = echo().await;
    let world = World::with(app.addr, websocket(app.addr.port()), |_| {}).await;
    world.publish(|bundle| bundle.issuers[0].leeway_s = 30).await;
    let bearer = world.bearer();
    let mut client = tunnel(&world, "/closed/a", &[&bearer]).await;
    let mut public = tunnel(&world, "/open/a", &[&bearer]).await;
    world.now_s.store(NOW_S + 3600 + 29, Ordering::SeqCst);
    assert_lives(&mut client).await;
    world.now_s.store(NOW_S + 3600 + 30, Ordering::SeqCst);
    // It is silent.
    assert!(client.ended().await);
    // Nothing asked about the token that this one came with.
    assert_lives(&mut public).await;
}

#[tokio::test]
async fn no_byte_of_a_client_passes_once_its_token_has_expired() {
    let (taken, ends) = (Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Notify::new()));
    let app = App::start({
        let (taken, ends) = (Arc::clone(&taken), Arc::clone(&ends));
        move |stream| {
            let (taken, ends) = (Arc::clone(&taken), Arc::clone(&ends));
            async move {
                let mut client = Client::of(stream);
                client.request().await;
                client
                    .send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
                    .await;
                let mut some = [0; 64];
                while let Ok(length @ 1..) = client.stream.read(&mut some).await {
                    taken.fetch_add(length, Ordering::SeqCst);
                }
                ends.notify_one();
            }
        }
    })
    .await;
    let world = World::with(app.addr, websocket(app.addr.port()), |_| {}).await;
    for _ in 0..5 {
        world.now_s.store(NOW_S, Ordering::SeqCst);
        let mut client = world.connect().await;
        let bearer = world.bearer();
        client.send(request("GET /closed/a", &[ASK[0], ASK[1], &bearer])).await;
        assert_eq!(client.response(false).await.unwrap().what, "101");
        world.now_s.store(NOW_S + 3600, Ordering::SeqCst);
        client.send("late").await;
        assert!(client.ended().await);
        timeout(PATIENCE, ends.notified()).await.expect("the application's end");
        assert_eq!(taken.load(Ordering::SeqCst), 0);
    }
}

#[tokio::test]
async fn a_tunnel_ends_when_its_token_is_revoked_and_others_go_on() {
    let app = echo().await;
    let world = World::with(app.addr, websocket(app.addr.port()), |_| {}).await;
    let bearer = |jti: &str| format!("Authorization: Bearer {}", world.token(&format!(r#""jti":"{jti}""#)));
    let mut one = tunnel(&world, "/closed/a", &[&bearer("one")]).await;
    let mut two = tunnel(&world, "/closed/a", &[&bearer("two")]).await;
    let revocation = Revocation {
        issuer: "https://id.example".to_owned(),
        claim: RevokedClaim::Jti,
        value: "one".to_owned(),
        not_before: None,
        expires_at: NOW_S + 4000,
    };
    world.publish(|bundle| bundle.revocations = vec![revocation]).await;
    assert!(one.ended().await);
    assert_lives(&mut two).await;
    // Its key is gone.
    world.publish(|bundle| bundle.issuers[0].jwks = JwkSet { keys: Vec::new() }).await;
    assert!(two.ended().await);
}

#[tokio::test]
async fn a_tunnel_outlives_a_policy_that_has_changed_since() {
    let app = echo().await;
    let port = app.addr.port();
    let world = World::with(app.addr, websocket(port), |_| {}).await;
    let mut client = tunnel(&world, "/closed/a", &[&world.bearer()]).await;
    world.publish(|bundle| bundle.policies = vec![policy(port, Mode::Enforce)]).await;
    assert_lives(&mut client).await;
    world.publish(|bundle| bundle.policies[0].rules.truncate(1)).await;
    assert_lives(&mut client).await;
}

#[tokio::test]
async fn a_tunnel_outlives_its_token_only_while_the_port_monitors() {
    let app = echo().await;
    let port = app.addr.port();
    let world = World::with(app.addr, websocket(port), |_| {}).await;
    let mut client = tunnel(&world, "/closed/a", &[&world.bearer()]).await;
    world.publish(|bundle| bundle.policies[0].mode = Mode::Monitor).await;
    world.now_s.store(NOW_S + 3600, Ordering::SeqCst);
    assert_lives(&mut client).await;
    world.publish(|bundle| bundle.issuers[0].jwks = JwkSet { keys: Vec::new() }).await;
    assert_lives(&mut client).await;
    world.publish(|bundle| bundle.policies[0].mode = Mode::Enforce).await;
    assert!(client.ended().await);
}

#[tokio::test]
async fn tunnels_count_as_connections() {
    let app = echo().await;
    let world = World::with(app.addr, websocket(app.addr.port()), |config| {
        config.limits.connections = 1;
    })
    .await;
    let client = tunnel(&world, "/open/a", &[]).await;
    let mut next = world.connect().await;
    next.send(request("GET /closed/a", &[])).await;
    let served = timeout(Duration::from_millis(500), next.stream.readable()).await;
    assert!(served.is_err(), "it was served beyond the bound");
    drop(client);
    assert_eq!(next.response(false).await.unwrap().what, "401");
}
