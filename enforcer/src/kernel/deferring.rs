//! Listeners that hold connections back until their first data is there: `TCP_DEFER_ACCEPT`, tcp(7). Apache httpd asks for
//! it unless told otherwise, nginx with `listen … deferred`.
//!
//! Such a connection comes into being with the segment that brings the data, and the guard drops it: until the connection is
//! there nobody knows whether it can come under control, and once it is, the data is in its queue. So the option is
//! taken off where a port enforces, and its connections stand when the handshake is over, as those of other listeners.
//! When the application set the option after the port was protected, the guard's count shows it; connections that are
//! held at that moment go on when the kernel repeats its part of the handshake, a second after the first.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use portcullis_bpf::abi::{Port, port_flag};
use portcullis_follower::tell;

use super::descriptors::{is, option, sockets, taken};
use super::diag::{Connection, Diag};
use super::error::KernelError;
use super::map::Maps;
use super::sweep::Covered;

/// What is known of listeners at ports that enforce.
#[derive(Debug, Default)]
pub(crate) struct Deferring {
    /// Cookies of those that were looked at.
    seen: BTreeSet<u64>,
    /// Of each port: what the guard had counted when its listeners were last looked at for that, and when that was.
    counted: BTreeMap<u32, (u32, Option<Instant>)>,
    /// Ports that were complained about.
    told: BTreeSet<u32>,
}

/// Clients can make the guard count, and looking takes a walk through all descriptors of the host.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

// === impl Deferring ===

impl Deferring {
    /// Looks at listeners that are new. How many had the option.
    pub(crate) fn look(&mut self, maps: &Maps, cgroup: &Path) -> Result<usize, KernelError> {
        let ports = enforcing(maps)?;
        self.counted.retain(|port, _| ports.contains_key(port));
        for (port, held) in &ports {
            self.counted.entry(*port).or_insert((*held, None));
        }
        let all = listeners(ports.into_keys())?;
        let new = all.iter().filter(|listener| !self.seen.contains(&listener.cookie)).copied().collect();
        self.seen = all.iter().map(|listener| listener.cookie).collect();
        Ok(release(new, cgroup).0)
    }

    /// Looks at those of ports where data in handshakes was dropped since. How many had the option.
    pub(crate) fn sweep(&mut self, maps: &Maps, cgroup: &Path) -> Result<usize, KernelError> {
        let now = Instant::now();
        let mut due = Vec::new();
        for (port, held) in enforcing(maps)? {
            let (before, at) = self.counted.entry(port).or_insert((held, None));
            if *before != held && at.is_none_or(|at| now.duration_since(at) >= AGAIN_AFTER) {
                (*before, *at) = (held, Some(now));
                due.push(port);
            }
        }
        let (released, left) = release(listeners(due.into_iter())?, cgroup);
        for listener in left {
            let port = listener.local.port();
            if self.told.insert(u32::from(port)) {
                tell!(
                    "portcullis: port {port}: data that clients sent in handshakes was dropped. If the listener defers \
                     accept (TCP_DEFER_ACCEPT), they wait in vain: take the option off in the application, or give the \
                     agent CAP_SYS_PTRACE"
                );
            }
        }
        Ok(released)
    }
}

/// Ports that enforce, and what the guard has counted.
fn enforcing(maps: &Maps) -> Result<BTreeMap<u32, u32>, KernelError> {
    let map = maps.get("pc_ports")?;
    let mut ports = BTreeMap::new();
    for port in map.keys::<u32>().map_err(KernelError::system("list pc_ports"))? {
        let about = map.get::<u32, Port>(&port).map_err(KernelError::system("read pc_ports"))?;
        if let Some(about) = about.filter(|about| about.flags & port_flag::ENFORCE != 0) {
            ports.insert(port, about.held);
        }
    }
    Ok(ports)
}

fn listeners(ports: impl Iterator<Item = u32>) -> Result<Vec<Connection>, KernelError> {
    let (mut diag, mut all) = (Diag::default(), Vec::new());
    for port in ports.filter_map(|port| u16::try_from(port).ok()) {
        all.extend(diag.listeners(port).map_err(KernelError::system("list listeners"))?);
    }
    Ok(all)
}

/// Takes the option off. How many had it, and those that no process gave away.
fn release(listeners: Vec<Connection>, cgroup: &Path) -> (usize, Vec<Connection>) {
    let mut released = 0;
    if listeners.is_empty() {
        return (released, listeners);
    }
    let covered = Covered::below(cgroup);
    let of_ours = listeners.into_iter().filter(|listener| covered.has(listener));
    let mut wanted: BTreeMap<u32, Connection> = of_ours.map(|one| (one.inode, one)).collect();
    for (pid, fd, inode) in sockets() {
        let Some(listener) = wanted.get(&inode) else { continue };
        if let Some(socket) = taken(pid, fd).filter(|socket| is(socket, listener.cookie))
            && let Ok(had) = take_off(&socket)
        {
            released += usize::from(had);
            wanted.remove(&inode);
        }
    }
    (released, wanted.into_values().collect())
}

/// Whether it had the option.
fn take_off(listener: &OwnedFd) -> io::Result<bool> {
    if option::<i32>(listener, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT)? == 0 {
        return Ok(false);
    }
    let (off, size) = (0_i32, size_of::<i32>() as libc::socklen_t);
    let (level, name, value) = (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, (&raw const off).cast());
    // SAFETY: a live integer and its size.
    match unsafe { libc::setsockopt(listener.as_raw_fd(), level, name, value, size) } {
        0 => Ok(true),
        _ => Err(io::Error::last_os_error()),
    }
}
