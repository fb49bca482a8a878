//! The systemd unit: what it starts works with the capabilities and the file system that it leaves, and with no others.
//!
//! No systemd is needed for that: the unit's own lines are read, and the same is done with setpriv(1) and unshare(1).
//! What only systemd can do (its system call filters) is not tried here.

#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use portcullis_testkit::{TestCgroup, need};
use serde_json::{Value, json};

const BIN: &str = env!("CARGO_BIN_EXE_portcullis");
const UNIT: &str = include_str!("../../deploy/systemd/portcullis-agent.service");
const SOON: Duration = Duration::from_secs(60);

/// Numbers of include/uapi/linux/capability.h.
const CAPABILITIES: [(&str, u32); 6] = [
    ("CAP_DAC_READ_SEARCH", 2),
    ("CAP_NET_ADMIN", 12),
    ("CAP_SYS_PTRACE", 19),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_PERFMON", 38),
    ("CAP_BPF", 39),
];

/// What the unit says, lines that go on joined.
fn setting(name: &str) -> String {
    let joined = UNIT.replace("\\\n", " ");
    let line = joined.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    line.unwrap_or_else(|| panic!("the unit has no {name}")).trim().to_owned()
}

fn capabilities(name: &str) -> Vec<(String, u32)> {
    let number = |word: &str| {
        let known = CAPABILITIES.iter().find(|(name, _)| *name == word);
        known.unwrap_or_else(|| panic!("{word} is not known here: add its number")).1
    };
    setting(name).split_whitespace().map(|word| (word.to_owned(), number(word))).collect()
}

/// A command that has these capabilities and cannot get others.
fn with_capabilities(held: &[(String, u32)]) -> Command {
    let set: String =
        held.iter().map(|(name, _)| format!(",+{}", name["CAP_".len()..].to_lowercase())).collect();
    let set = format!("-all{set}");
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", &set, "--inh-caps", &set, "--ambient-caps", &set, "--no-new-privs"]);
    command
}

/// The same, in a file system that is read-only but for this directory: `ProtectSystem=strict`, `StateDirectory`.
fn confined(state: &Path, held: &[(String, u32)]) -> Command {
    let script = "umask 0077 && mount --bind \"$0\" \"$0\" && mount --bind / / && mount -o remount,bind,ro / \
                  && cd / && ! touch /portcullis-writes 2>/dev/null && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script]).arg(state);
    let inner = with_capabilities(held);
    command.arg(inner.get_program()).args(inner.get_args());
    command
}

/// A control plane that has one configuration, of before signatures.
fn plane(bundle: &Value) -> SocketAddr {
    let (listener, bundle) = (TcpListener::bind("127.0.0.1:0").unwrap(), bundle.to_string());
    let addr = listener.local_addr().unwrap();
    let answer = move |head: &str| {
        let path = head.split(' ').nth(1).unwrap_or_default();
        if path.ends_with("/config") {
            let same = head.contains("if-none-match: \"1\"");
            return if same { (304, String::new()) } else { (200, bundle.clone()) };
        }
        (if path.ends_with("/bundle-key") { 404 } else { 200 }, "{}".to_owned())
    };
    serve(listener, move |head| {
        let (status, body) = answer(head);
        let length = body.len();
        format!(
            "HTTP/1.1 {status} X\r\nETag: \"1\"\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    });
    addr
}

/// Answers each connection's one request.
fn serve(listener: TcpListener, answer: impl Fn(&str) -> String + Send + 'static) {
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(&stream);
            let (mut head, mut line) = (String::new(), String::new());
            while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
                head += &std::mem::take(&mut line);
            }
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
            let mut body = vec![0; length.map_or(0, |text| text.trim().parse().unwrap())];
            drop(reader.read_exact(&mut body));
            if !head.is_empty() {
                drop((&stream).write_all(answer(&head).as_bytes()));
            }
        }
    });
}

/// Reads messages until one begins so.
fn hear(socket: &UnixDatagram, what: &str) {
    let mut heard = Vec::new();
    loop {
        let mut message = [0; 512];
        let length = socket.recv(&mut message).unwrap_or_else(|error| panic!("{what}: {error}: {heard:?}"));
        heard.push(String::from_utf8_lossy(&message[..length]).into_owned());
        if heard.last().is_some_and(|said| said.starts_with(what)) {
            return;
        }
    }
}

/// Killed with the test, and what it put into the kernel removed.
struct Agent {
    child: Child,
    pins: PathBuf,
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        drop(Command::new(BIN).args(["agent", "--detach", "--pins"]).arg(&self.pins).output());
    }
}

#[test]
fn what_the_unit_starts_enforces_with_exactly_its_capabilities() {
    need!(Bpf, BpfFs, Cgroup2, Tool("setpriv"), Tool("unshare"));
    let held = capabilities("CapabilityBoundingSet");
    assert_eq!(held, capabilities("AmbientCapabilities"));
    let dir = tempfile::tempdir().unwrap();
    let (state, config) = (dir.path().join("state"), dir.path().join("agent.toml"));
    fs::create_dir(&state).unwrap();

    // An application in a group of its own; the agent is outside of it.
    let cgroup = TestCgroup::new("unit").unwrap();
    let inside = cgroup.enter_process().unwrap();
    let app = TcpListener::bind("127.0.0.1:0").unwrap();
    drop(inside);
    let app_addr = app.local_addr().unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let count = requests.clone();
    serve(app, move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_owned()
    });
    let policy = json!({
        "name": "p", "port_match": app_addr.port(), "mode": "enforce", "default_action": "deny",
        "rules": [{ "id": "open", "method": "GET", "path_pattern": "/open", "auth": "none" }],
    });
    let plane = plane(&json!({ "version": 1, "issuers": [], "policies": [policy] }));

    let pins = Path::new("/sys/fs/bpf/portcullis").join(format!("test-unit-{}", std::process::id()));
    let settings = format!(
        "api_url = \"http://{plane}\"\ntenant = \"t\"\nagent_id = \"a\"\npins = {pins:?}\ncgroup = {:?}\n",
        cgroup.path()
    );
    fs::write(&config, settings).unwrap();
    let command = setting("ExecStart").replace("${STATE_DIRECTORY}", state.to_str().unwrap());
    let mut words = command.split_whitespace().map(|word| match word {
        "/etc/portcullis/agent.toml" => config.to_str().unwrap(),
        word => word,
    });
    assert_eq!(words.next(), Some("/usr/bin/portcullis"));
    let path = state.join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let mut start = confined(&state, &held);
    start.arg(BIN).args(words).env("AUTHFI_AGENT_TOKEN", "s").env("NOTIFY_SOCKET", &path);
    let mut agent = Agent { child: start.spawn().unwrap(), pins: pins.clone() };
    hear(&socket, "READY=1");

    let status = fs::read_to_string(format!("/proc/{}/status", agent.child.id())).unwrap();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
    let mask = held.iter().fold(0_u64, |mask, (_, bit)| mask | 1 << bit);
    for name in ["CapEff:", "CapPrm:", "CapBnd:", "CapAmb:"] {
        assert_eq!(u64::from_str_radix(field(name), 16).unwrap(), mask, "{name}");
    }
    assert_eq!(field("NoNewPrivs:"), "1");

    // The service was found, with its process, and a connection to it came under control.
    hear(&socket, "STATUS=protected, version 1");
    let ask = |path: &str| {
        let mut stream = TcpStream::connect(app_addr).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).unwrap();
        String::from_utf8_lossy(&head[9..]).into_owned()
    };
    let before = requests.load(Ordering::SeqCst);
    assert_eq!((ask("/open"), ask("/closed")), ("200".to_owned(), "401".to_owned()));
    assert_eq!(requests.load(Ordering::SeqCst) - before, 1);
    for file in ["bundle", "spool/lock"] {
        let mode = fs::metadata(state.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{file} is its owner's only");
    }

    let pid = agent.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    hear(&socket, "STOPPING=1");
    assert_eq!(agent.child.wait().unwrap().code(), Some(0));
    let mut detach = confined(&state, &held);
    let ended = detach.arg(BIN).args(["agent", "--detach", "--pins"]).arg(&pins).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ended.stdout), "enforcement ended\n");
}

#[test]
fn where_bpf_is_not_permitted_the_way_out_is_named() {
    need!(Root, Cgroup2, Tool("setpriv"));
    let run = |arguments: &[&str]| -> Output {
        let mut command = with_capabilities(&[]);
        command.arg(BIN).args(arguments).env("AUTHFI_AGENT_TOKEN", "s").output().unwrap()
    };
    let agent = ["agent", "--api-url", "http://127.0.0.1:1", "--tenant", "t", "--agent-id", "a"];
    let output = run(&agent);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    for text in ["portcullis proxy", "portcullis doctor", "CAP_BPF"] {
        assert!(said.contains(text), "no `{text}` in {said}");
    }
    let output = run(&["doctor", "--format", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let of = |what: &str| findings.iter().find(|finding| finding["what"] == what).unwrap();
    for what in ["bpf programs", "capabilities"] {
        assert_eq!(of(what)["state"], "missing", "{what}");
    }
    assert!(of("bpf programs")["remedy"].as_str().unwrap().contains("portcullis proxy"));
}

#[test]
fn systemd_never_gives_up() {
    assert_eq!(setting("Restart"), "always");
    assert_eq!(setting("RestartSec"), "5");
    // Elsewhere than in [Unit] it means nothing.
    let unit = UNIT.split("\n[Service]\n").next().unwrap();
    assert!(unit.lines().any(|line| line == "StartLimitIntervalSec=0"), "{unit}");
}

#[test]
fn systemd_reads_the_unit_without_a_complaint() {
    need!(Tool("systemd-analyze"));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("portcullis-agent.service");
    // The command is not installed where it will be.
    fs::write(&file, UNIT.replace("/usr/bin/portcullis", BIN)).unwrap();
    let output = Command::new("systemd-analyze").arg("verify").arg("--man=no").arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("portcullis-agent"), "{said}");
}
