//! Parts of a head are passed before it can be decided: no server may take such a part for a request.

use std::io::Read;
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use portcullis_testkit::need;
use portcullis_wire::Mode;

use crate::client::{Client, get};
use crate::servers::Server;
use crate::world::{World, policy};

/// What some server or other takes for the whole of a request, with or without the client's end behind it.
const FRAGMENTS: &[&str] = &[
    "GET /secret\r\n",
    "GET /secret\n",
    "GET /secret HTTP/1.1\n\n",
    "GET /secret HTTP/1.1\nHost: a\n\n",
    "GET /secret HTTP/1.1\r\nHost: a\n\n",
    "GET /secret HTTP/1.1\r\nHost: a\r\n\n",
    "GET /secret HTTP/1.1\r\nHost: a\n\r\n",
    "GET /secret HTTP/1.1\r\n\n",
    "GET /secret HTTP/1.0\n\n",
    "GET /secret HTTP/1.1\r\nHost: a\r\r",
    "GET /secret HTTP/1.1\r\nHost: a\r\n\r",
    "GET /secret HTTP/1.1\r\nHost: a\r\n",
    "GET /secret HTTP/1.1\r\nHost: a",
    "GET /secret HTTP/1.1\r\n",
    "GET /secret HTTP/1.1",
    "GET /secret",
    "\nGET /secret HTTP/1.1\nHost: a\n\n",
    "\r\nGET /secret HTTP/1.1\nHost: a\n\n",
];

fn suite(name: &str, start: impl FnOnce() -> Server) {
    let mut world = World::new(name);
    let server = start();
    world.apply(vec![policy(server.addr().port(), Mode::Enforce)]);
    let mut expected = server.seen().requests;
    let mut taken = Vec::new();
    for fragment in FRAGMENTS {
        for finished in [false, true] {
            let mut client = Client::connect(server.addr());
            if finished {
                client.send_last(fragment)
            } else {
                client.send(fragment)
            }
            client.timeout(Duration::from_millis(150));
            let answer = client.response();
            drop(client);
            thread::sleep(Duration::from_millis(20));
            let seen = server.seen().requests;
            if seen != expected {
                taken.push(format!("{fragment:?}, finished {finished}: {answer:?}"));
                expected = seen;
            }
        }
    }
    assert_eq!(taken, [] as [String; 0], "the application took these for requests");
    // It does take requests.
    let good = get("/secret", Some(&world.role("reader")));
    assert_eq!(Client::connect(server.addr()).ask(good).status, 200);
    assert_eq!(server.seen().requests, expected + 1);
}

#[test]
fn a_thread_for_each_connection() {
    need!(Bpf, BpfFs, Cgroup2);
    suite("threadsfrag", Server::threads);
}

#[test]
fn hyper() {
    need!(Bpf, BpfFs, Cgroup2);
    suite("hyperfrag", Server::hyper);
}

#[test]
fn nginx() {
    need!(Bpf, BpfFs, Cgroup2, Nginx);
    suite("nginxfrag", Server::nginx);
}

#[test]
fn node() {
    need!(Bpf, BpfFs, Cgroup2, Tool("node"));
    suite("nodefrag", Server::node);
}

#[test]
fn go() {
    need!(Bpf, BpfFs, Cgroup2, Tool("go"));
    suite("gofrag", Server::go);
}

#[test]
fn java() {
    need!(Bpf, BpfFs, Cgroup2, Tool("javac"));
    suite("javafrag", Server::java);
}

/// Its standard library takes EAGAIN for the end of the stream, and so for the end of a head that it holds a part of.
#[test]
fn python() {
    need!(Bpf, BpfFs, Cgroup2, Tool("python3"));
    suite("pythonfrag", Server::python);
}

/// A server that takes the end of the stream for the end of a head, as some do, and counts how often it has.
struct Eager {
    addr: SocketAddr,
    acted: Arc<AtomicUsize>,
}

impl Eager {
    fn start() -> Eager {
        let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).expect("listening");
        let (addr, acted) = (listener.local_addr().expect("an address"), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&acted);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let count = Arc::clone(&count);
                thread::spawn(move || {
                    let (mut held, mut buffer) = (0, [0; 4096]);
                    loop {
                        match stream.read(&mut buffer) {
                            Ok(0) => break,
                            Ok(n) => held += n,
                            // Woken for nothing, or the connection was destroyed: no end of a stream.
                            Err(_) => return,
                        }
                    }
                    count.fetch_add(usize::from(held > 0), Ordering::SeqCst);
                });
            }
        });
        Eager { addr, acted }
    }
}

fn eager(name: &str) -> (World, Eager) {
    let mut world = World::new(name);
    let server = Eager::start();
    world.apply(vec![policy(server.addr.port(), Mode::Enforce)]);
    (world, server)
}

/// Whether the part was allowed is known when its token is judged, and not before.
#[test]
fn a_head_in_two_segments_whose_token_is_bad_stays_without_an_end() {
    need!(Bpf, BpfFs, Cgroup2);
    let (world, server) = eager("torntoken");
    let bad = world.token(serde_json::json!({ "iss": "https://other.example" }));
    for _ in 0..20 {
        let mut client = Client::connect(server.addr);
        client.send("GET /secret HTTP/1.1\r\nHost: a\r\n");
        thread::sleep(Duration::from_millis(5));
        client.send(format!("Authorization: Bearer {bad}\r\n\r\n"));
        assert_eq!(client.response().expect("a denial").status, 401);
        drop(client);
    }
    thread::sleep(Duration::from_millis(300));
    assert_eq!(server.acted.load(Ordering::SeqCst), 0);
}

/// Extension headers move the TCP header: what stands where it would be is the client's to choose.
#[test]
fn an_end_behind_extension_headers_is_an_end() {
    need!(Root, Bpf, BpfFs, Cgroup2);
    let (world, server) = eager("extension");
    // Destination options: eight bytes, of which PadN takes the last six (RFC 8200 section 4.2).
    let options: [u8; 8] = [0, 0, 1, 4, 0, 0, 0, 0];
    let heads = 16;
    for _ in 0..heads {
        let client = TcpStream::connect(server.addr).expect("connecting");
        // SAFETY: the descriptor is open and the options live through the call.
        let set = unsafe {
            libc::setsockopt(
                client.as_raw_fd(),
                libc::IPPROTO_IPV6,
                libc::IPV6_DSTOPTS,
                options.as_ptr().cast(),
                options.len() as libc::socklen_t,
            )
        };
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
        let mut client = Client::over(client);
        client.send("GET /secret HTTP/1.1\r\nHost: a\r\n");
        thread::sleep(Duration::from_millis(10));
        drop(client);
    }
    thread::sleep(Duration::from_millis(300));
    assert_eq!(server.acted.load(Ordering::SeqCst), 0);
    // Each head came through, and each end was held back.
    let stats = world.stats();
    assert!(stats.passed_bytes >= heads * 30 && stats.guard_dropped >= heads, "{stats:?}");
}
