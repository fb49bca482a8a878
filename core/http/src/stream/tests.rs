use proptest::prelude::*;

use super::*;

/// Events in words, with parts of one body joined: `GET /a`, `body 5`, `body 5.` at its end, `! reason`.
fn told(events: Vec<Event>) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    let mut open = 0;
    for event in events {
        match event {
            Event::Head(head) => {
                told.push(String::from_utf8_lossy(head.bytes()).lines().next().unwrap().into())
            }
            Event::Body { len, last } => {
                if open > 0 {
                    told.pop();
                }
                open += len;
                told.push(format!("body {open}{}", if last { "." } else { "" }));
                if !last {
                    continue;
                }
            }
            Event::Refused(reason) => told.push(format!("! {reason}")),
        }
        open = 0;
    }
    told
}

fn whole(bytes: &[u8]) -> Vec<String> {
    told(Stream::new().feed(bytes))
}

fn in_pieces<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let mut stream = Stream::new();
    told(pieces.flat_map(|piece| stream.feed(piece)).collect())
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")
}

fn post(fields: &str, body: &str) -> String {
    format!("POST /p HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n{body}")
}

#[test]
fn requests_follow_each_other() {
    let bytes = get("/a") + &post("Content-Length: 3", "abc") + &get("/b") + &get("/c");
    let expected = ["GET /a HTTP/1.1", "POST /p HTTP/1.1", "body 3.", "GET /b HTTP/1.1", "GET /c HTTP/1.1"];
    assert_eq!(whole(bytes.as_bytes()), expected);
}

#[test]
fn a_body_may_look_like_a_request() {
    for length in 0..get("/x").len() {
        let inner = &get("/x")[..length];
        let bytes = post(&format!("Content-Length: {length}"), inner) + &get("/b");
        let told = whole(bytes.as_bytes());
        assert_eq!(told.last().unwrap(), "GET /b HTTP/1.1");
        assert_eq!(told.len(), if length == 0 { 2 } else { 3 });
    }
}

#[test]
fn a_chunked_body_ends_with_its_trailer_section() {
    let bytes = post("Transfer-Encoding: chunked", "5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\n") + &get("/b");
    assert_eq!(whole(bytes.as_bytes()), ["POST /p HTTP/1.1", "body 25.", "GET /b HTTP/1.1"]);
}

#[test]
fn nothing_is_read_behind_a_refusal() {
    let bytes = get("/a") + "get / HTTP/1.1\r\n\r\n" + &get("/b");
    assert_eq!(whole(bytes.as_bytes()), ["GET /a HTTP/1.1", "! method_refused"]);
    let bytes = post("Transfer-Encoding: chunked", "5\r\nhello0\r\n\r\n") + &get("/b");
    assert_eq!(whole(bytes.as_bytes()), ["POST /p HTTP/1.1", "body 8", "! bad_chunk"]);
}

#[test]
fn a_head_that_never_ends_is_refused_and_not_kept() {
    let mut stream = Stream::new();
    let mut events = Vec::new();
    for _ in 0..100 {
        events.extend(stream.feed(&[b'A'; 1]));
    }
    assert_eq!(told(events), ["! bad_request_line"]);
    let mut stream = Stream::new();
    assert!(stream.feed(b"GET / HTTP/1.1\r\nX: ").is_empty());
    let events: Vec<Event> = (0..HEAD_MAX / 1000 + 1).flat_map(|_| stream.feed(&[b'v'; 1000])).collect();
    assert_eq!(told(events), ["! head_too_large"]);
    assert!(stream.is_refused() && stream.held() == 0);
}

#[test]
fn the_state_says_where_the_stream_stands() {
    let mut stream = Stream::new();
    assert!(stream.is_between_requests() && stream.is_in_head());
    stream.feed(b"POST / HTTP/1.1\r\n");
    assert!(!stream.is_between_requests() && stream.held() == 17);
    stream.feed(b"Host: h\r\nContent-Length: 1\r\n\r\n");
    assert!(!stream.is_between_requests() && !stream.is_in_head());
    stream.feed(b"x");
    assert!(stream.is_between_requests());
}

/// Requests and near-requests over all framings.
fn message() -> impl Strategy<Value = String> {
    let chunk = ("[0-9a-f]{1,2}", "(;[a-z]{0,3})?", "[a-z\r\n]{0,20}");
    let chunks = prop::collection::vec(chunk, 0..3).prop_map(|chunks| {
        let mut body = String::new();
        for (_, extension, data) in chunks.into_iter().filter(|(_, _, data)| !data.is_empty()) {
            body += &format!("{:x}{extension}\r\n{data}\r\n", data.len());
        }
        post("Transfer-Encoding: chunked", &(body + "0\r\nT: x\r\n\r\n"))
    });
    prop_oneof![
        4 => "/[a-c]{0,3}".prop_map(|path| get(&path)),
        3 => "[ -~\r\n]{0,30}".prop_map(|body| post(&format!("Content-Length: {}", body.len()), &body)),
        3 => chunks,
        1 => "[ -~\r\n]{1,30}",
    ]
}

proptest! {
    #[test]
    fn cuts_change_nothing(
        messages in prop::collection::vec(message(), 1..5),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut bytes = messages.concat().into_bytes();
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).chain([0, bytes.len()]).collect();
        cuts.sort_unstable();
        let expected = whole(&bytes);
        prop_assert_eq!(&in_pieces(cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]])), &expected);
        prop_assert_eq!(&in_pieces(bytes.chunks(1)), &expected);
    }
}
