//! An agent that dies or hangs in a flood of denials: nothing passes, clients are answered or let go, the next one answers.

use std::io;
use std::thread;
use std::time::Duration;

use portcullis_enforcer::kernel::DenyMode;
use portcullis_testkit::need;
use portcullis_wire::Mode;

use crate::app::App;
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
    portcullis_testkit::eventually("the guard", Duration::from_secs(5), || {
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
