//! Records while the control plane is down and when it is back: records and losses are the decisions.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use portcullis_follower::{FollowConfig, SpoolConfig};
use portcullis_testkit::eventually;
use portcullis_wire::AccessLog;

use crate::plane::{Plane, SOON, at, begun, known};

#[test]
fn records_wait_on_disk_and_are_sent_when_it_is_back() {
    let (plane, dir) = (Plane::start(), tempfile::tempdir().unwrap());
    let follow = || FollowConfig {
        poll: Duration::from_millis(20),
        report: Duration::from_millis(5),
        spool: Some(SpoolConfig { dir: dir.path().join("spool"), bytes_max: 3 << 20 }),
        ..FollowConfig::default()
    };
    plane.state().status = 503;
    let record = AccessLog { path: "p".repeat(400), ..AccessLog::default() };
    let mut made = 0;
    for lost in [3, 0, 2] {
        let (follower, notes) = begun(at(&plane, known()), follow());
        let follower = Arc::new(follower);
        let threads = follower.spawn().unwrap();
        let records = follower.records();
        for _ in 0..30 {
            records.push(&vec![record.clone(); 100]);
        }
        notes.lost.store(lost, Ordering::Release);
        made += 3_000 + lost;
        follower.count_lost();
        follower.stop();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
    let (follower, _) = begun(at(&plane, known()), follow());
    let follower = Arc::new(follower);
    let threads = follower.spawn().unwrap();
    plane.state().status = 0;
    eventually("an empty spool", SOON, || (follower.state().records.waiting == 0).then_some(()));
    follower.stop();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let state = plane.state();
    assert!(state.records > 0 && state.dropped > 5, "the spool was full: {} lost", state.dropped);
    assert_eq!(state.records + state.dropped, made);
    assert_eq!(state.missing, state.dropped - 5, "what an engine lost never had a number");
}
