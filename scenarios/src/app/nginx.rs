//! The machine's nginx as a child process, with a configuration of its own in a temporary directory.
//!
//! nginx does not show the bytes that it read. Its log is the evidence: for each request the request line, the
//! length of the request in bytes (line, headers and body), and the values of the fields that scenarios send.

use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::Child;
use tokio::time::{Instant, sleep, timeout};

use super::{AppError, Seen, command_in};

/// The child.
pub(crate) struct Nginx {
    child: Child,
    dir: TempDir,
    addr: SocketAddr,
    /// Lines of the log that [`Nginx::take`] has given.
    taken: usize,
}

const START_MAX: Duration = Duration::from_secs(5);
const BINARIES: [&str; 3] = ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx"];

// === impl Nginx ===

impl Nginx {
    /// Starts it in `cgroup` and waits until it listens.
    pub(super) async fn start(cgroup: Option<&Path>) -> Result<Nginx, AppError> {
        let Some(binary) = BINARIES.iter().find(|path| Path::new(path).exists()) else {
            return Err(AppError::Missing("nginx is not installed: apt-get install nginx-light".to_owned()));
        };
        // The port is free when we look; another process may take it before nginx does.
        let mut last = None;
        for _ in 0..3 {
            match Nginx::try_start(binary, cgroup).await {
                Ok(nginx) => return Ok(nginx),
                Err(error) => last = Some(error),
            }
        }
        Err(AppError::Failed(last.unwrap_or_else(|| anyhow::anyhow!("nginx was not tried"))))
    }

    async fn try_start(binary: &str, cgroup: Option<&Path>) -> Result<Nginx> {
        let dir =
            tempfile::Builder::new().prefix("portcullis-nginx-").tempdir().context("making a directory")?;
        // The worker drops to another user and still has to reach its temporary files.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))
            .context("opening the directory")?;
        let port = free_port().context("finding a free port")?;
        let config = dir.path().join("nginx.conf");
        fs::write(&config, configuration(dir.path(), port)).context("writing nginx.conf")?;
        let child = command_in(cgroup, OsStr::new(binary))
            .arg("-p")
            .arg(dir.path())
            .arg("-c")
            .arg(&config)
            .args(["-e", "error.log"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("starting nginx")?;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut nginx = Nginx { child, dir, addr, taken: 0 };
        let start = Instant::now();
        // The control socket tells, not the protected port: nothing has been sent there yet.
        while nginx.settle().await.is_err() || TcpStream::connect(addr).await.is_err() {
            if nginx.child.try_wait().context("watching nginx")?.is_some() || start.elapsed() > START_MAX {
                let log = fs::read_to_string(nginx.dir.path().join("error.log")).unwrap_or_default();
                bail!("nginx did not start: {}", log.lines().last().unwrap_or("its error log is empty"));
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(nginx)
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(super) async fn seen(&mut self) -> Result<Seen> {
        let lines = self.lines().await?;
        let length =
            |line: &String| line.split('\t').nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or_default();
        Ok(Seen { requests: lines.len() as u64, bytes: lines.iter().map(length).sum() })
    }

    pub(super) async fn take(&mut self) -> Result<Vec<Vec<u8>>> {
        let lines = self.lines().await?;
        let fresh =
            lines[self.taken.min(lines.len())..].iter().map(|line| line.clone().into_bytes()).collect();
        self.taken = lines.len();
        Ok(fresh)
    }

    pub(super) async fn stop(mut self) {
        // Killing the master at once would leave the worker behind: it is asked to end both.
        let pid = fs::read_to_string(self.dir.path().join("nginx.pid")).unwrap_or_default();
        let asked = tokio::process::Command::new("/bin/kill").args(["-TERM", pid.trim()]).status().await;
        drop(asked);
        if timeout(Duration::from_secs(3), self.child.wait()).await.is_err() {
            drop(self.child.kill().await);
        }
    }

    async fn lines(&mut self) -> Result<Vec<String>> {
        self.settle().await.context("asking nginx over its control socket")?;
        let text = fs::read_to_string(self.dir.path().join("access.log")).context("reading nginx's log")?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// One request over the control socket. There is one worker and it handles events in order: what reached it
    /// before this request is logged when the answer is here.
    async fn settle(&self) -> Result<()> {
        let work = async {
            let mut control = UnixStream::connect(self.dir.path().join("control")).await?;
            control.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
            let mut answer = Vec::new();
            control.read_to_end(&mut answer).await?;
            anyhow::ensure!(answer.starts_with(b"HTTP/1.1 204"), "unexpected answer");
            Ok(())
        };
        timeout(Duration::from_secs(5), work).await.context("nginx is silent")?
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn configuration(dir: &Path, port: u16) -> String {
    let dir = dir.display();
    format!(
        "daemon off;\nworker_processes 1;\npid {dir}/nginx.pid;\nerror_log {dir}/error.log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n\
         \x20 log_format seen escape=json '$request\\t$request_length\\t$http_host\\t$http_authorization\\t\
         $http_user_agent\\t$content_length\\t$connection_requests';\n\
         \x20 client_body_temp_path {dir}/body;\n  proxy_temp_path {dir}/proxy;\n  fastcgi_temp_path {dir}/fastcgi;\n\
         \x20 uwsgi_temp_path {dir}/uwsgi;\n  scgi_temp_path {dir}/scgi;\n\
         \x20 keepalive_requests 1000000;\n  large_client_header_buffers 8 16k;\n  default_type text/plain;\n\
         \x20 server {{\n    listen 127.0.0.1:{port};\n    access_log {dir}/access.log seen;\n\
         \x20   location / {{ return 200 \"$request_method $request_uri\\n\"; }}\n  }}\n\
         \x20 server {{\n    listen unix:{dir}/control;\n    access_log off;\n\
         \x20   location / {{ return 204; }}\n  }}\n}}\n"
    )
}
