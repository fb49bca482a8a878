//! Restarts, upgrades, kills, pauses, detachment by others, other namespaces.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs};

use portcullis_enforcer::kernel::{Config, Datapath, KernelError};
use portcullis_testkit::{NetNs, TestCgroup, cgroup2_mount, eventually, need};
use portcullis_wire::{Mode, Rule};

use crate::app::App;
use crate::client::{Client, get, once};
use crate::world::{World, policy};

/// Another process that runs the instance of `world`: this executable again.
pub struct Holder {
    child: Child,
}

impl Holder {
    /// Takes the instance over from this process.
    pub fn start(world: &mut World) -> Holder {
        drop(world.datapath.take());
        let mut child = Command::new(env::current_exe().expect("own path"))
            .args(["--exact", "lifecycle::holder", "--ignored", "--nocapture"])
            .env("PORTCULLIS_TEST_PINS", &world.config.pins)
            .env("PORTCULLIS_TEST_CGROUP", &world.config.cgroup)
            .stdout(Stdio::piped())
            .spawn()
            .expect("starting the holder");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let ready = out.lines().map_while(Result::ok).any(|line| line.contains("holding"));
        assert!(ready, "the holder did not start");
        Holder { child }
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: integers only; the child is ours and not reaped yet.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
#[ignore = "a process that other tests start and kill"]
fn holder() {
    let pins = env::var_os("PORTCULLIS_TEST_PINS").expect("started by a test");
    let cgroup = env::var_os("PORTCULLIS_TEST_CGROUP").expect("started by a test");
    let mut config = portcullis_enforcer::kernel::Config::new("holder", Path::new(&cgroup));
    config.pins = pins.into();
    let datapath = Datapath::start(config, Box::new(drop)).expect("taking over");
    assert!(datapath.adopted());
    println!("holding");
    loop {
        thread::park();
    }
}

pub fn padded(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: app.example\r\nX-Padding: {}\r\n\r\n", "x".repeat(120))
}

#[test]
fn a_killed_agent_leaves_enforcement_behind() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("kill");
    let app = App::patient();
    world.apply(vec![policy(app.port(), Mode::Enforce)]);
    let token = world.role("reader");
    let holder = Holder::start(&mut world);
    let mut old = Client::connect(app.addr);
    assert_eq!(old.ask(padded("/a")).status, 401);
    holder.signal(libc::SIGKILL);
    drop(holder);
    // New connections and old ones: the kernel answers by itself.
    for _ in 0..50 {
        assert_eq!(once(app.addr, padded("/a")).status, 401);
    }
    assert_eq!(old.ask(padded("/a")).status, 401);
    assert_eq!((app.requests(), app.bytes().len()), (0, 0));
    assert_eq!(once(app.addr, get("/a", Some(&token))).status, 200);
    // The next agent takes over and answers again.
    world.restart();
    assert!(world.datapath().adopted());
    world.expect_agent_mode();
    assert_eq!(once(app.addr, get("/a", None)).status, 401);
    assert!(world.stats().replies_kernel >= 50);
}

#[test]
fn an_agent_stopped_in_a_flood_of_denials_lets_nothing_pass() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("stop");
    let app = App::patient();
    world.apply(vec![policy(app.port(), Mode::Enforce)]);
    let holder = Holder::start(&mut world);
    let load = Load::start(&app, 4, vec![padded("/a")], 401);
    load.run(Duration::from_millis(300));
    holder.signal(libc::SIGSTOP);
    // What was asked of the agent before its beat ran out waits; what comes later is answered by the kernel.
    thread::sleep(Duration::from_millis(600));
    let start = Instant::now();
    for _ in 0..50 {
        assert_eq!(once(app.addr, padded("/a")).status, 401);
    }
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    holder.signal(libc::SIGCONT);
    load.run(Duration::from_millis(300));
    let outcome = load.finish();
    assert_eq!((app.requests(), app.bytes().len()), (0, 0));
    // What was asked of the stopped agent was answered by it when it went on.
    assert!(outcome.answers > 100, "{outcome:?}");
    assert_eq!((outcome.wrong, outcome.lost), (0, 0), "{outcome:?}");
}

#[test]
fn restarts_and_upgrades_under_load_let_nothing_pass() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("restart");
    let app = App::patient();
    world.apply(vec![policy(app.port(), Mode::Enforce)]);
    let token = world.role("reader");
    let bad = Load::start(&app, 2, vec![padded("/a")], 401);
    let good = Load::start(&app, 2, vec![get("/a", Some(&token))], 200);
    for _ in 0..3 {
        world.restart();
        assert!(world.datapath().adopted());
        good.run(Duration::from_millis(100));
    }
    // As if another version had made the instance: its programs are replaced.
    drop(world.datapath.take());
    let marker = marker(&world.config.pins);
    let state = marker.rsplit_once("-state-").expect("a marker").1;
    let other = format!("object-{:016x}-state-{state}", 0);
    fs::remove_dir(world.config.pins.join(&marker)).expect("removing the marker");
    fs::create_dir(world.config.pins.join(other)).expect("another marker");
    world.restart();
    assert!(world.datapath().adopted());
    assert_eq!(self::marker(&world.config.pins), marker);
    assert_eq!(world.datapath().health().expect("health").missing, [] as [String; 0]);
    world.apply(vec![policy(app.port(), Mode::Enforce)]);
    good.run(Duration::from_millis(200));
    let (bad, good) = (bad.finish(), good.finish());
    assert_eq!(app.anonymous(), 0, "a request without a token reached the application");
    assert!(bad.answers > 20 && good.answers > 100, "{bad:?} {good:?}");
    assert_eq!((bad.wrong, good.wrong, good.lost), (0, 0, 0), "{bad:?} {good:?}");
}

/// The cgroup of a systemd service goes when the service stops, and is made anew.
#[test]
fn a_takeover_attaches_to_the_cgroup_that_is_there() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("moved");
    let check = |world: &mut World| {
        let health = world.datapath().health().expect("health");
        assert_eq!(health.missing, [] as [String; 0]);
        let app = App::local();
        let rule = Rule {
            method: "GET".into(),
            path_pattern: "/ws".into(),
            upgrade: vec!["websocket".into()],
            ..Rule::default()
        };
        let mut policy = policy(app.port(), Mode::Enforce);
        policy.rules.push(rule);
        world.apply(vec![policy]);
        assert_eq!(once(app.addr, get("/a", None)).status, 401);
        assert_eq!(once(app.addr, get("/a", Some(&world.role("reader")))).status, 200);
        assert_eq!((app.requests(), app.anonymous()), (1, 0));
    };
    check(&mut world);
    // The configuration names another one.
    let other = TestCgroup::new("other").expect("a cgroup");
    let inside = other.enter_process().expect("entering it");
    world.config.cgroup = other.path().to_owned();
    world.restart();
    check(&mut world);
    // It is removed, and made anew.
    drop(inside);
    fs::remove_dir(other.path()).expect("removing the cgroup");
    let lost = |world: &World| {
        let missing = world.datapath().health().expect("health").missing;
        assert!(missing.iter().any(|what| what.contains("pc_guard is attached to")), "{missing:?}");
    };
    lost(&world);
    fs::create_dir(other.path()).expect("making it anew");
    lost(&world);
    let inside = other.enter_process().expect("entering it");
    world.restart();
    check(&mut world);
    drop(inside);
    // The whole host, as by default.
    world.config.cgroup = cgroup2_mount().expect("the hierarchy");
    world.restart();
    check(&mut world);
}

/// As if an agent with another layout of the state had made the instance.
fn foreign(world: &mut World) {
    drop(world.datapath.take());
    let marker = marker(&world.config.pins);
    fs::remove_dir(world.config.pins.join(&marker)).expect("removing the marker");
    fs::create_dir(world.config.pins.join("object-0000000000000001-state-999")).expect("another marker");
}

/// An upgrade to other state: nothing passes between the end of the old instance and the new one's configuration.
#[test]
fn an_instance_with_other_state_is_replaced_without_a_gap() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("state");
    let app = App::patient();
    world.apply(vec![policy(app.port(), Mode::Enforce)]);
    let token = world.role("reader");
    let mut older = Client::connect(app.addr);
    assert_eq!(older.ask(get("/a", Some(&token))).status, 200);
    let bad = Load::start(&app, 3, vec![padded("/a")], 401);
    bad.run(Duration::from_millis(200));
    foreign(&mut world);
    world.restart();
    assert!(!world.datapath().adopted());
    // No configuration yet: not even what would be allowed passes.
    let read = app.requests();
    older.timeout(Duration::from_millis(300));
    assert!(older.try_send(get("/a", Some(&token))).is_err() || older.response().is_err());
    let mut waiting = Client::connect(app.addr);
    waiting.timeout(Duration::from_millis(300));
    waiting.send(get("/a", Some(&token)));
    assert!(waiting.response().is_err());
    assert_eq!(app.requests(), read);
    // The agent dies, and the next one finds it so.
    world.restart();
    assert!(world.datapath().adopted());
    waiting = Client::connect(app.addr);
    waiting.timeout(Duration::from_millis(300));
    waiting.send(get("/a", Some(&token)));
    assert!(waiting.response().is_err());

    world.apply(vec![policy(app.port(), Mode::Enforce)]);
    assert_eq!(once(app.addr, get("/a", Some(&token))).status, 200);
    assert_eq!(once(app.addr, get("/a", None)).status, 401);
    assert!(older.try_send(get("/a", Some(&token))).is_err() || older.ends());
    bad.run(Duration::from_millis(200));
    let bad = bad.finish();
    assert_eq!((app.anonymous(), app.requests(), bad.wrong), (0, 2, 0), "{bad:?}");
    let held = world
        .config
        .pins
        .with_file_name(format!("{}-held", world.config.pins.file_name().expect("a name").to_string_lossy()));
    assert!(!held.exists());
}

/// What an upgrade that failed has left is ended like an instance: there is no other way out of it.
#[test]
fn a_guard_that_a_failed_upgrade_held_can_be_let_go() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("heldback");
    let app = App::patient();
    world.apply(vec![policy(app.port(), Mode::Enforce)]);
    foreign(&mut world);
    let nowhere = Config { cgroup: "/sys/fs/cgroup/there/is/none".into(), ..world.config.clone() };
    let error = Datapath::start(nowhere, Box::new(drop)).expect_err("no cgroup").to_string();
    assert!(error.contains("there/is/none"), "{error}");
    // Nothing passes.
    let mut client = Client::connect(app.addr);
    client.timeout(Duration::from_millis(300));
    client.send(get("/health", None));
    assert!(client.response().is_err());
    assert_eq!(app.bytes(), b"");
    assert!(Datapath::remove(&world.config.pins).expect("removing"));
    assert_eq!(once(app.addr, get("/a", None)).status, 200);
    assert!(!Datapath::remove(&world.config.pins).expect("removing"), "there is nothing more");
    world.restart();
}

/// One that is not even known well enough to be ended goes on as it is.
#[test]
fn an_instance_of_an_unknown_kind_goes_on_enforcing() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("unknown");
    let app = App::patient();
    world.apply(vec![policy(app.port(), Mode::Enforce)]);
    foreign(&mut world);
    fs::remove_file(world.config.pins.join("maps/pc_conns")).expect("removing a pin");
    let refused = Datapath::start(world.config.clone(), Box::new(drop));
    let error = refused.expect_err("another kind").to_string();
    assert!(error.contains("state-999") && error.contains("--detach"), "{error}");
    assert_eq!(once(app.addr, padded("/a")).status, 401);
    assert_eq!((app.requests(), app.bytes().len()), (0, 0));
}

#[test]
fn an_instance_has_one_agent() {
    need!(Bpf, BpfFs, Cgroup2);
    let world = World::new("one");
    let second = Datapath::start(world.config.clone(), Box::new(drop));
    assert!(matches!(second, Err(KernelError::Busy { .. })), "{second:?}");
}

#[test]
fn a_fragment_is_replaced() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("fragment");
    drop(world.datapath.take());
    fs::remove_dir(world.config.pins.join(marker(&world.config.pins))).expect("removing the marker");
    world.restart();
    assert!(!world.datapath().adopted());
    let app = App::local();
    world.apply(vec![policy(app.port(), Mode::Enforce)]);
    assert_eq!(once(app.addr, get("/a", None)).status, 401);
}

#[test]
fn a_detached_instance_leaves_nothing() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("gone");
    let app = App::local();
    world.apply(vec![policy(app.port(), Mode::Enforce)]);
    assert_eq!(once(app.addr, get("/a", None)).status, 401);
    let datapath = world.datapath.take().expect("running");
    datapath.detach().expect("detached");
    assert!(!world.config.pins.exists());
    assert_eq!(once(app.addr, get("/a", None)).status, 200);
}

#[test]
fn a_port_that_is_no_longer_protected_is_left_alone() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("unprotect");
    let app = App::local();
    world.apply(vec![policy(app.port(), Mode::Enforce)]);
    let token = world.role("reader");
    let mut client = Client::connect(app.addr);
    assert_eq!(client.ask(get("/a", Some(&token))).status, 200);
    assert_eq!(client.ask(get("/a", None)).status, 401);
    world.apply(vec![]);
    assert_eq!(client.ask(get("/a", None)).status, 200, "a connection of before");
    assert_eq!(once(app.addr, get("/a", None)).status, 200);
}

#[test]
fn other_network_namespaces_are_covered() {
    need!(Bpf, BpfFs, Cgroup2, NetNs);
    let mut world = World::new("netns");
    let app = {
        let _ns = NetNs::enter().expect("a namespace");
        App::local()
    };
    // Not the namespace of the application, nor that of the agent: ports are protected wherever the cgroup is.
    world.apply(vec![policy(app.port(), Mode::Enforce)]);
    let _ns = NetNs::enter().expect("a namespace");
    // The agent looks for namespaces at processes; threads, as the application of this test is, it does not look at.
    let mut process = Command::new("sleep").arg("60").spawn().expect("a process in the namespace");
    let inner = App::start(&format!("127.0.0.1:{}", app.port()));
    assert_eq!(once(inner.addr, get("/a", None)).status, 401);
    // A connection that has to be destroyed is found there.
    let token = world.role("reader");
    let mut client = Client::connect(inner.addr);
    client.send(format!("{}{}", get("/a", Some(&token)), get("/b", None)));
    eventually("the connection to be destroyed", Duration::from_secs(5), || {
        (world.datapath().responder_counts().2 >= 1).then_some(())
    });
    drop((process.kill(), process.wait()));
    assert!(client.ends());
    assert_eq!(inner.anonymous(), 0);
}

/// Clients that repeat requests on keep-alive connections until they are told to end.
pub struct Load {
    stop: Arc<AtomicBool>,
    counts: Arc<[AtomicU64; 3]>,
    threads: Vec<thread::JoinHandle<()>>,
}

#[derive(Debug)]
pub struct Outcome {
    pub answers: u64,
    /// Responses with another status than expected.
    pub wrong: u64,
    /// Connections that ended, or were silent for five seconds, before the response.
    pub lost: u64,
}

impl Load {
    pub fn start(app: &App, clients: usize, requests: Vec<String>, status: u16) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let counts: Arc<[AtomicU64; 3]> = Arc::default();
        let threads = (0..clients).map(|_| {
            let (stop, counts, requests, addr) = (stop.clone(), counts.clone(), requests.clone(), app.addr);
            thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    let mut client = Client::connect(addr);
                    for request in requests.iter().cycle().take(20) {
                        let response = client.try_send(request).and_then(|()| client.response());
                        let index = match &response {
                            Ok(response) if response.status == status => 0,
                            Ok(_) => 1,
                            Err(_) => 2,
                        };
                        counts[index].fetch_add(1, Ordering::SeqCst);
                        if response.map_or(true, |response| response.has("Connection: close")) {
                            break;
                        }
                    }
                }
            })
        });
        let threads = threads.collect();
        Load { stop, counts, threads }
    }

    pub fn run(&self, time: Duration) {
        thread::sleep(time);
    }

    pub fn finish(self) -> Outcome {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().expect("a client");
        }
        let [answers, wrong, lost] = [0, 1, 2].map(|i: usize| self.counts[i].load(Ordering::SeqCst));
        Outcome { answers, wrong, lost }
    }
}

fn marker(pins: &Path) -> String {
    let names = fs::read_dir(pins)
        .expect("the instance")
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned());
    names.into_iter().find(|name| name.starts_with("object-")).expect("a marker")
}

#[test]
fn what_fails_behind_the_switch_is_told_and_the_generation_is_in_force() {
    need!(Bpf, BpfFs, Cgroup2);
    let link = env::temp_dir().join(format!("portcullis-cgroup-{}", std::process::id()));
    let mut world = World::with("late", |config| {
        std::os::unix::fs::symlink(&config.cgroup, &link).expect("link");
        config.cgroup = link.clone();
    });
    world.apply(vec![policy(80, Mode::Enforce)]);
    let before = world.datapath().health().expect("health").generation;
    // Where nothing can be attached any more, answers to requests for websocket cannot be seen.
    fs::remove_file(&link).expect("removing the link");
    let mut switching = policy(80, Mode::Enforce);
    switching.rules[1].upgrade = vec!["websocket".into()];
    let bundle = world.bundle(before + 1, vec![switching]);
    let compiled = Arc::new(portcullis_enforcer::compile::compile(&bundle).expect("a valid bundle"));
    let failed = world.datapath.as_mut().expect("running").install(compiled).expect("in force");
    assert!(!failed.is_empty());
    assert_eq!(world.datapath().health().expect("health").generation, before + 1);
}
