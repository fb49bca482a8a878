//! Ways to read other than a plain one: what an application sees with each.

use std::fs;
use std::thread;
use std::time::Duration;

use portcullis_testkit::need;
use portcullis_wire::Mode;

use crate::client::{Client, get};
use crate::uring::{self, Reads, Uring};
use crate::world::{World, policy};

/// Time of the CPU that the server's threads took, user and kernel, in clock ticks.
fn ticks(name: impl Fn(&str) -> bool) -> u64 {
    let mut sum = 0;
    for task in fs::read_dir("/proc/self/task").expect("threads") {
        let path = task.expect("a thread").path();
        let Ok(stat) = fs::read_to_string(path.join("stat")) else { continue };
        let (start, rest) = stat.rsplit_once(')').expect("a name");
        if name(start.split_once('(').expect("a name").1) {
            let fields: Vec<&str> = rest.split_whitespace().collect();
                        sum += fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime");
        }
    }
    sum
}

#[test]
fn measure() {
    need!(Bpf, BpfFs, Cgroup2, IoUring);
    for reads in [Reads::Recv, Reads::Multishot, Reads::Read] {
        for kind in 0..3 {
            let mut world = World::new("half");
            let server = Uring::start(reads);
            world.apply(vec![policy(server.addr.port(), Mode::Enforce)]);
            let good = get("/a", Some(&world.role("reader")));
            let mut client = Client::connect(server.addr);
            if kind > 0 {
                assert_eq!(client.ask(&good).status, 200);
            }
            let before = ticks(uring::is_its_thread);
            match kind {
                // Before accept, perhaps
                0 | 1 => client.send(&good[..30]),
                _ => {
                    client.send(good.clone() + &good[..30]);
                    assert_eq!(client.response().expect("first").status, 200);
                }
            }
            thread::sleep(Duration::from_secs(1));
            let after = ticks(uring::is_its_thread);
            eprintln!("KIND {kind} {reads:?}: {} ticks, {:?} {:?}", after - before, server.failures(), server.seen());
            client.timeout(Duration::from_secs(1));
            eprintln!("{:?}", client.try_send(&good[30..]).and_then(|()| client.response()));
            eprintln!("{reads:?}: {:?} {:?}", server.failures(), server.seen());
            drop(client);
            thread::sleep(Duration::from_millis(50));
            eprintln!("{reads:?}: {:?} {:?}", server.failures(), server.seen());
        }
    }
}
