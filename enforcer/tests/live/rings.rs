//! What a server on io_uring reads, waits for, and is told.

use std::fs;
use std::io::ErrorKind;
use std::thread;
use std::time::Duration;

use portcullis_enforcer::kernel::DenyMode;
use portcullis_testkit::{Rng, eventually, need, seed};
use portcullis_wire::Mode;

use crate::client::{Client, get};
use crate::lifecycle::padded;
use crate::uring::{self, Reads, Uring};
use crate::world::{World, policy};

const ALL: [Reads; 3] = [Reads::Recv, Reads::Multishot, Reads::Read];

fn uring(world: &mut World, reads: Reads) -> Uring {
    let server = Uring::start(reads);
    world.apply(vec![policy(server.addr.port(), Mode::Enforce)]);
    server
}

/// Bodies of both framings, requests behind each other in one segment, and in many, with denied ones in between.
#[test]
fn io_uring_reads_what_is_allowed_and_nothing_else() {
    need!(Bpf, BpfFs, Cgroup2, IoUring);
    for reads in ALL {
        let mut world = World::new("uring");
        world.expect_agent_mode();
        let server = uring(&mut world, reads);
        let token = world.role("reader");
        let good = get("/a", Some(&token));
        let head = |framing| {
            format!("POST /a HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n{framing}\r\n\r\n")
        };
        let long = head("Content-Length: 200000") + &"x".repeat(200_000);
        let chunked = head("Transfer-Encoding: chunked") + "5\r\nhello\r\n0\r\n\r\n";
        let bad = get("/a", None);
        let (mut client, mut piped) = (Client::connect(server.addr), Client::connect(server.addr));
        let mut sent = 0;
        for _ in 0..20 {
            for request in [&good, &long, &chunked] {
                assert_eq!(client.ask(request).status, 200, "{reads:?}");
                assert_eq!(client.ask(&bad).status, 401, "{reads:?}");
                sent += request.len();
            }
            let several = good.repeat(5) + &chunked + &good;
            for segment in [several.len(), 200] {
                several.as_bytes().chunks(segment).for_each(|piece| piped.send(piece));
                for _ in 0..7 {
                    assert_eq!(piped.response().expect("an answer").status, 200, "{reads:?}");
                }
                sent += several.len();
            }
        }
        // Whose turn it is cannot be told any more: a denial ends the connection.
        piped.send(&bad);
        assert!(piped.ends(), "{reads:?}");
        eventually("the end", Duration::from_secs(5), || {
            let failures = server.failures();
            (!failures.is_empty()).then(|| assert_eq!(failures, [libc::ECONNABORTED], "{reads:?}"))
        });
        assert_eq!(server.seen().requests, 20 * 17, "{reads:?}");
        assert_eq!(server.seen().bytes, Some(sent as u64), "{reads:?}");
    }
}

/// Heads cut anywhere, several clients at once, some that go in the middle: exactly what is allowed is read. On a slow machine
/// the kernel may have to answer: there is room for that.
#[test]
fn io_uring_with_random_cuts() {
    need!(Bpf, BpfFs, Cgroup2, IoUring);
    let seed = seed();
    for reads in ALL {
        let mut world = World::new("uringcuts");
        world.expect_agent_mode();
        let server = uring(&mut world, reads);
        let good = get("/a", Some(&world.role("reader")));
        let requests =
            [(good.clone(), 200), (padded("/a"), 401), (get("/a", Some(&world.role("guest"))), 403)];
        let client = |rng: &mut Rng| {
            let mut client = Client::connect(server.addr);
            let mut allowed = 0;
            for _ in 0..rng.below(6) {
                let (request, status) = &requests[rng.below(3) as usize];
                let mut rest = request.as_bytes();
                let pieces = rng.below(4);
                for _ in 0..pieces {
                    let (piece, more) = rest.split_at(rng.below(rest.len() as u64) as usize);
                    client.send(piece);
                    rest = more;
                    thread::sleep(Duration::from_micros(rng.below(1000)));
                }
                client.send(rest);
                let response = client.response().expect("an answer");
                assert_eq!(response.status, *status, "{reads:?}");
                allowed += u64::from(*status == 200);
                if response.has("Connection: close") {
                    return allowed;
                }
            }
            client.send(&good[..rng.below(good.len() as u64) as usize]);
            allowed
        };
        let clients = |n| {
            let mut rng = Rng::new(seed ^ n);
            (0..50).map(|_| client(&mut rng)).sum::<u64>()
        };
        let allowed: u64 = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|n| scope.spawn(move || clients(n))).collect();
            threads.into_iter().map(|thread| thread.join().expect("a client")).sum()
        });
        let seen = server.seen();
        assert_eq!((seen.requests, seen.bytes), (allowed, Some(allowed * good.len() as u64)), "{reads:?}");
    }
}

/// Part of a head is withheld, and poll says that there is something: a ring asks a few times, and then waits.
#[test]
fn io_uring_waits_for_the_rest_of_a_head() {
    need!(Bpf, BpfFs, Cgroup2, IoUring);
    for reads in ALL {
        let mut world = World::new("uringpart");
        let server = uring(&mut world, reads);
        let good = get("/a", Some(&world.role("reader")));
        let (part, rest) = good.split_at(30);
        // The ring waits already; it does not yet; it has accepted nothing yet.
        for before in [Some(""), Some(good.as_str()), None] {
            let seen = server.seen();
            let mut client = Client::connect(server.addr);
            if let Some(before) = before {
                assert_eq!(client.ask(&good).status, 200);
                client.send(before.to_owned() + part);
            } else {
                client.send(part);
            }
            let start = on_cpu();
            thread::sleep(Duration::from_millis(500));
            // A thread of the kernel's may have ended.
            let took = on_cpu().saturating_sub(start);
            assert!(took < Duration::from_millis(50), "{reads:?}: {took:?} of half a second on a CPU");
            let more = before.map_or(0, |before| (good.len() + before.len()) as u64);
            assert_eq!(server.seen().bytes, seen.bytes.map(|bytes| bytes + more), "{reads:?}");
            if before == Some(&good) {
                assert_eq!(client.response().expect("an answer").status, 200);
            }
            client.send(rest);
            assert_eq!(client.response().expect("an answer").status, 200);
        }
        assert_eq!(server.failures(), [0; 0], "{reads:?}");
    }
}

/// How long the server's threads have been on a CPU.
fn on_cpu() -> Duration {
    let mut sum = 0;
    for task in fs::read_dir("/proc/self/task").expect("threads") {
        let path = task.expect("a thread").path();
        // A thread may end while it is looked at.
        let Ok(name) = fs::read_to_string(path.join("comm")) else { continue };
        let Ok(times) = fs::read_to_string(path.join("schedstat")) else { continue };
        if uring::is_its_thread(name.trim()) {
            sum += times.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).expect("nanoseconds");
        }
    }
    Duration::from_nanos(sum)
}

/// The kernel's own replies wake the reader for nothing. A ring asks again, but not for ever: the read may end with EAGAIN,
/// as one that blocks does. Nothing passes, and nobody stays without an answer or an end.
#[test]
fn io_uring_without_the_agent() {
    need!(Bpf, BpfFs, Cgroup2, IoUring);
    for reads in ALL {
        let mut world = World::with("uringalone", |config| config.deny_mode = Some(DenyMode::Kernel));
        let server = uring(&mut world, reads);
        let good = get("/a", Some(&world.role("reader")));
        let bad = format!("GET /a HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(100));
        let mut client = Client::connect(server.addr);
        assert_eq!(client.ask(&good).status, 200);
        for _ in 0..300 {
            match client.try_send(&bad).and_then(|()| client.response()) {
                Ok(response) => assert_eq!(response.status, 401, "{reads:?}"),
                Err(error) => {
                    assert_ne!(error.kind(), ErrorKind::WouldBlock, "{reads:?}: no answer and no end");
                    break;
                }
            }
        }
        // The read may also end after its denial has arrived.
        let last = client.try_send(&good).and_then(|()| client.response());
        match (last, &server.failures()[..]) {
            (Ok(response), []) => assert_eq!(response.status, 200, "{reads:?}"),
            (Err(error), [libc::EAGAIN]) => assert_ne!(error.kind(), ErrorKind::WouldBlock, "{reads:?}"),
            (last, failures) => panic!("{reads:?}: {last:?}, {failures:?}"),
        }
        assert_eq!(server.seen().bytes, Some(server.seen().requests * good.len() as u64));
    }
}
