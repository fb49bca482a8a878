//! The system's clock is set while tokens are in use.

use std::io;
use std::time::Duration;

use portcullis_enforcer::kernel::{Config, Datapath, KernelError};
use portcullis_testkit::{eventually, need};
use portcullis_wire::Mode;

use crate::app::App;
use crate::client::{Client, get, once};
use crate::world::{World, policy};

/// More than the tests' tokens are good for, s.
const STEP_S: i64 = 1000;
/// The agent looks at the clock ten times a second.
const NOTICED: Duration = Duration::from_secs(2);

/// The clock is ahead by [`STEP_S`]; on drop it is set back.
struct Ahead;

// === impl Ahead ===

impl Ahead {
    fn set() -> Ahead {
        step(STEP_S);
        Ahead
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        step(-STEP_S);
    }
}

fn step(seconds: i64) {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure lives through both calls.
    let set = unsafe {
        libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut time);
        time.tv_sec += seconds;
        libc::clock_settime(libc::CLOCK_REALTIME, &raw const time)
    };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
}

/// Whoever moved a service's clock would make expired tokens good again.
#[test]
fn the_time_of_an_instance_that_is_no_harness_cannot_be_moved() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::with("realtime", |config| config.virtual_time = false);
    let app = App::local();
    world.apply(vec![policy(app.port(), Mode::Enforce)]);
    let good = get("/a", Some(&world.role("reader")));
    let refused = |world: &World| {
        let refused = world.datapath().set_clock_offset(-1).expect_err("moved").to_string();
        assert!(refused.contains(&*world.config.pins.to_string_lossy()), "{refused}");
    };
    refused(&world);
    world.datapath().set_clock_offset(0).expect("where it is");
    // A harness that takes it over makes it no harness's, at its start or later.
    world.config.virtual_time = true;
    world.restart();
    refused(&world);
    drop(world.datapath.take());
    let moved = Config { clock_offset_ns: -1, ..world.config.clone() };
    let error = Datapath::start(moved, Box::new(|_| ())).expect_err("started with another time");
    assert!(matches!(error, KernelError::RealTime { .. }), "{error}");
    // Nothing was changed by all that.
    world.restart();
    assert_eq!(once(app.addr, good).status, 200);
}

#[test]
fn a_clock_that_is_set_counts_for_tokens_that_are_remembered() {
    need!(Bpf, BpfFs, Cgroup2, SetClock);
    let mut world = World::new("clock");
    let app = App::local();
    world.apply(vec![policy(app.port(), Mode::Enforce)]);
    let good = get("/a", Some(&world.role("reader")));
    let mut client = Client::connect(app.addr);
    for _ in 0..3 {
        assert_eq!(client.ask(&good).status, 200);
    }
    assert_eq!(world.stats().verify_ok, 1);
    let until = |client: &mut Client, status: u16, other: u16| {
        eventually("the agent to notice", NOTICED, || match client.ask(&good).status {
            seen if seen == status => Some(()),
            seen => {
                assert_eq!(seen, other);
                None
            }
        });
    };
    let ahead = Ahead::set();
    until(&mut client, 401, 200);
    let read = app.requests();
    assert_eq!((client.ask(&good).status, once(app.addr, &good).status), (401, 401));
    assert_eq!(app.requests(), read);
    let later = get("/a", Some(&world.role("reader")));
    assert_eq!(client.ask(&later).status, 200);
    drop(ahead);
    until(&mut client, 200, 401);
    assert_eq!(once(app.addr, &good).status, 200);
    // Issued in what is the future again.
    assert_eq!(client.ask(&later).status, 401);
    let reasons = world.reasons();
    assert_eq!(
        reasons.keys().collect::<Vec<_>>(),
        ["rule_allow", "token_expired", "token_iat"],
        "{reasons:?}"
    );
}
