//! State of the control plane: what it answered is there after it was killed in the middle of writing.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use ureq::Agent;

const KEY: &str = "sk_state";

/// A control plane in a process of its own.
struct Plane {
    process: Child,
    url: String,
    client: Agent,
}

/// What was acknowledged: where it can be read, and what has to be there.
type Acknowledged = Arc<Mutex<BTreeMap<String, Value>>>;

// === impl Plane ===

impl Plane {
    fn start(state: &Path) -> Plane {
        let mut process = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["control-plane", "--listen", "127.0.0.1:0", "--api-key", KEY, "--test-api", "--state"])
            .arg(state)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the command starts");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let url = line.strip_prefix("control plane: ").unwrap_or_else(|| panic!("{line}")).trim().to_owned();
        let config = Agent::config_builder().http_status_as_error(false);
        let client = config.timeout_global(Some(Duration::from_secs(20))).build().into();
        Plane { process, url, client }
    }

    fn kill(&mut self) {
        // SIGKILL
        self.process.kill().expect("a process to kill");
        self.process.wait().expect("its end");
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        let _dead = self.process.kill().is_ok();
        let _gone = self.process.wait().is_ok();
    }
}

/// An answer that came whole; `None` once the process is dead.
fn ask(client: &Agent, url: &str, method: &str, path: &str, auth: &str, body: Value) -> Option<Value> {
    let request = ureq::http::Request::builder().method(method).uri(format!("{url}{path}"));
    let (name, value) = match auth {
        "" => ("x-api-key", KEY.to_owned()),
        secret => ("authorization", format!("Bearer {secret}")),
    };
    let request = request.header(name, value).header("content-type", "application/json");
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let answer = match method {
        "GET" | "DELETE" => client.run(request.body(()).expect("a request")),
        _ => client.run(request.body(text).expect("a request")),
    };
    let mut answer = answer.ok()?;
    let text = answer.body_mut().read_to_string().ok()?;
    assert!(answer.status().is_success(), "{method} {path}: {} {text}", answer.status());
    Some(serde_json::from_str(&text).unwrap_or(Value::Null))
}

fn string(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("no `{name}` in {value}")).to_owned()
}

/// One of the writers: goes on until the process is dead.
fn write(
    kind: u32,
    round: u64,
    client: &Agent,
    url: &str,
    done: &AtomicUsize,
    acknowledged: &Acknowledged,
) -> Option<()> {
    let call = |method: &str, path: &str, auth: &str, body| {
        let answer = ask(client, url, method, path, auth, body)?;
        done.fetch_add(1, Ordering::SeqCst);
        Some(answer)
    };
    let note = |path: String, value: Value| {
        acknowledged.lock().expect("no writer panicked").insert(path, value);
    };
    for n in round * 10_000.. {
        match kind {
            0 => {
                let body = json!({ "email": format!("u{n}@acme.com"), "name": format!("User {n}") });
                let user = call("POST", "/api/v1/users", "", body)?;
                note(format!("/api/v1/users/{}", string(&user, "id")), user);
            }
            1 => {
                let policy = json!({
                    "id": format!("p{n}"), "name": "p", "port_match": n + 1, "mode": "enforce", "default_action": "deny",
                });
                let policy = call("POST", "/manage/v1/acme/access/policies", "", policy)?;
                note(format!("/manage/v1/acme/access/policies/p{n}"), policy);
                if n % 3 == 2 && n > round * 10_000 {
                    let path = format!("/manage/v1/acme/access/policies/p{}", n - 1);
                    // Whether it is deleted is open from here on, until the answer says so.
                    acknowledged.lock().expect("no writer panicked").remove(&path);
                    call("DELETE", &path, "", Value::Null)?;
                    note(path, Value::Null);
                }
            }
            2 if n < round * 10_000 + 15 => {
                let key = call("POST", "/manage/v1/acme/keys", "", json!({ "alg": "ES256" }))?;
                note(format!("key {}", string(&key, "kid")), key["jwk"].clone());
            }
            2 => return Some(()),
            _ => {
                let body = json!({ "hostname": format!("h{n}") });
                let agent = call("POST", "/manage/v1/acme/access/agents/register", "", body)?;
                let (id, secret) = (string(&agent, "agent_id"), string(&agent, "agent_secret"));
                note(format!("agent {id}"), json!(secret));
                for batch in 0..4 {
                    let logs: Vec<Value> = (0..5).map(|at| record(&format!("{id}-{batch}-{at}"))).collect();
                    let batch = json!({ "logs": logs, "stream": "s", "first_seq": batch * 5 });
                    let taken = call("POST", "/manage/v1/acme/access/logs", &secret, batch)?;
                    note(format!("log {id}"), taken["next_seq"].clone());
                }
            }
        }
    }
    Some(())
}

fn record(decision: &str) -> Value {
    json!({
        "agent_id": "", "decision_id": decision, "source_ip": "10.0.0.1", "source_port": 1, "destination_port": 80,
        "method": "GET", "path": "/", "decision": "allow", "reason": "public", "decision_reason": "", "mode": null,
        "policy_generation": 1, "latency_us": 1.0, "verify_ns": 0, "token_cache_hit": false, "mfa_verified": false,
        "timestamp": "2026-03-22T10:30:05Z",
    })
}

fn compare(plane: &Plane, acknowledged: &BTreeMap<String, Value>) {
    let get = |path: &str| ask(&plane.client, &plane.url, "GET", path, "", Value::Null).expect("an answer");
    let mut keys: BTreeMap<String, Value> = BTreeMap::new();
    for key in get("/v1/acme/.well-known/jwks.json")["keys"].as_array().expect("keys") {
        keys.insert(string(key, "kid"), key.clone());
    }
    let policies = get("/manage/v1/acme/access/policies");
    let policies: Vec<&Value> = policies["policies"].as_array().expect("policies").iter().collect();
    let mut records: BTreeMap<String, u64> = BTreeMap::new();
    for record in get("/manage/v1/acme/access/logs?limit=10000")["logs"].as_array().expect("records") {
        *records.entry(string(record, "agent_id")).or_default() += 1;
    }
    for (what, value) in acknowledged {
        if let Some(kid) = what.strip_prefix("key ") {
            assert_eq!(keys.get(kid), Some(value), "{what}");
        } else if let Some(agent) = what.strip_prefix("agent ") {
            let path = format!("/manage/v1/acme/access/agents/{agent}/heartbeat");
            let secret = value.as_str().expect("a secret");
            ask(&plane.client, &plane.url, "POST", &path, secret, json!({})).expect("the secret is good");
        } else if let Some(agent) = what.strip_prefix("log ") {
            let there = records.get(agent).copied().unwrap_or_default();
            // A batch is there whole or not at all; one more than was answered may be.
            let acknowledged = value.as_u64().expect("a number");
            assert!(there == acknowledged || there == acknowledged + 5, "{what}: {there} of {acknowledged}");
        } else if let Some(id) = what.strip_prefix("/manage/v1/acme/access/policies/") {
            let found = policies.iter().find(|policy| policy["id"] == id);
            assert_eq!(found.map_or(&Value::Null, |policy| policy), value, "{what}");
        } else {
            assert_eq!(&get(what), value, "{what}");
        }
    }
}

#[test]
fn what_was_answered_survives_kill_9() {
    let dir = tempfile::tempdir().expect("a directory");
    let state = dir.path().join("plane.db");
    let acknowledged = Acknowledged::default();
    for round in 1..=3 {
        let mut plane = Plane::start(&state);
        if round == 1 {
            // The port is another one at each start; the issuer, and the key that signs, are not.
            let mut all = acknowledged.lock().expect("no writer panicked");
            for path in ["/v1/acme/.well-known/openid-configuration", "/v1/acme/.well-known/jwks.json"] {
                let value = ask(&plane.client, &plane.url, "GET", path, "", Value::Null).expect("an answer");
                match value["keys"].as_array() {
                    Some(keys) => all.insert("key acme-1".to_owned(), keys[0].clone()),
                    None => all.insert(path.to_owned(), value),
                };
            }
        }
        compare(&plane, &acknowledged.lock().expect("no writer panicked"));
        let done = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for kind in 0..4 {
                let (client, url) = (plane.client.clone(), plane.url.clone());
                let (done, acknowledged) = (&done, &acknowledged);
                scope.spawn(move || write(kind, round, &client, &url, done, acknowledged));
            }
            while done.load(Ordering::SeqCst) < 150 {
                std::thread::sleep(Duration::from_millis(5));
            }
            plane.kill();
        });
    }
    let plane = Plane::start(&state);
    let all = acknowledged.lock().expect("no writer panicked");
    assert!(all.len() > 200, "only {} things were acknowledged", all.len());
    compare(&plane, &all);
}

#[test]
fn a_state_file_is_its_owners_and_of_one_control_plane() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().expect("a directory");
    let state = dir.path().join("plane.db");
    let _plane = Plane::start(&state);
    for file in ["plane.db", "plane.db-wal"] {
        let mode = std::fs::metadata(dir.path().join(file)).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let refused = |file: &Path, reason: &str| {
        let args = ["control-plane", "--listen", "127.0.0.1:0", "--api-key", KEY, "--state"];
        let output = Command::new(env!("CARGO_BIN_EXE_portcullis")).args(args).arg(file).output();
        let output = output.expect("the command ends");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(reason), "{text}");
    };
    refused(&state, "is in use by another process");
    refused(&dir.path().join("none/plane.db"), "cannot be opened");
    let text = dir.path().join("text");
    std::fs::write(&text, "x".repeat(4096)).expect("a file");
    refused(&text, "is no SQLite database");
}
