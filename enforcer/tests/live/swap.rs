//! A8: policies are swapped under load, and no request sees two of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use portcullis_testkit::need;
use portcullis_wire::{AccessLog, Action, Auth, Mode, Policy, Rule, Verdict};

use crate::app::App;
use crate::client::{Client, get};
use crate::world::World;

/// How long policies are swapped.
const TIME: Duration = Duration::from_secs(3);
/// Between requests: every record is to be there, and their receiver is not built for speed here.
const PAUSE: Duration = Duration::from_micros(500);
/// Requests in one segment.
const SEGMENT: usize = 8;

/// Generations with odd numbers allow a reader /a and not /b; those with even numbers the other way round.
fn policies(odd: bool, ports: [(u16, Mode); 2]) -> Vec<Policy> {
    let rule = |pattern: &str, allowed: bool| Rule {
        id: format!("{pattern} {allowed}"),
        method: "GET".into(),
        path_pattern: pattern.into(),
        required_roles: vec![if allowed { "reader" } else { "admin" }.into()],
        ..Rule::default()
    };
    let policy = |(port, mode)| Policy {
        id: format!("{} {port}", if odd { "odd" } else { "even" }),
        name: "swapped".into(),
        port_match: port,
        host_match: None,
        mode,
        default_action: Action::Deny,
        rules: vec![rule("/a/**", odd), rule("/b/**", !odd)],
    };
    ports.map(policy).to_vec()
}

/// Fails unless all of a record fits the generation that it names.
fn expect_one_generation(record: &AccessLog) {
    let odd = record.policy_generation % 2 == 1;
    let allowed = record.path.starts_with("/a/") == odd;
    assert_eq!(record.decision == Verdict::Allow, allowed, "{record:?}");
    let policy = format!("{} {}", if odd { "odd" } else { "even" }, record.destination_port);
    assert_eq!(record.policy_id.as_deref(), Some(&*policy), "{record:?}");
    let rule = format!("{} {allowed}", if record.path.starts_with("/a/") { "/a/**" } else { "/b/**" });
    assert_eq!(record.rule_id.as_deref(), Some(&*rule), "{record:?}");
}

#[test]
fn no_request_sees_two_generations() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("swap");
    let (app, monitored) = (App::local(), App::local());
    let ports = [(app.port(), Mode::Enforce), (monitored.port(), Mode::Monitor)];
    world.apply(policies(true, ports));
    let token = world.role("reader");
    let stop = AtomicBool::new(false);
    let running = || !stop.load(Ordering::SeqCst);
    let path =
        |thread: usize, n: usize| format!("/{}/{thread}/{n}", if n.is_multiple_of(2) { "a" } else { "b" });

    let (swaps, answers) = thread::scope(|scope| {
        let one_by_one = |thread: usize| {
            let (app, token) = (&app, &token);
            move || {
                let mut client = Client::connect(app.addr);
                let mut statuses = BTreeMap::new();
                for n in (0..).take_while(|_| running()) {
                    let path = path(thread, n);
                    let status = client.ask(get(&path, Some(token))).status;
                    statuses.insert(path, status);
                    thread::sleep(PAUSE);
                }
                statuses
            }
        };
        let together = || {
            let mut client = Client::connect(monitored.addr);
            for segment in (0..).take_while(|_| running()) {
                let requests: String =
                    (0..SEGMENT).map(|n| get(&path(100 + segment, n), Some(&token))).collect();
                client.send(requests);
                for _ in 0..SEGMENT {
                    assert_eq!(client.response().expect("a response").status, 200);
                }
                thread::sleep(PAUSE);
            }
        };
        let clients = [scope.spawn(one_by_one(0)), scope.spawn(one_by_one(1))];
        let pipeline = scope.spawn(together);
        let start = Instant::now();
        let mut swaps = 0;
        // A slow machine takes longer for as many.
        while start.elapsed() < TIME || (swaps < 25 && start.elapsed() < 20 * TIME) {
            swaps += 1;
            world.apply(policies(swaps % 2 == 0, ports));
        }
        stop.store(true, Ordering::SeqCst);
        pipeline.join().expect("a client");
        let answers: BTreeMap<String, u16> =
            clients.into_iter().flat_map(|client| client.join().expect("a client")).collect();
        (swaps, answers)
    });

    let records = world.records();
    assert_eq!(world.stats().events_lost, 0);
    records.iter().for_each(expect_one_generation);
    let mut segments: BTreeMap<&str, Vec<&AccessLog>> = BTreeMap::new();
    let (mut singles, mut allowed) = (0, 0);
    for record in &records {
        if record.destination_port == monitored.port() {
            segments.entry(record.path.split('/').nth(2).expect("a number")).or_default().push(record);
        } else {
            let status = if record.decision == Verdict::Allow { 200 } else { 403 };
            assert_eq!(answers[&record.path], status, "{record:?}");
            (singles, allowed) = (singles + 1, allowed + u64::from(status == 200));
        }
    }
    assert_eq!((singles, app.requests()), (answers.len(), allowed));
    for (segment, records) in &segments {
        assert_eq!(records.len(), SEGMENT, "segment {segment}");
        let generations: Vec<u64> = records.iter().map(|record| record.policy_generation).collect();
        assert!(generations.iter().all(|g| *g == generations[0]), "segment {segment}: {generations:?}");
    }
    // Else it was not under load, or not swapped.
    let seen = |of: &mut dyn Iterator<Item = &AccessLog>| {
        of.map(|record| record.policy_generation).collect::<std::collections::BTreeSet<u64>>().len()
    };
    let generations = seen(&mut records.iter());
    assert!(
        swaps >= 20 && generations >= 20 && singles > 200 && segments.len() > 20,
        "{swaps} swaps, {generations} generations seen, {singles} requests, {} segments",
        segments.len()
    );
    eprintln!("{swaps} swaps, {generations} generations, {singles} requests, {} segments", segments.len());
}

/// The entries of all ports are written anew for each generation, while runs are reading them.
#[test]
fn no_request_is_decided_by_what_another_port_has() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("swapports");
    let app = App::local();
    let open = Rule {
        id: "open".into(),
        method: "GET".into(),
        path_pattern: "/**".into(),
        auth: Some(Auth::None),
        ..Rule::default()
    };
    let policy = |port, host: Option<&str>, rules| Policy {
        id: format!("{port} {host:?}"),
        name: "swapped".into(),
        port_match: port,
        host_match: host.map(str::to_owned),
        mode: Mode::Enforce,
        default_action: Action::Deny,
        rules,
    };
    // A policy with a host makes the programs read the host, which takes its time, before they look for the others.
    let mut policies =
        vec![policy(app.port(), Some("a.example"), vec![]), policy(app.port(), None, vec![open])];
    // Entries are written in the order of their ports: these after the application's.
    policies.extend((65_000..65_008).map(|port| policy(port, None, vec![])));
    world.apply(policies.clone());
    let stop = AtomicBool::new(false);
    let host = format!("{}.example", vec!["b".repeat(60); 4].join("."));
    let (swaps, requests) = thread::scope(|scope| {
        let client = || {
            let mut client = Client::connect(app.addr);
            let mut requests = 0;
            while !stop.load(Ordering::SeqCst) {
                let response = client.ask(format!("GET /{requests} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
                assert_eq!(response.status, 200, "{response:?}");
                requests += 1;
            }
            requests
        };
        let clients = [scope.spawn(client), scope.spawn(client)];
        let start = Instant::now();
        let mut swaps = 0;
        while start.elapsed() < TIME && clients.iter().all(|client| !client.is_finished()) {
            swaps += 1;
            world.apply(policies.clone());
        }
        stop.store(true, Ordering::SeqCst);
        let requests = clients.into_iter().map(|client| client.join().expect("a client")).sum::<u64>();
        (swaps, requests)
    });
    eprintln!("{requests} requests, {swaps} generations");
    assert!(swaps >= 5 && requests >= 100, "{requests} requests, {swaps} generations");
}
