//! Starting and stopping.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use portcullis_mock_control_plane::{Config, ControlPlane, StartError, TenantConfig};
use serde_json::{Value, json};

use crate::plane::{Plane, START_S};

fn start(config: Config) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        ControlPlane::start(config).await?.shutdown().await;
        Ok(())
    })
}

fn tenant(name: &str, api_key: &str) -> TenantConfig {
    TenantConfig { name: name.to_owned(), api_key: api_key.to_owned(), ..TenantConfig::default() }
}

#[test]
fn shutdown_waits_for_requests_in_progress_and_frees_the_port() {
    let mut plane = Plane::start();
    let fault = json!({ "kind": "delay", "ms": 300, "path": "/manage/v1/acme/tenant" });
    plane.manage("POST", "test/faults", fault).created();
    let url = plane.url().to_owned();
    let slow = std::thread::spawn(move || {
        ureq::get(format!("{url}/manage/v1/acme/tenant"))
            .header("x-api-key", "sk_test")
            .call()
            .unwrap()
            .status()
    });
    std::thread::sleep(Duration::from_millis(100));
    let addr = plane.url().strip_prefix("http://").unwrap().to_owned();
    plane.shutdown();
    assert_eq!(slow.join().unwrap(), 200);
    assert!(TcpStream::connect(addr).is_err());
}

#[test]
fn shutdown_does_not_wait_for_the_silent_and_the_waiting() {
    let mut plane = Plane::start();
    let agent = plane.agent();
    let path = format!("{}/manage/v1/acme/access/agents/{}/config", plane.url(), agent.0);
    let half = TcpStream::connect(plane.url().strip_prefix("http://").unwrap()).unwrap();
    std::io::Write::write_all(&mut &half, b"GET / HTTP/1.1\r\nHost:").unwrap();
    let waiting = std::thread::spawn(move || {
        let auth = format!("Bearer {}", agent.1);
        let tag = ureq::get(&path).header("authorization", &auth).call().unwrap();
        let tag = tag.headers()["etag"].to_str().unwrap().to_owned();
        let get = ureq::get(&path).header("authorization", &auth);
        get.header("if-none-match", &tag)
            .header("prefer", "wait=50")
            .call()
            .map(|answer| answer.status().as_u16())
    });
    std::thread::sleep(Duration::from_millis(300));
    let began = Instant::now();
    plane.shutdown();
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    assert_eq!(waiting.join().unwrap().unwrap(), 304);
}

#[test]
fn what_cannot_be_served_is_refused_at_the_start() {
    let refused = |config: Config, part: &str| {
        let error = start(config).expect_err(part).to_string();
        assert!(error.contains(part), "{error}");
    };
    refused(Config::for_tests(tenant("", "k")), "letters, digits");
    refused(Config::for_tests(tenant("a/b", "k")), "letters, digits");
    refused(Config::for_tests(tenant("a", "")), "API key is empty");
    refused(Config::for_tests(TenantConfig { audiences: vec![], ..tenant("a", "k") }), "audience");
    let both = |one, two| Config { tenants: vec![one, two], ..Config::for_tests(tenant("x", "x")) };
    refused(both(tenant("a", "k"), tenant("a", "l")), "used twice");
    refused(both(tenant("a", "k"), tenant("b", "k")), "used twice");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = Config { listen: taken.local_addr().unwrap(), ..Config::for_tests(tenant("a", "k")) };
    refused(config, "cannot listen on");
}

#[test]
fn the_default_is_a_demonstration() {
    let config = Config::default();
    assert!(config.listen.ip().is_loopback());
    assert_eq!(config.tenants[0].name, "acme");
    start(Config { listen: ([127, 0, 0, 1], 0).into(), ..config }).unwrap();
}

#[test]
fn the_clock_is_moved_by_the_test_interface() {
    let plane = Plane::start();
    let clock = |seconds: i64| plane.manage("POST", "test/clock", json!({ "advance_s": seconds })).ok();
    assert_eq!(
        plane.manage("GET", "test/clock", Value::Null).ok(),
        json!({ "now_s": START_S, "ahead_s": 0 })
    );
    assert_eq!(clock(86_400)["now_s"], START_S + 86_400);
    assert_eq!(clock(-86_401)["now_s"], START_S - 1);
    clock(i64::MIN);
    clock(i64::MIN);
    clock(i64::MAX);
    plane.manage("POST", "test/clock", json!({ "advance_s": "1" })).invalid_at(&["/advance_s"]);
    plane.manage("GET", "tenant", Value::Null).ok();
}
