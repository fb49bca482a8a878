//! A control plane of a few lines, which does what it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use portcullis_token::mint::SigningKey;
use portcullis_wire::{AccessLog, Bundle};
use serde_json::{Value, json};

#[derive(Clone)]
pub struct Plane {
    pub addr: SocketAddr,
    pub state: Arc<Mutex<State>>,
    changed: Arc<Condvar>,
}

#[derive(Default)]
pub struct State {
    pub bundle: String,
    pub tag: String,
    pub status: u16,
    pub logs: Vec<AccessLog>,
    pub not_modified: usize,
    /// Records of numbered batches: those that came, those that were skipped, those that are said to be lost.
    pub next_seq: u64,
    pub missing: u64,
    pub dropped: u64,
    /// Key set of the issuer at `/issuer`, and how often it was read.
    pub keys: String,
    pub keys_read: usize,
    pub heartbeats: Vec<Value>,
    pub services: Vec<Value>,
    pub endpoints: Vec<Value>,
    /// Questions that waited for a change and got one.
    pub pushed: usize,
    /// For how long a configuration is on its way, and how many arrived.
    pub slow: Duration,
    pub configs: usize,
    /// Signs bundles; its public key is named in registrations.
    pub signer: Option<SigningKey>,
    /// Signs them in its place.
    pub impostor: Option<SigningKey>,
}

impl Plane {
    pub fn start() -> Plane {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binding");
        let addr = listener.local_addr().expect("address");
        let plane = Plane { addr, state: Arc::default(), changed: Arc::default() };
        let serve = plane.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serve = serve.clone();
                thread::spawn(move || serve.one(&stream));
            }
        });
        plane
    }

    fn one(&self, stream: &TcpStream) {
        let mut reader = BufReader::new(stream);
        let (mut head, mut line) = (String::new(), String::new());
        while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
            head += &std::mem::take(&mut line);
        }
        let len = head
            .to_ascii_lowercase()
            .split("content-length: ")
            .nth(1)
            .map_or(0, |v| v.lines().next().unwrap_or_default().trim().parse().expect("a length"));
        let mut body = vec![0; len];
        reader.read_exact(&mut body).expect("a body");
        let (status, fields, body) = self.answer(&head, &body);
        let config = head.split(' ').nth(1).is_some_and(|path| path.ends_with("/config"));
        if config {
            let slow = self.state().slow;
            thread::sleep(slow);
        }
        let reply = format!(
            "HTTP/1.1 {status} X\r\nConnection: close\r\n{fields}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = stream;
        // An agent that was stopped does not wait for its answer.
        let written = stream.write_all(reply.as_bytes());
        self.state().configs += usize::from(config && written.is_ok());
    }

    fn answer(&self, head: &str, body: &[u8]) -> (u16, String, String) {
        let mut state = self.state.lock().expect("no thread panicked");
        let path = head.split(' ').nth(1).unwrap_or_default();
        if path.ends_with("/agents/register") {
            assert!(head.contains("x-api-key: key"), "{head}");
            let key = state.signer.as_ref().map(|key| key.public_jwk("k"));
            let answer = json!({ "agent_id": "a1", "agent_secret": "s1", "bundle_key": key });
            return (201, String::new(), answer.to_string());
        }
        if path.starts_with("/issuer/") {
            state.keys_read += 1;
            let metadata = format!(
                r#"{{"issuer": "http://{0}/issuer", "jwks_uri": "http://{0}/issuer/keys"}}"#,
                self.addr
            );
            let is_metadata = path.ends_with("/openid-configuration");
            return (200, String::new(), if is_metadata { metadata } else { state.keys.clone() });
        }
        assert!(head.contains("authorization: Bearer s1"), "{head}");
        if state.status != 0 {
            return (state.status, String::new(), "no".into());
        }
        if path.ends_with("/logs") {
            let batch: serde_json::Value = serde_json::from_slice(body).expect("JSON");
            let logs: Vec<AccessLog> = serde_json::from_value(batch["logs"].clone()).expect("records");
            if let Some(first) = batch["first_seq"].as_u64() {
                state.missing += first.saturating_sub(state.next_seq);
                let known = state.next_seq.saturating_sub(first) as usize;
                state.next_seq = state.next_seq.max(first + logs.len() as u64);
                state.dropped = state.dropped.max(batch["dropped"].as_u64().expect("a count"));
                state.logs.extend(logs.into_iter().skip(known));
            } else {
                state.logs.extend(logs);
            }
            return (202, String::new(), "{}".into());
        }
        for (end, what) in [("/heartbeat", 0), ("/services", 1), ("/endpoints", 2)] {
            if path.ends_with(end) {
                let value: Value = serde_json::from_slice(body).expect("JSON");
                let state = &mut *state;
                [&mut state.heartbeats, &mut state.services, &mut state.endpoints][what].push(value);
                return (200, String::new(), "{}".into());
            }
        }
        assert_eq!(path, "/manage/v1/acme/access/agents/a1/config");
        let wait =
            head.split("prefer: wait=").nth(1).and_then(|rest| rest.lines().next()?.trim().parse().ok());
        if let Some(wait) = wait {
            let same = |state: &mut State| head.contains(&format!("if-none-match: {}", state.tag));
            let waited = self.changed.wait_timeout_while(state, Duration::from_secs(wait), same);
            state = waited.expect("no thread panicked").0;
            state.pushed += usize::from(!same(&mut state));
        }
        if head.contains(&format!("if-none-match: {}", state.tag)) {
            state.not_modified += 1;
            return (304, String::new(), String::new());
        }
        (200, format!("ETag: {}\r\n{}", state.tag, state.signature()), state.bundle.clone())
    }

    pub fn serve(&self, bundle: &Bundle) {
        let mut state = self.state.lock().expect("no thread panicked");
        state.bundle = serde_json::to_string(bundle).expect("JSON");
        state.tag = format!("\"v{}\"", bundle.version);
        self.changed.notify_all();
    }

    pub fn status(&self, status: u16) {
        self.state.lock().expect("no thread panicked").status = status;
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panicked")
    }
}

impl State {
    /// The field with the signature over the bundle, if there is a key.
    fn signature(&self) -> String {
        let Some(key) = self.impostor.as_ref().or(self.signer.as_ref()) else { return String::new() };
        let version = serde_json::from_str::<Value>(&self.bundle).map(|bundle| bundle["version"].clone());
        let header = json!({
            "alg": "ES256", "kid": "k", "typ": "portcullis-bundle+jws", "agent": "a1",
            "version": version.unwrap_or_default(),
        });
        let whole = key.sign(&header.to_string(), &self.bundle);
        let parts: Vec<&str> = whole.split('.').collect();
        format!("Portcullis-Bundle-Signature: {}..{}\r\n", parts[0], parts[2])
    }
}
