//! What two readers might understand differently never reaches the application.

use portcullis_wire::Mode;

use crate::world::{Recorder, World, policy, request};

const GET: &str = "GET /open/a HTTP/1.1\r\nHost: h\r\n";

/// Texts that are answered 400 and end the connection, with the reason.
const REFUSED: [(&str, &str); 24] = [
    (
        "POST /open/a HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
        "bad_framing",
    ),
    ("POST /open/a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nContent-Length: 9\r\n\r\n", "bad_framing"),
    (
        "POST /open/a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        "bad_framing",
    ),
    ("POST /open/a HTTP/1.1\r\nHost: h\r\nContent-Length: 5, 5\r\n\r\nhello", "bad_framing"),
    ("POST /open/a HTTP/1.1\r\nHost: h\r\nContent-Length: +5\r\n\r\nhello", "bad_framing"),
    ("POST /open/a HTTP/1.1\r\nHost: h\r\nContent-Length: 0x5\r\n\r\nhello", "bad_framing"),
    (
        "POST /open/a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "bad_framing",
    ),
    ("POST /open/a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "bad_framing"),
    ("POST /open/a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity\r\n\r\n", "bad_framing"),
    ("POST /open/a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "bad_framing"),
    ("POST /open/a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding : chunked\r\n\r\n", "bad_header"),
    ("GET /open/a HTTP/1.1\r\nHost: h\r\nX: 1\r\n Transfer-Encoding: chunked\r\n\r\n", "bad_header"),
    ("GET /open/a HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n", "bad_header"),
    ("GET /open/a HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n", "bad_header"),
    ("GET /open/a HTTP/1.1\r\nHost: h\nX: a\r\n\r\n", "bad_header"),
    ("GET /open/a HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n", "bad_host"),
    ("GET /open/a HTTP/1.1\r\n\r\n", "bad_host"),
    ("GET http://i/open/a HTTP/1.1\r\nHost: h\r\n\r\n", "bad_host"),
    ("GET /open/a/../../admin HTTP/1.1\r\nHost: h\r\n\r\n", "path_ambiguous"),
    ("GET /open%2fa HTTP/1.1\r\nHost: h\r\n\r\n", "path_ambiguous"),
    ("GET /open/a HTTP/2.0\r\nHost: h\r\n\r\n", "bad_request_line"),
    ("get /open/a HTTP/1.1\r\nHost: h\r\n\r\n", "method_refused"),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "not_http1"),
    ("\x16\x03\x01\0\x41\x01", "not_http1"),
];

#[tokio::test]
async fn ambiguous_requests_are_refused_and_reach_nobody() {
    let recorder = Recorder::start().await;
    let world = World::before(recorder.app.addr, |_| {}).await;
    for (text, reason) in REFUSED {
        let mut client = world.connect().await;
        let response = client.ask(text).await;
        assert_eq!(response.what, "400", "{text:?}");
        assert!(response.text().contains(reason), "{text:?}: {}", response.text());
        assert!(client.ended().await);
    }
    assert_eq!(recorder.take(), []);
    let records = world.records(REFUSED.len()).await;
    for (record, (text, reason)) in records.iter().zip(REFUSED) {
        assert_eq!(record.reason, reason, "{text:?}");
    }
    assert_eq!(world.gateway.status().disagreements, 0);
}

#[tokio::test]
async fn in_monitor_mode_what_cannot_be_read_is_refused_and_logged_as_such() {
    let recorder = Recorder::start().await;
    let addr = recorder.app.addr;
    let world = World::with(addr, policy(addr.port(), Mode::Monitor), |_| {}).await;
    let mut client = world.connect().await;
    // Its path is ambiguous, but it can be forwarded as it is.
    assert_eq!(client.ask(request("GET /a//b/../c", &[])).await.what, "200");
    assert_eq!(client.ask("GET /open/a HTTP/1.1\r\nHost: h\r\nX : 1\r\n\r\n").await.what, "400");
    assert!(client.ended().await);
    let paths: Vec<String> = recorder.take().into_iter().map(|request| request.what).collect();
    assert_eq!(paths, ["GET /a//b/../c"]);
    let records = world.records(2).await;
    let found: Vec<_> = records.iter().map(|record| (record.reason.as_str(), record.decision)).collect();
    use portcullis_wire::Verdict::{Deny, WouldDeny};
    assert_eq!(found, [("path_ambiguous", WouldDeny), ("bad_header", Deny)]);
}

#[tokio::test]
async fn bodies_that_look_like_requests_are_bodies() {
    let recorder = Recorder::start().await;
    let world = World::before(recorder.app.addr, |_| {}).await;
    let inner = request("GET /admin/a", &[]);
    let mut client = world.connect().await;
    let sized = format!("POST /open/a HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{inner}", inner.len());
    let chunked = format!(
        "POST /open/b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{:x};x=\"y\"\r\n{inner}\r\n0\r\n\r\n",
        inner.len()
    );
    for text in [sized, chunked] {
        assert_eq!(client.ask(&text).await.what, "200");
        let got = recorder.take();
        assert_eq!((got.len(), got[0].text()), (1, inner.clone()), "{text}");
    }
}

#[tokio::test]
async fn a_malformed_chunk_ends_everything() {
    let recorder = Recorder::start().await;
    let world = World::before(recorder.app.addr, |_| {}).await;
    for bad in ["5\r\nhelloX", "x\r\n", " 5\r\nhello\r\n", "5\nhello\r\n", "-1\r\n", "fffffffffffff\r\n"] {
        let mut client = world.connect().await;
        client.send("POST /open/a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        client.send(bad).await;
        client.send(format!("0\r\n\r\n{GET}\r\n")).await;
        assert!(client.response(false).await.is_none(), "{bad:?}");
    }
    assert_eq!(recorder.take(), []);
}

#[tokio::test]
async fn a_denied_request_behind_an_owed_response_waits_for_it() {
    let recorder = Recorder::start().await;
    let world = World::before(recorder.app.addr, |_| {}).await;
    let mut client = world.connect().await;
    // In one segment both are lost, as before the kernel ...
    client.send(request("GET /open/a", &[]) + &request("GET /closed/a", &[])).await;
    assert!(client.response(false).await.is_none());
    assert_eq!(recorder.take(), []);
    // ... in two, each has its answer.
    let mut client = world.connect().await;
    client.send(request("GET /open/a", &[])).await;
    tokio::task::yield_now().await;
    assert_eq!(client.response(false).await.unwrap().what, "200");
    assert_eq!(client.ask(request("GET /closed/a", &[])).await.what, "401");
    assert_eq!(client.ask(request("GET /open/b", &[])).await.what, "200");
    // Who reads the responses knows when all have been given.
    client.send(request("GET /open/a", &[]) + &request("GET /open/b", &[])).await;
    for _ in 0..2 {
        assert_eq!(client.response(false).await.unwrap().what, "200");
    }
    assert_eq!(client.ask(request("GET /closed/a", &[])).await.what, "401");
    assert_eq!(client.ask(request("GET /open/a", &[])).await.what, "200");
}

#[tokio::test]
async fn every_cut_of_a_request_is_decided_alike() {
    let recorder = Recorder::start().await;
    let world = World::before(recorder.app.addr, |_| {}).await;
    let body =
        "POST /open/a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: 1\r\n\r\n";
    let mut client = world.connect().await;
    for cut in 1..body.len() {
        client.send(&body[..cut]).await;
        tokio::time::sleep(std::time::Duration::from_micros(200)).await;
        client.send(&body[cut..]).await;
        assert_eq!(client.response(false).await.unwrap().what, "200", "{cut}");
    }
    let got = recorder.take();
    assert_eq!(got.len(), body.len() - 1);
    assert!(got.iter().all(|request| request.text().starts_with("abc")));
}
