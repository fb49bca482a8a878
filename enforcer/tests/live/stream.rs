//! How requests are cut, framed, chained and malformed.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use portcullis_testkit::{eventually, need};
use portcullis_wire::Mode;

use crate::app::App;
use crate::client::{Client, get, once};
use crate::world::{World, policy};

fn enforced(name: &str, addr: &str) -> (World, App, String) {
    let mut world = World::new(name);
    let app = App::start(addr);
    world.apply(vec![policy(app.port(), Mode::Enforce)]);
    let token = world.role("reader");
    (world, app, token)
}

fn local(name: &str) -> (World, App, String) {
    enforced(name, "127.0.0.1:0")
}

#[test]
fn a_head_byte_by_byte_is_decided_as_a_whole_one() {
    need!(Bpf, BpfFs, Cgroup2);
    let (_world, app, token) = local("bytes");
    for (request, status) in [(get("/a", None), 401), (get("/a", Some(&token)), 200)] {
        let mut client = Client::connect(app.addr);
        for byte in request.bytes() {
            client.send([byte]);
        }
        assert_eq!(client.response().expect("a response").status, status);
    }
    assert_eq!(app.requests(), 1, "the denied head must not be complete at the application");
}

#[test]
fn every_cut_of_a_head_in_two_is_decided_alike() {
    need!(Bpf, BpfFs, Cgroup2);
    let (_world, app, _) = local("cuts");
    let request = get("/a", None);
    for cut in 1..request.len() {
        let mut client = Client::connect(app.addr);
        client.send(&request[..cut]);
        // So that the halves are not merged in the receive queue.
        std::thread::sleep(Duration::from_millis(1));
        client.send(&request[cut..]);
        assert_eq!(client.response().expect("a response").status, 401, "cut at {cut}");
    }
    assert_eq!(app.requests(), 0);
}

#[test]
fn pipelined_requests_are_decided_one_by_one() {
    need!(Bpf, BpfFs, Cgroup2);
    let (_world, app, token) = local("pipeline");
    let good = get("/a", Some(&token));
    let mut client = Client::connect(app.addr);
    client.send(good.repeat(5));
    for _ in 0..5 {
        assert_eq!(client.response().expect("a response").status, 200);
    }
    assert_eq!(app.requests(), 5);
}

#[test]
fn a_denied_request_never_overtakes_a_response_and_never_passes() {
    need!(Bpf, BpfFs, Cgroup2);
    let (world, app, token) = local("mixed");
    let (good, bad) = (get("/a", Some(&token)), get("/b", None));
    for _ in 0..20 {
        // The denial is refused with the connection: it must not come before the 200 that is owed.
        let mut client = Client::connect(app.addr);
        client.send(format!("{good}{bad}"));
        if let Ok(response) = client.response() {
            assert_eq!(response.status, 200, "{response:?}");
        }
        // Bad first: answered, and what follows in the segment is not looked at.
        let mut client = Client::connect(app.addr);
        client.send(format!("{bad}{good}"));
        let response = client.response().expect("a response");
        assert_eq!(response.status, 401);
        assert!(response.has("Connection: close"), "{response:?}");
    }
    assert_eq!(app.anonymous(), 0);
    assert!(world.stats().denied >= 40);
}

#[test]
fn requests_that_are_all_denied_are_answered_in_order() {
    need!(Bpf, BpfFs, Cgroup2);
    let (_world, app, token) = local("chain");
    let guest = format!("{token}x");
    let mut complete = 0;
    for _ in 0..20 {
        let mut client = Client::connect(app.addr);
        for request in [get("/1", None), get("/2", Some(&guest)), get("/3", None)] {
            client.send(request);
            std::thread::sleep(Duration::from_millis(2));
        }
        // Requests that come together are answered by the first denial, which closes: then fewer come, none out of turn.
        let answers: Vec<_> = std::iter::from_fn(|| client.response().ok()).take(3).collect();
        for (response, invalid) in answers.iter().zip([false, true, false]) {
            assert_eq!(
                (response.status, response.has("WWW-Authenticate: Bearer realm=\"portcullis\", error=")),
                (401, invalid),
                "{response:?}"
            );
        }
        let closed = answers.last().is_some_and(|last| last.has("Connection: close"));
        assert!(answers.len() == 3 || closed, "{answers:?}");
        complete += usize::from(answers.len() == 3);
    }
    assert!(complete >= 10, "{complete} of 20 in full");
    assert_eq!(app.bytes().len(), 0);
}

#[test]
fn bodies_pass_and_are_dropped_with_their_requests() {
    need!(Bpf, BpfFs, Cgroup2);
    let (_world, app, token) = local("bodies");
    let inner = get("/smuggled", None);
    for len in [1, 2, 100, 1448, 70_000, 1 << 20] {
        let mut body = inner.clone().into_bytes();
        body.resize(len, b'x');
        let head = |token: Option<&str>| {
            let bearer = token.map(|t| format!("Authorization: Bearer {t}\r\n")).unwrap_or_default();
            format!("POST /a HTTP/1.1\r\nHost: a\r\n{bearer}Content-Length: {len}\r\n\r\n").into_bytes()
        };
        let mut client = Client::connect(app.addr);
        for _ in 0..2 {
            let response = client.ask([head(Some(&token)), body.clone()].concat());
            assert_eq!((response.status, response.body), (200, format!("{len} bytes\n")));
        }
        let mut client = Client::connect(app.addr);
        // The reply may come, with a reset behind it, before the whole body is sent.
        let sent = client.try_send([head(None), body.clone()].concat());
        match client.response() {
            Ok(response) => assert_eq!(response.status, 401, "{len}"),
            Err(error) => assert!(sent.is_err() || len > 70_000, "{len}: {error}"),
        }
    }
    assert_eq!((app.anonymous(), app.requests()), (0, 12));
}

#[test]
fn a_denied_body_in_one_buffer_leaves_the_connection_usable() {
    need!(Bpf, BpfFs, Cgroup2);
    let (_world, app, token) = local("post");
    let mut client = Client::connect(app.addr);
    for _ in 0..50 {
        let response = client.ask("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!(response.status, 401);
        assert!(!response.has("Connection: close"), "{response:?}");
        assert_eq!(client.ask(get("/a", Some(&token))).status, 200);
    }
    assert_eq!((app.requests(), app.errors()), (50, 0));
}

#[test]
fn chunked_bodies_are_followed() {
    need!(Bpf, BpfFs, Cgroup2);
    let (_world, app, token) = local("chunked");
    let head = format!(
        "POST /a HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    let bodies = ["0\r\n\r\n".to_owned(), "5\r\nhello\r\n0\r\n\r\n".to_owned(), {
        let chunk = "x".repeat(0x3000);
        format!("3000;ext=1\r\n{chunk}\r\n1\r\ny\r\n0\r\nTrailer: t\r\n\r\n")
    }];
    let mut client = Client::connect(app.addr);
    for body in &bodies {
        assert_eq!(client.ask(format!("{head}{body}")).status, 200);
        // In pieces, and followed by a request without a token: its framing must be right for that to be denied.
        for piece in format!("{head}{body}").as_bytes().chunks(701) {
            client.send(piece);
        }
        assert_eq!(client.response().expect("a response").status, 200);
        assert_eq!(client.ask(get("/b", None)).status, 401);
    }
    assert_eq!((app.requests(), app.anonymous()), (6, 0));
}

#[test]
fn a_malformed_chunk_ends_the_connection() {
    need!(Bpf, BpfFs, Cgroup2);
    let (world, app, token) = local("badchunk");
    let head = format!(
        "POST /a HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    let bodies = [
        "zz\r\n",
        "5\nhello",
        "-1\r\n",
        "5\r\nhelloX\r\n",
        // Trailers are field lines.
        "0\r\nX\r\n\r\n",
        "0\r\nX y: z\r\n\r\n",
        "0\r\n: y\r\n\r\n",
    ];
    for body in bodies {
        let mut client = Client::connect(app.addr);
        let read = app.bytes().len();
        client.send(&head);
        // What comes now is not in the same buffer any more.
        eventually("the head to be read", Duration::from_secs(5), || {
            (app.bytes().len() == read + head.len()).then_some(())
        });
        // Somebody else's request comes between.
        assert_eq!(once(app.addr, get("/b", None)).status, 401);
        client.send(body);
        assert!(client.ends(), "{body:?}");
    }
    assert_eq!(app.requests(), 0);
    assert_eq!(world.reasons()["bad_chunk"], bodies.len());
    // In the same buffer the request's method is known, in another one no more, and never is it somebody else's.
    let mut client = Client::connect(app.addr);
    client.send(format!("{head}zz\r\n"));
    assert!(client.ends());
    let bad: Vec<String> = world
        .records()
        .into_iter()
        .filter_map(|record| (record.reason == "bad_chunk").then_some(record.method))
        .collect();
    assert_eq!(bad, [vec![""; bodies.len()], vec!["POST"]].concat());
}

#[test]
fn http_1_0_and_head_are_answered_in_kind() {
    need!(Bpf, BpfFs, Cgroup2);
    let (_world, app, token) = local("old");
    assert_eq!(once(app.addr, "GET /a HTTP/1.0\r\n\r\n").status, 401);
    assert_eq!(
        once(app.addr, format!("GET /a HTTP/1.0\r\nAuthorization: bearer {token}\r\n\r\n")).status,
        200
    );
    let mut client = Client::connect(app.addr);
    client.send("HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n");
    let response = client.head_response().expect("a response");
    assert_eq!(response.status, 401);
    // Had a body been sent, it would stand where the next response is looked for.
    assert_eq!(client.ask(get("/health", None)).status, 200);
}

#[test]
fn ipv6_and_mapped_ipv4_are_covered() {
    need!(Bpf, BpfFs, Cgroup2);
    let (world, app, token) = enforced("six", "[::]:0");
    let port = app.port();
    for (addr, source) in [(format!("[::1]:{port}"), "::1"), (format!("127.0.0.1:{port}"), "127.0.0.1")] {
        let addr = addr.parse().expect("an address");
        assert_eq!(once(addr, get("/a", None)).status, 401);
        assert_eq!(world.records().last().expect("a record").source_ip, source);
        assert_eq!(once(addr, get("/a", Some(&token))).status, 200);
    }
    assert_eq!((app.requests(), app.anonymous()), (2, 0));
}

#[test]
fn malformed_and_ambiguous_requests_are_answered_400() {
    need!(Bpf, BpfFs, Cgroup2);
    let (world, app, token) = local("bad");
    let auth = format!("Authorization: Bearer {token}\r\n");
    let with = |line: &str, fields: &str| format!("{line}\r\n{auth}{fields}\r\n");
    let host = "Host: a\r\n";
    let cases = [
        // T8
        ("CL+TE", with("POST /a HTTP/1.1", "Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n")),
        ("CL twice", with("POST /a HTTP/1.1", "Host: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n")),
        ("CL sign", with("POST /a HTTP/1.1", "Host: a\r\nContent-Length: +5\r\n")),
        ("CL list", with("POST /a HTTP/1.1", "Host: a\r\nContent-Length: 5, 5\r\n")),
        ("TE gzip", with("POST /a HTTP/1.1", "Host: a\r\nTransfer-Encoding: gzip, chunked\r\n")),
        (
            "TE twice",
            with(
                "POST /a HTTP/1.1",
                "Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            ),
        ),
        ("obs-fold", with("GET /a HTTP/1.1", "Host: a\r\nX: 1\r\n 2\r\n")),
        ("space before colon", with("GET /a HTTP/1.1", "Host: a\r\nX : 1\r\n")),
        ("empty name", with("GET /a HTTP/1.1", "Host: a\r\n: 1\r\n")),
        ("bare LF", format!("GET /a HTTP/1.1\nHost: a\n{auth}\n\r\n\r\n")),
        ("bare CR", with("GET /a HTTP/1.1", "Host: a\r\nX: 1\r2\r\n")),
        ("NUL", with("GET /a HTTP/1.1", "Host: a\r\nX: 1\u{0}2\r\n")),
        // T11
        ("authority", with("GET a:80 HTTP/1.1", host)),
        ("asterisk", with("OPTIONS * HTTP/1.1", host)),
        ("CONNECT", with("CONNECT a:80 HTTP/1.1", host)),
        ("other host", with("GET http://b/a HTTP/1.1", host)),
        // T12
        ("two Host", with("GET /a HTTP/1.1", "Host: a\r\nHost: a\r\n")),
        ("no Host", with("GET /a HTTP/1.1", "")),
        ("two Authorization", with("GET /a HTTP/1.1", &format!("{host}{auth}"))),
        // T13
        ("HTTP/0.9", "GET /a\r\n\r\n".to_owned()),
        ("HTTP/2.0", with("GET /a HTTP/2.0", host)),
        ("lower-case method", with("get /a HTTP/1.1", host)),
        // T15, T16
        ("preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        ("NUL in path", with("GET /a%00 HTTP/1.1", host)),
        ("encoded slash", with("GET /a%2fb HTTP/1.1", host)),
        ("above the root", with("GET /../a HTTP/1.1", host)),
    ];
    for (name, request) in &cases {
        let mut client = Client::connect(app.addr);
        client.send(request);
        let response = client.response().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(response.status, 400, "{name}: {response:?}");
        assert!(response.has("Connection: close"), "{name}: {response:?}");
    }
    assert_eq!(app.requests(), 0);
    assert_eq!(world.stats().denied, cases.len() as u64);
    // Absolute form by its path.
    assert_eq!(once(app.addr, with("GET http://a/a HTTP/1.1", host)).status, 200);
}

#[test]
fn tls_is_refused_and_named() {
    need!(Bpf, BpfFs, Cgroup2);
    let (world, app, _) = local("tls");
    let mut hello = vec![0x16, 3, 1, 0x02, 0x00, 1, 0, 1, 0xfc, 3, 3];
    hello.resize(517, 0x41);
    let mut client = Client::connect(app.addr);
    client.send(&hello);
    let response = client.response().expect("a response");
    assert_eq!((response.status, app.bytes().len()), (400, 0));
    assert_eq!(world.reasons()["not_http1"], 1);
}

#[test]
fn large_heads_are_answered_431() {
    need!(Bpf, BpfFs, Cgroup2);
    let (_world, app, token) = local("large");
    let request = |n: usize| {
        format!("GET /a HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nX: {}\r\n\r\n", "x".repeat(n))
    };
    assert_eq!(once(app.addr, request(12_000)).status, 200);
    assert_eq!(once(app.addr, request(17_000)).status, 431);
    assert_eq!(app.requests(), 1);
}

#[test]
fn a_client_that_half_closes_gets_its_response() {
    need!(Bpf, BpfFs, Cgroup2);
    let (_world, app, token) = local("half");
    let mut stream = TcpStream::connect(app.addr).expect("connecting");
    stream.write_all(get("/a", Some(&token)).as_bytes()).expect("sending");
    stream.shutdown(Shutdown::Write).expect("shutting down");
    assert_eq!(Client::over(stream).response().expect("a response").status, 200);
}
