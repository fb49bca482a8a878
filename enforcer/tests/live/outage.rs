//! An agent that dies or hangs in a flood of denials: nothing passes, clients are answered or let go, the next one answers.

use std::fs;
use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use portcullis_enforcer::kernel::DenyMode;
use portcullis_testkit::{eventually, need};
use portcullis_wire::Mode;

use crate::app::App;
use crate::bypass::{MSG_VERDICT, detach_program};
use crate::client::{Client, get, once};
use crate::lifecycle::{Holder, Load, padded};
use crate::world::{World, policy};

/// Requests for which the kernel's own reply has no room.
const SHORT: [&str; 2] = ["GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost:a\r\n\r\n"];
/// Connections under control; more than that meet the guard.
const CONNECTIONS: u32 = 64;

fn world(name: &str, app: fn() -> App) -> (World, App, String) {
    let mut world = World::with(name, |config| config.limits.connections = CONNECTIONS);
    let app = app();
    world.apply(vec![policy(app.port(), Mode::Enforce)]);
    let token = world.role("reader");
    (world, app, get("/a", Some(&token)))
}

/// The agent answers, its guard stands, what is allowed passes.
fn expect_recovery(world: &mut World, app: &App, good: &str) {
    let health = world.datapath().health().expect("health");
    assert_eq!((health.missing.as_slice(), health.deny_mode), (&[] as &[String], DenyMode::Agent));
    let kernel = world.stats().replies_kernel;
    for _ in 0..20 {
        let mut client = Client::connect(app.addr);
        let response = client.ask(get("/a", None));
        // The realm is in the agent's text only.
        assert!(response.status == 401 && response.has("WWW-Authenticate: Bearer realm="), "{response:?}");
        assert_eq!(client.ask(good).status, 200);
    }
    assert_eq!(world.stats().replies_kernel, kernel);
    // More connections than fit: those that are not under control pass nothing.
    let read = app.bytes().len();
    let mut clients: Vec<Client> = (0..2 * CONNECTIONS).map(|_| Client::connect(app.addr)).collect();
    let dropped = world.stats().guard_dropped;
    clients.iter_mut().for_each(|client| client.send(get("/a", None)));
    eventually("the guard", Duration::from_secs(5), || {
        (world.stats().guard_dropped >= dropped + u64::from(CONNECTIONS) / 2).then_some(())
    });
    assert_eq!((app.bytes().len(), app.anonymous()), (read, 0));
}

#[test]
fn an_agent_killed_in_a_flood_of_denials_is_followed_by_the_next() {
    need!(Bpf, BpfFs, Cgroup2);
    for app in [App::patient, App::local] {
        let (mut world, app, good) = world("killflood", app);
        let holder = Holder::start(&mut world);
        let bad = Load::start(&app, 4, vec![padded("/a")], 401);
        let allowed = Load::start(&app, 1, vec![good.clone()], 200);
        bad.run(Duration::from_millis(200));
        drop(holder);
        // Those of the flood may wait for the agent that they were asked of. Who comes now is answered, or sees the end of
        // a connection that the application, woken for nothing, gave up.
        for _ in 0..20 {
            let mut client = Client::connect(app.addr);
            client.send(padded("/a"));
            match client.response() {
                Ok(response) => assert_eq!(response.status, 401),
                Err(error) => assert_ne!(error.kind(), io::ErrorKind::WouldBlock, "no answer and no end"),
            }
        }
        assert_eq!(app.anonymous(), 0);
        world.restart();
        assert!(world.datapath().adopted());
        let alone = world.stats().replies_kernel;
        bad.run(Duration::from_millis(200));
        let (bad, allowed) = (bad.finish(), allowed.finish());
        assert!(alone > 0, "the kernel did not answer");
        assert_eq!(app.anonymous(), 0, "a request without a token reached the application");
        assert_eq!((bad.wrong, allowed.wrong, allowed.lost), (0, 0, 0), "{bad:?} {allowed:?}");
        assert!(bad.answers > 50 && allowed.answers > 50, "{bad:?} {allowed:?}");
        expect_recovery(&mut world, &app, &good);
    }
}

#[test]
fn an_agent_that_hangs_in_a_flood_of_denials_goes_on_where_it_was() {
    need!(Bpf, BpfFs, Cgroup2);
    let (mut world, app, good) = world("hangflood", App::patient);
    let holder = Holder::start(&mut world);
    let bad = Load::start(&app, 4, vec![padded("/a")], 401);
    let allowed = Load::start(&app, 1, vec![good.clone()], 200);
    for _ in 0..3 {
        bad.run(Duration::from_millis(100));
        holder.signal(libc::SIGSTOP);
        bad.run(Duration::from_millis(600));
        // The beat ran out: whoever asks now is answered, and what is allowed passes.
        assert_eq!(once(app.addr, padded("/a")).status, 401);
        assert_eq!(once(app.addr, &good).status, 200);
        holder.signal(libc::SIGCONT);
    }
    bad.run(Duration::from_millis(100));
    let (bad, allowed) = (bad.finish(), allowed.finish());
    assert_eq!(app.anonymous(), 0);
    assert_eq!((bad.wrong, bad.lost, allowed.wrong, allowed.lost), (0, 0, 0, 0), "{bad:?} {allowed:?}");
    drop(holder);
    world.restart();
    expect_recovery(&mut world, &app, &good);
}

/// Too short for the kernel's reply: such clients get none while there is no agent. They are let go by the next one.
#[test]
fn clients_that_the_kernel_cannot_answer_are_let_go() {
    need!(Bpf, BpfFs, Cgroup2);
    for stopped in [false, true] {
        let (mut world, app, good) = world("short", App::patient);
        let holder = Holder::start(&mut world);
        if stopped {
            holder.signal(libc::SIGSTOP);
            thread::sleep(Duration::from_millis(500));
        } else {
            holder.signal(libc::SIGKILL);
        }
        let mut clients: Vec<Client> = Vec::new();
        for request in SHORT.iter().cycle().take(20) {
            let mut client = Client::connect(app.addr);
            client.send(request);
            clients.push(client);
        }
        thread::sleep(Duration::from_millis(100));
        assert_eq!((app.requests(), app.bytes().len()), (0, 0));
        if stopped {
            holder.signal(libc::SIGCONT);
        } else {
            drop(holder);
            world.restart();
        }
        thread::scope(|scope| {
            for client in &mut clients {
                scope.spawn(|| match client.response() {
                    Ok(response) => assert!(matches!(response.status, 401 | 503), "{response:?}"),
                    Err(error) => {
                        assert_ne!(error.kind(), io::ErrorKind::WouldBlock, "a client that hangs");
                    }
                });
            }
        });
        assert_eq!(app.bytes().len(), 0);
        assert_eq!(once(app.addr, &good).status, 200);
    }
}

/// Anybody who may destroy sockets can take the agent's own connection from it.
#[test]
fn an_injector_that_was_cut_is_made_anew() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("cut");
    // Both that this process has then are the injector's ends, and one is enough: the agent closes the other.
    let cut = || {
        let ends = eventually("only the injector's ends", Duration::from_secs(5), || {
            let ends = connected();
            (ends.len() == 2).then_some(ends)
        });
        // SAFETY: integers only.
        let done = unsafe { libc::shutdown(ends[0], libc::SHUT_RDWR) };
        assert_eq!(done, 0, "{}", io::Error::last_os_error());
    };
    let app = App::local();
    world.apply(vec![policy(app.port(), Mode::Enforce)]);
    let good = get("/a", Some(&world.role("reader")));
    cut();
    // By the kernel, or by the agent already.
    assert_eq!(once(app.addr, get("/a", None)).status, 401);
    eventually("a new injector", Duration::from_secs(5), || (connected().len() == 2).then_some(()));
    let kernel = world.stats().replies_kernel;
    let mut client = Client::connect(app.addr);
    for _ in 0..20 {
        assert_eq!(client.ask(get("/a", None)).status, 401);
        assert_eq!(client.ask(&good).status, 200);
    }
    assert_eq!((world.stats().replies_kernel, app.anonymous()), (kernel, 0));
    drop(client);

    // A new one without its program is none.
    detach_program(&world.config.pins, "pc_injectors", "pc_inject", MSG_VERDICT).expect("detaching");
    cut();
    let bad = padded("/a");
    eventually("the kernel's answer", Duration::from_secs(5), || {
        let mut client = Client::connect(app.addr);
        drop(client.try_send(&bad));
        let answered = client.response().is_ok_and(|response| response.status == 401);
        (answered && world.stats().replies_kernel > kernel).then_some(())
    });
    assert_eq!(app.anonymous(), 0);
}

/// Descriptors of connected TCP sockets of this process.
fn connected() -> Vec<i32> {
    let descriptors = fs::read_dir("/proc/self/fd").expect("a list").flatten();
    let numbers = descriptors.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|fd| established(*fd)).collect()
}

fn established(fd: i32) -> bool {
    const TCP_ESTABLISHED: u8 = 1;
    // The first byte of struct tcp_info is its state.
    let (mut state, mut size) = (0_u8, 1 as libc::socklen_t);
    let into = (&raw mut state).cast();
    // SAFETY: a live byte and its size, to be written.
    let result = unsafe { libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, into, &raw mut size) };
    result == 0 && state == TCP_ESTABLISHED
}

/// Its denials fill its buffer and that of the other end. Then the connection ends, or stands still because this end's
/// kernel takes no acknowledgement any more from segments for which it has no room. The agent waits for none of it.
#[test]
fn a_client_that_reads_no_denial_holds_up_nobody() {
    need!(Bpf, BpfFs, Cgroup2);
    let (world, app, _) = world("deaf", App::local);
    let mut deaf = Client::over(small(TcpStream::connect(app.addr).expect("connecting")));
    deaf.timeout(Duration::from_secs(1));
    let mut other = Client::connect(app.addr);
    let bad = get("/a", None);
    let answered = || world.stats().replies_agent;
    let mut asked = 0;
    loop {
        let before = answered();
        let sent = deaf.try_send(&bad);
        // A request that comes before the answer to the one before it ends the connection in another way.
        let deadline = Instant::now() + Duration::from_secs(2);
        while sent.is_ok() && answered() == before && Instant::now() < deadline {
            thread::yield_now();
        }
        if answered() == before {
            break;
        }
        asked += 1;
        assert!(asked < 100_000, "{asked} denials in a buffer");
        if asked % 20 == 0 {
            assert_eq!(other.ask(&bad).status, 401);
        }
    }
    let (_, failed, _) = world.datapath().responder_counts();
    eprintln!("{asked} denials unread; {failed} not sent");
    assert!(asked > 20, "{asked} denials and no more");
    for _ in 0..20 {
        assert_eq!(other.ask(&bad).status, 401);
    }
    assert_eq!((world.stats().replies_kernel, app.anonymous()), (0, 0));
}

/// With a small buffer for what it receives.
fn small(stream: TcpStream) -> TcpStream {
    let size: libc::c_int = 4096;
    let (value, length) = ((&raw const size).cast(), size_of_val(&size) as libc::socklen_t);
    // SAFETY: a live integer and its size.
    let set =
        unsafe { libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, value, length) };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
    stream
}
