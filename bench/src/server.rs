//! The application behind every path: one thread, epoll, keep-alive, a fixed answer for each request head.
//!
//! It reads no more of a request than where its head ends: what is measured is the way to it.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// What it answers.
pub const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The server as a process of its own, on one CPU, in a control group.
pub struct Server {
    child: Child,
    addr: SocketAddr,
}

// === impl Server ===

impl Server {
    /// Starts it; `cgroup`: a directory of cgroup2 to be in before the listening socket is made.
    pub fn start(cgroup: Option<&std::path::Path>, cpu: usize) -> Result<Server> {
        let mut command = Command::new(std::env::current_exe().context("finding this program")?);
        command.arg("serve").arg(cpu.to_string());
        if let Some(cgroup) = cgroup {
            command.arg(cgroup);
        }
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("starting the server")?;
        let mut line = String::new();
        let out = child.stdout.take().context("the server has no output")?;
        io::BufRead::read_line(&mut io::BufReader::new(out), &mut line)
            .context("reading the server's address")?;
        let addr =
            line.trim().parse().with_context(|| format!("the server's address is `{}`", line.trim()))?;
        Ok(Server { child, addr })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The process: prints its address, serves until it is ended.
pub fn serve(cpu: usize, cgroup: Option<&str>) -> Result<()> {
    if let Some(cgroup) = cgroup {
        std::fs::write(format!("{cgroup}/cgroup.procs"), "0")
            .with_context(|| format!("entering {cgroup}"))?;
    }
    crate::cpu::pin(cpu).context("choosing a CPU")?;
    let listener = TcpListener::bind("127.0.0.1:0").context("listening")?;
    listener.set_nonblocking(true).context("listening")?;
    println!("{}", listener.local_addr().context("listening")?);
    Loop::new(listener)?.run()
}

struct Loop {
    epoll: RawFd,
    listener: TcpListener,
    open: HashMap<RawFd, Open>,
    /// Shared by all connections: with 100,000 of them, buffers of their own would not fit the caches.
    buffer: Vec<u8>,
}

struct Open {
    stream: TcpStream,
    /// How much of CR LF CR LF was seen last.
    end: u8,
}

// === impl Loop ===

impl Loop {
    fn new(listener: TcpListener) -> Result<Loop> {
        // SAFETY: takes a flag and nothing else.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        let server = Loop { epoll, listener, open: HashMap::new(), buffer: vec![0; 65536] };
        server.watch(server.listener.as_raw_fd()).context("epoll")?;
        Ok(server)
    }

    fn watch(&self, fd: RawFd) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: fd as u64 };
        // SAFETY: both descriptors are open, the event lives through the call.
        let done = unsafe { libc::epoll_ctl(self.epoll, libc::EPOLL_CTL_ADD, fd, &mut event) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    fn run(&mut self) -> Result<()> {
        let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; 256];
        loop {
            // SAFETY: the array is as long as said and lives through the call.
            let n = unsafe { libc::epoll_wait(self.epoll, events.as_mut_ptr(), events.len() as i32, -1) };
            for event in events.iter().take(usize::try_from(n).unwrap_or_default()) {
                let fd = event.u64 as RawFd;
                if fd == self.listener.as_raw_fd() {
                    self.accept();
                } else if !self.answer(fd) {
                    self.open.remove(&fd);
                }
            }
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let fd = stream.as_raw_fd();
            let ready = stream.set_nonblocking(true).is_ok() && stream.set_nodelay(true).is_ok();
            if ready && self.watch(fd).is_ok() {
                self.open.insert(fd, Open { stream, end: 0 });
            }
        }
    }

    /// `false`: the connection is over.
    fn answer(&mut self, fd: RawFd) -> bool {
        let Some(open) = self.open.get_mut(&fd) else { return true };
        match open.stream.read(&mut self.buffer) {
            Ok(0) => false,
            Ok(n) => {
                (0..heads(&mut open.end, &self.buffer[..n])).all(|_| open.stream.write_all(ANSWER).is_ok())
            }
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}

/// How many heads end in these bytes.
fn heads(end: &mut u8, bytes: &[u8]) -> usize {
    let mut count = 0;
    for byte in bytes {
        *end = match (*end, byte) {
            (0 | 2, b'\r') => *end + 1,
            (1, b'\n') => 2,
            (3, b'\n') => {
                count += 1;
                0
            }
            (_, b'\r') => 1,
            _ => 0,
        };
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_counted_across_reads() {
        let mut end = 0;
        assert_eq!(heads(&mut end, b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r"), 1);
        assert_eq!(heads(&mut end, b"\nGET"), 1);
        assert_eq!(heads(&mut end, b"\r\r\n\r\n"), 1);
    }
}
