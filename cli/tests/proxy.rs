//! `portcullis proxy` as a process: files, signals, errors.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

const POLICY: &str = "\
name: orders
port_match: 8080
mode: enforce
default_action: deny
rules:
  - { id: health, method: GET, path_pattern: /health, auth: none }
";
const JWKS: &str = r#"{ "keys": [] }"#;
const KEYS: [&str; 4] = ["--issuer", "https://id.example", "--audience", "api"];
const PATIENCE: Duration = Duration::from_secs(20);

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Dir {
        Dir(tempfile::tempdir().expect("a directory"))
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path
    }
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.arg("proxy");
    for name in ["AUTHFI_API_URL", "AUTHFI_TENANT", "AUTHFI_AGENT_ID", "AUTHFI_AGENT_TOKEN", "AUTHFI_API_KEY"]
    {
        command.env_remove(name);
    }
    command
}

fn check(output: &Output, texts: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for text in texts {
        assert!(said.contains(text), "no `{text}` in:\n{said}");
    }
}

fn refused(command: &mut Command, texts: &[&str]) {
    check(&command.output().expect("the command starts"), texts);
}

/// A proxy that runs, and what it says.
struct Proxy {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    addr: SocketAddr,
}

impl Proxy {
    fn start(command: &mut Command) -> Proxy {
        command.args(["--listen", "127.0.0.1:0", "--format", "json"]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the command starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let said = next(&mut lines);
        let addr = said["listening"].as_str().and_then(|text| text.parse().ok());
        Proxy { child, lines, addr: addr.unwrap_or_else(|| panic!("{said}")) }
    }

    fn status(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.addr).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sending");
        let mut head = [0; 12];
        stream.read_exact(&mut head).expect("an answer");
        String::from_utf8_lossy(&head[9..]).into_owned()
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status();
        assert!(sent.expect("kill starts").success());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn next(lines: &mut std::io::Lines<BufReader<ChildStdout>>) -> Value {
    let line = lines.next().expect("a line").expect("text");
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// An application that answers everything with 200.
fn app() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("a port");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).is_ok_and(|length| length > 0) {
                    if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_err() {
                        return;
                    }
                }
            });
        }
    });
    addr
}

/// A control plane of its own process, with TLS.
struct Plane {
    child: Child,
    url: String,
}

impl Plane {
    fn start(dir: &Dir) -> Plane {
        let listen = ["control-plane", "--listen", "127.0.0.1:0", "--api-key", "k", "--tls-cert"];
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.args(listen).arg(dir.0.path().join("chain.pem")).arg("--tls-key");
        let mut child =
            command.arg(dir.0.path().join("key.pem")).stdout(Stdio::piped()).spawn().expect("a start");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let line = lines.next().expect("a line").expect("text");
        let url = line.strip_prefix("control plane: ").unwrap_or_else(|| panic!("{line}")).to_owned();
        assert!(url.starts_with("https://"), "{url}");
        Plane { child, url }
    }

    /// A proxy that follows it and keeps what it is told in this directory.
    fn proxy(&self, state: &str, dir: &Dir) -> Command {
        let mut command = command();
        command.args(["--upstream", &app().to_string(), "--api-url", &self.url, "--tenant", "acme"]);
        command.arg("--cache").arg(dir.0.path().join(state).join("bundle"));
        command.arg("--spool").arg(dir.0.path().join(state).join("spool"));
        command.env("AUTHFI_API_KEY", "k").stderr(Stdio::piped());
        command
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The first line that a proxy complains with.
fn complaint(proxy: &mut Proxy) -> String {
    let stderr = proxy.child.stderr.take().expect("its errors");
    BufReader::new(stderr).lines().next().expect("a line").expect("text")
}

#[test]
fn a_control_plane_is_followed_over_tls_and_only_with_the_key_that_is_known() {
    let dir = Dir::new();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    let ca = dir.file("chain.pem", &made.cert.pem());
    dir.file("key.pem", &made.signing_key.serialize_pem());
    let (plane, other) = (Plane::start(&dir), Plane::start(&dir));
    let identity = |state: &str| -> Value {
        let text = std::fs::read(dir.0.path().join(state).join("bundle.identity")).expect("the file");
        serde_json::from_slice(&text).expect("JSON")
    };
    let mut ids = Vec::new();
    for (plane, state) in [(&plane, "a"), (&plane, "a"), (&other, "b")] {
        let mut proxy = Proxy::start(plane.proxy(state, &dir).arg("--ca").arg(&ca));
        assert!(next(&mut proxy.lines)["enforcing"].as_u64() > Some(0));
        ids.push(identity(state)["agent_id"].clone());
    }
    assert_eq!(ids[0], ids[1], "registered once");

    let mut proxy = Proxy::start(&mut plane.proxy("c", &dir));
    let said = complaint(&mut proxy);
    assert!(said.contains(&plane.url) && said.contains("--ca FILE"), "{said}");
    assert_eq!(proxy.status("/health"), "503");

    let key = dir.file("bundle-key.json", &identity("b")["bundle_key"].to_string());
    let mut strict = plane.proxy("d", &dir);
    strict.arg("--ca").arg(&ca).arg("--bundle-key").arg(&key);
    let mut proxy = Proxy::start(&mut strict);
    let said = complaint(&mut proxy);
    assert!(said.contains("not of the pinned key"), "{said}");
    assert_eq!(proxy.status("/health"), "503");
}

#[test]
fn settings_that_are_missing_or_wrong_are_told_with_the_remedy() {
    refused(&mut command(), &["--upstream"]);
    refused(
        command().args(["--upstream", "a:1"]),
        &["where do policies come from?", "--policies and --jwks"],
    );
    refused(command().args(["--upstream", "https://a:1"]), &["https://a:1", "http://HOST:PORT"]);
    refused(command().args(["--upstream", "a:1", "--policies", "p.yaml"]), &["--jwks"]);
    refused(command().args(["--upstream", "a:1", "--bundle", "b.json", "--tls-cert", "c"]), &["--tls-key"]);
    let plane = ["--upstream", "a:1", "--api-url", "http://127.0.0.1:1"];
    refused(command().args(plane), &["who is the proxy?", "AUTHFI_API_KEY"]);
    refused(command().args(plane).env("AUTHFI_API_KEY", "k"), &["which tenant?"]);
    let mut odd = command();
    odd.args(["--upstream", "a:1", "--api-url", "ftp://x", "--tenant", "t"]).env("AUTHFI_API_KEY", "k");
    refused(&mut odd, &["ftp://x", "http://HOST:PORT"]);
    let clear = ["--upstream", "a:1", "--api-url", "http://plane.example", "--tenant", "t"];
    refused(command().args(clear).env("AUTHFI_API_KEY", "k"), &["http://plane.example", "--insecure-http"]);
    let loopback = ["--upstream", "a:1", "--api-url", "http://127.0.0.1:1", "--tenant", "t"];
    let mut gone = command();
    gone.args(loopback).args(["--ca", "gone.pem"]).env("AUTHFI_API_KEY", "k");
    refused(&mut gone, &["--ca gone.pem", "PEM"]);
    let mut no_key = command();
    no_key.args(loopback).args(["--bundle-key", "gone.json"]).env("AUTHFI_API_KEY", "k");
    refused(&mut no_key, &["--bundle-key gone.json", "JWK"]);
}

#[test]
fn bad_files_are_told_with_their_place() {
    let dir = Dir::new();
    let policy = dir.file("policy.yaml", &POLICY.replace("/health", "health"));
    let jwks = dir.file("jwks.json", "{ \"keys\": 7 }");
    let mut both = command();
    both.args(["--upstream", "a:1", "--policies"]).arg(&policy).arg("--jwks").arg(&jwks).args(KEYS);
    refused(&mut both, &["policy.yaml:6:", "jwks.json:1:", "fix: "]);
    refused(
        command().args(["--upstream", "a:1", "--bundle"]).arg(dir.0.path().join("gone.json")),
        &["gone.json", "check the path"],
    );
    let bundle = dir.file("bundle.json", "{ \"version\": 1 }");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("a port");
    let held = TcpListener::bind(taken).expect("the port");
    let mut busy = command();
    busy.args(["--upstream", "a:1", "--listen", &taken.to_string(), "--bundle"]).arg(&bundle);
    refused(&mut busy, &[&taken.to_string(), "choose another address"]);
    drop(held);
}

#[test]
fn files_are_followed_and_a_signal_ends_it() {
    let dir = Dir::new();
    let app = app();
    let text = POLICY.replace("8080", &app.port().to_string());
    let (policy, jwks) = (dir.file("policy.yaml", &text), dir.file("jwks.json", JWKS));
    let log = dir.0.path().join("access.jsonl");
    let mut start = command();
    start.args(["--upstream", &app.to_string(), "--poll-ms", "20", "--policies"]).arg(&policy);
    start.arg("--jwks").arg(&jwks).args(KEYS).arg("--log").arg(&log);
    let mut proxy = Proxy::start(&mut start);
    assert_eq!(next(&mut proxy.lines)["enforcing"], 1);
    assert_eq!((proxy.status("/health"), proxy.status("/ready")), ("200".to_owned(), "401".to_owned()));
    dir.file("policy.yaml", &text.replace("/health", "/ready"));
    assert_eq!(next(&mut proxy.lines)["enforcing"], 2);
    assert_eq!((proxy.status("/health"), proxy.status("/ready")), ("401".to_owned(), "200".to_owned()));
    proxy.signal("HUP");
    assert_eq!(next(&mut proxy.lines)["enforcing"], 3);
    proxy.signal("TERM");
    assert_eq!(proxy.child.wait().expect("an end").code(), Some(0));
    let lines = std::fs::read_to_string(&log).expect("the log");
    let records: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let decisions: Vec<_> =
        records.iter().map(|record| record["decision"].as_str().unwrap_or_default()).collect();
    assert_eq!(decisions, ["allow", "deny", "deny", "allow"]);
}

#[test]
fn without_a_control_plane_nothing_is_let_through() {
    let gone = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("a port");
    let mut start = command();
    start.args(["--upstream", &app().to_string(), "--api-url", &format!("http://{gone}"), "--tenant", "t"]);
    let proxy = Proxy::start(start.env("AUTHFI_API_KEY", "k"));
    assert_eq!(proxy.status("/health"), "503");
}
