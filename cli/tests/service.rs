//! The agent as a service manager runs it: it says when it is ready, that it is alive, and that it ends; the end leaves
//! enforcement in place.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use portcullis_testkit::{TestCgroup, need};

const BIN: &str = env!("CARGO_BIN_EXE_portcullis");
const SOON: Duration = Duration::from_secs(60);

/// Killed with the test.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Reads messages until one is `wanted`.
fn hear(socket: &UnixDatagram, wanted: &str) {
    let begin = Instant::now();
    let mut heard = Vec::new();
    while begin.elapsed() < SOON {
        let mut message = [0; 512];
        let length = socket.recv(&mut message).expect("a message");
        heard.push(String::from_utf8_lossy(&message[..length]).into_owned());
        if heard.last().is_some_and(|message| message.starts_with(wanted)) {
            return;
        }
    }
    panic!("no {wanted}: {heard:?}");
}

#[test]
fn it_is_ready_without_a_control_plane_alive_and_ends_on_a_signal() {
    need!(Bpf, BpfFs, Cgroup2);
    let cgroup = TestCgroup::new("service").expect("cgroup");
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(SOON)).expect("a timeout");
    let pins = Path::new("/sys/fs/bpf/portcullis").join(format!("test-service-{}", std::process::id()));
    let agent = Command::new(BIN)
        .args(["agent", "--api-url", "http://127.0.0.1:1", "--tenant", "t", "--agent-id", "a"])
        .arg("--cgroup")
        .arg(cgroup.path())
        .arg("--pins")
        .arg(&pins)
        .env("AUTHFI_AGENT_TOKEN", "s")
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "200000")
        .spawn();
    let mut agent = Agent(agent.expect("the command starts"));
    for wanted in ["READY=1", "WATCHDOG=1", "STATUS=unprotected, version 0", "WATCHDOG=1"] {
        hear(&socket, wanted);
    }
    let pid = agent.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
    hear(&socket, "STOPPING=1");
    assert_eq!(agent.0.wait().expect("its end").code(), Some(0));

    let detach = || {
        let mut command = Command::new(BIN);
        let output =
            command.args(["agent", "--detach", "--pins"]).arg(&pins).output().expect("the command starts");
        String::from_utf8(output.stdout).expect("text")
    };
    assert_eq!(detach(), "enforcement ended\n");
    assert_eq!(detach(), "nothing was attached\n");
}
