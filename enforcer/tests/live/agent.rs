//! What the agent does besides following the control plane: it hears of changes, holds out without it, loses no record
//! unseen, and knows its host.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use portcullis_enforcer::agent::{Agent, AgentConfig, FollowConfig, IssuerConfig, Protection, SpoolConfig};
use portcullis_testkit::{eventually, need};
use portcullis_token::mint::SigningKey;
use portcullis_wire::{Bundle, JwkSet, Mode, Revocation, RevokedClaim};
use serde_json::json;

use crate::app::App;
use crate::bypass::detach_link;
use crate::client::{get, once};
use crate::plane::Plane;
use crate::sync::agent_with;
use crate::world::{AUDIENCE, ISSUER, World, now_s, policy};

const SOON: Duration = Duration::from_secs(10);
/// An answer of the control plane that takes long.
const SLOW: Duration = Duration::from_secs(2);

/// A directory that goes with the test.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let dir = std::env::temp_dir().join(format!("pc-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        Dir(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn following(mut config: AgentConfig, change: impl FnOnce(&mut FollowConfig)) -> AgentConfig {
    change(&mut config.follow);
    config
}

#[test]
fn a_change_is_heard_at_once_and_a_cached_token_is_denied() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("push");
    let (plane, app) = (Plane::start(), App::local());
    plane.serve(&world.bundle(5, vec![policy(app.port(), Mode::Enforce)]));
    let long = Duration::from_secs(3600);
    let agent = agent_with(&mut world, &plane, |config| {
        following(config, |follow| {
            (follow.poll, follow.push) = (long, true);
        })
    });
    let token = world.token(json!({ "sub": "mallory" }));
    let status = || once(app.addr, get("/a", Some(&token))).status;
    assert_eq!([status(), status()], [200, 200]);
    let revocation = Revocation {
        issuer: ISSUER.into(),
        claim: RevokedClaim::Sub,
        value: "mallory".into(),
        not_before: Some(now_s() + 1),
        expires_at: u64::MAX,
    };
    let bundle = world.bundle(6, vec![policy(app.port(), Mode::Enforce)]);
    plane.serve(&Bundle { revocations: vec![revocation], ..bundle });
    eventually("the denial", SOON, || (status() == 401).then_some(()));
    assert!(plane.state().pushed >= 1);
    assert_eq!(agent.status().generation, 6);
    agent.stop();
}

#[test]
fn without_the_control_plane_the_cached_configuration_holds_and_older_ones_are_refused() {
    need!(Bpf, BpfFs, Cgroup2);
    let (mut world, dir) = (World::new("cache"), Dir::new("cache"));
    let (plane, app) = (Plane::start(), App::local());
    let cache = dir.0.join("bundle");
    let with_cache = |config| following(config, |follow| follow.cache = Some(cache.clone()));
    plane.serve(&world.bundle(7, vec![policy(app.port(), Mode::Enforce)]));
    agent_with(&mut world, &plane, with_cache).detach().expect("detached");

    // The kernel knows nothing any more: what is in force comes from the file.
    plane.status(503);
    let agent = agent_with(&mut world, &plane, with_cache);
    assert_eq!(agent.status().generation, 7);
    assert!(agent.status().error.expect("an error").contains("503"));
    assert_eq!(once(app.addr, get("/a", None)).status, 401);
    agent.detach().expect("detached");

    plane.status(0);
    plane.serve(&world.bundle(6, vec![policy(app.port(), Mode::Monitor)]));
    let agent = agent_with(&mut world, &plane, with_cache);
    let status = agent.status();
    assert_eq!(status.generation, 7);
    assert!(status.error.as_ref().is_some_and(|error| error.contains("6 is older than 7")), "{status:?}");
    agent.detach().expect("detached");

    let mut text = fs::read(&cache).expect("the file");
    text.truncate(text.len() - 1);
    fs::write(&cache, text).expect("written");
    plane.status(503);
    let agent = agent_with(&mut world, &plane, with_cache);
    assert_eq!(agent.status().generation, 0, "a torn file is not used");
    agent.stop();
}

/// What is in force decides while an answer is awaited, at the start and later (THREATS T50).
#[test]
fn a_slow_control_plane_holds_up_no_decision() {
    need!(Bpf, BpfFs, Cgroup2);
    let (mut world, dir) = (World::new("slow"), Dir::new("slow"));
    let (plane, app) = (Plane::start(), App::local());
    let cache = dir.0.join("bundle");
    let with_cache = |config| following(config, |follow| follow.cache = Some(cache.clone()));
    let version = |n| world.bundle(n, vec![policy(app.port(), Mode::Enforce)]);
    let (first, later, last) = (version(7), version(8), version(9));
    let good = get("/a", Some(&world.role("reader")));
    plane.serve(&first);
    agent_with(&mut world, &plane, with_cache).detach().expect("detached");

    plane.serve(&later);
    plane.state().slow = SLOW;
    let arrived = plane.state().configs;
    let agent = thread::scope(|scope| {
        let starting = scope.spawn(|| agent_with(&mut world, &plane, with_cache));
        // Before it the programs are loaded.
        eventually("the kept configuration", 6 * SOON, || {
            (once(app.addr, get("/a", None)).status == 401).then_some(())
        });
        assert_eq!(plane.state().configs, arrived, "it waited for an answer");
        starting.join().expect("an agent")
    });
    eventually("version 8", SOON, || (agent.status().generation == 8).then_some(()));
    plane.serve(&last);
    let arrived = plane.state().configs;
    let mut decided = 0;
    while agent.status().generation != 9 {
        assert_eq!(once(app.addr, get("/a", None)).status, 401);
        assert_eq!(once(app.addr, &good).status, 200);
        decided += usize::from(plane.state().configs == arrived);
    }
    assert!(decided > 0, "nothing was decided while an answer was on its way");
    agent.stop();
}

#[test]
fn keys_that_nobody_confirms_grow_too_old() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("age");
    let (plane, app) = (Plane::start(), App::local());
    plane.serve(&world.bundle(5, vec![policy(app.port(), Mode::Enforce)]));
    let agent = agent_with(&mut world, &plane, |config| {
        following(config, |follow| follow.key_age_max = Some(Duration::from_secs(3600)))
    });
    let hours = |hours: i64| hours * 3600;
    let token = world.token(json!({ "exp": now_s() + 86_400 }));
    let status = || once(app.addr, get("/a", Some(&token))).status;
    assert_eq!(status(), 200);
    plane.status(503);
    eventually("the outage", SOON, || agent.status().error.is_some().then_some(()));
    agent.set_clock_offset_s(hours(1) - 30).expect("moved");
    assert_eq!(status(), 200, "within the bound the last keys are good");
    agent.set_clock_offset_s(hours(1) + 30).expect("moved");
    assert_eq!(status(), 401, "beyond it they are not, cached or not");
    let problems = agent.status().problems;
    assert!(problems.iter().any(|problem| problem.contains("the control plane")), "{problems:?}");
    plane.status(0);
    eventually("keys that are young again", SOON, || (status() == 200).then_some(()));
    assert_eq!(agent.status().problems, [""; 0]);
    agent.stop();
}

#[test]
fn keys_of_an_issuers_url_are_fetched_again_for_an_unknown_kid_but_not_for_each() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("issuer");
    let (plane, app) = (Plane::start(), App::local());
    plane.serve(&world.bundle(5, vec![policy(app.port(), Mode::Enforce)]));
    let (first, second) =
        (SigningKey::generate_es256().expect("key"), SigningKey::generate_es256().expect("key"));
    let keys = |keys: &[(&str, &SigningKey)]| {
        let keys = keys.iter().map(|(kid, key)| key.public_jwk(kid)).collect();
        serde_json::to_string(&JwkSet { keys }).expect("JSON")
    };
    plane.state().keys = keys(&[("one", &first)]);
    let issuer = format!("http://{}/issuer", plane.addr);
    let config = IssuerConfig {
        issuer: issuer.clone(),
        audiences: vec![AUDIENCE.into()],
        leeway_s: 0,
        jwks_uri: None,
    };
    // Its metadata is that of the other one.
    let impostor = IssuerConfig { issuer: format!("{issuer}/sub"), ..config.clone() };
    let agent = agent_with(&mut world, &plane, |agent| {
        following(agent, |follow| follow.issuers = vec![config, impostor])
    });
    let token = |kid: &str, key: &SigningKey| {
        let claims = json!({
            "iss": issuer, "aud": AUDIENCE, "sub": "u", "exp": now_s() + 600, "roles": ["reader"],
        });
        key.sign(&json!({ "alg": "ES256", "kid": kid }).to_string(), &claims.to_string())
    };
    let status = |token: &str| once(app.addr, get("/a", Some(token))).status;
    assert_eq!(status(&token("one", &first)), 200, "{:?}", agent.status());
    let problems = agent.status().problems;
    assert!(problems.iter().any(|problem| problem.contains("it is the metadata of")), "{problems:?}");

    let before = plane.state().keys_read;
    plane.state().keys = keys(&[("one", &first), ("two", &second)]);
    let new = token("two", &second);
    eventually("the new key", SOON, || (status(&new) == 200).then_some(()));
    assert_eq!(status(&token("one", &first)), 200);

    // Anybody can make tokens with kids that nobody knows.
    for n in 0..500 {
        assert_eq!(status(&token(&format!("flood-{n}"), &first)), 401);
    }
    let read = plane.state().keys_read - before;
    assert!(read <= 6, "{read} readings for 500 unknown kids");

    // An empty or unreadable set is a mistake of the issuer's: the keys of before stay.
    plane.state().keys = r#"{"keys": []}"#.into();
    agent.sync().expect("synced");
    assert_eq!(status(&new), 200);
    agent.stop();
}

#[test]
fn records_and_losses_are_the_decisions() {
    need!(Bpf, BpfFs, Cgroup2);
    let (mut world, dir) = (World::new("spool"), Dir::new("spool"));
    let (plane, app) = (Plane::start(), App::local());
    plane.serve(&world.bundle(5, vec![policy(app.port(), Mode::Enforce)]));
    let spool = SpoolConfig { dir: dir.0.join("spool"), bytes_max: 2 << 20 };
    let with_spool = |config| following(config, |follow| follow.spool = Some(spool.clone()));
    let agent = agent_with(&mut world, &plane, with_spool);
    let path = format!("/{}", "p".repeat(150));
    let mut sent = 0;
    let mut send = |most: u32, until: &dyn Fn() -> bool| {
        let mut client = crate::client::Client::connect(app.addr);
        for _ in 0..most {
            client.send(get(&path, None));
            assert_eq!(client.response().expect("an answer").status, 401);
            sent += 1;
            if until() {
                break;
            }
        }
        sent
    };
    send(100, &|| false);
    agent.flush().expect("records sent");
    assert_eq!(plane.state().logs.len(), 100);

    // The plane fails until the spool is full, and the agent is replaced in the middle of it.
    plane.status(503);
    send(300, &|| false);
    agent.stop();
    let agent = agent_with(&mut world, &plane, with_spool);
    assert!(agent.status().records_waiting >= 300, "{:?}", agent.status());
    let full = || agent.status().records_lost > 0;
    let decisions = send(20_000, &full);
    assert!(full(), "the spool is never full");
    plane.status(0);
    eventually("an empty spool", Duration::from_secs(60), || {
        agent.with_datapath(|datapath| datapath.flush());
        let _ = agent.flush();
        (agent.status().records_waiting == 0).then_some(())
    });
    // The last batch that says how much was lost.
    let state = plane.state();
    let status = agent.status();
    assert_eq!(state.logs.len() as u64 + status.records_lost + status.records_lost_in_kernel, decisions);
    assert_eq!(state.dropped, status.records_lost + status.records_lost_in_kernel);
    assert_eq!(state.missing, status.records_lost);
    let mut ids: Vec<_> = state.logs.iter().map(|record| record.decision_id.clone()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), state.logs.len(), "a record came twice");
    drop(state);
    agent.stop();
}

#[test]
fn the_host_is_called_protected_only_while_it_is() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("host");
    let (plane, app) = (Plane::start(), App::local());
    plane.serve(&world.bundle(5, vec![policy(app.port(), Mode::Monitor)]));
    let agent = agent_with(&mut world, &plane, |config| AgentConfig {
        host_every: Duration::from_millis(50),
        metrics: Some("127.0.0.1:0".parse().expect("an address")),
        ..config
    });
    assert_eq!(agent.status().protection, Protection::Unprotected, "nothing was tried yet");
    let becomes = |wanted: Protection| {
        eventually(wanted.name(), SOON, || (agent.status().protection == wanted).then_some(()));
    };
    becomes(Protection::Monitoring);
    assert_eq!((app.requests(), app.bytes().len()), (0, 0), "a probe carries nothing");
    plane.serve(&world.bundle(6, vec![policy(app.port(), Mode::Enforce)]));
    becomes(Protection::Protected);
    let service = |port: u16| {
        let services = agent.status().services;
        services.into_iter().find(|service| service.listener.port == port).expect("a service")
    };
    assert_eq!(service(app.port()).listener.process.expect("a process").pid, std::process::id());

    // A listener that the programs do not cover, on a port that a policy is about.
    let other = portcullis_testkit::TestCgroup::new("outside").expect("cgroup");
    let inside = other.enter_process().expect("entering");
    let outside = App::local();
    let policies = [app.port(), outside.port()].map(|port| {
        let policy = policy(port, Mode::Enforce);
        portcullis_wire::Policy { id: format!("p{port}"), ..policy }
    });
    plane.serve(&world.bundle(7, policies.to_vec()));
    becomes(Protection::Unprotected);
    eventually("the reason", SOON, || service(outside.port()).why);
    assert_eq!(service(app.port()).protection, Protection::Protected);
    drop(inside);

    assert_eq!(once(app.addr, get("/health", None)).status, 200);
    eventually("what the plane was told", SOON, || {
        let state = plane.state();
        let heard = state.heartbeats.iter().any(|beat| beat["status"] == "protected")
            && state.endpoints.iter().any(|told| told["endpoints"][0]["pattern"] == "/health")
            && state.services.last()?["services"]
                .as_array()?
                .iter()
                .any(|row| row["port"] == app.port() && row["status"] == "protected");
        heard.then_some(())
    });
    let page = scrape(&agent);
    assert!(page.contains("portcullis_config_version 7\n"), "{page}");
    assert!(page.contains("portcullis_protection{state=\"unprotected\"} 1\n"), "{page}");
    agent.stop();
}

/// Whoever may detach programs cannot do it unseen (THREATS T20).
#[test]
fn what_somebody_took_off_raises_the_alarm() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("alarm");
    let (plane, app) = (Plane::start(), App::local());
    plane.serve(&world.bundle(5, vec![policy(app.port(), Mode::Enforce)]));
    let agent = agent_with(&mut world, &plane, |config| AgentConfig {
        host_every: Duration::from_millis(50),
        metrics: Some("127.0.0.1:0".parse().expect("an address")),
        ..config
    });
    let told = || plane.state().heartbeats.last().map(|beat| beat["status"].clone());
    let hears = |wanted: &str| eventually(wanted, SOON, || (told()? == wanted).then_some(()));
    hears("protected");
    assert!(scrape(&agent).contains("portcullis_detached 0\n"), "{}", scrape(&agent));
    // The one without which connections that come are not under control, and one without which they are.
    detach_link(&world.config.pins.join("links/sockops")).expect("detaching");
    hears("unprotected");
    let status = agent.status();
    assert_eq!(status.protection, Protection::Unprotected);
    assert_eq!(status.detached, ["pc_sockops was detached from its cgroup"]);
    detach_link(&world.config.pins.join("links/guard")).expect("detaching");
    let both = ["pc_guard was detached from its cgroup", "pc_sockops was detached from its cgroup"];
    assert_eq!(agent.status().detached, both);
    let page = scrape(&agent);
    assert!(page.contains("portcullis_detached 2\n"), "{page}");
    assert!(page.contains("portcullis_protection{state=\"unprotected\"} 1\n"), "{page}");
    agent.stop();
}

/// What a Prometheus is told.
fn scrape(agent: &Agent) -> String {
    let mut scrape = TcpStream::connect(agent.metrics_addr().expect("an address")).expect("connecting");
    scrape.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    let mut page = String::new();
    scrape.read_to_string(&mut page).expect("a page");
    page
}
