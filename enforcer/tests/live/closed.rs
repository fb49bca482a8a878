//! Something is missing that the programs need: nothing is allowed for that (docs/SEMANTICS.md, Failures).
//!
//! Only somebody who may write the maps can bring it about, or a fault of our own; so the tests do write them.

use std::time::Duration;

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use portcullis_bpf::abi::{self, method};
use portcullis_testkit::{eventually, need};
use portcullis_wire::{Action, Mode, Policy};
use serde_json::json;
use zerocopy::{FromBytes, IntoBytes};

use crate::app::App;
use crate::client::{Client, get, once};
use crate::lifecycle::padded;
use crate::world::{World, policy};

/// A map of the instance, to be written behind the agent's back.
struct Map(MapHandle);

// === impl Map ===

impl Map {
    fn of(world: &World, name: &str) -> Map {
        let path = world.config.pins.join("maps").join(name);
        Map(MapHandle::from_pinned_path(path).unwrap_or_else(|error| panic!("{name}: {error}")))
    }

    fn len(&self) -> u32 {
        self.0.info().expect("a map").info.max_entries
    }

    fn get(&self, key: u32) -> Vec<u8> {
        self.0.lookup(&key.to_ne_bytes(), MapFlags::ANY).expect("a map").expect("an entry")
    }

    fn set(&self, key: u32, value: &[u8]) {
        self.0.update(&key.to_ne_bytes(), value, MapFlags::ANY).expect("written");
    }

    fn remove(&self, key: u32) {
        self.0.delete(&key.to_ne_bytes()).expect("removed");
    }
}

/// Even where the policy only monitors, and allows what no rule names. (A port without an entry is one that is not protected.)
#[test]
fn a_request_whose_policy_cannot_be_read_is_denied() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("entry");
    let app = App::local();
    world.apply(vec![Policy { default_action: Action::Allow, ..policy(app.port(), Mode::Monitor) }]);
    let mut denied = 0;
    // A connection of before, so that what it gets is the answer of the programs and not of the guard.
    let mut ask = |what: &str, spoil: &dyn Fn(), restore: &dyn Fn()| {
        let mut client = Client::connect(app.addr);
        assert_eq!(client.ask(get("/before", None)).status, 200, "{what}");
        let read = app.bytes().len();
        spoil();
        assert_eq!(client.ask(get("/meanwhile", None)).status, 503, "{what}");
        assert_eq!(app.bytes().len(), read, "{what}");
        denied += 1;
        restore();
        assert_eq!(once(app.addr, get("/after", None)).status, 200, "{what}");
    };

    let (ports, port) = (Map::of(&world, "pc_ports"), u32::from(app.port()));
    let entry = ports.get(port);
    let mut nowhere = abi::Port::read_from_bytes(&entry).expect("an entry");
    nowhere.policy.fill(u32::MAX);
    ask("with a policy that is not there", &|| ports.set(port, nowhere.as_bytes()), &|| {
        ports.set(port, &entry);
    });

    let sets = Map::of(&world, "pc_sets");
    // Those of the rules of one small policy are in front, in each half.
    let half = sets.len() / 2;
    let kept: Vec<_> = (0..8).chain(half..half + 8).map(|key| (key, sets.get(key))).collect();
    let elsewhere = |(key, set): &(u32, Vec<u8>)| {
        let mut set = abi::Set::read_from_bytes(set).expect("a set");
        set.rule[method::GET] = if set.rule[method::GET] == 0 { 0 } else { u32::MAX };
        sets.set(*key, set.as_bytes());
    };
    ask("with a rule that is not there", &|| kept.iter().for_each(elsewhere), &|| {
        kept.iter().for_each(|(key, set)| sets.set(*key, set));
    });
    assert_eq!(world.reasons().get("internal"), Some(&denied), "{:?}", world.reasons());
}

#[test]
fn without_a_clock_every_token_is_refused() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("noclock");
    let app = App::patient();
    world.apply(vec![policy(app.port(), Mode::Enforce)]);
    let [known, new] = ["known", "new"].map(|name| world.token(json!({ "sub": name })));
    assert_eq!(once(app.addr, get("/a", Some(&known))).status, 200);
    // The agent would set it again.
    drop(world.datapath.take());
    let clock = Map::of(&world, "pc_clock");
    clock.set(0, &vec![0; clock.get(0).len()]);
    let read = app.bytes().len();
    for token in [&known, &new] {
        assert_eq!(once(app.addr, get("/a", Some(token))).status, 503);
    }
    assert_eq!(once(app.addr, padded("/a")).status, 401);
    assert_eq!(app.bytes().len(), read);
    assert_eq!(once(app.addr, get("/health", None)).status, 200, "it needs no token");
    world.restart();
    assert_eq!(once(app.addr, get("/a", Some(&new))).status, 200);
    assert_eq!(world.reasons().get("internal"), Some(&2), "{:?}", world.reasons());
}

/// Each program of the chain in turn; what its absence means shows, and the next agent puts it right.
#[test]
fn without_a_program_of_the_chain_no_token_is_good() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("chain");
    let app = App::local();
    world.apply(vec![policy(app.port(), Mode::Enforce)]);
    let known = world.token(json!({ "sub": "known" }));
    assert_eq!(once(app.addr, get("/a", Some(&known))).status, 200);
    for (index, name) in ["pc_http", "pc_token", "pc_rs256"].into_iter().enumerate() {
        Map::of(&world, "pc_progs").remove(index as u32);
        let missing = world.datapath().health().expect("health").missing;
        assert_eq!(missing, [format!("{name} was removed from pc_progs")]);
        let read = app.bytes().len();
        let new = world.token(json!({ "sub": name }));
        let mut client = Client::connect(app.addr);
        client.timeout(Duration::from_millis(500));
        client.send(get("/a", Some(&new)));
        match index {
            0 => drop(client.response().expect_err("nobody decides")),
            _ => assert_eq!(client.response().expect("an answer").status, 503, "without {name}"),
        }
        assert_eq!(app.bytes().len(), read, "without {name}");
        // What was verified before needs no program for its signature.
        if name == "pc_rs256" {
            assert_eq!(once(app.addr, get("/a", Some(&known))).status, 200);
        }
        world.restart();
        assert_eq!(world.datapath().health().expect("health").missing, [] as [String; 0]);
        assert_eq!(once(app.addr, get("/a", Some(&new))).status, 200, "with {name}");
    }
    assert_eq!(world.reasons().get("internal"), Some(&2), "{:?}", world.reasons());
}

/// As if more runs were at work than there is scratch for.
#[test]
fn without_scratch_an_enforcing_port_passes_nothing_and_a_monitoring_one_all() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("slots");
    let (enforcing, monitoring) = (App::local(), App::local());
    let of = |app: &App, mode| Policy { id: format!("p{}", app.port()), ..policy(app.port(), mode) };
    world.apply(vec![of(&enforcing, Mode::Enforce), of(&monitoring, Mode::Monitor)]);
    let good = get("/a", Some(&world.role("reader")));
    assert_eq!(once(enforcing.addr, &good).status, 200);
    let slots = Map::of(&world, "pc_slots");
    // struct pc_slot begins with u32 busy. Nothing runs now, so nothing is written over.
    let occupy = |busy: u32| {
        for key in 0..slots.len() {
            let mut slot = slots.get(key);
            slot[..4].copy_from_slice(&busy.to_ne_bytes());
            slots.set(key, &slot);
        }
    };
    occupy(1);
    let (read, before) = (enforcing.bytes().len(), world.stats().no_slot);
    let mut client = Client::connect(enforcing.addr);
    client.send(&good);
    assert!(client.ends(), "the connection of an enforcing port goes on");
    assert_eq!(enforcing.bytes().len(), read);
    let mut watched = Client::connect(monitoring.addr);
    assert_eq!(watched.ask(get("/a", None)).status, 200);
    assert_eq!(world.stats().no_slot, before + 2);
    occupy(0);
    assert_eq!(once(enforcing.addr, &good).status, 200);
    assert_eq!(once(enforcing.addr, get("/a", None)).status, 401);
    // Nobody knows where on the connection a request begins: it stays unread.
    assert_eq!(watched.ask(get("/unread", None)).status, 200);
    assert_eq!(once(monitoring.addr, get("/read", None)).status, 200);
    let paths = || world.records().into_iter().map(|record| record.path).collect::<Vec<_>>();
    eventually("the records", Duration::from_secs(5), || paths().contains(&"/read".to_owned()).then_some(()));
    assert!(!paths().contains(&"/unread".to_owned()), "{:?}", paths());
}
