//! Parts of a head come before it can be decided: no server may take such a part for a request.

use std::io::{self, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use portcullis_enforcer::kernel::DenyMode;
use portcullis_testkit::{eventually, need};
use portcullis_wire::{Mode, Policy};

use crate::app::{App, Manner, await_readable};
use crate::client::{Client, get};
use crate::servers::Server;
use crate::uring::Reads;
use crate::world::{World, policy};

/// What some server or other takes for the whole of a request, with or without the client's end behind it.
const FRAGMENTS: &[&str] = &[
    "GET /secret\r\n",
    "GET /secret \r\n",
    "GET /secret \n",
    "GET  /s\r\n",
    "GET /secret HTTP/1.\r\n",
    "GET /secret HTTP/1.1\n",
    "GET http:\r\n",
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

/// A head broken off at every place, with every end of line that somebody takes for one.
fn broken_off() -> Vec<String> {
    let (head, ends) =
        ("GET /s HTTP/1.1\r\nHost: a\r\n", ["\r\n", "\n", " \r\n", " \n", "\r", "\r\r\n", "\n\n", "\0\n"]);
    (0..=head.len()).flat_map(move |cut| ends.map(|end| format!("{}{end}", &head[..cut]))).collect()
}

/// Those of the fragments, one after the other, that the application took for requests.
fn taken<'a>(server: &Server, fragments: impl IntoIterator<Item = &'a str>, finished: bool) -> Vec<String> {
    let mut taken = Vec::new();
    let mut expected = server.seen().requests;
    for fragment in fragments {
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
    taken
}

fn suite(name: &str, start: impl FnOnce() -> Server) {
    let mut world = World::new(name);
    let server = start();
    world.apply(vec![policy(server.addr().port(), Mode::Enforce)]);
    for finished in [false, true] {
        assert_eq!(taken(&server, FRAGMENTS.iter().copied(), finished), [] as [String; 0]);
    }
    let expected = server.seen().requests;
    let broken_off = broken_off();
    let send = |fragment| {
        let mut client = Client::connect(server.addr());
        client.send(fragment);
        client
    };
    // A few at once, as many as have workers; one by one only to say which it was.
    for few in broken_off.chunks(4) {
        let clients: Vec<Client> = few.iter().map(send).collect();
        thread::sleep(Duration::from_millis(10));
        drop(clients);
    }
    thread::sleep(Duration::from_millis(100));
    let acted = server.seen().requests - expected;
    if acted > 0 {
        panic!("{acted} taken, of {:?}", taken(&server, broken_off.iter().map(String::as_str), false));
    }
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
fn io_uring_recv() {
    need!(Bpf, BpfFs, Cgroup2, IoUring);
    suite("uringrecvfrag", || Server::io_uring(Reads::Recv));
}

#[test]
fn io_uring_multishot() {
    need!(Bpf, BpfFs, Cgroup2, IoUring);
    suite("uringmultishotfrag", || Server::io_uring(Reads::Multishot));
}

#[test]
fn io_uring_read() {
    need!(Bpf, BpfFs, Cgroup2, IoUring);
    suite("uringreadfrag", || Server::io_uring(Reads::Read));
}

#[test]
fn nginx() {
    need!(Bpf, BpfFs, Cgroup2, Nginx);
    suite("nginxfrag", Server::nginx);
}

#[test]
fn apache() {
    need!(Bpf, BpfFs, Cgroup2, Tool("apache2"));
    suite("apachefrag", Server::apache);
}

/// The part of a head that it gets before it sets its socket to block is read on with blocking calls.
#[test]
fn gunicorn() {
    need!(Bpf, BpfFs, Cgroup2, Tool("gunicorn"));
    suite("gunicornfrag", Server::gunicorn);
}

#[test]
fn node() {
    need!(Bpf, BpfFs, Cgroup2, Tool("node"));
    suite("nodefrag", Server::node);
}

#[test]
fn go() {
    need!(Bpf, BpfFs, Cgroup2, Go);
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

/// A server that takes the end of the stream for the end of a head, as some do, and counts how often it has; when its
/// reads block, a wake-up for nothing too.
struct Eager {
    addr: SocketAddr,
    acted: Arc<AtomicUsize>,
    read: Arc<AtomicUsize>,
}

impl Eager {
    fn start(blocking: bool) -> Eager {
        let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).expect("listening");
        let addr = listener.local_addr().expect("an address");
        let eager = Eager { addr, acted: Arc::default(), read: Arc::default() };
        let (acted, read) = (Arc::clone(&eager.acted), Arc::clone(&eager.read));
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (acted, read) = (Arc::clone(&acted), Arc::clone(&read));
                stream.set_nonblocking(!blocking).expect("blocking or not");
                thread::spawn(move || {
                    let (mut held, mut buffer) = (0, [0; 4096]);
                    loop {
                        match stream.read(&mut buffer) {
                            Ok(0) => break,
                            Ok(n) => {
                                held += n;
                                read.fetch_add(n, Ordering::SeqCst);
                            }
                            Err(error) if error.kind() == io::ErrorKind::WouldBlock && blocking => break,
                            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                                await_readable(&stream).expect("waiting");
                            }
                            // The connection was destroyed: no end of a stream.
                            Err(_) => return,
                        }
                    }
                    acted.fetch_add(usize::from(held > 0), Ordering::SeqCst);
                });
            }
        });
        eager
    }

    fn acted(&self) -> usize {
        self.acted.load(Ordering::SeqCst)
    }

    fn read(&self) -> usize {
        self.read.load(Ordering::SeqCst)
    }
}

fn eager(name: &str, blocking: bool) -> (World, Eager) {
    let mut world = World::new(name);
    let server = Eager::start(blocking);
    world.apply(vec![policy(server.addr.port(), Mode::Enforce)]);
    (world, server)
}

/// A client whose connection the server has accepted, and has made what it wants it to be.
fn accepted(addr: SocketAddr) -> Client {
    let client = Client::connect(addr);
    thread::sleep(Duration::from_millis(5));
    client
}

/// Whether the part was allowed is known when its token is judged, and not before.
#[test]
fn a_head_in_two_segments_whose_token_is_bad_stays_without_an_end() {
    need!(Bpf, BpfFs, Cgroup2);
    for blocking in [false, true] {
        let (world, server) = eager("torntoken", blocking);
        let bad = world.token(serde_json::json!({ "iss": "https://other.example" }));
        for _ in 0..20 {
            let mut client = accepted(server.addr);
            client.send("GET /secret HTTP/1.1\r\nHost: a\r\n");
            thread::sleep(Duration::from_millis(5));
            client.send(format!("Authorization: Bearer {bad}\r\n\r\n"));
            assert_eq!(client.response().expect("a denial").status, 401);
            drop(client);
        }
        thread::sleep(Duration::from_millis(300));
        assert_eq!((server.acted(), server.read() > 0), (0, !blocking));
    }
}

/// However the connection ends, and with an agent or without: a read that blocks is told EAGAIN by any wake-up.
#[test]
fn a_read_that_blocks_gets_nothing_of_a_head_that_is_not_decided() {
    need!(Bpf, BpfFs, Cgroup2);
    let (mut world, server) = eager("withheld", true);
    for with_agent in [true, false] {
        if !with_agent {
            drop(world.datapath.take());
        }
        for fragment in FRAGMENTS {
            for end in [Client::finish, Client::abort, |_: &Client| ()] {
                let mut client = accepted(server.addr);
                client.send(fragment);
                thread::sleep(Duration::from_millis(2));
                end(&client);
                client.timeout(Duration::from_millis(20));
                drop(client.response());
                drop(client);
                assert_eq!((server.acted(), server.read()), (0, 0), "{fragment:?}");
            }
        }
    }
    world.restart();
    assert_eq!(world.stats().passed_bytes, 0, "{:?}", world.stats());
}

/// Clients that never end their head take no room for ever.
#[test]
fn a_head_that_never_ends_is_cut_off() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::with("endless", |config| {
        config.head_within = Duration::from_secs(1);
        config.limits.split_heads = 8;
    });
    let (blocking, other) = (App::local(), App::nonblocking());
    let monitored = App::local();
    let of = |app: &App, mode| Policy { id: app.port().to_string(), ..policy(app.port(), mode) };
    world.apply(vec![of(&blocking, Mode::Enforce), of(&other, Mode::Enforce), of(&monitored, Mode::Monitor)]);
    let head = get("/a", Some(&world.role("reader")));
    let (part, rest) = head.split_at(30);
    let open = |addr| {
        let mut client = accepted(addr);
        client.send(part);
        client
    };
    let mut watched = open(monitored.addr);
    let mut clients: Vec<Client> = (0..7).map(|n| open([&blocking, &other][n % 2].addr)).collect();
    // Heads in parts have no room now; others have.
    eventually("no room", Duration::from_secs(1), || {
        let mut client = open(blocking.addr);
        client.timeout(Duration::from_millis(100));
        client.response().ok().filter(|response| response.status == 503)
    });
    assert_eq!(Client::connect(blocking.addr).ask(&head).status, 200);
    for client in &mut clients {
        client.timeout(Duration::from_secs(5));
        assert!(client.ends(), "the connection stays");
    }
    // There is room again, and monitoring ended nothing.
    let mut client = open(blocking.addr);
    client.send(rest);
    assert_eq!(client.response().expect("an answer").status, 200);
    watched.send(rest);
    assert_eq!(watched.response().expect("an answer").status, 200);
    assert_eq!((blocking.requests(), other.requests()), (2, 0));
}

/// A part that came before the application had set its socket not to block is withheld, and shows in poll for ever. Such
/// connections end; those whose reads do block are left to wait.
#[test]
fn an_application_does_not_go_round_in_circles_for_long() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("circles");
    let app = App::mannered(Manner { sets_after: Duration::from_millis(50), ..Manner::nonblocking() });
    let blocking = App::local();
    let of = |app: &App| Policy { id: app.port().to_string(), ..policy(app.port(), Mode::Enforce) };
    world.apply(vec![of(&app), of(&blocking)]);
    let head = get("/a", Some(&world.role("reader")));
    let (part, rest) = head.split_at(30);
    let mut waiting = accepted(blocking.addr);
    waiting.send(part);
    let mut client = accepted(app.addr);
    client.send(part);
    client.timeout(Duration::from_secs(10));
    assert!(client.ends(), "the connection stays");
    // The part is not read by anybody.
    assert_eq!(app.bytes(), b"");
    assert_eq!(Client::connect(app.addr).ask(&head).status, 200);
    thread::sleep(Duration::from_secs(2));
    waiting.send(rest);
    assert_eq!(waiting.response().expect("an answer").status, 200);
}

/// How the last of the requests below ends.
const LAST: &[u8] = b"Host: last\r\n\r\n";

/// What was withheld is counted once: a head that came in pieces leaves nothing behind that poll would report.
#[test]
fn a_head_that_was_withheld_arrives_whole_and_once() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("whole");
    let server = TcpListener::bind("127.0.0.1:0").expect("listening");
    let addr = server.local_addr().expect("an address");
    world.apply(vec![policy(addr.port(), Mode::Enforce)]);
    let token = world.role("reader");
    let app = thread::spawn(move || {
        let (mut stream, _) = server.accept().expect("a connection");
        let mut all = Vec::new();
        let mut chunk = vec![0; 65_536];
        loop {
            let read = stream.read(&mut chunk).expect("no wake-up for nothing");
            if read == 0 {
                return all;
            }
            all.extend(&chunk[..read]);
            assert!(all.ends_with(b"\r\n\r\n"), "a part of a head: {}", chunk[..read].escape_ascii());
            // What is withheld shows here until it arrives.
            let more = all.windows(9).any(|window| window == b"GET /more") && !all.ends_with(LAST);
            assert_eq!(is_readable(&stream), more, "{}", all[all.len() - read..].escape_ascii());
            stream.write_all(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n").expect("answering");
        }
    });
    let mut client = accepted(addr);
    let mut sent = Vec::new();
    // Of 12,000 bytes the start of the buffer moves in three steps.
    for filler in [0, 300, 3000, 12_000] {
        let head = format!("GET /a HTTP/1.1\r\nHost: a\r\nX: {}\r\n", "x".repeat(filler));
        let head = format!("{head}Authorization: Bearer {token}\r\n\r\n");
        for pieces in [1, 2, 3, 7] {
            for piece in head.as_bytes().chunks(head.len().div_ceil(pieces)) {
                client.send(piece);
                thread::sleep(Duration::from_millis(2));
            }
            assert_eq!(client.response().expect("an answer").status, 204);
            sent.extend(head.as_bytes());
        }
    }
    // The next request's beginning in the segment of the one before.
    let next = format!("GET /b HTTP/1.1\r\nAuthorization: Bearer {token}\r\nHost: last\r\n\r\n");
    let (part, rest) = next.split_at(40);
    client.send(get("/more", Some(&token)) + part);
    assert_eq!(client.response().expect("an answer").status, 204);
    client.send(rest);
    assert_eq!(client.response().expect("an answer").status, 204);
    sent.extend((get("/more", Some(&token)) + &next).into_bytes());
    drop(client);
    assert!(app.join().expect("the application") == sent);
}

/// A denied head that was withheld is answered as a whole one, and closes: what it closes with is not the reader's matter.
#[test]
fn the_kernel_alone_denies_a_head_that_was_withheld() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::with("withheldkernel", |config| config.deny_mode = Some(DenyMode::Kernel));
    let app = App::patient();
    world.apply(vec![policy(app.port(), Mode::Enforce)]);
    let mut client = accepted(app.addr);
    client.send(format!("GET /secret HTTP/1.1\r\nHost: a\r\nX: {}\r\n", "x".repeat(100)));
    thread::sleep(Duration::from_millis(5));
    // Too short for an answer by itself.
    client.send("\r\n");
    let response = client.response().expect("a denial");
    assert_eq!((response.status, response.has("Connection: close")), (401, true), "{response:?}");
    assert_eq!((app.requests(), app.bytes().len()), (0, 0));
}

/// Extension headers move the TCP header: what stands where it would be is the client's to choose.
#[test]
fn an_end_behind_extension_headers_is_an_end() {
    need!(Root, Bpf, BpfFs, Cgroup2);
    let (world, server) = eager("extension", false);
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
        thread::sleep(Duration::from_millis(10));
        client.send("GET /secret HTTP/1.1\r\nHost: a\r\n");
        thread::sleep(Duration::from_millis(10));
        drop(client);
    }
    thread::sleep(Duration::from_millis(300));
    assert_eq!(server.acted(), 0);
    // Each head came through, and each end was held back.
    let stats = world.stats();
    assert!(stats.passed_bytes >= heads * 30 && stats.guard_dropped >= heads, "{stats:?}");
}

pub fn is_readable(stream: &TcpStream) -> bool {
    let mut poll = libc::pollfd { fd: stream.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: the structure lives through the call, and it is one.
    unsafe { libc::poll(&mut poll, 1, 0) == 1 }
}
