//! A control plane that answers, that lies, and that is gone.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portcullis_gateway::{
    Config, FollowConfig, Following, Gateway, Identity, PlaneConfig, Source, SpoolConfig, StartError,
    Upstream,
};
use portcullis_token::mint::SigningKey;
use portcullis_wire::{AccessLog, Bundle, Mode};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::world::{App, Client, PATIENCE, Recorder, policy, request};

/// A control plane with one answer for each question.
struct Plane {
    app: App,
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

#[derive(Default)]
struct State {
    bundle: Bundle,
    /// Statuses of the next answers to access records; then 200.
    refuse: VecDeque<u16>,
    records: Vec<AccessLog>,
    asked: Vec<String>,
    /// Number of the next record of numbered batches, those that were skipped, those that are said to be lost.
    next_seq: u64,
    missing: u64,
    dropped: u64,
    /// Signs bundles, and its public key is named in registrations.
    signer: Option<SigningKey>,
    /// Signs them in its place.
    impostor: Option<SigningKey>,
}

impl Plane {
    async fn start(bundle: Bundle) -> Plane {
        let state = Arc::new(Mutex::new(State { bundle, ..State::default() }));
        let changed = Arc::new(Notify::new());
        let (shared, news) = (Arc::clone(&state), Arc::clone(&changed));
        let app = App::start(move |stream| {
            let (state, news) = (Arc::clone(&shared), Arc::clone(&news));
            async move {
                let mut client = Client::of(stream);
                while let Some(request) = client.request().await {
                    // Asked for before it is looked, so that no news is missed.
                    let told = news.notified();
                    let (mut status, mut body) = state.lock().unwrap().answer(&request);
                    if status == 304 && request.field("prefer").is_some() {
                        told.await;
                        (status, body) = state.lock().unwrap().answer(&request);
                    }
                    let version = body["version"].as_u64();
                    let tag = version.map_or(String::new(), |v| format!("ETag: \"{v}\"\r\n"));
                    let body = if status == 304 { String::new() } else { body.to_string() };
                    let signature = version.map_or(String::new(), |v| state.lock().unwrap().sign(v, &body));
                    let length = body.len();
                    let fields = format!("{tag}{signature}Content-Length: {length}");
                    let head = format!("HTTP/1.1 {status} X\r\n{fields}\r\n\r\n");
                    client.send(head + &body).await;
                }
            }
        })
        .await;
        Plane { app, state, changed }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    fn answer(&mut self, request: &crate::world::Request) -> (u16, Value) {
        self.asked.push(request.what.clone());
        if request.what == "POST /manage/v1/t/access/agents/register" {
            assert_eq!(request.field("x-api-key"), Some("key"));
            let key = self.signer.as_ref().map(|key| key.public_jwk("k"));
            return (201, json!({ "agent_id": "a1", "agent_secret": "s1", "bundle_key": key }));
        }
        assert_eq!(request.field("authorization"), Some("Bearer s1"));
        match request.what.as_str() {
            "GET /manage/v1/t/access/agents/a1/config" => {
                let same = request.field("if-none-match") == Some(&format!("\"{}\"", self.bundle.version));
                (if same { 304 } else { 200 }, serde_json::to_value(&self.bundle).unwrap())
            }
            "GET /manage/v1/t/access/agents/a1/bundle-key" => match &self.signer {
                Some(key) => (200, json!(key.public_jwk("k"))),
                None => (404, json!({})),
            },
            "POST /manage/v1/t/access/logs" => {
                if let Some(status) = self.refuse.pop_front() {
                    return (status, json!({ "title": "not now" }));
                }
                let body: Value = serde_json::from_slice(&request.body).unwrap();
                let mut records: Vec<AccessLog> = serde_json::from_value(body["logs"].clone()).unwrap();
                if let Some(first) = body["first_seq"].as_u64() {
                    self.missing += first.saturating_sub(self.next_seq);
                    let next = first + records.len() as u64;
                    // A batch that was taken and is sent again counts once.
                    records.drain(..records.len().min(self.next_seq.saturating_sub(first) as usize));
                    self.next_seq = self.next_seq.max(next);
                    self.dropped = self.dropped.max(body["dropped"].as_u64().unwrap());
                }
                self.records.extend(records);
                (200, json!({}))
            }
            other => panic!("{other}"),
        }
    }

    fn sign(&self, version: u64, body: &str) -> String {
        let Some(key) = self.impostor.as_ref().or(self.signer.as_ref()) else { return String::new() };
        let header = json!({
            "alg": "ES256", "kid": "k", "typ": "portcullis-bundle+jws", "agent": "a1", "version": version,
        });
        let whole = key.sign(&header.to_string(), body);
        let parts: Vec<&str> = whole.split('.').collect();
        format!("Portcullis-Bundle-Signature: {}..{}\r\n", parts[0], parts[2])
    }
}

fn bundle(version: u64, app: SocketAddr) -> Bundle {
    Bundle { version, policies: vec![policy(app.port(), Mode::Enforce)], ..Bundle::default() }
}

fn config(plane: SocketAddr, app: SocketAddr, change: impl FnOnce(&mut Following)) -> Config {
    let identity = Identity::Register { api_key: "key".to_owned(), hostname: "h".to_owned() };
    let often = Duration::from_millis(10);
    let follow = FollowConfig { poll: often, push: false, report: often, ..FollowConfig::default() };
    let plane = PlaneConfig::new(format!("http://{plane}"), "t", identity);
    let mut following = Following { plane, follow };
    change(&mut following);
    let source = Source::Plane(Box::new(following));
    Config::new((Ipv4Addr::LOCALHOST, 0).into(), Upstream::parse(&app.to_string()).unwrap(), source)
}

async fn until(gateway: &Gateway, holds: impl Fn(&portcullis_gateway::Status) -> bool) {
    let wait = async {
        while !holds(&gateway.status()) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, wait).await;
    assert!(waited.is_ok(), "{:?}", gateway.status());
}

async fn statuses(gateway: &Gateway, paths: &[&str]) -> Vec<String> {
    let mut client = Client::of(tokio::net::TcpStream::connect(gateway.addr()).await.unwrap());
    let mut all = Vec::new();
    for path in paths {
        all.push(client.ask(request(&format!("GET {path}"), &[])).await.what);
    }
    all
}

#[tokio::test]
async fn policies_come_and_records_go() {
    let recorder = Recorder::start().await;
    let addr = recorder.app.addr;
    let plane = Plane::start(bundle(3, addr)).await;
    let gateway = Gateway::start(config(plane.app.addr, addr, |_| {})).await.unwrap();
    assert_eq!(gateway.status().version, 3);
    assert_eq!(statuses(&gateway, &["/open/a", "/closed/a"]).await, ["200", "401"]);
    plane.state().bundle = Bundle { policies: vec![policy(addr.port(), Mode::Monitor)], ..bundle(4, addr) };
    until(&gateway, |status| status.version == 4).await;
    assert_eq!(statuses(&gateway, &["/closed/a"]).await, ["200"]);
    // An older one is refused, and so is one that cannot be compiled.
    plane.state().bundle = bundle(2, addr);
    until(&gateway, |status| status.error.as_ref().is_some_and(|error| error.contains("older than 4"))).await;
    let mut broken = bundle(5, addr);
    broken.policies[0].port_match = 0;
    plane.state().bundle = broken;
    until(&gateway, |status| status.error.as_ref().is_some_and(|error| error.contains("version 5"))).await;
    assert_eq!(gateway.status().version, 4);
    gateway.stop().await;
    let state = plane.state();
    let reasons: Vec<&str> = state.records.iter().map(|record| record.reason.as_str()).collect();
    assert_eq!(reasons, ["public", "token_missing", "token_missing"]);
    let versions: Vec<u64> = state.records.iter().map(|record| record.policy_generation).collect();
    assert_eq!(versions, [3, 3, 4]);
    let registered = state.asked.iter().filter(|what| what.ends_with("/register")).count();
    assert_eq!(registered, 1);
}

#[tokio::test]
async fn records_wait_in_order_for_a_plane_that_does_not_take_them() {
    let recorder = Recorder::start().await;
    let addr = recorder.app.addr;
    let plane = Plane::start(bundle(1, addr)).await;
    plane.state().refuse = (0..4).map(|n| if n % 2 == 0 { 503 } else { 429 }).collect();
    let gateway = Gateway::start(config(plane.app.addr, addr, |_| {})).await.unwrap();
    let paths: Vec<String> = (0..40).map(|n| format!("/closed/{n}")).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    assert!(statuses(&gateway, &paths).await.iter().all(|status| status == "401"));
    until(&gateway, |status| status.records_sent == 40 && status.records_waiting == 0).await;
    let told: Vec<String> = plane.state().records.iter().map(|record| record.path.clone()).collect();
    assert_eq!(told, paths);
    assert_eq!(gateway.status().records_lost, 0);
}

#[tokio::test]
async fn a_plane_that_is_gone_leaves_the_last_configuration_or_none() {
    let recorder = Recorder::start().await;
    let addr = recorder.app.addr;
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("bundle.json");
    let keep = |following: &mut Following| {
        following.follow.cache = Some(cache.clone());
        following.plane.identity_file = Some(dir.path().join("identity"));
    };
    let plane = Plane::start(bundle(7, addr)).await;
    let at = plane.app.addr;
    // Without anything in force nothing is let through.
    // Bound, so that nobody else gets the port, and not listening.
    let nobody = tokio::net::TcpSocket::new_v4().unwrap();
    nobody.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let gone = nobody.local_addr().unwrap();
    let empty = Gateway::start(config(gone, addr, keep)).await.unwrap();
    assert_eq!(statuses(&empty, &["/open/a"]).await, ["503"]);
    assert!(empty.status().error.is_some());
    // It tries on, and two would write the identity at the same time.
    empty.stop().await;
    let first = Gateway::start(config(at, addr, keep)).await.unwrap();
    assert_eq!(statuses(&first, &["/open/a", "/closed/a"]).await, ["200", "401"]);
    first.stop().await;
    let second = Gateway::start(config(gone, addr, keep)).await.unwrap();
    assert_eq!(second.status().version, 7);
    assert_eq!(statuses(&second, &["/open/a", "/closed/a"]).await, ["200", "401"]);
    // A torn file is not used.
    std::fs::write(dir.path().join("bundle.json"), "{ \"version\": ").unwrap();
    let third = Gateway::start(config(gone, addr, keep)).await.unwrap();
    assert_eq!(statuses(&third, &["/open/a"]).await, ["503"]);
}

#[tokio::test]
async fn settings_that_cannot_be_used_are_refused_at_the_start() {
    let recorder = Recorder::start().await;
    let addr = recorder.app.addr;
    let check = async |url: &str, api_key: &str, text: &str| {
        let config = config(addr, addr, |following| {
            following.plane.url = url.to_owned();
            following.plane.identity =
                Identity::Register { api_key: api_key.to_owned(), hostname: "h".to_owned() };
        });
        let Err(StartError::Follow(error)) = Gateway::start(config).await else { panic!("{url} was taken") };
        assert!(error.to_string().contains(text), "{error}");
    };
    check("ftp://plane", "key", "https://HOST:PORT").await;
    check("http://plane.example", "key", "--insecure-http").await;
    check("http://127.0.0.1:1", "a\r\nb", "copy it again").await;
}

#[tokio::test]
async fn a_change_comes_at_once() {
    let recorder = Recorder::start().await;
    let addr = recorder.app.addr;
    let plane = Plane::start(bundle(3, addr)).await;
    let config = config(plane.app.addr, addr, |following| {
        (following.follow.poll, following.follow.push) = (Duration::from_secs(3600), true);
    });
    let gateway = Gateway::start(config).await.unwrap();
    assert_eq!(statuses(&gateway, &["/closed/a"]).await, ["401"]);
    plane.state().bundle = Bundle { policies: vec![policy(addr.port(), Mode::Monitor)], ..bundle(4, addr) };
    // Again and again: the question may come after the news.
    until(&gateway, |status| {
        plane.changed.notify_waiters();
        status.version == 4
    })
    .await;
    assert_eq!(statuses(&gateway, &["/closed/a"]).await, ["200"]);
}

#[tokio::test]
async fn a_bundle_that_another_key_signed_is_refused() {
    let recorder = Recorder::start().await;
    let addr = recorder.app.addr;
    let plane = Plane::start(bundle(3, addr)).await;
    plane.state().signer = Some(SigningKey::generate_es256().unwrap());
    let gateway = Gateway::start(config(plane.app.addr, addr, |_| {})).await.unwrap();
    assert_eq!((gateway.status().version, gateway.status().refused_signature), (3, 0));
    {
        let mut state = plane.state();
        state.impostor = Some(SigningKey::generate_es256().unwrap());
        state.bundle = Bundle { policies: Vec::new(), ..bundle(4, addr) };
    }
    until(&gateway, |status| status.refused_signature > 1).await;
    let status = gateway.status();
    assert!(status.error.is_some_and(|error| error.contains("not of the pinned key")));
    assert_eq!(status.version, 3);
    assert_eq!(statuses(&gateway, &["/closed/a"]).await, ["401"]);
    plane.state().impostor = None;
    until(&gateway, |status| status.version == 4 && status.error.is_none()).await;
}

#[tokio::test]
async fn records_outlive_a_plane_that_is_down_and_the_gateway() {
    let recorder = Recorder::start().await;
    let addr = recorder.app.addr;
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(bundle(1, addr)).await;
    let keep = |following: &mut Following| {
        following.plane.identity_file = Some(dir.path().join("identity"));
        following.follow.cache = Some(dir.path().join("bundle"));
        following.follow.spool = Some(SpoolConfig { dir: dir.path().join("spool"), bytes_max: 8 << 20 });
    };
    // It takes nothing until the end.
    plane.state().refuse = std::iter::repeat_n(503, 10_000).collect();
    for round in 0..3 {
        let gateway = Gateway::start(config(plane.app.addr, addr, keep)).await.unwrap();
        let paths: Vec<String> = (0..40).map(|n| format!("/closed/{round}/{n}")).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        assert!(statuses(&gateway, &paths).await.iter().all(|status| status == "401"));
        until(&gateway, |status| status.records_waiting == 40 * (round + 1)).await;
        gateway.stop().await;
    }
    plane.state().refuse.clear();
    let gateway = Gateway::start(config(plane.app.addr, addr, keep)).await.unwrap();
    until(&gateway, |status| status.records_waiting == 0).await;
    assert_eq!((gateway.status().records_sent, gateway.status().records_lost), (120, 0));
    let state = plane.state();
    let told: Vec<&str> = state.records.iter().map(|record| record.path.as_str()).collect();
    let made: Vec<String> = (0..120).map(|n| format!("/closed/{}/{}", n / 40, n % 40)).collect();
    assert_eq!((told, state.missing, state.dropped), (made.iter().map(String::as_str).collect(), 0, 0));
}
