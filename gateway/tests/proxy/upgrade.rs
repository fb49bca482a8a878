//! Websockets.

use portcullis_wire::{Mode, Policy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::world::{App, Client, PATIENCE, World, policy, request};

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
