//! Time limits, room, and applications that do not do their part.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
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
            use tokio::io::AsyncWriteExt;
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
    let send = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        while write.write_all(&[b'x'; 65_536]).await.is_ok() {}
    });
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
        use tokio::io::AsyncWriteExt;
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
