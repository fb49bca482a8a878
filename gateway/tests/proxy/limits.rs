//! Time limits, room, and applications that do not do their part.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::time::timeout;

use crate::world::{App, Client, PATIENCE, Recorder, World, request};

const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_head_that_trickles_in_is_answered_408() {
    let recorder = Recorder::start().await;
    let world = World::before(recorder.app.addr, |config| {
        (config.timeouts.head, config.timeouts.idle) = (SHORT, LONG);
    })
    .await;
    for begin in ["", &request("GET /open/a", &[])] {
        let mut client = world.connect().await;
        if !begin.is_empty() {
            assert_eq!(client.ask(begin).await.what, "200");
        }
        // Bytes keep coming, so no time between two of them is long.
        client.send("GET /open/a HTTP/1.1\r\nHost: h\r\n").await;
        let (mut read, mut write) = client.stream.into_split();
        let trickle = tokio::spawn(async move {
            while write.write_all(b"X: 1\r\n").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let mut answer = Vec::new();
        timeout(PATIENCE, read.read_to_end(&mut answer)).await.expect("an end").unwrap_or_default();
        assert!(answer.starts_with(b"HTTP/1.1 408 "), "{}", answer.escape_ascii());
        drop(read);
        timeout(PATIENCE, trickle).await.unwrap().unwrap();
    }
    assert_eq!(recorder.take().len(), 1);
}

#[tokio::test]
async fn silent_connections_end() {
    let recorder = Recorder::start().await;
    let world = World::before(recorder.app.addr, |config| {
        (config.timeouts.head, config.timeouts.idle) = (SHORT, SHORT);
    })
    .await;
    let mut silent = world.connect().await;
    assert!(silent.ended().await);
    let mut idle = world.connect().await;
    assert_eq!(idle.ask(request("GET /open/a", &[])).await.what, "200");
    assert!(idle.ended().await);
    let mut body = world.connect().await;
    body.send("POST /open/a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhel").await;
    assert_eq!(body.response(false).await.unwrap().what, "408");
    assert!(body.ended().await);
    assert_eq!(recorder.take().len(), 1);
}

#[tokio::test]
async fn an_application_that_is_slow_is_answered_504() {
    let app = App::start(|stream| async move {
        let mut client = Client::of(stream);
        client.request().await;
        tokio::time::sleep(LONG).await;
    })
    .await;
    let world = World::before(app.addr, |config| config.timeouts.response = SHORT).await;
    let mut client = world.connect().await;
    let response = client.ask(request("GET /open/a", &[])).await;
    assert_eq!(
        (response.what.as_str(), response.field("content-type")),
        ("504", Some("application/problem+json"))
    );
    let id = &world.records(1).await[0].decision_id;
    assert!(response.text().contains(id.as_str()), "{}", response.text());
    // A long body does not count: the time begins when the application has all of it.
    client.send("POST /open/a HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n").await;
    for _ in 0..4 {
        tokio::time::sleep(SHORT).await;
        client.send("x").await;
    }
    assert_eq!(client.response(false).await.unwrap().what, "504");
}

#[tokio::test]
async fn an_application_that_reads_nothing_is_answered_504() {
    let app = App::start(|stream| async move {
        tokio::time::sleep(LONG).await;
        drop(stream);
    })
    .await;
    let world = World::before(app.addr, |config| {
        (config.timeouts.response, config.timeouts.idle) = (SHORT, SHORT * 3);
    })
    .await;
    let mut client = world.connect().await;
    client.send("POST /open/a HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000\r\n\r\n").await;
    let (mut read, mut write) = client.stream.into_split();
    let send = tokio::spawn(async move { while write.write_all(&[b'x'; 65_536]).await.is_ok() {} });
    let mut answer = [0; 12];
    timeout(PATIENCE, read.read_exact(&mut answer)).await.expect("an answer").unwrap();
    assert_eq!(&answer, b"HTTP/1.1 504");
    drop(read);
    timeout(PATIENCE, send).await.expect("the client is let go").unwrap();
}

#[tokio::test]
async fn an_application_that_is_not_there_is_answered_502() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let world = World::before(free, |_| {}).await;
    let mut client = world.connect().await;
    let response = client.ask(request("GET /open/a", &[])).await;
    assert_eq!(response.what, "502");
    assert!(response.text().contains("cannot be reached"), "{}", response.text());
    // Denials need no application.
    assert_eq!(client.ask(request("GET /closed/a", &[])).await.what, "401");
}

#[tokio::test]
async fn an_application_that_speaks_nonsense_is_answered_502() {
    for nonsense in ["hello\r\n\r\n", "", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"]
    {
        let app = App::start(move |stream| async move {
            let mut client = Client::of(stream);
            client.request().await;
            client.send(nonsense).await;
        })
        .await;
        let world = World::before(app.addr, |_| {}).await;
        let mut client = world.connect().await;
        assert_eq!(client.ask(request("GET /open/a", &[])).await.what, "502", "{nonsense:?}");
    }
}

#[tokio::test]
async fn a_response_that_breaks_off_is_not_whole_for_the_client() {
    let app = App::start(|stream| async move {
        let mut client = Client::of(stream);
        client.request().await;
        client.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").await;
    })
    .await;
    let world = World::before(app.addr, |_| {}).await;
    let mut client = world.connect().await;
    client.send(request("GET /open/a", &[])).await;
    let mut got = Vec::new();
    timeout(PATIENCE, client.stream.read_to_end(&mut got)).await.unwrap().unwrap_or_default();
    let text = String::from_utf8(got).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let head = head.to_ascii_lowercase();
    let lines: Vec<&str> = head.lines().collect();
    assert!(lines[0] == "http/1.1 200 ok" && lines.contains(&"content-length: 10"), "{head}");
    assert!(!head.contains("transfer-encoding"), "{head}");
    assert_eq!(body, "hello");
}

#[tokio::test]
async fn heads_that_are_too_large_are_answered_431() {
    let recorder = Recorder::start().await;
    let world = World::before(recorder.app.addr, |_| {}).await;
    let filled = |length: usize| {
        let bare = request("GET /open/a", &["X: "]).len();
        request("GET /open/a", &[&format!("X: {}", "v".repeat(length - bare))])
    };
    let mut client = world.connect().await;
    assert_eq!(client.ask(filled(16_384)).await.what, "200");
    let mut client = world.connect().await;
    assert_eq!(client.ask(filled(16_385)).await.what, "431");
    assert!(client.ended().await);
    let many = vec!["A: b"; 127];
    assert_eq!(world.connect().await.ask(request("GET /open/a", &many)).await.what, "200");
    assert_eq!(
        world.connect().await.ask(request("GET /open/a", &[&many[..], &["A: b"]].concat())).await.what,
        "431"
    );
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_their_turn() {
    let recorder = Recorder::start().await;
    let world = World::before(recorder.app.addr, |config| config.limits.connections = 2).await;
    let mut first = world.connect().await;
    let mut second = world.connect().await;
    for client in [&mut first, &mut second] {
        assert_eq!(client.ask(request("GET /open/a", &[])).await.what, "200");
    }
    let mut third = world.connect().await;
    third.send(request("GET /open/a", &[])).await;
    assert!(timeout(SHORT, third.stream.readable()).await.is_err(), "it was served beyond the bound");
    drop(first);
    assert_eq!(third.response(false).await.unwrap().what, "200");
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_let_go() {
    let app = App::start(|stream| async move {
        let mut client = Client::of(stream);
        client.request().await;
        client.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
        while client.stream.write_all(&[b'x'; 65_536]).await.is_ok() {}
        ENDED.notify_one();
    })
    .await;
    static ENDED: tokio::sync::Notify = tokio::sync::Notify::const_new();
    let world = World::before(app.addr, |config| config.timeouts.idle = SHORT).await;
    let mut client = world.connect().await;
    client.send(request("GET /open/a", &[])).await;
    timeout(PATIENCE, ENDED.notified()).await.expect("the application is let go");
}

#[tokio::test]
async fn a_client_that_does_not_read_its_denials_is_let_go() {
    let recorder = Recorder::start().await;
    let world = World::before(recorder.app.addr, |config| {
        (config.limits.connections, config.timeouts.idle) = (1, SHORT);
    })
    .await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut client = Client::of(socket.connect(world.gateway.addr()).await.unwrap());
    // One by one, as two in a segment would end the connection; until the gateway reads no more.
    for count in 1.. {
        if client.stream.write_all(request("GET /closed/a", &[]).as_bytes()).await.is_err() {
            break;
        }
        let decided = async {
            while world.decided() < count {
                tokio::task::yield_now().await;
            }
        };
        if timeout(SHORT * 5, decided).await.is_err() {
            break;
        }
    }
    assert_eq!(world.connect().await.ask(request("GET /open/a", &[])).await.what, "200");
    // It was not for being idle, which ends in order.
    let end = timeout(PATIENCE, client.stream.read_to_end(&mut Vec::new())).await.expect("an end");
    assert_eq!(end.expect_err("a reset").kind(), std::io::ErrorKind::ConnectionReset);
}

/// A client that opens its window by that many bytes for each response, and never more.
async fn closed_window(world: &World, bytes: u32) -> http2::SendRequest<Empty<Bytes>> {
    let stream = TokioIo::new(world.connect().await.stream);
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(bytes)
        .handshake(stream)
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn a_client_whose_window_is_closed_is_let_go() {
    let recorder = Recorder::start().await;
    // None of the response fits; or some of it, and the rest is with the HTTP stack.
    for bytes in [0, 1] {
        let world = World::before(recorder.app.addr, |config| {
            (config.h2c, config.limits.connections, config.timeouts.idle) = (true, 1, SHORT);
        })
        .await;
        let mut client = closed_window(&world, bytes).await;
        let mut responses = Vec::new();
        for path in ["/open/a", "/closed/a"] {
            let ask = http::Request::get(format!("http://h{path}")).body(Empty::new()).unwrap();
            responses.push(client.send_request(ask).await.unwrap());
        }
        assert_eq!((responses[0].status().as_u16(), responses[1].status().as_u16()), (200, 401));
        let mut next = world.connect().await;
        assert_eq!(next.ask(request("GET /open/a", &[])).await.what, "200", "{bytes}");
        for response in responses {
            let whole = timeout(PATIENCE, response.into_body().collect()).await.expect("an end");
            assert!(whole.is_err(), "{bytes}");
        }
    }
}

#[tokio::test]
async fn a_slow_client_of_http2_gets_all_of_its_response() {
    const BYTES: usize = 300_000;
    let app = App::start(|stream| async move {
        let mut client = Client::of(stream);
        client.request().await;
        client.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\n\r\n{}", "x".repeat(BYTES))).await;
        tokio::time::sleep(LONG).await;
    })
    .await;
    let world =
        World::before(app.addr, |config| (config.h2c, config.timeouts.idle) = (true, SHORT * 4)).await;
    let mut client = closed_window(&world, 16_384).await;
    let ask = http::Request::get("http://h/open/a").body(Empty::new()).unwrap();
    let mut body = client.send_request(ask).await.unwrap().into_body();
    let mut length = 0;
    while let Some(frame) = timeout(PATIENCE, body.frame()).await.expect("a piece") {
        length += frame.unwrap().into_data().unwrap().len();
        tokio::time::sleep(SHORT / 2).await;
    }
    assert_eq!(length, BYTES);
}

#[tokio::test]
async fn a_client_that_is_denied_again_and_again_is_not_idle() {
    let recorder = Recorder::start().await;
    let world = World::before(recorder.app.addr, |config| config.timeouts.idle = SHORT * 2).await;
    let mut client = world.connect().await;
    for _ in 0..8 {
        assert_eq!(client.ask(request("GET /closed/a", &[])).await.what, "401");
        tokio::time::sleep(SHORT / 2).await;
    }
}
