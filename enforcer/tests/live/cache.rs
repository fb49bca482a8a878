//! The token cache when it is far too small: its elements are reused while others read them.

use std::thread;
use std::time::{Duration, Instant};

use libbpf_rs::{MapCore, MapHandle};
use portcullis_bpf::limits;
use portcullis_testkit::{Rng, need, seed};
use portcullis_wire::{Bundle, Mode, Revocation, RevokedClaim, Verdict};
use serde_json::json;

use crate::app::App;
use crate::client::{Client, get, once};
use crate::nesting::pin_to;
use crate::world::{ISSUER, World, policy};

/// Tokens that the cache holds, and tokens that are sent.
const KEPT: u32 = 16;
const TOKENS: usize = 48;
/// Connections on each of two CPUs.
const CLIENTS: usize = 4;
const TIME: Duration = Duration::from_secs(4);
/// Between requests: every record is to be there.
const PAUSE: Duration = Duration::from_micros(300);

/// Else the signature check of each request would be charged to nobody (THREATS T39).
#[test]
fn a_token_of_any_length_is_verified_once_a_generation() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("long");
    let app = App::local();
    let tokens: Vec<String> = [1, 1500, 2400].map(|n| world.token(json!({ "note": "n".repeat(n) }))).into();
    assert!(tokens[2].len() > 3800 && tokens[2].len() <= limits::TOKEN_MAX, "{}", tokens[2].len());
    for generation in 1..=2 {
        world.apply(vec![policy(app.port(), Mode::Enforce)]);
        for token in &tokens {
            for _ in 0..10 {
                assert_eq!(once(app.addr, get("/a", Some(token))).status, 200);
            }
        }
        let stats = world.stats();
        assert_eq!((stats.cache_miss, stats.cache_hit), (3 * generation, 27 * generation));
    }
}

/// A revoked token has a good signature and is not kept: whoever goes on sending it pays as for a forged one.
#[test]
fn a_revoked_token_is_charged_to_its_source() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("revoked");
    let app = App::local();
    let revocation = Revocation {
        issuer: ISSUER.into(),
        claim: RevokedClaim::Sub,
        value: "mallory".into(),
        not_before: None,
        expires_at: u64::MAX,
    };
    let policies = vec![policy(app.port(), Mode::Enforce)];
    world.apply_bundle(|bundle| Bundle { policies, revocations: vec![revocation], ..bundle });
    let (bad, good) = (world.token(json!({ "sub": "mallory" })), world.role("reader"));
    // Sources that anything is charged to: a slow machine does not get to the bound.
    let charged = || {
        let sources = MapHandle::from_pinned_path(world.config.pins.join("maps/pc_sources"));
        sources.expect("the sources").keys().count()
    };
    assert_eq!((once(app.addr, get("/a", Some(&good))).status, charged()), (200, 0));
    for _ in 0..3 {
        assert_eq!(once(app.addr, get("/a", Some(&bad))).status, 401);
    }
    assert_eq!((world.stats().verify_ok, world.stats().verify_bad, charged()), (1, 3, 1));
    assert_eq!(once(app.addr, get("/a", Some(&good))).status, 200);
}

#[test]
fn the_identity_in_a_record_is_that_of_the_token() {
    need!(Bpf, BpfFs, Cgroup2, TwoCpus);
    let mut world = World::with("lru", |config| config.limits.tokens = KEPT);
    let app = App::local();
    world.apply(vec![policy(app.port(), Mode::Enforce)]);
    let role = |index: usize| if index.is_multiple_of(2) { "guest" } else { "reader" };
    let user = |index: usize| (format!("user-{index}"), format!("user-{index}@example.com"));
    let tokens: Vec<String> = (0..TOKENS)
        .map(|index| {
            let (sub, email) = user(index);
            world.token(json!({ "sub": sub, "email": email, "roles": [role(index)] }))
        })
        .collect();
    let seed = seed();
    let sent: usize = thread::scope(|scope| {
        let client = |n: usize| {
            let (app, tokens) = (&app, &tokens);
            move || {
                pin_to(n % 2);
                let mut rng = Rng::new(seed ^ n as u64);
                let mut client = Client::connect(app.addr);
                let start = Instant::now();
                let requests = (0..).take_while(|_| start.elapsed() < TIME);
                let sent = requests.map(|_| {
                    // Mostly a few of them, so that some are found, and the rest to push those out.
                    let many = if rng.one_in(3) { TOKENS } else { KEPT as usize / 2 };
                    let index = rng.below(many as u64) as usize;
                    let status = if role(index) == "reader" { 200 } else { 403 };
                    let response = client.ask(get(&format!("/{index}"), Some(&tokens[index])));
                    assert_eq!(response.status, status, "token {index}: {response:?}");
                    thread::sleep(PAUSE);
                });
                sent.count()
            }
        };
        let clients: Vec<_> = (0..2 * CLIENTS).map(|n| scope.spawn(client(n))).collect();
        clients.into_iter().map(|client| client.join().expect("a client")).sum()
    });
    let records = world.records();
    let stats = world.stats();
    assert_eq!((records.len(), stats.events_lost), (sent, 0));
    for record in &records {
        let index: usize = record.path[1..].parse().expect("a number");
        let (sub, email) = user(index);
        assert_eq!((record.user_id.as_deref(), record.user_email.as_deref()), (Some(&*sub), Some(&*email)));
        assert_eq!(record.roles, if role(index) == "reader" { vec!["reader"] } else { vec![] }, "{record:?}");
        assert_eq!(record.decision == Verdict::Allow, role(index) == "reader", "{record:?}");
    }
    // Else nothing was reused, or nothing found.
    let (hits, misses) = (stats.cache_hit, stats.cache_miss);
    assert!(hits > 200 && misses > 10 * u64::from(KEPT), "{hits} hits, {misses} misses");
    eprintln!("{sent} requests, {hits} hits, {misses} misses");
}
