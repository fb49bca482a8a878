//! Bodies pass piece by piece, and nobody holds more than a little of them.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::world::{App, Client, PATIENCE, Recorder, World, request};

/// Far more than sockets and buffers between two ends hold, and far less than the bodies.
const HELD_MAX: usize = 48 << 20;
const BODY: usize = 256 << 20;
const PIECE: usize = 64 << 10;

/// How much a stream takes until nothing moves any more.
async fn fill(stream: &mut TcpStream) -> usize {
    let (piece, mut taken) = (vec![b'x'; PIECE], 0);
    while taken < BODY {
        match timeout(Duration::from_millis(700), stream.write(&piece[..PIECE.min(BODY - taken)])).await {
            Ok(written) => taken += written.unwrap(),
            Err(_) => break,
        }
    }
    taken
}

async fn read_exactly(stream: &mut TcpStream, mut count: usize) {
    let mut piece = vec![0; PIECE];
    while count > 0 {
        let want = PIECE.min(count);
        let read = timeout(PATIENCE, stream.read(&mut piece[..want])).await.expect("it goes on").unwrap();
        assert!(read > 0, "{count} bytes are missing");
        count -= read;
    }
}

#[tokio::test]
async fn a_large_request_body_waits_for_the_application() {
    let (give, mut take) = tokio::sync::mpsc::unbounded_channel();
    let app = App::start(move |stream| {
        let give = give.clone();
        async move { give.send(stream).unwrap() }
    })
    .await;
    let world = World::before(app.addr, |_| {}).await;
    let mut client = world.connect().await;
    client.send(format!("POST /open/a HTTP/1.1\r\nHost: h\r\nContent-Length: {BODY}\r\n\r\n")).await;
    let mut behind = timeout(PATIENCE, take.recv()).await.unwrap().unwrap();
    let taken = fill(&mut client.stream).await;
    assert!(taken < HELD_MAX, "{taken} bytes went somewhere although nobody read them");
    let (mut read, mut write) = client.stream.into_split();
    let rest = tokio::spawn(async move {
        write.write_all(&vec![b'x'; BODY - taken]).await.unwrap();
        write
    });
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(behind.read_u8().await.unwrap());
    }
    assert!(String::from_utf8_lossy(&head).to_ascii_lowercase().contains(&format!("content-length: {BODY}")));
    read_exactly(&mut behind, BODY).await;
    behind.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    timeout(PATIENCE, read.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 204");
    drop(rest.await.unwrap());
}

#[tokio::test]
async fn a_large_response_body_waits_for_the_client() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let app = App::start(move |stream| {
        let tell = tell.clone();
        async move {
            let mut client = Client::of(stream);
            client.request().await.unwrap();
            client.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\n\r\n")).await;
            let taken = fill(&mut client.stream).await;
            tell.send(taken).unwrap();
            client.stream.write_all(&vec![b'x'; BODY - taken]).await.unwrap();
        }
    })
    .await;
    let world = World::before(app.addr, |_| {}).await;
    let mut client = world.connect().await;
    client.send(request("GET /open/a", &[])).await;
    let taken = timeout(PATIENCE, told.recv()).await.unwrap().unwrap();
    assert!(taken < HELD_MAX, "{taken} bytes went somewhere although nobody read them");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.stream.read_u8().await.unwrap());
    }
    read_exactly(&mut client.stream, BODY).await;
}

#[tokio::test]
async fn pieces_pass_as_they_come() {
    let app = App::start(|stream| async move {
        let mut client = Client::of(stream);
        client.request().await.unwrap();
        client.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        // Each piece is sent when the other side has said so, on the same connection.
        for piece in ["one", "two"] {
            client.send(format!("3\r\n{piece}\r\n")).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        client.send("0\r\n\r\n").await;
    })
    .await;
    let world = World::before(app.addr, |_| {}).await;
    let mut client = world.connect().await;
    client.send(request("GET /open/a", &[])).await;
    let mut seen = Vec::new();
    while !seen.windows(3).any(|window| window == b"one") {
        assert!(timeout(PATIENCE, client.stream.read_buf(&mut seen)).await.unwrap().unwrap() > 0);
    }
    assert!(!seen.windows(3).any(|window| window == b"two"), "the first piece waited for the second");
}

#[tokio::test]
async fn a_client_that_expects_continue_is_told_only_when_it_is_allowed() {
    let recorder = Recorder::start().await;
    let world = World::before(recorder.app.addr, |_| {}).await;
    let head = |path: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    };
    let mut client = world.connect().await;
    client.send(head("/open/a")).await;
    assert_eq!(client.response(false).await.unwrap().what, "100");
    client.send("hello").await;
    assert_eq!(client.response(false).await.unwrap().what, "200");
    let got = recorder.take();
    assert_eq!((got[0].text().as_str(), got[0].has("expect")), ("hello", false));
    client.send(head("/closed/a")).await;
    assert_eq!(client.response(false).await.unwrap().what, "401");
    assert!(client.ended().await);
    assert_eq!(recorder.take(), []);
}

#[tokio::test]
async fn response_trailers_reach_clients_that_take_them() {
    let app = App::start(|stream| async move {
        let mut client = Client::of(stream);
        while client.request().await.is_some() {
            client.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n").await;
            client.send("3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n").await;
        }
    })
    .await;
    let world = World::before(app.addr, |_| {}).await;
    let mut client = world.connect().await;
    let with = client.ask(request("GET /open/a", &["TE: trailers"])).await;
    assert_eq!(with.text().to_ascii_lowercase(), "abc[x-sum: 7]");
    let without = client.ask(request("GET /open/a", &[])).await;
    assert_eq!(without.text(), "abc");
}

/// Also of methods that hardly ever have one; the connection goes on behind it.
#[tokio::test]
async fn a_chunked_body_reaches_the_application_whatever_the_method_is() {
    let recorder = Recorder::start().await;
    let world = World::before(recorder.app.addr, |_| {}).await;
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "POST"] {
        let head = format!("{method} /open/a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
        let body = "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
        let mut client = world.connect().await;
        client.send(format!("{head}{body}{}", request("GET /open/b", &[]))).await;
        for head in [method == "HEAD", false] {
            assert_eq!(
                client.response(head).await.map(|response| response.what).as_deref(),
                Some("200"),
                "{method}"
            );
        }
        let got = recorder.take();
        assert_eq!(got[0].text(), "hello world", "{method}");
        assert_eq!(got[1].what, "GET /open/b", "{method}");
    }
}
