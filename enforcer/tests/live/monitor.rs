//! Monitor mode: everything is seen, nothing is changed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use portcullis_testkit::need;
use portcullis_wire::{Mode, Verdict};

use crate::app::App;
use crate::client::{Client, get};
use crate::world::{World, policy};

/// Sends `chunks` with pauses and returns all that comes back until the application is silent.
fn exchange(app: &App, chunks: &[Vec<u8>]) -> Vec<u8> {
    let mut stream = TcpStream::connect(app.addr).expect("connecting");
    stream.set_read_timeout(Some(Duration::from_millis(100))).expect("timeout");
    let mut got = Vec::new();
    for chunk in chunks {
        stream.write_all(chunk).expect("sending");
        let mut buffer = [0; 4096];
        while let Ok(read) = stream.read(&mut buffer) {
            if read == 0 {
                return got;
            }
            got.extend(&buffer[..read]);
        }
    }
    got
}

#[test]
fn bytes_are_those_without_an_enforcer() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("monitor");
    let token = world.role("reader");
    let streams: Vec<Vec<Vec<u8>>> = vec![
        vec![get("/a", None).into_bytes(), get("/a", Some(&token)).into_bytes()],
        vec![get("/a", Some("x.y.z")).into_bytes(), get("/health", None).into_bytes()],
        vec![b"GET /a HTTP/1.1\r\nHo".to_vec(), b"st: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()],
        vec![
            b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /b HTTP/1.1\r\nHost: a\r\n\r\n"
                .to_vec(),
        ],
        // Not HTTP, TLS, bare LF: passed on as they are.
        vec![vec![0x16, 3, 1, 0, 5, 1, 2, 3, 4, 5], b"more".to_vec()],
        vec![b"hello\n\n".to_vec(), b"world\r\n\r\n".to_vec()],
    ];
    let run = |app: &App| -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut seen = 0;
        let each = streams.iter().map(|chunks| {
            let client = exchange(app, chunks);
            let read = app.bytes();
            let server = read[seen..].to_vec();
            seen = read.len();
            (client, server)
        });
        each.collect()
    };
    let plain = App::local();
    let expected = run(&plain);
    let monitored = App::local();
    world.apply(vec![policy(monitored.port(), Mode::Monitor)]);
    let dropped = world.stats().dropped_bytes;
    let got = run(&monitored);
    for (index, (expected, got)) in expected.iter().zip(&got).enumerate() {
        assert_eq!(expected, got, "stream {index}");
    }
    assert!(world.verdicts(Verdict::WouldDeny) >= 7, "{:?}", world.reasons());
    assert_eq!(world.verdicts(Verdict::Deny), 0);
    assert_eq!(world.stats().dropped_bytes, dropped);
}

#[test]
fn what_would_be_denied_is_recorded() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("would");
    let app = App::local();
    world.apply(vec![policy(app.port(), Mode::Monitor)]);
    let guest = world.role("guest");
    let mut client = Client::connect(app.addr);
    for _ in 0..100 {
        assert_eq!(client.ask(get("/a", None)).status, 200);
        assert_eq!(client.ask(get("/a", Some(&guest))).status, 200);
    }
    let reasons = world.reasons();
    assert_eq!((reasons["token_missing"], reasons["role_missing"]), (100, 100));
    let record = world.records().pop().expect("a record");
    assert_eq!(
        (record.decision, record.status, record.mode),
        (Verdict::WouldDeny, Some(403), Some(Mode::Monitor))
    );
    assert_eq!(app.requests(), 200);
}

/// What monitor mode could not follow is read by nobody: it ends when the port enforces.
#[test]
fn a_connection_that_was_lost_does_not_outlive_monitor_mode() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("lost");
    let app = App::local();
    world.apply(vec![policy(app.port(), Mode::Monitor)]);
    let mut client = Client::connect(app.addr);
    client.send("no request at all\r\n\r\n");
    std::thread::sleep(Duration::from_millis(50));
    let before = app.bytes().len();
    assert!(before > 0, "monitor mode passes it");
    world.apply(vec![policy(app.port(), Mode::Enforce)]);
    let _ = client.try_send(get("/a", None));
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(app.bytes().len(), before, "nothing that nobody has read");
}

/// A denied request's body is dropped, that of a later one which is passed is not.
#[test]
fn a_denial_from_before_monitor_mode_drops_no_body() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("denied");
    let app = App::local();
    world.apply(vec![policy(app.port(), Mode::Enforce)]);
    let mut client = Client::connect(app.addr);
    assert_eq!(client.ask(get("/a", None)).status, 401);
    world.apply(vec![policy(app.port(), Mode::Monitor)]);
    // Refused for its form where the port enforces.
    client.send("POST /a;b HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n");
    std::thread::sleep(Duration::from_millis(20));
    client.send("0123456789");
    assert_eq!(client.response().expect("an answer").status, 200);
    assert!(app.bytes().ends_with(b"0123456789"), "{}", app.bytes().escape_ascii());
}
