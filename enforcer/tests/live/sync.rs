//! The agent against a control plane of a few lines: versions, entity tags, records, outages.

use std::time::Duration;

use portcullis_enforcer::agent::{Agent, AgentConfig, FollowConfig, Identity, PlaneConfig};
use portcullis_testkit::{eventually, need};
use portcullis_token::mint::SigningKey;
use portcullis_wire::Mode;

use crate::app::App;
use crate::client::{Client, get, once};
use crate::plane::Plane;
use crate::world::{World, policy};

fn agent(world: &mut World, plane: &Plane) -> Agent {
    agent_with(world, plane, |config| config)
}

pub fn agent_with(
    world: &mut World,
    plane: &Plane,
    change: impl FnOnce(AgentConfig) -> AgentConfig,
) -> Agent {
    drop(world.datapath.take());
    let identity = Identity::Register { api_key: "key".into(), hostname: "host".into() };
    let follow = FollowConfig {
        poll: Duration::from_millis(50),
        push: false,
        report: Duration::from_millis(50),
        ..FollowConfig::default()
    };
    let url = format!("http://{}", plane.addr);
    let config = AgentConfig::new(PlaneConfig::new(url, "acme", identity), follow, world.config.clone());
    Agent::start(change(config)).expect("an agent")
}

#[test]
fn the_agent_follows_the_control_plane_and_reports() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("agent");
    let plane = Plane::start();
    let app = App::local();
    plane.serve(&world.bundle(5, vec![policy(app.port(), Mode::Monitor)]));
    let agent = agent(&mut world, &plane);
    assert_eq!((agent.status().generation, agent.status().error), (5, None));
    assert_eq!(once(app.addr, get("/a", None)).status, 200);

    plane.serve(&world.bundle(6, vec![policy(app.port(), Mode::Enforce)]));
    eventually("version 6", Duration::from_secs(5), || (agent.status().generation == 6).then_some(()));
    assert_eq!(once(app.addr, get("/a", None)).status, 401);
    agent.flush().expect("records sent");
    {
        let state = plane.state.lock().expect("no thread panicked");
        let seen: Vec<(&str, u64)> =
            state.logs.iter().map(|r| (r.reason.as_str(), r.policy_generation)).collect();
        assert_eq!(seen, [("token_missing", 5), ("token_missing", 6)]);
        assert!(state.logs.iter().all(|r| r.agent_id == "a1"));
    }
    let same = || (plane.state.lock().expect("no thread panicked").not_modified >= 2).then_some(());
    eventually("two answers of 304", Duration::from_secs(5), same);

    // Older, torn, wrong, unreachable: what is in force stays.
    plane.serve(&world.bundle(4, vec![]));
    let error = agent.sync().expect_err("an older version").to_string();
    assert!(error.contains("older than 6"), "{error}");
    plane.state.lock().expect("no thread panicked").bundle = "{\"version\": 9".into();
    assert!(agent.sync().is_err());
    let mut wrong = policy(app.port(), Mode::Enforce);
    wrong.rules[0].path_pattern = "no slash".into();
    plane.serve(&world.bundle(10, vec![wrong]));
    let error = agent.sync().expect_err("a wrong policy").to_string();
    assert!(error.contains("version 10"), "{error}");
    plane.status(503);
    assert!(agent.sync().is_err());
    assert!(agent.status().error.is_some());
    assert_eq!((agent.status().generation, once(app.addr, get("/a", None)).status), (6, 401));

    // Records wait for the plane and are not lost.
    eventually("a record that waits", Duration::from_secs(5), || {
        (agent.status().records_waiting == 1).then_some(())
    });
    plane.status(0);
    plane.serve(&world.bundle(11, vec![policy(app.port(), Mode::Enforce)]));
    agent.sync().expect("a good version");
    agent.flush().expect("records sent");
    assert_eq!(
        (plane.state.lock().expect("no thread panicked").logs.len(), agent.status().records_lost),
        (3, 0)
    );

    // Stopped: enforcement stays.
    agent.stop();
    let mut client = Client::connect(app.addr);
    client.send(format!("GET /a HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(120)));
    // The kernel answers by itself; a blocking server may close before the reply is out.
    assert!(client.response().map_or(true, |response| response.status == 401));
    assert_eq!(app.requests(), 1);
}

#[test]
fn a_bundle_that_another_key_signed_leaves_the_kernel_as_it_is() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("signed");
    let (plane, app) = (Plane::start(), App::local());
    let key = || Some(SigningKey::generate_es256().expect("a key"));
    plane.state().signer = key();
    plane.serve(&world.bundle(5, vec![policy(app.port(), Mode::Enforce)]));
    let agent = agent(&mut world, &plane);
    assert_eq!((agent.status().generation, agent.status().error), (5, None));
    // It would open the port.
    plane.state().impostor = key();
    plane.serve(&world.bundle(6, vec![]));
    let error = agent.sync().expect_err("another key").to_string();
    assert!(error.contains("not of the pinned key"), "{error}");
    let status = agent.status();
    assert!(status.generation == 5 && status.refused_signature > 0, "{status:?}");
    assert_eq!(once(app.addr, get("/a", None)).status, 401);
    plane.state().impostor = None;
    agent.sync().expect("the right key");
    assert_eq!(agent.status().generation, 6);
    assert_eq!(once(app.addr, get("/a", None)).status, 200);
    agent.stop();
}
