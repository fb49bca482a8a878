//! Whether a connection to a port comes under control: tried with one.
//!
//! The connection carries no byte and is closed at once; the application sees what it sees of a TCP health check.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

use portcullis_bpf::abi::Conn;

use super::diag::Diag;
use super::error::KernelError;
use super::map::Maps;

const CONNECT_MAX: Duration = Duration::from_secs(1);

/// Connects to `addr`, in the network namespace of process `pid` if given, and looks whether the programs took the
/// connection. `None`: nobody listens there.
pub(crate) fn controls(maps: &Maps, addr: SocketAddr, pid: Option<u32>) -> Result<Option<bool>, KernelError> {
    let connected = match pid {
        None => TcpStream::connect_timeout(&addr, CONNECT_MAX),
        Some(pid) => connect_in(pid, addr),
    };
    let Ok(stream) = connected else { return Ok(None) };
    let client = stream.local_addr().map_err(KernelError::system("read an address"))?;
    let same =
        |a: SocketAddr, b: SocketAddr| a.port() == b.port() && a.ip().to_canonical() == b.ip().to_canonical();
    let connections = Diag::default().connections(addr.port());
    let connections = connections.map_err(KernelError::system("list connections"))?;
    let Some(accepted) = connections.iter().find(|c| same(c.peer, client) && same(c.local, addr)) else {
        return Ok(None);
    };
    let known = maps.get("pc_conns")?.get::<u64, Conn>(&accepted.cookie);
    Ok(Some(known.map_err(KernelError::system("read pc_conns"))?.is_some()))
}

/// By a thread that enters the namespace and ends there.
fn connect_in(pid: u32, addr: SocketAddr) -> io::Result<TcpStream> {
    let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
    let made = thread::Builder::new().name("pc-netns".to_owned()).spawn(move || {
        // SAFETY: the descriptor is open; only this thread, which ends right after, changes its namespace.
        match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
            0 => TcpStream::connect_timeout(&addr, CONNECT_MAX),
            _ => Err(io::Error::last_os_error()),
        }
    });
    made?.join().unwrap_or_else(|_| Err(io::Error::other("the namespace thread panicked")))
}
