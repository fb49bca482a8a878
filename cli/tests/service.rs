//! The agent as a service manager runs it: it says when it is ready, that it is alive, and that it ends; the end leaves
//! enforcement in place.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use portcullis_testkit::{TestCgroup, need};

const BIN: &str = env!("CARGO_BIN_EXE_portcullis");
const SOON: Duration = Duration::from_secs(60);

/// Killed with the test, and what it put into the kernel removed.
struct Agent {
    child: Child,
    pins: PathBuf,
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        detach(&self.pins);
    }
}

fn detach(pins: &Path) -> String {
    let mut command = Command::new(BIN);
    let output =
        command.args(["agent", "--detach", "--pins"]).arg(pins).output().expect("the command starts");
    String::from_utf8(output.stdout).expect("text")
}

/// Reads messages until each of these has come, in whichever order, so often.
fn hear(socket: &UnixDatagram, wanted: &[(&str, usize)]) {
    let begin = Instant::now();
    let mut heard: Vec<String> = Vec::new();
    let missing = |heard: &[String]| {
        wanted.iter().any(|(what, count)| heard.iter().filter(|said| said.starts_with(what)).count() < *count)
    };
    while missing(&heard) {
        assert!(begin.elapsed() < SOON, "not all of {wanted:?}: {heard:?}");
        let mut message = [0; 512];
        let length = socket.recv(&mut message).expect("a message");
        heard.push(String::from_utf8_lossy(&message[..length]).into_owned());
    }
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
    let mut agent = Agent { child: agent.expect("the command starts"), pins: pins.clone() };
    hear(&socket, &[("READY=1", 1), ("WATCHDOG=1", 3), ("STATUS=unprotected, version 0", 1)]);
    let pid = agent.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
    hear(&socket, &[("STOPPING=1", 1)]);
    assert_eq!(agent.child.wait().expect("its end").code(), Some(0));
    assert_eq!(detach(&pins), "enforcement ended\n");
    assert_eq!(detach(&pins), "nothing was attached\n");
}
