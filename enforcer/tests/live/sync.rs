//! The agent against a control plane of a few lines: versions, entity tags, records, outages.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use portcullis_enforcer::agent::{Agent, AgentConfig, Identity};
use portcullis_testkit::{eventually, need};
use portcullis_wire::{AccessLog, Bundle, Mode};

use crate::app::App;
use crate::client::{Client, get, once};
use crate::world::{World, policy};

#[derive(Clone)]
struct Plane {
    addr: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    bundle: String,
    tag: String,
    status: u16,
    logs: Vec<AccessLog>,
    not_modified: usize,
}

impl Plane {
    fn start() -> Plane {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binding");
        let plane = Plane { addr: listener.local_addr().expect("address"), state: Arc::default() };
        let serve = plane.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut reader = BufReader::new(&stream);
                let (mut head, mut line) = (String::new(), String::new());
                while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
                    head += &std::mem::take(&mut line);
                }
                let len =
                    head.to_ascii_lowercase().split("content-length: ").nth(1).map_or(0, |v| {
                        v.lines().next().unwrap_or_default().trim().parse().expect("a length")
                    });
                let mut body = vec![0; len];
                reader.read_exact(&mut body).expect("a body");
                let (status, fields, body) = serve.answer(&head, &body);
                let reply = format!(
                    "HTTP/1.1 {status} X\r\nConnection: close\r\n{fields}Content-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                (&stream).write_all(reply.as_bytes()).expect("answering");
            }
        });
        plane
    }

    fn answer(&self, head: &str, body: &[u8]) -> (u16, String, String) {
        let mut state = self.state.lock().expect("no thread panicked");
        let path = head.split(' ').nth(1).unwrap_or_default();
        if path.ends_with("/agents/register") {
            assert!(head.contains("x-api-key: key"), "{head}");
            return (201, String::new(), r#"{"agent_id": "a1", "agent_secret": "s1"}"#.into());
        }
        assert!(head.contains("authorization: Bearer s1"), "{head}");
        if state.status != 0 {
            return (state.status, String::new(), "no".into());
        }
        if path.ends_with("/logs") {
            let batch: serde_json::Value = serde_json::from_slice(body).expect("JSON");
            let logs: Vec<AccessLog> = serde_json::from_value(batch["logs"].clone()).expect("records");
            state.logs.extend(logs);
            return (202, String::new(), "{}".into());
        }
        assert_eq!(path, "/manage/v1/acme/access/agents/a1/config");
        if head.contains(&format!("if-none-match: {}", state.tag)) {
            state.not_modified += 1;
            return (304, String::new(), String::new());
        }
        (200, format!("ETag: {}\r\n", state.tag), state.bundle.clone())
    }

    fn serve(&self, bundle: &Bundle) {
        let mut state = self.state.lock().expect("no thread panicked");
        state.bundle = serde_json::to_string(bundle).expect("JSON");
        state.tag = format!("\"v{}\"", bundle.version);
    }

    fn status(&self, status: u16) {
        self.state.lock().expect("no thread panicked").status = status;
    }
}

fn agent(world: &mut World, plane: &Plane) -> Agent {
    agent_with(world, plane, |config| config)
}

fn agent_with(world: &mut World, plane: &Plane, change: impl FnOnce(AgentConfig) -> AgentConfig) -> Agent {
    drop(world.datapath.take());
    let identity = Identity::Register { api_key: "key".into(), hostname: "host".into() };
    let config = AgentConfig {
        poll: Duration::from_millis(50),
        push: false,
        report: Duration::from_millis(50),
        ..AgentConfig::new(format!("http://{}", plane.addr), "acme", identity, world.config.clone())
    };
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
