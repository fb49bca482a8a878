//! Our own server as a child process, driven over its standard input and output.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::time::timeout;

use super::{Seen, command_in};

/// The child.
pub(crate) struct RustApp {
    child: Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    addr: SocketAddr,
}

const ANSWER_MAX: Duration = Duration::from_secs(10);

// === impl RustApp ===

impl RustApp {
    /// Starts `command` in `cgroup` and waits until it listens.
    pub(super) async fn start(cgroup: Option<&Path>, command: &[OsString]) -> Result<RustApp> {
        let (program, arguments) = command.split_first().context("no command for the test application")?;
        let mut child = command_in(cgroup, program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting the test application")?;
        let commands = child.stdin.take().context("the child has no input")?;
        let answers = BufReader::new(child.stdout.take().context("the child has no output")?).lines();
        let mut app = RustApp { child, commands, answers, addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) };
        let hello = app.answer().await.context("waiting for the test application's port")?;
        let port = hello["port"].as_u64().and_then(|port| u16::try_from(port).ok());
        app.addr.set_port(port.context("the test application named no port")?);
        Ok(app)
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(super) async fn seen(&mut self) -> Result<Seen> {
        let answer = self.ask("count").await?;
        let number = |name: &str| answer[name].as_u64().with_context(|| format!("no {name} in {answer}"));
        Ok(Seen { requests: number("requests")?, bytes: number("bytes")? })
    }

    pub(super) async fn take(&mut self) -> Result<Vec<Vec<u8>>> {
        let answer = self.ask("take").await?;
        let streams = answer["streams"].as_array().with_context(|| format!("no streams in {answer}"))?;
        let decode = |s: &Value| STANDARD.decode(s.as_str().unwrap_or_default()).context("decoding a stream");
        streams.iter().map(decode).collect()
    }

    pub(super) async fn stop(mut self) {
        drop(self.commands);
        if timeout(Duration::from_secs(2), self.child.wait()).await.is_err() {
            drop(self.child.kill().await);
        }
    }

    async fn ask(&mut self, command: &str) -> Result<Value> {
        self.commands
            .write_all(format!("{command}\n").as_bytes())
            .await
            .context("asking the test application")?;
        self.answer().await
    }

    async fn answer(&mut self) -> Result<Value> {
        let line =
            timeout(ANSWER_MAX, self.answers.next_line()).await.context("the test application is silent")?;
        let line =
            line.context("reading from the test application")?.context("the test application ended")?;
        serde_json::from_str(&line).with_context(|| format!("reading `{line}`"))
    }
}
