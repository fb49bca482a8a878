//! Applications that scenarios protect: real servers, each a process of its own that is in the protected control
//! group before it listens. Control follows the group in which the listening socket was made.

mod nginx;
mod rust;
pub mod server;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;

use crate::spec::AppKind;

/// A running application.
pub(crate) enum App {
    /// Our own server.
    Rust(rust::RustApp),
    /// nginx.
    Nginx(nginx::Nginx),
}

/// What the application has seen since it started.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Seen {
    /// Requests.
    pub requests: u64,
    /// Bytes read.
    pub bytes: u64,
}

/// Why an application cannot run here.
#[derive(Debug)]
pub(crate) enum AppError {
    /// The machine has no such server: a reason not to run, not a failure.
    Missing(String),
    /// It did not start.
    Failed(anyhow::Error),
}

// === impl App ===

impl App {
    /// Starts it. `cgroup`: the group to listen in. `command`: how to start our own server.
    pub(crate) async fn start(
        kind: AppKind,
        cgroup: Option<&Path>,
        command: &[OsString],
    ) -> Result<App, AppError> {
        match kind {
            AppKind::Rust => {
                rust::RustApp::start(cgroup, command).await.map(App::Rust).map_err(AppError::Failed)
            }
            AppKind::Nginx => nginx::Nginx::start(cgroup).await.map(App::Nginx),
        }
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        match self {
            App::Rust(app) => app.addr(),
            App::Nginx(app) => app.addr(),
        }
    }

    /// What it has seen so far; everything that reached it before this call is in it.
    pub(crate) async fn seen(&mut self) -> Result<Seen> {
        match self {
            App::Rust(app) => app.seen().await,
            App::Nginx(app) => app.seen().await,
        }
    }

    /// What it has seen since the last call, in the greatest detail that it can give, one entry for each connection
    /// (our own server: the bytes) or request (nginx: its log's line).
    pub(crate) async fn take(&mut self) -> Result<Vec<Vec<u8>>> {
        match self {
            App::Rust(app) => app.take().await,
            App::Nginx(app) => app.take().await,
        }
    }

    /// Stops it.
    pub(crate) async fn stop(self) {
        match self {
            App::Rust(app) => app.stop().await,
            App::Nginx(app) => app.stop().await,
        }
    }
}

/// A command that joins `cgroup` and then becomes `program`: the process is in the group before its first socket.
fn command_in(cgroup: Option<&Path>, program: &std::ffi::OsStr) -> tokio::process::Command {
    match cgroup {
        None => tokio::process::Command::new(program),
        Some(group) => {
            let mut command = tokio::process::Command::new("/bin/sh");
            command
                .args(["-c", "echo 0 >\"$1/cgroup.procs\" && shift && exec \"$@\"", "sh"])
                .arg(group)
                .arg(program);
            command
        }
    }
}

// === impl AppKind ===

impl AppKind {
    /// Name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            AppKind::Rust => "rust",
            AppKind::Nginx => "nginx",
        }
    }
}
