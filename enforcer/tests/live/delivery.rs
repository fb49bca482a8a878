//! A4: every client gets the whole denial, whatever the server is, and the server sleeps on.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use portcullis_enforcer::kernel::DenyMode;
use portcullis_testkit::{emulated, eventually, need};
use portcullis_wire::Mode;

use crate::client::{Client, get};
use crate::servers::Server;
use crate::uring::Reads;
use crate::world::{World, policy};

/// Clients of each kind of request.
const CLIENTS: usize = 100;
/// At a time.
const THREADS: usize = 20;
/// Of what fails because the agent was late.
const ATTEMPTS: usize = 5;
/// Denials for which a server must not be woken.
const ASLEEP: u64 = 100;

/// Begin what is said of a connection that ended before its denial, and after it.
const UNANSWERED: &str = "no denial";
const AFTER: &str = "after the denial";
const SPLIT: &str = "head in two segments";

/// A request that is denied.
struct Case {
    name: &'static str,
    /// Sent with a pause in between.
    segments: Vec<Vec<u8>>,
    status: u16,
    /// The connection can be used after it.
    goes_on: bool,
}

fn cases(world: &World) -> Vec<Case> {
    let guest = world.role("guest");
    let whole = |name, request: &str, status| Case {
        name,
        segments: vec![request.as_bytes().to_vec()],
        status,
        goes_on: true,
    };
    let post = "POST /a HTTP/1.1\r\nHost: app.example\r\nContent-Length: 5\r\n\r\n";
    let upload = "POST /a HTTP/1.1\r\nHost: app.example\r\nContent-Length: 200000\r\n\r\n";
    let pieces = |name, segments: &[&[u8]], status| Case {
        name,
        segments: segments.iter().map(|s| s.to_vec()).collect(),
        status,
        goes_on: false,
    };
    vec![
        whole("401", &get("/orders/1?of=a-request-of-the-usual-length", None), 401),
        whole("403", &get("/orders/1", Some(&guest)), 403),
        whole("26 bytes", "GET / HTTP/1.1\r\nHost:a\r\n\r\n", 401),
        whole("with a body", &format!("{post}hello"), 401),
        whole("HEAD", "HEAD /orders/1 HTTP/1.1\r\nHost: app.example\r\n\r\n", 401),
        pieces("18 bytes", &[b"GET / HTTP/1.0\r\n\r\n"], 401),
        pieces("18 bytes of nonsense", &[b"GET / HTTP/3.1\r\n\r\n"], 400),
        pieces("body behind the head", &[post.as_bytes(), b"hello"], 401),
        pieces("a body of 200 kB", &[&[upload.as_bytes(), &[b'x'; 200_000]].concat()], 401),
        pieces(SPLIT, &[b"GET /orders/1 HTTP/1.1\r\nHo", b"st: app.example\r\n\r\n"], 401),
    ]
}

/// One client: whether it got all that it should have. Counts what it was allowed.
fn deliver(
    server: &Server,
    case: &Case,
    good: &str,
    first: bool,
    passed: &AtomicUsize,
) -> Result<(), String> {
    let mut client = Client::connect(server.addr());
    let allowed =
        |client: &mut Client, when: &str| match client.try_send(good).and_then(|()| client.response()) {
            Ok(response) if response.status == 200 => {
                passed.fetch_add(1, Ordering::SeqCst);
                Ok(())
            }
            other => Err(format!("{when}: {other:?}")),
        };
    if !first {
        allowed(&mut client, "before the denial")?;
    }
    for (n, segment) in case.segments.iter().enumerate() {
        if n > 0 {
            thread::sleep(Duration::from_millis(2));
        }
        // An answer that closes may come before all is sent.
        drop(client.try_send(segment));
    }
    let response = if case.name == "HEAD" { client.head_response() } else { client.response() };
    match response {
        Ok(response) if response.status == case.status => {}
        // In order, as a server ends what it takes for ended. A reset is another fault.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            return Err(format!("{UNANSWERED}: {error:?}"));
        }
        other => return Err(format!("the denial: {other:?}")),
    }
    if case.goes_on { allowed(&mut client, AFTER) } else { Ok(()) }
}

/// All cases against one server: what it read is what was allowed, and nothing else.
fn suite(name: &str, start: impl FnOnce() -> Server) {
    let mut world = World::new(name);
    world.expect_agent_mode();
    let server = start();
    world.apply(vec![policy(server.addr().port(), Mode::Enforce)]);
    let good = get("/orders/1", Some(&world.role("reader")));
    let mut expected = server.seen();
    for case in cases(&world) {
        let delivered = unless_late(&world, || {
            let (next, passed) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let work = || {
                let clients = std::iter::repeat_with(|| next.fetch_add(1, Ordering::SeqCst));
                let one = |n: usize| deliver(&server, &case, &good, n.is_multiple_of(2), &passed).err();
                clients.take_while(|n| *n < CLIENTS).filter_map(one).collect::<Vec<_>>()
            };
            let errors: Vec<String> = thread::scope(|scope| {
                let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
                threads.into_iter().flat_map(|thread| thread.join().expect("a client")).collect()
            });
            let passed = passed.into_inner();
            expected.requests += passed as u64;
            expected.bytes = expected.bytes.map(|bytes| bytes + (passed * good.len()) as u64);
            let seen = server.seen();
            // Of a head in pieces an application whose reads do not block may hold what came before the last one.
            let part = if case.name == SPLIT { (CLIENTS * case.segments[0].len()) as u64 } else { 0 };
            let more =
                seen.bytes.zip(expected.bytes).map_or(0, |(seen, expected)| seen.wrapping_sub(expected));
            assert!(
                seen.requests == expected.requests && more <= part,
                "{}: the application read {seen:?}, expected {expected:?} and at most {part} bytes; {errors:?}",
                case.name
            );
            expected.bytes = seen.bytes;
            if let Some(first) = errors.first() {
                let lost = errors.len();
                let said = format!("{}: {lost} of {CLIENTS}, for example {first}", case.name);
                // Each a connection that such a server closed because its read ended for nothing.
                let ended = |error: &String| [UNANSWERED, AFTER].iter().any(|how| error.starts_with(how));
                let awake = errors.iter().all(ended);
                return Err(if awake && server.reads_block() { Failure::Woken(said) } else { said.into() });
            }
            assert_eq!(passed, CLIENTS / 2 + if case.goes_on { CLIENTS } else { 0 }, "{}", case.name);
            Ok(())
        });
        assert_eq!(delivered, Ok(()));
    }
    let slept = unless_late(&world, || match asleep(&server, &good, &get("/orders/1", None))? {
        woken if woken < ASLEEP / 4 => Ok(()),
        woken => Err(format!("{ASLEEP} denials, and the application was woken {woken} times").into()),
    });
    assert_eq!(slept, Ok(()));
}

/// Why a step failed.
#[derive(Debug, Eq, PartialEq)]
enum Failure {
    /// Only because reads of the application ended for nothing.
    Woken(String),
    Other(String),
}

impl From<String> for Failure {
    fn from(said: String) -> Failure {
        Failure::Other(said)
    }
}

/// What `attempt` says. It is repeated where it failed for what happens on emulated machines:
/// - the kernel had answered by itself, because the agent was late. Those replies are shorter and wake the application;
/// - reads ended for nothing, in a moment that stretches when a processor stands still (docs/KERNELS.md). On other machines
///   that counts as a failure.
fn unless_late(world: &World, mut attempt: impl FnMut() -> Result<(), Failure>) -> Result<(), Failure> {
    let mut left = ATTEMPTS;
    loop {
        let before = world.stats().replies_kernel;
        let result = attempt();
        left -= 1;
        let alone = world.stats().replies_kernel - before;
        match &result {
            Err(failure) if left > 0 && alone > 0 => {
                eprintln!("again, for the kernel answered {alone} times by itself: {failure:?}");
            }
            Err(Failure::Woken(said)) if left > 0 && emulated() => eprintln!("again: {said}"),
            _ => return result,
        }
    }
}

/// How often the server went to sleep anew while a connection that it knows was sent denied requests.
fn asleep(server: &Server, good: &str, bad: &str) -> Result<u64, String> {
    let mut client = Client::connect(server.addr());
    assert_eq!(client.ask(good).status, 200);
    let mut last = u64::MAX;
    eventually("a quiet application", Duration::from_secs(10), || {
        thread::sleep(Duration::from_millis(100));
        let now = server.sleeps();
        (std::mem::replace(&mut last, now) == now).then_some(())
    });
    for _ in 0..ASLEEP {
        let response = client.ask(bad);
        if response.status != 401 {
            return Err(format!("the denial: {response:?}"));
        }
        // Two wake-ups in a row without sleep between them would count as one.
        thread::sleep(Duration::from_millis(1));
    }
    Ok(server.sleeps() - last)
}

#[test]
fn a_thread_for_each_connection() {
    need!(Bpf, BpfFs, Cgroup2);
    suite("threads", Server::threads);
}

#[test]
fn hyper() {
    need!(Bpf, BpfFs, Cgroup2);
    suite("hyper", Server::hyper);
}

#[test]
fn io_uring_recv() {
    need!(Bpf, BpfFs, Cgroup2, IoUring);
    suite("uringrecv", || Server::io_uring(Reads::Recv));
}

#[test]
fn io_uring_multishot() {
    need!(Bpf, BpfFs, Cgroup2, IoUring);
    suite("uringmultishot", || Server::io_uring(Reads::Multishot));
}

#[test]
fn io_uring_read() {
    need!(Bpf, BpfFs, Cgroup2, IoUring);
    suite("uringread", || Server::io_uring(Reads::Read));
}

#[test]
fn nginx() {
    need!(Bpf, BpfFs, Cgroup2, Nginx);
    suite("nginx", Server::nginx);
}

#[test]
fn apache() {
    need!(Bpf, BpfFs, Cgroup2, Tool("apache2"));
    suite("apache", Server::apache);
}

/// The part of a head that it gets before it sets its socket to block is read on with blocking calls.
#[test]
fn gunicorn() {
    need!(Bpf, BpfFs, Cgroup2, Tool("gunicorn"));
    suite("gunicorn", Server::gunicorn);
}

#[test]
fn node() {
    need!(Bpf, BpfFs, Cgroup2, Tool("node"));
    suite("node", Server::node);
}

#[test]
fn go() {
    need!(Bpf, BpfFs, Cgroup2, Go);
    suite("go", Server::go);
}

#[test]
fn java() {
    need!(Bpf, BpfFs, Cgroup2, Tool("javac"));
    suite("java", Server::java);
}

#[test]
fn python() {
    need!(Bpf, BpfFs, Cgroup2, Tool("python3"));
    suite("python", Server::python);
}

/// The count of wake-ups shows those of the kernel's own replies: it would show others, too.
#[test]
fn without_the_agent_the_application_is_woken() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::with("woken", |config| config.deny_mode = Some(DenyMode::Kernel));
    let server = Server::hyper();
    world.apply(vec![policy(server.addr().port(), Mode::Enforce)]);
    let good = get("/orders/1", Some(&world.role("reader")));
    let bad = format!("GET /orders/1 HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(100));
    let woken = asleep(&server, &good, &bad).expect("denials");
    assert!(woken >= ASLEEP / 2, "{woken}");
}
