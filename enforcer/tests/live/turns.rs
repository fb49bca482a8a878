//! Whose turn it is: half-closed connections, requests that do not wait for answers, informational answers.

use std::time::{Duration, Instant};
use std::{io, thread};

use portcullis_enforcer::kernel::DenyMode;
use portcullis_testkit::{Rng, emulated, need, seed};
use portcullis_wire::Mode;

use crate::app::{App, Manner};
use crate::client::{Client, get};
use crate::world::{World, policy};

/// How long the application works on `/slow`, and waits at the end of a connection.
const PAUSE: Duration = Duration::from_millis(150);
/// Clients of each thread whose end is waited for: a process may have some thousand descriptors only.
const TOLD: usize = 50;

fn world(name: &str, app: fn() -> App) -> (World, App, String, String) {
    let mut world = World::new(name);
    let app = app();
    world.apply(vec![policy(app.port(), Mode::Enforce)]);
    let token = world.role("reader");
    (world, app, get("/a", Some(&token)), get("/b", None))
}

fn mannered() -> App {
    App::mannered(Manner { pause: PAUSE, patient: true, ..Manner::default() })
}

/// Statuses in the order of their arrival: so many as were asked for, or all until the connection ends.
fn statuses(client: &mut Client, asked: usize) -> Vec<u16> {
    let mut got = Vec::new();
    while got.len() < asked {
        match client.response() {
            Ok(response) => got.push(response.status),
            Err(error) => {
                assert_ne!(error.kind(), io::ErrorKind::WouldBlock, "no end after {got:?}");
                break;
            }
        }
    }
    got
}

#[test]
fn a_denial_reaches_a_client_that_has_shut_its_side_down() {
    need!(Bpf, BpfFs, Cgroup2);
    // It does not close at once, however late the agent is.
    let app = || App::mannered(Manner { pause: Duration::from_secs(2), patient: true, ..Manner::default() });
    let (_world, app, _, bad) = world("fin", app);
    let ask = |same_segment: bool| {
        let mut client = Client::connect(app.addr);
        if same_segment {
            client.send_last(&bad);
        } else {
            client.send(&bad);
            client.finish();
        }
        assert_eq!(client.response().expect("a response").status, 401, "in one segment: {same_segment}");
        assert!(client.ends());
    };
    thread::scope(|scope| {
        for n in 0..20 {
            let ask = &ask;
            scope.spawn(move || ask(n % 2 == 0));
        }
    });
    assert_eq!((app.requests(), app.bytes().len(), app.errors()), (0, 0, 0));
}

/// TCP wakes the application at the client's end: one that closes at once may cut the answer off, and gets no byte.
#[test]
fn a_denied_client_that_shuts_its_side_down_never_hangs() {
    need!(Bpf, BpfFs, Cgroup2);
    let (_world, app, _, bad) = world("finfast", App::local);
    for _ in 0..50 {
        let mut client = Client::connect(app.addr);
        client.send(&bad);
        client.finish();
        match client.response() {
            Ok(response) => assert_eq!(response.status, 401),
            Err(error) => assert_ne!(error.kind(), io::ErrorKind::WouldBlock, "no answer and no end"),
        }
    }
    assert_eq!((app.requests(), app.bytes().len()), (0, 0));
}

#[test]
fn an_allowed_request_with_the_end_in_its_segment_is_answered() {
    need!(Bpf, BpfFs, Cgroup2);
    let (_world, app, good, bad) = world("finok", App::local);
    for _ in 0..20 {
        let mut client = Client::connect(app.addr);
        client.send_last(&good);
        assert_eq!(client.response().expect("a response").status, 200);
        assert!(client.ends());
        let mut client = Client::connect(app.addr);
        assert_eq!(client.ask(&bad).status, 401);
        client.send_last(good.repeat(3));
        assert_eq!(statuses(&mut client, 3), [200, 200, 200]);
    }
    assert_eq!((app.requests(), app.errors()), (80, 0));
}

#[test]
fn answers_never_come_out_of_turn() {
    need!(Bpf, BpfFs, Cgroup2);
    let (_world, app, good, bad) = world("turns", App::patient);
    let orders: [&[bool]; 5] = [
        &[false, true, false],
        &[true, false, true],
        &[false, false, true],
        &[true, true, false],
        &[false, true, true, false, true],
    ];
    let ask = |order: &[bool], pause: Option<u64>| {
        let requests: Vec<&str> = order.iter().map(|ok| if *ok { &*good } else { &*bad }).collect();
        let expected: Vec<u16> = order.iter().map(|ok| if *ok { 200 } else { 401 }).collect();
        let mut client = Client::connect(app.addr);
        match pause {
            None => client.send(requests.concat()),
            Some(us) => requests.iter().for_each(|request| {
                // An answer that closes may come before all is sent.
                drop(client.try_send(request));
                thread::sleep(Duration::from_micros(us));
            }),
        }
        let got = statuses(&mut client, expected.len());
        assert!(expected.starts_with(&got), "{got:?} instead of {expected:?}, pause {pause:?}");
        // A denial that comes first is answered whatever follows.
        assert!(order[0] || !got.is_empty(), "no answer to {expected:?}, pause {pause:?}");
        got == expected
    };
    let mut whole = 0;
    // So long that each is answered before the next one comes.
    let long = if emulated() { 300_000 } else { 30_000 };
    for pause in [None, Some(0), Some(200), Some(3000), Some(long)] {
        whole += thread::scope(|scope| {
            let clients = orders.iter().cycle().take(25).map(|order| scope.spawn(|| ask(order, pause)));
            let clients: Vec<_> = clients.collect();
            clients.into_iter().map(|client| client.join().expect("a client")).filter(|whole| *whole).count()
        });
    }
    assert_eq!(app.anonymous(), 0);
    assert!(whole >= 10, "{whole} of 125 in full");
}

/// Which of the responses that the application owed it has written is not to be told from outside.
#[test]
fn behind_requests_that_did_not_wait_nothing_is_answered() {
    need!(Bpf, BpfFs, Cgroup2);
    for kind in [Manner::default(), Manner { patient: true, nonblocking: true, ..Manner::default() }] {
        let mut world = World::new("didnotwait");
        let app = App::mannered(Manner { pause: PAUSE, ..kind });
        world.apply(vec![policy(app.port(), Mode::Enforce)]);
        let token = world.role("reader");
        let (good, slow, bad) = (get("/a", Some(&token)), get("/slow", Some(&token)), get("/a", None));
        for together in [true, false] {
            let mut client = Client::connect(app.addr);
            if together {
                client.send(format!("{good}{slow}"));
            } else {
                client.send(&good);
                client.send(&slow);
            }
            assert_eq!(client.response().expect("the first response").status, 200);
            client.send(&bad);
            let next = client.response().map(|response| response.status);
            assert!(
                next.as_ref().map_or(true, |status| *status == 200),
                "{next:?} before the second response"
            );
        }
        assert_eq!(app.anonymous(), 0);
    }
}

/// An allowed request arrives while the answer to a denied one is being injected: it is answered in its turn, or the
/// connection ends. Nobody is left waiting.
#[test]
fn a_request_that_races_with_an_answer_never_hangs() {
    need!(Bpf, BpfFs, Cgroup2, TwoCpus);
    let (_world, app, good, bad) = world("races", App::patient);
    let seed = seed();
    let ask = |client: u64| {
        let mut rng = Rng::new(seed ^ client);
        let (start, mut ends, mut told) = (Instant::now(), [0; 4], Vec::new());
        while start.elapsed() < Duration::from_secs(4) {
            let mut client = Client::connect(app.addr);
            client.send(&bad);
            let pause = Duration::from_nanos(rng.below(400_000));
            let sent = Instant::now();
            while sent.elapsed() < pause {
                std::hint::spin_loop();
            }
            drop(client.try_send(&good));
            let waits = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
            match client.response() {
                Ok(response) if response.status == 401 && response.has("Connection: close") => {
                    ends[1] += 1;
                    told.push(client);
                    told.truncate(TOLD);
                }
                Ok(response) if response.status == 401 => match client.response() {
                    Ok(response) if response.status == 200 => ends[0] += 1,
                    Err(error) if !waits(&error) => ends[2] += 1,
                    other => panic!("{other:?} behind the answer, after a pause of {pause:?}"),
                },
                // It was still on its way when the connection was destroyed.
                Err(error) if !waits(&error) => ends[3] += 1,
                other => panic!("{other:?}, after a pause of {pause:?}"),
            }
        }
        for client in &mut told {
            client.timeout(Duration::from_secs(5));
            assert!(client.ends(), "told to close, and it goes on");
        }
        ends
    };
    let ends = thread::scope(|scope| {
        let ask = &ask;
        let clients: Vec<_> = (0..4).map(|client| scope.spawn(move || ask(client))).collect();
        clients.into_iter().map(|client| client.join().expect("a client")).collect::<Vec<_>>()
    });
    let sum = |n: usize| ends.iter().map(|ends| ends[n]).sum::<u64>();
    let all = [0, 1, 2, 3].map(sum);
    eprintln!(
        "{} in turn, {} told to close, {} destroyed behind the answer, {} before it",
        all[0], all[1], all[2], all[3]
    );
    assert!(all[0] > 10 && all[1] > 10, "{all:?}: no race");
    assert_eq!(app.anonymous(), 0);
}

#[test]
fn what_follows_a_denial_in_its_segment_is_not_looked_at() {
    need!(Bpf, BpfFs, Cgroup2);
    let (_world, app, good, bad) = world("behind", App::local);
    for _ in 0..4 {
        let mut client = Client::connect(app.addr);
        client.send(format!("{bad}{good}{bad}"));
        let response = client.response().expect("a response");
        assert!(response.status == 401 && response.has("Connection: close"), "{response:?}");
        client.timeout(Duration::from_secs(3));
        assert!(client.ends());
    }
    assert_eq!((app.requests(), app.bytes().len()), (0, 0));
}

#[test]
fn head_requests_get_no_body() {
    need!(Bpf, BpfFs, Cgroup2);
    let (_world, app, good, bad) = world("head", App::local);
    let (good, bad) = (good.replacen("GET", "HEAD", 1), bad.replacen("GET", "HEAD", 1));
    let mut client = Client::connect(app.addr);
    for _ in 0..20 {
        for (request, status) in [(&bad, 401), (&good, 200)] {
            client.send(request);
            let response = client.head_response().expect("a response");
            assert_eq!(response.status, status);
            assert!(response.has("Content-Length: "), "{response:?}");
        }
    }
    assert_eq!((app.requests(), app.errors()), (20, 0));
}

/// The kernel's own answer is as long as the request, so it has a body, whatever was asked for.
#[test]
fn a_head_request_that_the_kernel_denies_is_the_last_one() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::with("headkernel", |config| config.deny_mode = Some(DenyMode::Kernel));
    let app = App::local();
    world.apply(vec![policy(app.port(), Mode::Enforce)]);
    let mut client = Client::connect(app.addr);
    client.send(format!("HEAD /b HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(200)));
    let response = client.head_response().expect("a response");
    assert!(response.status == 401 && response.has("Connection: close"), "{response:?}");
    // One with a body is not.
    let mut client = Client::connect(app.addr);
    for _ in 0..2 {
        let response = client.ask(format!("GET /b HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(200)));
        assert!(response.status == 401 && !response.has("Connection: close"), "{response:?}");
    }
    assert_eq!(app.requests(), 0);
}

fn expecting(path: &str, token: Option<&str>) -> String {
    let bearer = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    format!("POST {path} HTTP/1.1\r\nHost: a\r\n{bearer}Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
}

#[test]
fn an_expectation_is_met_or_denied_before_the_body() {
    need!(Bpf, BpfFs, Cgroup2);
    let (world, app, good, _) = world("expect", App::local);
    let token = world.role("reader");
    for _ in 0..4 {
        let mut client = Client::connect(app.addr);
        let response = client.ask(expecting("/a", None));
        // The body may be on its way all the same (RFC 9110 section 10.1.1), so the connection cannot go on.
        assert!(response.status == 401 && response.has("Connection: close"), "{response:?}");
        client.timeout(Duration::from_secs(3));
        assert!(client.ends());

        let mut client = Client::connect(app.addr);
        assert_eq!(client.ask(expecting("/a", Some(&token))).status, 100);
        let response = client.ask("hello");
        assert_eq!((response.status, response.body.as_str()), (200, "5 bytes\n"));
        assert_eq!(client.ask(&good).status, 200);
    }
    assert_eq!((app.requests(), app.anonymous()), (8, 0));
}

/// The application has written something, but not what it owes.
#[test]
fn a_denial_does_not_overtake_the_answer_behind_a_100() {
    need!(Bpf, BpfFs, Cgroup2);
    let (world, app, _, bad) = world("overtake", mannered);
    let token = world.role("reader");
    for _ in 0..5 {
        let mut client = Client::connect(app.addr);
        assert_eq!(client.ask(expecting("/slow", Some(&token))).status, 100);
        client.send("hello");
        thread::sleep(PAUSE / 5);
        client.send(&bad);
        let got = statuses(&mut client, 2);
        assert!([200, 401].starts_with(&got), "{got:?}");
    }
    assert_eq!(app.anonymous(), 0);
}

/// RFC 9112 section 9.6: who asks for the end waits for it, and may read until it comes.
#[test]
fn a_denied_client_that_asks_for_the_end_gets_it() {
    need!(Bpf, BpfFs, Cgroup2);
    let (_world, app, _, _) = world("end", App::local);
    for request in [
        "GET /a HTTP/1.0\r\n\r\n",
        "GET /a HTTP/1.0\r\nHost: a\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ] {
        let mut client = Client::connect(app.addr);
        let response = client.ask(request);
        assert_eq!(response.status, 401);
        assert!(client.ends(), "{request:?} leaves the connection open");
        assert!(response.has("Connection: close"), "{request:?}: {response:?}");
    }
    assert_eq!((app.requests(), app.bytes().len()), (0, 0));
}
