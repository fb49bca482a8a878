//! The kernel engine: BPF programs on the application's control group, installed by an agent that is a process of its
//! own and gets its configuration from the control plane, as in the field.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use portcullis_enforcer::kernel::{self, Datapath};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::process::{Output, Said, last};
use super::{NotRun, Setup};
use crate::plane::AgentCredentials;
use crate::spec::AgentAction;
use crate::world::SyncWay;

/// A covered control group and the agent's process.
pub(crate) struct Kernel {
    addr: SocketAddr,
    launch: Launch,
    agent: Option<Agent>,
    output: Output,
}

/// How the agent is started.
struct Launch {
    command: Vec<OsString>,
    url: String,
    tenant: String,
    credentials: AgentCredentials,
    cgroup: PathBuf,
    pins: PathBuf,
    /// What the agent keeps on disk.
    state: tempfile::TempDir,
    ahead_s: i64,
    sync: SyncWay,
}

struct Agent {
    child: Child,
    said: Said,
}

/// Loading the programs takes the verifier up to seconds on a slow machine.
const ENFORCE_MAX: Duration = Duration::from_secs(60);
const CLOCK_MAX: Duration = Duration::from_secs(5);
const STOP_MAX: Duration = Duration::from_secs(10);
const DROP_POLL: Duration = Duration::from_millis(10);
const DROP_POLLS: u32 = 200;

/// Whether BPF programs can be loaded, attached and pinned here.
pub(super) fn probe() -> Result<(), NotRun> {
    kernel::probe().map_err(|error| NotRun(error.to_string()))?;
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let bpffs = |line: &str| {
        let mut fields = line.split(' ').skip(1);
        fields.next() == Some("/sys/fs/bpf") && fields.next() == Some("bpf")
    };
    if !mounts.lines().any(bpffs) {
        return Err(NotRun(
            "no BPF file system at /sys/fs/bpf; as root: mount -t bpf bpf /sys/fs/bpf".to_owned(),
        ));
    }
    Ok(())
}

// === impl Kernel ===

impl Kernel {
    pub(super) fn prepare(setup: Setup<'_>) -> Result<Kernel> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let Setup { plane, app, cgroup, agent, sync, proxy: _, credentials } = setup;
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let launch = Launch {
            command: agent.to_vec(),
            url: plane.url(),
            tenant: plane.tenant().to_owned(),
            credentials,
            cgroup: cgroup.context("the kernel engine needs a control group")?.path().to_owned(),
            pins: super::pins(&format!("scenario-{}-{n}", std::process::id())),
            state: tempfile::tempdir().context("making a directory for the agent")?,
            ahead_s: 0,
            sync,
        };
        Ok(Kernel { addr: app.addr(), launch, agent: None, output: Output::default() })
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(super) async fn enforce(&mut self, version: u64) -> Result<()> {
        if self.agent.is_none() {
            self.agent = Some(self.launch.start(&self.output)?);
        }
        let agent = self.agent.as_mut().context("the agent is not running")?;
        let reached = agent.said.version.wait_for(|seen| *seen >= version);
        let reached = timeout(ENFORCE_MAX, reached).await.map(|seen| seen.map(drop));
        match reached {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => bail!("the agent ended{}", last(&self.output())),
            Err(_) => bail!(
                "the agent did not enforce it within {} s{}",
                ENFORCE_MAX.as_secs(),
                last(&self.output())
            ),
        }
    }

    pub(super) async fn agent(&mut self, action: AgentAction) -> Result<()> {
        match (action, &mut self.agent) {
            (AgentAction::Kill, Some(agent)) => {
                agent.child.kill().await.context("killing the agent")?;
                self.agent = None;
                Ok(())
            }
            (AgentAction::Kill, None) => bail!("no agent is running"),
            (AgentAction::Start, Some(_)) => bail!("an agent is running already"),
            // Any version: the control plane's is in force, or the agent takes it at once.
            (AgentAction::Start, None) => self.enforce(1).await,
        }
    }

    pub(super) async fn set_clock(&mut self, ahead_s: i64) -> Result<()> {
        self.launch.ahead_s = ahead_s;
        let agent = self.agent.as_mut().context("the agent is not running, and it keeps the clock")?;
        let input = agent.child.stdin.as_mut().context("the agent has no input")?;
        input.write_all(format!("{ahead_s}\n").as_bytes()).await.context("telling the agent the time")?;
        let moved = timeout(CLOCK_MAX, agent.said.ahead_s.wait_for(|said| *said == Some(ahead_s))).await;
        match moved.map(|said| said.map(drop)) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => bail!("the agent did not move the clock{}", last(&self.output())),
        }
    }

    pub(super) fn output(&self) -> Vec<String> {
        self.output.lines()
    }

    pub(super) async fn stop(mut self) -> Result<()> {
        if let Some(mut agent) = self.agent.take() {
            // The end of its input ends the agent.
            drop(agent.child.stdin.take());
            if timeout(STOP_MAX, agent.child.wait()).await.is_err() {
                agent.child.kill().await.context("killing the agent")?;
            }
        }
        // What the agent left, killed or not, must not outlive the scenario.
        Datapath::remove(&self.launch.pins).map(drop).context("removing the programs")
    }
}

impl Drop for Kernel {
    /// A run that is broken off leaves nothing in the kernel.
    fn drop(&mut self) {
        let Some(mut agent) = self.agent.take() else {
            drop(Datapath::remove(&self.launch.pins));
            return;
        };
        // The agent holds the instance until it is gone.
        drop(agent.child.start_kill());
        for _ in 0..DROP_POLLS {
            if agent.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                break;
            }
            std::thread::sleep(DROP_POLL);
        }
        drop(Datapath::remove(&self.launch.pins));
    }
}

// === impl Launch ===

impl Launch {
    fn start(&self, output: &Output) -> Result<Agent> {
        let Launch { command, url, tenant, credentials, cgroup, pins, state, ahead_s, sync } = self;
        let (program, arguments) = command.split_first().context("no command for the agent")?;
        let mut child = Command::new(program)
            .args(arguments)
            .args(["--api-url", url, "--tenant", tenant, "--agent-id", &credentials.agent_id])
            .args(["--poll-ms", &sync.poll.as_millis().to_string()])
            .args((!sync.push).then_some("--no-push"))
            .args(["--report-ms", "20", "--format", "json", "--until-input-ends"])
            .arg("--clock-offset-s")
            .arg(ahead_s.to_string())
            .arg("--cache")
            .arg(state.path().join("bundle"))
            .arg("--spool")
            .arg(state.path().join("spool"))
            .arg("--cgroup")
            .arg(cgroup)
            .arg("--pins")
            .arg(pins)
            .env("AUTHFI_AGENT_TOKEN", &credentials.agent_secret)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting the agent")?;
        let said = Said::of(&mut child, output)?;
        Ok(Agent { child, said })
    }
}
