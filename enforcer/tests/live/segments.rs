//! T6: segments out of order, overlapping, sent again with other bytes, beyond the window. The programs see exactly what
//! the application reads.

use std::io::{self, Read};
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use portcullis_bpf::limits::TRIM_MAX;
use portcullis_testkit::{NetNs, Rng, eventually, need, seed};
use portcullis_wire::{AccessLog, Mode, Policy, Verdict};

use crate::app::App;
use crate::peer::Peer;
use crate::world::{World, policy};

/// Two streams of one length: /health is open, /secret is not, and so is no mixture of the two.
const OPEN: &[u8] = b"GET /health HTTP/1.1\r\nHost: aaaaaaaa\r\nX: 00000000000000000000\r\n\r\n";
const SHUT: &[u8] = b"GET /secret HTTP/1.1\r\nHost: bbbbbbbb\r\nX: 11111111111111111111\r\n\r\n";

/// A segment: where it starts, and its bytes.
type Segment = (usize, Vec<u8>);

/// The same application four times: those whose ports enforce read with and without blocking.
struct Four {
    world: World,
    plain: App,
    monitored: App,
    enforced: [App; 2],
    _ns: NetNs,
}

impl Four {
    fn new(name: &str) -> Four {
        let mut world = World::new(name);
        let ns = NetNs::enter().expect("a namespace");
        let [plain, monitored] = [(); 2].map(|()| App::local());
        // A part of a head that comes with others wakes a read that blocks.
        let enforced = [App::patient(), App::nonblocking()];
        let of = |app: &App, mode| Policy { id: app.port().to_string(), ..policy(app.port(), mode) };
        let [one, two] = &enforced;
        world.apply(vec![of(&monitored, Mode::Monitor), of(one, Mode::Enforce), of(two, Mode::Enforce)]);
        Four { world, plain, monitored, enforced, _ns: ns }
    }

    /// Sends segments, and then whatever of `rest` the application's side still lacks. The bytes that the unguarded
    /// application read.
    fn check(&self, first: u32, segments: &[Segment], rest: &[u8]) -> Vec<u8> {
        let (bytes, _) = exchange(&self.plain, first, segments, rest);
        let bytes = bytes.expect("what no program touches arrives");
        // Monitored: not one byte differs, and the record is about those that the application read.
        let (same, _) = exchange(&self.monitored, first, segments, rest);
        assert_eq!(same.as_deref().map(text), Some(text(&bytes)), "{segments:?}");
        let record = self.record(&self.monitored);
        assert_eq!(
            (Some(&*record.path), record.host.as_deref()),
            (path(&bytes), host(&bytes)),
            "{segments:?}"
        );
        // Enforced: the open path with the same bytes, or no request at all.
        for app in &self.enforced {
            let requests = app.requests();
            let (same, answer) = exchange(app, first, segments, rest);
            let record = self.record(app);
            assert_eq!(Some(&*record.path), path(&bytes), "{segments:?}");
            if path(&bytes) == Some("/health") {
                assert_eq!(record.decision, Verdict::Allow, "{segments:?}");
                assert_eq!(same.as_deref().map(text), Some(text(&bytes)), "{segments:?}");
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer} {segments:?}");
            } else {
                assert_eq!(record.decision, Verdict::Deny, "{segments:?}");
                assert_eq!(app.requests(), requests, "{segments:?}");
                assert!(answer.starts_with("HTTP/1.1 401"), "{answer} {segments:?}");
            }
        }
        bytes
    }

    fn record(&self, app: &App) -> AccessLog {
        let records = self.world.records();
        records.into_iter().rfind(|record| record.destination_port == app.port()).expect("a record")
    }
}

/// What the application read, if that was a whole request, and what it said.
fn exchange(app: &App, first: u32, segments: &[Segment], rest: &[u8]) -> (Option<Vec<u8>>, String) {
    let (before, requests) = (app.bytes().len(), app.requests());
    let mut peer = Peer::connect(app.addr, first).expect("connecting");
    for (at, bytes) in segments {
        peer.send(*at as u32, bytes);
    }
    for _ in 0..50 {
        let at = peer.acked as usize;
        if at >= rest.len() || peer.ended {
            break;
        }
        // Little by little: a segment over all that waits behind a hole would take its place.
        peer.send(at as u32, &rest[at..rest.len().min(at + 5)]);
        if peer.acked as usize == at {
            // Not yet handled: a busy machine leaves that to a thread.
            peer.take().expect("receiving");
        }
    }
    let answer = peer.answer("\r\n\r\n", Duration::from_secs(3));
    let whole = app.requests() > requests;
    (whole.then(|| app.bytes()[before..].to_vec()), answer)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn path(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()?.split(' ').nth(1)
}

fn host(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()?.split("Host: ").nth(1)?.lines().next()
}

#[test]
fn bytes_sent_again_are_those_of_the_first_time() {
    need!(Bpf, BpfFs, Cgroup2, NetNs);
    let four = Four::new("again");
    let of = |stream: &[u8], from: usize, to: usize| (from, stream[from..to].to_vec());
    // The path arrives once, then again with other bytes, together with what follows.
    let bytes = four.check(1000, &[of(OPEN, 0, 12), of(SHUT, 4, SHUT.len())], OPEN);
    assert_eq!(path(&bytes), Some("/health"));
    let bytes = four.check(1000, &[of(SHUT, 0, 12), of(OPEN, 4, OPEN.len())], OPEN);
    assert_eq!(path(&bytes), Some("/secret"));
    // Byte by byte, each with the other's byte in front.
    let overlapping: Vec<Segment> = (0..OPEN.len())
        .map(|n| (n.saturating_sub(1), [&SHUT[n.saturating_sub(1)..n], &OPEN[n..=n]].concat()))
        .collect();
    assert_eq!(four.check(1000, &overlapping, OPEN), OPEN);
    // Behind a hole, twice; then the hole is filled.
    for (one, two) in [(OPEN, SHUT), (SHUT, OPEN)] {
        four.check(1000, &[of(one, 4, 20), of(two, 4, 20), of(one, 0, 4)], one);
        four.check(1000, &[of(one, 6, 9), of(two, 4, 20), of(one, 0, 6)], one);
        four.check(1000, &[of(one, 20, 40), of(two, 4, 20), of(two, 0, 64), of(one, 0, 4)], one);
    }
    // Numbers that wrap around within the head.
    let bytes = four.check(u32::MAX - 9, &[of(OPEN, 0, 12), of(SHUT, 4, SHUT.len())], OPEN);
    assert_eq!(path(&bytes), Some("/health"));
    assert!(four.world.stats().trimmed > 0, "no overlap reached the programs: {:?}", four.world.stats());
}

#[test]
fn any_segments_are_seen_as_the_application_reads_them() {
    need!(Bpf, BpfFs, Cgroup2, NetNs);
    let four = Four::new("segments");
    let mut rng = Rng::new(seed());
    let (mut open, mut mixed) = (0, 0);
    for _ in 0..150 {
        let favourite = rng.below(8);
        let mut segments: Vec<Segment> = Vec::new();
        for _ in 0..rng.below(12) {
            let at = rng.below(OPEN.len() as u64) as usize;
            let len = 1 + rng.below(24) as usize;
            // Mostly of one kind, so that whole requests of both kinds come about.
            let stream = if rng.below(8) < favourite { OPEN } else { SHUT };
            segments.push((at, stream[at..stream.len().min(at + len)].to_vec()));
        }
        let rest = if rng.below(8) < favourite { OPEN } else { SHUT };
        let bytes = four.check(rng.next_u64() as u32, &segments, rest);
        open += usize::from(path(&bytes) == Some("/health"));
        mixed += usize::from(bytes != OPEN && bytes != SHUT);
    }
    let stats = four.world.stats();
    eprintln!("{open} open, {mixed} mixed, {} trimmed", stats.trimmed);
    assert!(open >= 10 && mixed >= 20 && stats.trimmed >= 20, "{open} open, {mixed} mixed, {stats:?}");
    assert_eq!(stats.stream_gap, 0);
}

#[test]
fn an_overlap_longer_than_one_cut_is_cut_off_too() {
    need!(Bpf, BpfFs, Cgroup2, NetNs);
    let four = Four::new("overlap");
    let token = four.world.role("reader");
    let head = format!(
        "POST /a HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Length: 20000\r\n\r\n"
    );
    let mut peer = Peer::connect(four.enforced[0].addr, 5).expect("connecting");
    let body = head.len() as u32;
    peer.send(0, head.as_bytes());
    for n in 0..6 {
        peer.send(body + n * 1000, &[b'x'; 1000]);
    }
    eventually("an acknowledgement of all", Duration::from_secs(5), || {
        peer.drain();
        (peer.acked == body + 6000).then_some(())
    });
    peer.send(body + 6000 - TRIM_MAX as u32 - 1, &[b'!'; TRIM_MAX + 101]);
    peer.send(body + 6100, &[b'!'; 100]);
    eventually("the bytes before", Duration::from_secs(5), || {
        (four.enforced[0].bytes().len() >= body as usize + 6200).then_some(())
    });
    let read = four.enforced[0].bytes();
    let (first, new) = read.split_at(body as usize + 6000);
    assert!(!first.contains(&b'!'), "what came first stays");
    assert_eq!(new, [b'!'; 200]);
    assert_eq!((four.world.stats().stream_gap, four.world.stats().trimmed), (0, 1));
}

/// TCP sends what was not acknowledged again as one segment: bytes that arrived, and an end that did not.
#[test]
fn an_end_that_comes_with_bytes_sent_again_is_an_end() {
    need!(Bpf, BpfFs, Cgroup2, NetNs);
    let four = Four::new("endagain");
    for app in [&four.plain, &four.monitored, &four.enforced[0], &four.enforced[1]] {
        let before = app.bytes().len();
        let mut peer = Peer::connect(app.addr, 9).expect("connecting");
        peer.send(0, OPEN);
        let answer = peer.answer("\r\n\r\n", Duration::from_secs(3));
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
        eventually("the application's end", Duration::from_secs(5), || {
            // Again and again, as TCP does.
            peer.send_last(0, OPEN);
            peer.take().expect("receiving");
            peer.ended.then_some(())
        });
        assert_eq!(peer.acked as usize, OPEN.len() + 1);
        assert_eq!(text(&app.bytes()[before..]), text(OPEN));
        assert_eq!(app.errors(), 0);
    }
    assert_eq!(four.world.stats().stream_gap, 0);
}

/// A client that goes in the middle of a head, long before the application gets round to it: its end, which was dropped because
/// nobody had judged what stands in front of it, may not come again for minutes.
#[test]
fn a_part_of_a_head_whose_client_has_gone_ends_when_it_is_read() {
    need!(Bpf, BpfFs, Cgroup2, Root);
    const PART: &[u8] = b"GET /secret HTTP/1.1\r\nHost: a\r\n";
    let mut world = World::new("left");
    // In the agent's own namespace: those of mere threads it cannot know.
    let listener = TcpListener::bind("127.0.0.1:0").expect("binding");
    let addr = listener.local_addr().expect("address");
    world.apply(vec![policy(addr.port(), Mode::Enforce)]);
    for blocks in [true, false] {
        let dropped = world.stats().guard_dropped;
        let mut peer = Peer::connect(addr, 99).expect("connecting");
        peer.send(0, PART);
        // Never again, as if the next one were far off.
        peer.finish(PART.len() as u32);
        eventually("the end to be dropped", Duration::from_secs(5), || {
            (world.stats().guard_dropped > dropped).then_some(())
        });
        let (mut stream, _) = listener.accept().expect("accepting");
        stream.set_nonblocking(!blocks).expect("blocking or not");
        // A bound on hanging, below that on heads that do not come to an end.
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        let (mut read, mut buffer) = (Vec::new(), [0; 256]);
        let end = eventually("the end", Duration::from_secs(10), || match stream.read(&mut buffer) {
            Ok(n) if n > 0 => {
                read.extend(&buffer[..n]);
                None
            }
            // A read that blocks is told so, once, when the connection is destroyed (docs/SEMANTICS.md).
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            end => Some(end),
        });
        assert_eq!(text(&read), if blocks { String::new() } else { text(PART) });
        // No end of a stream, which some take for the end of a head.
        assert_eq!(
            end.map_err(|error| error.kind()),
            Err(io::ErrorKind::ConnectionAborted),
            "blocks: {blocks}"
        );
    }
}

/// An application that does not read, and a peer that does not mind.
#[test]
fn what_is_sent_beyond_the_window_is_not_read() {
    need!(Bpf, BpfFs, Cgroup2, NetNs);
    for mode in [None, Some(Mode::Monitor), Some(Mode::Enforce)] {
        let mut world = World::new("window");
        let _ns = NetNs::enter().expect("a namespace");
        let listener = TcpListener::bind("127.0.0.1:0").expect("binding");
        let addr = listener.local_addr().expect("address");
        if let Some(mode) = mode {
            world.apply(vec![policy(addr.port(), mode)]);
        }
        let (go, may) = mpsc::channel::<()>();
        let reader = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accepting");
            let mut first = [0; 16];
            let read = stream.read(&mut first).expect("reading");
            may.recv().expect("the test");
            let mut bytes = first[..read].to_vec();
            stream.read_to_end(&mut bytes).map(|_| bytes)
        });
        let token = world.role("reader");
        let head = format!(
            "POST /a HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Length: 8000000\r\n\r\n"
        );
        let body = |at: u32| b'a' + (at % 23) as u8;
        let mut peer = Peer::connect(addr, 77).expect("connecting");
        peer.send(0, head.as_bytes());
        let start = head.len() as u32;
        // A busy machine answers late.
        eventually("the head acknowledged", Duration::from_secs(5), || {
            peer.take().expect("receiving");
            (peer.acked >= start).then_some(())
        });
        let mut sent = start;
        let piece = |from: u32, n: u32| (from..from + n).map(body).collect::<Vec<u8>>();
        // Fills the window; every other piece once more with other bytes.
        for round in 0..2000 {
            let n = peer.window.min(1400);
            if n == 0 || peer.acked < sent {
                break;
            }
            peer.send(sent, &piece(sent, n));
            if round % 2 == 0 {
                let back = 100.min(sent - start);
                peer.send(sent - back, &vec![b'!'; (back + n) as usize]);
            }
            sent = peer.acked;
        }
        assert!(peer.window < 1400, "{mode:?}: the window is {} after {} bytes", peer.window, peer.acked);
        // Beyond it: the first byte may still fit, nothing else.
        let full = peer.acked + peer.window;
        peer.send(full, &[b'!'; 1000]);
        assert!(peer.acked <= full, "{mode:?}: bytes beyond the window were taken");
        go.send(()).expect("the reader");
        let stop = full + 100_000;
        for _ in 0..500 {
            if peer.acked >= stop {
                break;
            }
            let n = (stop - peer.acked).min(1400).min(peer.window.max(1));
            peer.send(peer.acked, &piece(peer.acked, n));
            if n < 1400 {
                peer.take().expect("receiving");
            }
        }
        assert!(peer.acked >= stop, "{mode:?}: {} of {stop} bytes", peer.acked);
        peer.finish(stop);
        let bytes = reader.join().expect("the reader").expect("reading");
        let expected: Vec<u8> = head.bytes().chain(piece(start, stop - start)).collect();
        let differs = bytes.iter().zip(&expected).position(|(a, b)| a != b);
        assert_eq!((bytes.len(), differs), (expected.len(), None), "{mode:?}");
        drop(peer);
    }
}
