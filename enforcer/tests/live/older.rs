//! Connections that are older than the protection of their port: observed where it monitors, ended where it enforces.

use std::io::{ErrorKind, Read};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use portcullis_enforcer::agent::AgentConfig;
use portcullis_enforcer::compile::compile;
use portcullis_testkit::{NetNs, TestCgroup, eventually, need};
use portcullis_wire::{Mode, Policy, Verdict};

use crate::app::App;
use crate::client::{Client, get, once};
use crate::plane::Plane;
use crate::sync::agent_with;
use crate::world::{World, policy};

const LOCAL: &str = "127.0.0.1:0";

/// Connections that `world`'s ports monitor without seeing them.
fn unseen(world: &World) -> usize {
    world.datapath().prober().unseen().expect("a count")
}

#[test]
fn a_connection_older_than_monitoring_is_observed() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("adopt");
    let app = App::polling(LOCAL);
    let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(app.addr)).collect();
    for client in &mut clients {
        assert_eq!(client.ask(get("/a", None)).status, 200);
    }
    world.apply(vec![policy(app.port(), Mode::Monitor)]);
    assert_eq!(unseen(&world), 0);
    let token = world.role("reader");
    for client in &mut clients {
        assert_eq!(client.ask(get("/a", None)).status, 200);
        assert_eq!(client.ask(get("/a", Some(&token))).status, 200);
    }
    assert_eq!((world.verdicts(Verdict::WouldDeny), world.verdicts(Verdict::Allow)), (20, 20));
    assert_eq!((world.verdicts(Verdict::Deny), app.requests(), app.errors()), (0, 60, 0));
    // What is kept of them goes with them.
    let kept = || world.datapath().prober().adopted().expect("a count");
    assert_eq!(kept(), 20);
    clients.truncate(5);
    eventually("what is kept of those that ended", Duration::from_secs(5), || (kept() == 5).then_some(()));
    assert_eq!(clients[0].ask(get("/a", None)).status, 200);
}

/// What the process may not do to one connection keeps others from nothing, and the connection passes nothing.
#[test]
fn a_connection_that_cannot_be_destroyed_keeps_no_other_from_being_observed() {
    need!(Root, Bpf, BpfFs, Cgroup2);
    let mut world = World::new("undestroyed");
    let (enforced, monitored) = (App::local(), App::polling(LOCAL));
    let mut old = Client::connect(enforced.addr);
    let mut watched = Client::connect(monitored.addr);
    assert_eq!((old.ask(get("/a", None)).status, watched.ask(get("/a", None)).status), (200, 200));
    let policies = vec![
        Policy { id: "enforced".into(), ..policy(enforced.port(), Mode::Enforce) },
        Policy { id: "monitored".into(), ..policy(monitored.port(), Mode::Monitor) },
    ];
    let apply = |world: &mut World, version| {
        let compiled = compile(&world.bundle(version, policies.clone())).expect("a valid bundle");
        world.datapath.as_mut().expect("a running datapath").apply(Arc::new(compiled))
    };
    let without = WithoutNetAdmin::new();
    let applied = apply(&mut world, 1);
    drop(without);
    let error = applied.expect_err("destroying takes CAP_NET_ADMIN").to_string();
    assert!(error.contains("destroy a connection"), "{error}");
    assert_eq!(watched.ask(get("/a", None)).status, 200);
    assert_eq!((unseen(&world), world.verdicts(Verdict::WouldDeny)), (0, 1));
    old.timeout(Duration::from_millis(200));
    old.send(get("/a", None));
    assert!(old.response().is_err());
    assert_eq!(enforced.requests(), 1);
    apply(&mut world, 2).expect("applied");
    old.timeout(Duration::from_secs(5));
    assert!(old.ends(), "the connection stays");
    assert_eq!((enforced.requests(), watched.ask(get("/a", None)).status), (1, 200));
}

/// This thread lacks CAP_NET_ADMIN; on drop it has what it had.
struct WithoutNetAdmin([u32; 6]);

// === impl WithoutNetAdmin ===

impl WithoutNetAdmin {
    fn new() -> WithoutNetAdmin {
        let mut had = [0; 6];
        capabilities(libc::SYS_capget, &mut had);
        let mut less = had;
        // The first of the effective ones' two words.
        less[0] &= !(1 << 12);
        capabilities(libc::SYS_capset, &mut less);
        WithoutNetAdmin(had)
    }
}

impl Drop for WithoutNetAdmin {
    fn drop(&mut self) {
        capabilities(libc::SYS_capset, &mut self.0);
    }
}

/// capget(2) or capset(2) of this thread: effective, permitted and inheritable, 32 bits of each, and then the others.
fn capabilities(call: libc::c_long, sets: &mut [u32; 6]) {
    // _LINUX_CAPABILITY_VERSION_3, and this thread.
    let mut header = [0x2008_0522_u32, 0];
    // SAFETY: header and sets are of the sizes of this version, and live through the call.
    let done = unsafe { libc::syscall(call, header.as_mut_ptr(), sets.as_mut_ptr()) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

/// In the middle of a head, of a body, of what the application has read of a segment: every byte arrives, once, and what
/// cannot be understood is passed unread until a request begins.
#[test]
fn an_adoption_in_the_middle_of_a_request_changes_no_byte() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("middle");
    let app = App::polling(LOCAL);
    let post = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 400\r\n\r\n".to_owned() + &"b".repeat(400);
    let whole = get("/a", None);
    for (request, cut) in [(&whole, 10), (&post, 20), (&post, 120), (&post, 440)] {
        let mut client = Client::connect(app.addr);
        let before = app.bytes().len();
        client.send(&request[..cut]);
        eventually("what came first", Duration::from_secs(5), || {
            (app.bytes().len() == before + cut).then_some(())
        });
        world.apply(vec![policy(app.port(), Mode::Monitor)]);
        let records = world.records().len();
        client.send(&request[cut..]);
        assert_eq!(client.response().expect("an answer").status, 200, "cut at {cut}");
        assert_eq!(app.bytes()[before..], *request.as_bytes(), "cut at {cut}");
        assert_eq!(world.records().len(), records, "cut at {cut}: half a request was decided");
        assert_eq!(client.ask(get("/b", None)).status, 200);
        assert_eq!(world.records().len(), records + 1, "cut at {cut}");
        drop(client);
        world.apply(Vec::new());
    }
    assert_eq!(app.errors(), 0);
}

/// Bytes that have arrived and were not read, or only in part, when the connection is adopted.
#[test]
fn what_waits_to_be_read_at_an_adoption_is_read_once() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("waits");
    let listener = TcpListener::bind(LOCAL).expect("listening");
    let addr = listener.local_addr().expect("an address");
    for taken in [0, 7, 60] {
        let mut client = Client::connect(addr);
        let (mut stream, _) = listener.accept().expect("accepted");
        stream.set_nonblocking(true).expect("a flag");
        let sent: String = (0..40).map(|n| get(&format!("/{n}"), None)).collect();
        client.send(&sent[..100]);
        client.send(&sent[100..900]);
        thread::sleep(Duration::from_millis(50));
        let mut got = vec![0; taken];
        stream.read_exact(&mut got).expect("the first bytes");
        world.apply(vec![policy(addr.port(), Mode::Monitor)]);
        client.send(&sent[900..]);
        thread::sleep(Duration::from_millis(50));
        let mut chunk = [0; 333];
        while got.len() < sent.len() {
            match stream.read(&mut chunk) {
                Ok(n) => got.extend(&chunk[..n]),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    thread::sleep(Duration::from_millis(1));
                }
            }
        }
        assert_eq!(String::from_utf8_lossy(&got), sent, "{taken} bytes read before");
        drop((client, stream));
        world.apply(Vec::new());
    }
}

/// A reader that sleeps in recv would sleep for ever.
#[test]
fn a_connection_with_a_blocking_reader_is_left_alone_and_counted() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("blocking");
    let app = App::local();
    let mut client = Client::connect(app.addr);
    assert_eq!(client.ask(get("/a", None)).status, 200);
    world.apply(vec![policy(app.port(), Mode::Monitor)]);
    assert_eq!(unseen(&world), 1);
    for _ in 0..3 {
        assert_eq!(client.ask(get("/a", None)).status, 200);
    }
    assert_eq!(world.records().len(), 0);
    assert_eq!(once(app.addr, get("/a", None)).status, 200);
    assert_eq!((world.records().len(), app.requests()), (1, 5));
    drop(client);
    eventually("the end of it", Duration::from_secs(5), || (unseen(&world) == 0).then_some(()));
}

#[test]
fn the_agent_tells_of_connections_that_it_does_not_see() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("unseen");
    let (plane, app) = (Plane::start(), App::local());
    let mut older = Client::connect(app.addr);
    assert_eq!(older.ask(get("/a", None)).status, 200);
    plane.serve(&world.bundle(5, vec![policy(app.port(), Mode::Monitor)]));
    let agent = agent_with(&mut world, &plane, |config| AgentConfig {
        host_every: Duration::from_millis(50),
        ..config
    });
    let becomes = |wanted: u64| {
        eventually("the count", Duration::from_secs(10), || {
            (agent.status().connections_unseen == wanted).then_some(())
        });
    };
    becomes(1);
    drop(older);
    becomes(0);
    agent.stop();
}

/// Requests without a pause while their connections are adopted, and again.
#[test]
fn adoptions_under_load_change_no_answer() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("adopting");
    let app = App::polling(LOCAL);
    let (stop, addr) = (std::sync::atomic::AtomicBool::new(false), app.addr);
    thread::scope(|scope| {
        let ask = || {
            let (mut client, mut asked) = (Client::connect(addr), 0);
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                assert_eq!(client.ask(get("/a", None)).status, 200);
                asked += 1;
                if asked % 300 == 0 {
                    client = Client::connect(addr);
                }
            }
            asked
        };
        let clients: Vec<_> = (0..6).map(|_| scope.spawn(ask)).collect();
        for _ in 0..20 {
            thread::sleep(Duration::from_millis(40));
            world.apply(vec![policy(app.port(), Mode::Monitor)]);
            thread::sleep(Duration::from_millis(40));
            world.apply(Vec::new());
        }
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
        let asked: u64 = clients.into_iter().map(|client| client.join().expect("a client")).sum();
        assert_eq!((app.requests(), app.errors()), (asked, 0));
        assert!(asked > 500, "{asked}");
    });
    assert_eq!(world.verdicts(Verdict::Deny), 0);
}

#[test]
fn an_adopted_connection_ends_when_its_port_enforces() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("adopted");
    let (app, blocking) = (App::polling(LOCAL), App::local());
    let policies = |mode| {
        [&app, &blocking]
            .map(|app| portcullis_wire::Policy { id: format!("p{}", app.port()), ..policy(app.port(), mode) })
    };
    let mut clients = [&app, &app, &blocking].map(|app| Client::connect(app.addr));
    for client in &mut clients {
        assert_eq!(client.ask(get("/a", None)).status, 200);
    }
    world.apply(policies(Mode::Monitor).into());
    // One has sent something since, one has not, one is unseen; one is younger.
    assert_eq!(clients[0].ask(get("/a", None)).status, 200);
    let mut young = Client::connect(app.addr);
    let token = world.role("reader");
    assert_eq!(young.ask(get("/a", None)).status, 200);
    let read = app.requests();
    world.apply(policies(Mode::Enforce).into());
    for client in &mut clients {
        assert!(client.try_send(get("/a", Some(&token))).is_err() || client.ends());
    }
    assert_eq!((app.requests(), blocking.requests()), (read, 1));
    assert_eq!(young.ask(get("/a", Some(&token))).status, 200);
    assert_eq!(young.ask(get("/a", None)).status, 401);
}

/// The same port in another cgroup, as of another container.
#[test]
fn connections_outside_of_the_cgroup_are_left_alone() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("inside");
    let other = TestCgroup::new("beside").expect("cgroup");
    let inside = other.enter_process().expect("entering");
    let app = App::polling(LOCAL);
    let mut client = Client::connect(app.addr);
    assert_eq!(client.ask(get("/a", None)).status, 200);
    for mode in [Mode::Monitor, Mode::Enforce] {
        world.apply(vec![policy(app.port(), mode)]);
        assert_eq!(client.ask(get("/a", None)).status, 200);
        assert_eq!(unseen(&world), 0);
    }
    assert_eq!(world.records().len(), 0);
    drop(inside);
}

/// The guard and the programs end an adopted connection by themselves, whoever forgot to destroy it.
#[test]
fn connections_of_every_family_and_namespace_end_when_their_port_enforces() {
    need!(Bpf, BpfFs, Cgroup2, NetNs);
    let mut world = World::new("families");
    let both = App::polling("[::]:0");
    let port = both.port();
    let ns = NetNs::enter().expect("a namespace");
    // The agent looks for namespaces at processes; threads, as the application of this test is, it does not look at.
    let mut process = Command::new("sleep").arg("60").spawn().expect("a process in the namespace");
    let inner = App::polling(&format!("[::]:{port}"));
    let connect = |host: &str| Client::connect(format!("{host}:{port}").parse().expect("an address"));
    let mut clients: Vec<Client> = ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"].map(connect).into();
    drop(ns);
    clients.extend(["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"].map(connect));
    for mode in [Mode::Disabled, Mode::Monitor] {
        world.apply(vec![policy(port, mode)]);
        for client in &mut clients {
            assert_eq!(client.ask(get("/a", None)).status, 200);
        }
    }
    assert_eq!((both.requests(), inner.requests(), world.records().len()), (6, 6, 6));
    world.apply(vec![policy(port, Mode::Enforce)]);
    for (index, client) in clients.iter_mut().enumerate() {
        assert!(client.try_send(get("/a", None)).is_err() || client.ends(), "connection {index}");
    }
    assert_eq!((both.requests(), inner.requests()), (6, 6));
    drop((process.kill(), process.wait()));
}
