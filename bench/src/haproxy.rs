//! HAProxy as a plain reverse proxy: what a request costs that takes the cheapest way through a proxy, without any
//! token check.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A running HAProxy on one CPU.
pub struct HaProxy {
    child: Child,
    addr: SocketAddr,
}

// === impl HaProxy ===

impl HaProxy {
    /// Starts one in front of `upstream`; its configuration is written to `dir`.
    pub fn start(upstream: SocketAddr, cpu: usize, dir: &Path) -> Result<HaProxy> {
        let program = which("haproxy").context("haproxy is not installed; install the package haproxy")?;
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).context("finding a port")?.port();
        let config = dir.join("haproxy.cfg");
        std::fs::write(&config, configuration(port, upstream)).context("writing haproxy.cfg")?;
        let child = Command::new("taskset")
            .args(["-c", &cpu.to_string()])
            .arg(program)
            .args(["-db", "-q", "-f"])
            .arg(&config)
            .stdin(Stdio::null())
            .spawn()
            .context("starting haproxy")?;
        let mut proxy = HaProxy { child, addr: SocketAddr::from(([127, 0, 0, 1], port)) };
        proxy.wait()?;
        Ok(proxy)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn wait(&mut self) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) {
            if TcpStream::connect(self.addr).is_ok() {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait().context("waiting for haproxy")? {
                bail!("haproxy ended with {status}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("haproxy does not listen after 10 s")
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One thread, keep-alive on both sides, no log: as cheap as it gets.
fn configuration(port: u16, upstream: SocketAddr) -> String {
    format!(
        "global\n  nbthread 1\n  maxconn 1000\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  \
         option http-keep-alive\n  http-reuse always\n  no log\n\
         frontend in\n  bind 127.0.0.1:{port}\n  default_backend app\n\
         backend app\n  server app {upstream}\n"
    )
}

fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(sbin).map(|dir| dir.join(name)).find(|p| p.is_file())
}
