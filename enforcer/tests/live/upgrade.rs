//! Websocket by rule: a connection is left alone once the application has switched, and not a byte earlier.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use portcullis_enforcer::compile::compile;
use portcullis_testkit::{eventually, need};
use portcullis_wire::{Auth, Bundle, Mode, Policy, Revocation, RevokedClaim, Rule};
use serde_json::json;

use crate::client::Client;
use crate::world::{ISSUER, World, now_s, policy};

const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n";
const NO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// Answers `/ws…` with 101 and echoes from then on; everything else is answered 200, an upgrade or not. `/slow…` waits
/// before it does either.
struct Switcher {
    addr: SocketAddr,
    read: Arc<Mutex<Vec<u8>>>,
}

impl Switcher {
    fn start() -> Switcher {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listening");
        let addr = listener.local_addr().expect("an address");
        let read = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&read);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = Arc::clone(&seen);
                thread::spawn(move || serve(stream, &seen));
            }
        });
        Switcher { addr, read }
    }

    fn read(&self) -> String {
        String::from_utf8_lossy(&self.read.lock().expect("no thread panicked")).into_owned()
    }
}

fn serve(mut stream: TcpStream, seen: &Mutex<Vec<u8>>) {
    let (mut buffer, mut held, mut switched) = ([0; 4096], Vec::new(), false);
    // A read fails when the connection is destroyed.
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        seen.lock().expect("no thread panicked").extend(&buffer[..n]);
        if switched {
            drop(stream.write_all(&buffer[..n]));
            continue;
        }
        held.extend(&buffer[..n]);
        while let Some(end) = held.windows(4).position(|w| w == b"\r\n\r\n") {
            let head: Vec<u8> = held.drain(..end + 4).collect();
            if head.starts_with(b"GET /slow") {
                thread::sleep(Duration::from_millis(600));
            }
            switched = head.starts_with(b"GET /ws") || head.starts_with(b"GET /slow");
            drop(stream.write_all(if switched { SWITCHED } else { NO }.as_bytes()));
        }
    }
}

/// `/ws` and `/slow` may switch, `/wsnot` may not; what else there is needs the role that nobody has.
fn policies(port: u16, mode: Mode) -> Vec<Policy> {
    let rule = |path: &str, upgrade: &[&str]| Rule {
        method: "GET".into(),
        path_pattern: path.into(),
        required_roles: vec!["reader".into()],
        upgrade: upgrade.iter().map(|protocol| (*protocol).to_owned()).collect(),
        ..Rule::default()
    };
    let open = Rule { auth: Some(Auth::None), required_roles: Vec::new(), ..rule("/open", &[]) };
    let rules = vec![
        rule("/ws", &["websocket"]),
        rule("/slow", &["websocket"]),
        rule("/declines", &["websocket"]),
        rule("/wsnot", &[]),
        open,
        Rule { required_roles: vec!["nobody".into()], ..rule("/**", &[]) },
    ];
    vec![Policy { rules, ..policy(port, mode) }]
}

fn asks(path: &str, token: Option<&str>, protocol: &str) -> String {
    let bearer = token.map(|t| format!("Authorization: Bearer {t}\r\n")).unwrap_or_default();
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n{bearer}Connection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n")
}

fn start(mode: Mode) -> (World, Switcher, String) {
    let mut world = World::new("upgrade");
    let app = Switcher::start();
    world.apply(policies(app.addr.port(), mode));
    let token = world.role("reader");
    (world, app, token)
}

#[test]
fn frames_pass_in_both_directions_once_the_application_has_switched() {
    need!(Bpf, BpfFs, Cgroup2);
    let (world, app, token) = start(Mode::Enforce);
    for protocol in ["websocket", "WebSocket"] {
        let mut client = Client::connect(app.addr);
        assert_eq!(client.ask(asks("/ws", Some(&token), protocol)).status, 101);
        for frame in ["\u{81}\u{5}hello", "GET /secret HTTP/1.1\r\n", "\r\n"] {
            client.send(frame);
            assert_eq!(client.bytes(frame.len()), frame.as_bytes());
        }
    }
    assert_eq!(world.reasons().into_iter().collect::<Vec<_>>(), [("rule_allow".to_owned(), 2)]);
}

/// The program that looks for answers costs every packet that is sent: it is there only while a policy needs it, and in
/// time for the first request.
#[test]
fn answers_are_looked_for_while_a_policy_lets_something_switch() {
    need!(Bpf, BpfFs, Cgroup2);
    let (mut world, app, token) = start(Mode::Enforce);
    let switches = || {
        let mut client = Client::connect(app.addr);
        assert_eq!(client.ask(asks("/ws", Some(&token), "websocket")).status, 101);
        client.send("frame");
        client.bytes(5) == b"frame"
    };
    let link = world.config.pins.join("links/egress");
    for _ in 0..2 {
        world.restart();
        world.apply(policies(app.addr.port(), Mode::Enforce));
        assert!(link.exists() && switches());
        // An agent that finds it, whether it is needed or not.
        world.restart();
        assert!(link.exists() && switches());
        world.apply(vec![policy(app.addr.port(), Mode::Enforce)]);
        assert!(!link.exists());
        world.restart();
        assert_eq!(world.datapath().health().expect("health").missing, [] as [String; 0]);
    }
}

/// The rest of a configuration does not wait for the program that looks for answers, and without it nothing switches.
#[test]
fn a_configuration_is_in_force_although_answers_cannot_be_looked_for() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("noanswers");
    let app = Switcher::start();
    std::fs::remove_file(world.config.pins.join("progs/pc_egress")).expect("a pin");
    let compiled =
        compile(&world.bundle(1, policies(app.addr.port(), Mode::Enforce))).expect("a valid bundle");
    let datapath = world.datapath.as_mut().expect("a running datapath");
    datapath.apply(Arc::new(compiled)).expect_err("there is nothing to attach");
    let token = world.role("reader");
    let mut client = Client::connect(app.addr);
    assert_eq!(client.ask("GET /secret HTTP/1.1\r\nHost: a\r\n\r\n").status, 401);
    assert_eq!(client.ask("GET /open HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
    let mut client = Client::connect(app.addr);
    assert_eq!(client.ask(asks("/ws", Some(&token), "websocket")).status, 101);
    client.send("\u{81}\u{5}hello, secret");
    assert!(client.response().is_err());
    assert!(!app.read().contains("secret"), "{}", app.read());
}

#[test]
fn an_application_that_declines_gets_requests_that_are_checked() {
    need!(Bpf, BpfFs, Cgroup2);
    let (_world, app, token) = start(Mode::Enforce);
    let mut client = Client::connect(app.addr);
    assert_eq!(client.ask(asks("/declines", Some(&token), "websocket")).status, 200);
    assert_eq!(client.ask("GET /secret HTTP/1.1\r\nHost: a\r\n\r\n").status, 401);
    assert_eq!(
        client
            .ask(format!("GET /secret HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n"))
            .status,
        403
    );
    assert_eq!(client.ask("GET /open HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
    assert!(!app.read().contains("secret"));
}

/// An application that switches although its rule does not say so, for another protocol, or behind other requests: what
/// follows is no request, and does not reach it.
#[test]
fn what_was_not_allowed_to_switch_is_still_read_as_requests() {
    need!(Bpf, BpfFs, Cgroup2);
    let (_world, app, token) = start(Mode::Enforce);
    let first = [asks("/wsnot", Some(&token), "websocket"), asks("/ws", Some(&token), "h2c")];
    for request in &first {
        let mut client = Client::connect(app.addr);
        assert_eq!(client.ask(request).status, 101, "{request}");
        client.send("GET /secret HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(client.response().map_or(true, |response| response.status == 401), "{request}");
    }
    let mut client = Client::connect(app.addr);
    assert_eq!(client.ask("GET /open HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
    assert_eq!(client.ask(asks("/ws", Some(&token), "websocket")).status, 101);
    client.send("\u{81}\u{5}hello, secret");
    assert!(client.response().map_or(true, |response| response.status == 400));
    assert!(!app.read().contains("secret"), "{}", app.read());
}

#[test]
fn bytes_before_the_answer_end_the_connection() {
    need!(Bpf, BpfFs, Cgroup2);
    let (world, app, token) = start(Mode::Enforce);
    let ask = asks("/slow", Some(&token), "websocket");
    // In one segment with the request, and behind it.
    let mut client = Client::connect(app.addr);
    client.send(format!("{ask}secret"));
    assert!(client.ends());
    let mut client = Client::connect(app.addr);
    client.send(&ask);
    thread::sleep(Duration::from_millis(50));
    client.send("secret");
    assert!(client.response().is_err());
    assert_eq!(world.reasons()["upgrade_refused"], 2);
    assert!(!app.read().contains("secret"));
}

#[test]
fn an_upgrade_is_a_request_like_others() {
    need!(Bpf, BpfFs, Cgroup2);
    let (_world, app, _) = start(Mode::Enforce);
    let mut client = Client::connect(app.addr);
    assert_eq!(client.ask(asks("/ws", None, "websocket")).status, 401);
    assert_eq!(app.read(), "");
}

/// A silent one and one in use, of which only the user's with the revoked token end.
#[test]
fn a_websocket_ends_when_its_token_is_revoked() {
    need!(Bpf, BpfFs, Cgroup2);
    let (mut world, app, _) = start(Mode::Enforce);
    let token = |sub: &str| world.token(json!({ "sub": sub }));
    let (mallory, alice) = (token("mallory"), token("alice"));
    let mut clients = [&mallory, &mallory, &alice].map(|token| tunnel(&app, token));
    let [_, used, other] = &mut clients;
    echoes(used);
    echoes(other);
    let start = Instant::now();
    revoke(&mut world, &app, "mallory");
    let [silent, used, other] = &mut clients;
    assert!(silent.ends() && used.ends());
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    echoes(other);
    let mut again = Client::connect(app.addr);
    assert_eq!(again.ask(asks("/ws", Some(&mallory), "websocket")).status, 401);
}

/// The application answers only after the revocation: nobody looks at the token again then.
#[test]
fn a_request_for_a_websocket_that_waits_for_its_answer_ends_too() {
    need!(Bpf, BpfFs, Cgroup2);
    let (mut world, app, _) = start(Mode::Enforce);
    let token = |sub: &str| world.token(json!({ "sub": sub }));
    let (mallory, alice) = (token("mallory"), token("alice"));
    let mut clients = [&mallory, &alice].map(|token| {
        let mut client = Client::connect(app.addr);
        client.send(asks("/slow", Some(token), "websocket"));
        client
    });
    // It has read both, and has 600 ms to say so.
    eventually("two requests", Duration::from_secs(5), || {
        (app.read().matches("GET /slow").count() == 2).then_some(())
    });
    revoke(&mut world, &app, "mallory");
    let [revoked, other] = &mut clients;
    assert!(revoked.ends(), "it became a websocket");
    assert_eq!(other.response().expect("an answer").status, 101);
    echoes(other);
}

/// Puts a revocation of all that was issued to a user into force.
fn revoke(world: &mut World, app: &Switcher, user: &str) {
    let port = app.addr.port();
    let revocation = Revocation {
        issuer: ISSUER.into(),
        claim: RevokedClaim::Sub,
        value: user.into(),
        not_before: Some(now_s() + 1),
        expires_at: u64::MAX,
    };
    world.apply_bundle(|bundle| Bundle {
        policies: policies(port, Mode::Enforce),
        revocations: vec![revocation],
        ..bundle
    });
}

#[test]
fn a_websocket_ends_when_its_token_expires() {
    need!(Bpf, BpfFs, Cgroup2);
    let (world, app, _) = start(Mode::Enforce);
    let token = |seconds: u64| world.token(json!({ "exp": now_s() + seconds }));
    let mut clients = [600, 600, 6000].map(|seconds| tunnel(&app, &token(seconds)));
    clients.iter_mut().for_each(echoes);
    let move_to = |seconds: i64| world.datapath().set_clock_offset(seconds * 1_000_000_000).expect("moved");
    move_to(500);
    thread::sleep(Duration::from_millis(600));
    clients.iter_mut().for_each(echoes);
    move_to(600);
    let [one, two, other] = &mut clients;
    assert!(one.ends() && two.ends());
    echoes(other);
}

/// Nobody has to look for it: the programs pass nothing of it any more.
#[test]
fn a_websocket_whose_token_has_expired_passes_nothing_without_an_agent() {
    need!(Bpf, BpfFs, Cgroup2);
    let (mut world, app, _) = start(Mode::Enforce);
    let token = |seconds: u64| world.token(json!({ "exp": now_s() + seconds }));
    let mut clients = [600, 6000].map(|seconds| tunnel(&app, &token(seconds)));
    clients.iter_mut().for_each(echoes);
    drop(world.datapath.take());
    let clock = MapHandle::from_pinned_path(world.config.pins.join("maps/pc_clock")).expect("the clock");
    let now = clock.lookup(&0_u32.to_ne_bytes(), MapFlags::ANY).expect("read").expect("a value");
    let now = i64::from_ne_bytes(now.try_into().expect("eight bytes"));
    let later = (now + 600_000_000_000).to_ne_bytes();
    clock.update(&0_u32.to_ne_bytes(), &later, MapFlags::ANY).expect("written");
    let [expired, other] = &mut clients;
    expired.timeout(Duration::from_millis(600));
    expired.send("secret");
    assert!(expired.ends() || !app.read().contains("secret"));
    thread::sleep(Duration::from_millis(600));
    assert!(!app.read().contains("secret"));
    echoes(other);
    // The next agent ends it.
    world.restart();
    expired.timeout(Duration::from_secs(5));
    assert!(expired.ends());
}

#[test]
fn without_room_for_its_token_a_websocket_does_not_come_about() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::with("tunnels", |config| config.limits.tunnels = 2);
    let app = Switcher::start();
    world.apply(policies(app.addr.port(), Mode::Enforce));
    let token = world.role("reader");
    let mut clients = [(); 2].map(|()| tunnel(&app, &token));
    let mut client = tunnel(&app, &token);
    client.send("\u{81}\u{5}hello, secret");
    assert!(client.response().map_or(true, |response| response.status == 400));
    assert!(!app.read().contains("secret"));
    assert_eq!(world.stats().tunnel_refused, 1);
    clients.iter_mut().for_each(echoes);
    drop(clients);
    thread::sleep(Duration::from_millis(200));
    echoes(&mut tunnel(&app, &token));
}

/// Monitor mode changes nothing, also here; when the port enforces, what has expired by then ends.
#[test]
fn a_websocket_outlives_its_token_only_while_the_port_monitors() {
    need!(Bpf, BpfFs, Cgroup2);
    let (mut world, app, _) = start(Mode::Monitor);
    let token = |seconds: u64| world.token(json!({ "exp": now_s() + seconds }));
    let mut clients = [600, 6000].map(|seconds| tunnel(&app, &token(seconds)));
    world.datapath().set_clock_offset(1_000_000_000_000).expect("moved");
    thread::sleep(Duration::from_millis(600));
    clients.iter_mut().for_each(echoes);
    world.apply(policies(app.addr.port(), Mode::Enforce));
    let [expired, other] = &mut clients;
    assert!(expired.ends());
    echoes(other);
}

/// A connection that has switched to websocket.
fn tunnel(app: &Switcher, token: &str) -> Client {
    let mut client = Client::connect(app.addr);
    assert_eq!(client.ask(asks("/ws", Some(token), "websocket")).status, 101);
    client
}

fn echoes(client: &mut Client) {
    let frame = "\u{81}\u{5}hello";
    client.send(frame);
    assert_eq!(client.bytes(frame.len()), frame.as_bytes());
}

#[test]
fn monitor_mode_changes_nothing() {
    need!(Bpf, BpfFs, Cgroup2);
    let (world, app, token) = start(Mode::Monitor);
    for (path, token) in [("/ws", Some(token.as_str())), ("/ws", None), ("/wsnot", Some(token.as_str()))] {
        let mut client = Client::connect(app.addr);
        assert_eq!(client.ask(asks(path, token, "websocket")).status, 101);
        client.send("\u{81}\u{5}hello");
        assert_eq!(client.bytes(8), "\u{81}\u{5}hello".as_bytes());
    }
    let mut client = Client::connect(app.addr);
    client.send(format!("{}early", asks("/ws", Some(&token), "websocket")));
    assert_eq!(client.response().expect("an answer").status, 101);
    assert!(app.read().ends_with("early"));
    assert!(world.reasons().contains_key("upgrade_refused"));
}
