//! More decisions than the kernel has room for records of: they are made as before, and what is lost is counted.

use portcullis_bpf::abi::Event;
use portcullis_bpf::limits::EVENT_RING_BYTES;
use portcullis_testkit::need;
use portcullis_wire::Mode;

use crate::app::App;
use crate::client::{Client, get};
use crate::lifecycle::padded;
use crate::world::{World, policy};

/// Header of a record in a BPF ring buffer (BPF_RINGBUF_HDR_SZ).
const HEADER: usize = 8;
/// Records for which there is room.
const ROOM: usize = EVENT_RING_BYTES / (size_of::<Event>() + HEADER);
const CLIENTS: usize = 4;

/// Each of several kinds of request, again and again: how many were decided, how many of them were to be allowed.
fn flood(world: &World, app: &App, decisions: usize) -> (usize, usize) {
    let (good, guest) = (get("/a", Some(&world.role("reader"))), get("/a", Some(&world.role("guest"))));
    let requests = [(good.clone(), 200), (padded("/a"), 401), (good, 200), (guest, 403)];
    let rounds = decisions.div_ceil(requests.len() * CLIENTS);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = Client::connect(app.addr);
                for _ in 0..rounds {
                    for (request, status) in &requests {
                        assert_eq!(client.ask(request).status, *status);
                    }
                }
            });
        }
    });
    (rounds * requests.len() * CLIENTS, rounds * 2 * CLIENTS)
}

#[test]
fn a_full_ring_changes_no_decision_and_what_is_lost_is_counted() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("full");
    let app = App::patient();
    world.apply(vec![policy(app.port(), Mode::Enforce)]);
    world.expect_agent_mode();
    // Whoever takes the records hangs, and so nobody reads the ring.
    let records = world.records.clone();
    let taken = records.lock().expect("no thread panicked");
    let (mut decided, mut allowed) = flood(&world, &app, ROOM + 3000);
    assert_eq!((app.requests(), app.anonymous()), (allowed as u64, 0));
    let lost = world.stats().events_lost;
    assert!(lost > 0, "{decided} decisions, and room for {ROOM} records");
    drop(taken);
    assert_eq!(world.records().len() + lost as usize, decided);
    assert_eq!(world.stats().events_lost, lost);
    // There is no agent at all.
    drop(world.datapath.take());
    let more = flood(&world, &app, ROOM + 1000);
    (decided, allowed) = (decided + more.0, allowed + more.1);
    assert_eq!((app.requests(), app.anonymous()), (allowed as u64, 0));
    world.restart();
    let all_lost = world.stats().events_lost;
    assert!(all_lost > lost, "{} decisions, and room for {ROOM} records", more.0);
    assert_eq!(world.records().len() + all_lost as usize, decided);
    // From now on each has its record again.
    let more = flood(&world, &app, 100);
    assert_eq!(
        (world.records().len() + all_lost as usize, world.stats().events_lost),
        (decided + more.0, all_lost)
    );
}
