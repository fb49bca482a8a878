//! The proxy engine: the reverse proxy as a process of its own before the application, configured by the control plane.
//!
//! The application listens where it always does. Policies name its port, as they would for the kernel; clients connect
//! to the proxy.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::Setup;
use super::process::{Output, Said, last};

/// A running proxy.
pub(crate) struct Proxy {
    addr: SocketAddr,
    port: u16,
    child: Child,
    said: Said,
    output: Output,
    /// What the proxy keeps on disk.
    _state: tempfile::TempDir,
}

const START_MAX: Duration = Duration::from_secs(20);
const ENFORCE_MAX: Duration = Duration::from_secs(20);
const CLOCK_MAX: Duration = Duration::from_secs(10);
const STOP_MAX: Duration = Duration::from_secs(10);

// === impl Proxy ===

impl Proxy {
    pub(super) async fn prepare(setup: Setup<'_>) -> Result<Proxy> {
        let Setup { plane, app, proxy, credentials, .. } = setup;
        let state = tempfile::tempdir().context("making a directory for the proxy")?;
        let (program, arguments) = proxy.split_first().context("no command for the proxy")?;
        let mut child = Command::new(program)
            .args(arguments)
            .args(["--listen", "127.0.0.1:0", "--upstream", &app.addr().to_string()])
            .args([
                "--api-url",
                &plane.url(),
                "--tenant",
                plane.tenant(),
                "--agent-id",
                &credentials.agent_id,
            ])
            .args(["--poll-ms", "20", "--report-ms", "20", "--format", "json", "--until-input-ends"])
            .arg("--cache")
            .arg(state.path().join("bundle"))
            .arg("--spool")
            .arg(state.path().join("spool"))
            .env("AUTHFI_AGENT_TOKEN", &credentials.agent_secret)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting the proxy")?;
        let output = Output::default();
        let mut said = Said::of(&mut child, &output)?;
        let listening = timeout(START_MAX, said.listening.wait_for(Option::is_some)).await;
        let addr = match listening.map(|said| said.map(|addr| *addr)) {
            Ok(Ok(addr)) => addr,
            Ok(Err(_)) => bail!("the proxy ended{}", last(&output.lines())),
            Err(_) => bail!("the proxy did not listen within {} s", START_MAX.as_secs()),
        };
        let addr = addr.context("the proxy named no address")?;
        Ok(Proxy { addr, port: app.addr().port(), child, said, output, _state: state })
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The port that policies name.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) async fn enforce(&mut self, version: u64) -> Result<()> {
        let reached = self.said.version.wait_for(|seen| *seen >= version);
        match timeout(ENFORCE_MAX, reached).await.map(|seen| seen.map(drop)) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => bail!("the proxy ended{}", last(&self.output())),
            Err(_) => bail!(
                "the proxy did not enforce it within {} s{}",
                ENFORCE_MAX.as_secs(),
                last(&self.output())
            ),
        }
    }

    pub(super) async fn set_clock(&mut self, ahead_s: i64) -> Result<()> {
        let input = self.child.stdin.as_mut().context("the proxy has no input")?;
        input.write_all(format!("{ahead_s}\n").as_bytes()).await.context("telling the proxy the time")?;
        let moved = timeout(CLOCK_MAX, self.said.ahead_s.wait_for(|said| *said == Some(ahead_s))).await;
        match moved.map(|said| said.map(drop)) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => bail!("the proxy did not move the clock{}", last(&self.output())),
        }
    }

    pub(super) fn output(&self) -> Vec<String> {
        self.output.lines()
    }

    pub(super) async fn stop(mut self) -> Result<()> {
        // The end of its input ends the proxy.
        drop(self.child.stdin.take());
        if timeout(STOP_MAX, self.child.wait()).await.is_err() {
            self.child.kill().await.context("killing the proxy")?;
        }
        Ok(())
    }
}
