//! Idle connections, held by processes of their own: a process may not have enough open files for all of them.

use std::io::{self, BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::client::connect_from;

/// Connections of one process: with both ends, 18,000 open files.
const PER_PROCESS: usize = 9_000;

/// Open connections to a port, each established and then left alone.
pub struct Held {
    children: Vec<Child>,
    count: usize,
}

// === impl Held ===

impl Held {
    /// Opens `count` connections to `port` on addresses 127.0.2.N, accepted by processes in `cgroup`.
    pub fn open(cgroup: &Path, port: u16, count: usize) -> Result<Held> {
        let mut held = Held { children: Vec::new(), count: 0 };
        while held.count < count {
            let n = PER_PROCESS.min(count - held.count);
            let address = Ipv4Addr::new(127, 0, 2, 1 + u8::try_from(held.children.len())?);
            held.start(cgroup, SocketAddrV4::new(address, port), n)?;
        }
        Ok(held)
    }

    fn start(&mut self, cgroup: &Path, address: SocketAddrV4, count: usize) -> Result<()> {
        let mut child = Command::new(std::env::current_exe().context("finding this program")?)
            .arg("hold")
            .arg(cgroup)
            .arg(address.to_string())
            .arg(count.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a process that holds connections")?;
        let out = child.stdout.take();
        self.children.push(child);
        let mut line = String::new();
        BufReader::new(out.context("it has no output")?)
            .read_line(&mut line)
            .context("waiting for connections")?;
        ensure!(
            line.trim() == count.to_string(),
            "a process could not open {count} connections to {address}"
        );
        self.count += count;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for child in &mut self.children {
            // The end of its input ends it; one that is gone already is no matter.
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }
}

/// The process: accepts its own connections, says how many, holds them until its input ends.
pub fn hold(cgroup: &str, address: &str, count: &str) -> Result<()> {
    std::fs::write(format!("{cgroup}/cgroup.procs"), "0").with_context(|| format!("entering {cgroup}"))?;
    let address: SocketAddr = address.parse().context("the address")?;
    let count: usize = count.parse().context("the count")?;
    let listener = TcpListener::bind(address).with_context(|| format!("listening at {address}"))?;
    let mut ends = Vec::with_capacity(count);
    for n in 0..count {
        let client = connect_from(Ipv4Addr::LOCALHOST, address)
            .with_context(|| format!("opening connection {n} to {address}"))?;
        ends.push((client, listener.accept().context("accepting")?.0));
    }
    println!("{}", ends.len());
    let read = io::stdin().read_to_end(&mut Vec::new()).context("waiting for the end of the input");
    drop(ends);
    read.map(drop)
}
