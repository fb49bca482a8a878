//! A control plane that answers, that lies, and that is gone.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portcullis_gateway::{Config, Gateway, Identity, PlaneConfig, Source, StartError, Upstream};
use portcullis_wire::{AccessLog, Bundle, Mode};
use serde_json::{Value, json};

use crate::world::{App, Client, PATIENCE, Recorder, policy, request};

/// A control plane with one answer for each question.
struct Plane {
    app: App,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    bundle: Bundle,
    /// Statuses of the next answers to access records; then 200.
    refuse: VecDeque<u16>,
    records: Vec<AccessLog>,
    asked: Vec<String>,
}

impl Plane {
    async fn start(bundle: Bundle) -> Plane {
        let state = Arc::new(Mutex::new(State { bundle, ..State::default() }));
        let shared = Arc::clone(&state);
        let app = App::start(move |stream| {
            let state = Arc::clone(&shared);
            async move {
                let mut client = Client::of(stream);
                while let Some(request) = client.request().await {
                    let (status, body) = state.lock().unwrap().answer(&request);
                    let tag =
                        body["version"].as_u64().map_or(String::new(), |v| format!("ETag: \"{v}\"\r\n"));
                    let body = if status == 304 { String::new() } else { body.to_string() };
                    let length = body.len();
                    let head = format!("HTTP/1.1 {status} X\r\n{tag}Content-Length: {length}\r\n\r\n");
                    client.send(head + &body).await;
                }
            }
        })
        .await;
        Plane { app, state }
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
            return (201, json!({ "agent_id": "a1", "agent_secret": "s1" }));
        }
        assert_eq!(request.field("authorization"), Some("Bearer s1"));
        match request.what.as_str() {
            "GET /manage/v1/t/access/agents/a1/config" => {
                let same = request.field("if-none-match") == Some(&format!("\"{}\"", self.bundle.version));
                (if same { 304 } else { 200 }, serde_json::to_value(&self.bundle).unwrap())
            }
            "POST /manage/v1/t/access/logs" => {
                if let Some(status) = self.refuse.pop_front() {
                    return (status, json!({ "title": "not now" }));
                }
                let body: Value = serde_json::from_slice(&request.body).unwrap();
                self.records.extend(serde_json::from_value::<Vec<AccessLog>>(body["logs"].clone()).unwrap());
                (200, json!({}))
            }
            other => panic!("{other}"),
        }
    }
}

fn bundle(version: u64, app: SocketAddr) -> Bundle {
    Bundle { version, policies: vec![policy(app.port(), Mode::Enforce)], ..Bundle::default() }
}

fn config(plane: SocketAddr, app: SocketAddr, cache: Option<std::path::PathBuf>) -> Config {
    let identity = Identity::Register { api_key: "key".to_owned(), hostname: "h".to_owned() };
    let (url, tenant) = (format!("http://{plane}"), "t".to_owned());
    let source = Source::Plane(PlaneConfig { url, tenant, identity, cache });
    let mut config =
        Config::new((Ipv4Addr::LOCALHOST, 0).into(), Upstream::parse(&app.to_string()).unwrap(), source);
    (config.poll, config.report) = (Duration::from_millis(10), Duration::from_millis(10));
    config
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
    let gateway = Gateway::start(config(plane.app.addr, addr, None)).await.unwrap();
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
    plane.state().refuse = (0..20).map(|n| if n % 2 == 0 { 503 } else { 429 }).collect();
    let gateway = Gateway::start(config(plane.app.addr, addr, None)).await.unwrap();
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
    let plane = Plane::start(bundle(7, addr)).await;
    let at = plane.app.addr;
    // Without anything in force nothing is let through.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let empty = Gateway::start(config(gone, addr, Some(cache.clone()))).await.unwrap();
    assert_eq!(statuses(&empty, &["/open/a"]).await, ["503"]);
    assert!(empty.status().error.is_some());
    let first = Gateway::start(config(at, addr, Some(cache.clone()))).await.unwrap();
    assert_eq!(statuses(&first, &["/open/a", "/closed/a"]).await, ["200", "401"]);
    first.stop().await;
    let second = Gateway::start(config(gone, addr, Some(cache.clone()))).await.unwrap();
    assert_eq!(second.status().version, 7);
    assert_eq!(statuses(&second, &["/open/a", "/closed/a"]).await, ["200", "401"]);
    // A torn file is not used.
    std::fs::write(&cache, "{ \"version\": ").unwrap();
    let third = Gateway::start(config(gone, addr, Some(cache))).await.unwrap();
    assert_eq!(statuses(&third, &["/open/a"]).await, ["503"]);
}

#[tokio::test]
async fn settings_that_cannot_be_used_are_refused_at_the_start() {
    let recorder = Recorder::start().await;
    let addr = recorder.app.addr;
    let check = async |url: &str, api_key: &str, text: &str| {
        let identity = Identity::Register { api_key: api_key.to_owned(), hostname: "h".to_owned() };
        let plane = PlaneConfig { url: url.to_owned(), tenant: "t".to_owned(), identity, cache: None };
        let config = Config { source: Source::Plane(plane), ..config(addr, addr, None) };
        let Err(StartError::Config(error)) = Gateway::start(config).await else { panic!("{url} was taken") };
        assert!(error.to_string().contains(text), "{error}");
    };
    check("https://plane", "key", "write http://HOST:PORT").await;
    check("http://127.0.0.1:1", "a\r\nb", "copy it again").await;
}
