//! A control plane of a few lines, with or without TLS, which does what it is told; and an engine that takes notes.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use portcullis_follower::{Engine, EngineError, FollowConfig, Follower, Identity, PlaneConfig};
use portcullis_token::mint::SigningKey;
use portcullis_wire::{Bundle, Jwk};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

pub const SOON: Duration = Duration::from_secs(20);
/// What time it is, unless a test says otherwise.
pub const NOW_S: u64 = 1_800_000_000;

#[derive(Clone)]
pub struct Plane {
    pub addr: SocketAddr,
    pub key: Arc<SigningKey>,
    state: Arc<Mutex<State>>,
    changed: Arc<Condvar>,
}

#[derive(Default)]
pub struct State {
    pub body: String,
    pub signature: Option<String>,
    /// What the registration and `bundle-key` give; `None`: an older control plane.
    pub bundle_key: Option<Jwk>,
    /// For everything but registrations; 0: as usual.
    pub status: u16,
    pub registered: usize,
    pub asked: Vec<String>,
    /// Records of numbered batches: those that came, those that were skipped, those that are said to be lost.
    pub records: u64,
    pub next_seq: u64,
    pub missing: u64,
    pub dropped: u64,
    /// Key set at `/keys`, and where `/moved` sends on to.
    pub keys: String,
    pub moved_to: String,
}

impl Plane {
    pub fn start() -> Plane {
        Plane::start_with(None)
    }

    pub fn start_with(tls: Option<Arc<ServerConfig>>) -> Plane {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let key = Arc::new(SigningKey::generate_es256().unwrap());
        let bundle_key = Some(key.public_jwk("pinned"));
        let state = Arc::new(Mutex::new(State { bundle_key, ..State::default() }));
        let plane = Plane { addr: listener.local_addr().unwrap(), key, state, changed: Arc::default() };
        plane.serve(1);
        let serve = plane.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (serve, tls) = (serve.clone(), tls.clone());
                thread::spawn(move || match tls {
                    None => serve.one(stream),
                    Some(tls) => serve.one(StreamOwned::new(ServerConnection::new(tls).unwrap(), stream)),
                });
            }
        });
        plane
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Serves this version, signed for agent `a1`.
    pub fn serve(&self, version: u64) {
        let body = body(version);
        let signature = sign(&self.key, &header("a1", version), &body);
        let mut state = self.state();
        (state.body, state.signature) = (body, Some(signature));
        self.changed.notify_all();
    }

    fn one(&self, stream: impl Read + Write) {
        let mut reader = BufReader::new(stream);
        let (mut head, mut line) = (String::new(), String::new());
        while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
            head += &std::mem::take(&mut line);
        }
        let length = field(&head, "content-length").map_or(0, |text| text.parse().unwrap());
        let mut body = vec![0; length];
        if head.is_empty() || reader.read_exact(&mut body).is_err() {
            return;
        }
        let (status, fields, body) = self.answer(&head, &body);
        let reply = format!(
            "HTTP/1.1 {status} X\r\nConnection: close\r\n{fields}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = reader.into_inner();
        drop(stream.write_all(reply.as_bytes()));
        drop(stream.flush());
    }

    fn answer(&self, head: &str, body: &[u8]) -> (u16, String, String) {
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let mut state = self.state();
        state.asked.push(path.clone());
        let none = String::new;
        if path.ends_with("/agents/register") {
            state.registered += 1;
            let id = format!("a{}", state.registered);
            let mut answer = json!({ "agent_id": id, "agent_secret": "s" });
            if let Some(key) = &state.bundle_key {
                answer["bundle_key"] = serde_json::to_value(key).unwrap();
            }
            return (201, none(), answer.to_string());
        }
        if path == "/moved" {
            return (302, format!("Location: {}\r\n", state.moved_to), none());
        }
        if path == "/keys" {
            return (200, none(), state.keys.clone());
        }
        if state.status != 0 {
            return (state.status, none(), "no".to_owned());
        }
        assert_eq!(field(head, "authorization").as_deref(), Some("Bearer s"), "{head}");
        if path.ends_with("/bundle-key") {
            let key = state.bundle_key.as_ref().map(|key| serde_json::to_string(key).unwrap());
            return key.map_or((404, none(), none()), |key| (200, none(), key));
        }
        if path.ends_with("/logs") {
            let batch: Value = serde_json::from_slice(body).unwrap();
            let (first, logs) = (batch["first_seq"].as_u64().unwrap(), batch["logs"].as_array().unwrap());
            let next = first + logs.len() as u64;
            state.missing += first.saturating_sub(state.next_seq);
            state.records += next.saturating_sub(state.next_seq.max(first));
            state.next_seq = state.next_seq.max(next);
            state.dropped = state.dropped.max(batch["dropped"].as_u64().unwrap());
            return (202, none(), "{}".to_owned());
        }
        let tag = |state: &State| format!("\"{:?}\"", (&state.body, &state.signature)).replace('\\', "");
        let same = |state: &mut State| {
            field(head, "if-none-match").is_some_and(|known| known == tag(state)) && state.status == 0
        };
        if let Some(wait) = field(head, "prefer") {
            let wait = wait.strip_prefix("wait=").unwrap().parse().unwrap();
            state = self.changed.wait_timeout_while(state, Duration::from_secs(wait), same).unwrap().0;
        }
        if same(&mut state) {
            return (304, none(), none());
        }
        let signature = state.signature.iter().map(|text| format!("Portcullis-Bundle-Signature: {text}\r\n"));
        let fields = format!("ETag: {}\r\n{}", tag(&state), signature.collect::<String>());
        (200, fields, state.body.clone())
    }
}

pub fn body(version: u64) -> String {
    json!({ "version": version, "issuers": [], "policies": [] }).to_string()
}

pub fn header(agent: &str, version: u64) -> Value {
    json!({
        "alg": "ES256", "kid": "pinned", "typ": "portcullis-bundle+jws", "agent": agent, "version": version,
    })
}

/// A JWS with detached content: RFC 7515 appendix F.
pub fn sign(key: &SigningKey, header: &Value, body: &str) -> String {
    let whole = key.sign(&header.to_string(), body);
    let parts: Vec<&str> = whole.split('.').collect();
    format!("{}..{}", parts[0], parts[2])
}

fn field(head: &str, name: &str) -> Option<String> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}

/// What was installed.
#[derive(Clone, Default)]
pub struct Notes {
    pub bundles: Arc<Mutex<Vec<Bundle>>>,
    pub lost: Arc<AtomicU64>,
}

impl Notes {
    pub fn last(&self) -> Option<Bundle> {
        self.bundles.lock().unwrap().last().cloned()
    }

    pub fn version(&self) -> u64 {
        self.last().map_or(0, |bundle| bundle.version)
    }
}

impl Engine for Notes {
    fn version(&self) -> Result<u64, EngineError> {
        Ok(Notes::version(self))
    }

    fn install(&mut self, bundle: &Bundle) -> Result<Vec<String>, EngineError> {
        self.bundles.lock().unwrap().push(bundle.clone());
        Ok(Vec::new())
    }

    fn lost(&self) -> Option<u64> {
        Some(self.lost.load(Ordering::Acquire))
    }
}

pub fn register() -> Identity {
    Identity::Register { api_key: "key".to_owned(), hostname: "h".to_owned() }
}

pub fn known() -> Identity {
    Identity::Known { agent_id: "a1".to_owned(), secret: "s".to_owned() }
}

pub fn at(plane: &Plane, identity: Identity) -> PlaneConfig {
    PlaneConfig::new(format!("http://{}", plane.addr), "t", identity)
}

/// With its files in this directory.
pub fn in_dir(config: PlaneConfig, dir: &Path) -> (PlaneConfig, FollowConfig) {
    let follow = FollowConfig { cache: Some(dir.join("bundle")), push: false, ..FollowConfig::default() };
    (PlaneConfig { identity_file: Some(dir.join("identity")), ..config }, follow)
}

/// A follower that has begun; nothing goes on by itself.
pub fn begun(config: PlaneConfig, follow: FollowConfig) -> (Follower<Notes>, Notes) {
    let follower = Follower::new(config, follow, Arc::new(|| NOW_S)).unwrap();
    let notes = Notes::default();
    follower.begin(notes.clone());
    (follower, notes)
}

/// Returns when what has to be on disk is there.
pub fn end(follower: Follower<Notes>) {
    let follower = Arc::new(follower);
    let threads = follower.spawn().unwrap();
    follower.stop();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// An address where nobody listens.
pub fn nowhere() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
