//! Connections that are older than the monitoring of their port: observed from now on, where that changes nothing.
//!
//! A socket that comes under control reads by other functions of the kernel than before. A reader that sleeps in `recv`
//! at that moment would never wake: what arrives is not where it looks. So only sockets with `O_NONBLOCK` are adopted,
//! whose readers sleep in `poll` or `epoll`, if anywhere. The others stay unseen until they end.
//!
//! The socket is taken from its owner by `pidfd_getfd(2)` and put into the map from here: the iterator over TCP sockets
//! sees only those of its own network namespace, and up to kernel 6.4 holds a lock that the map wants, too.
//!
//! **Invariant:** an adopted connection is never called controlled: the guard stops it when the port enforces, because
//! nobody knows what the application holds of the request that the adoption came into.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};

use portcullis_bpf::abi::{Conn, Port, conn_flag, conn_state, port_flag};

use super::descriptors::{is, nonblocking, sockets, taken};
use super::diag::{Connection, Diag};
use super::error::KernelError;
use super::map::Maps;
use super::sweep::Covered;

/// Adopts what can be adopted of ports that only monitor; the cookies.
pub(crate) fn adopt(
    maps: &Maps,
    covered: &Covered,
    ports: impl Iterator<Item = u16>,
) -> Result<Vec<u64>, KernelError> {
    let wanted: BTreeMap<u32, Connection> =
        unseen(maps, covered, ports)?.into_iter().filter(|c| c.inode != 0).map(|c| (c.inode, c)).collect();
    let mut adopted = Vec::new();
    if wanted.is_empty() {
        return Ok(adopted);
    }
    for (pid, fd, inode) in sockets() {
        let Some(connection) = wanted.get(&inode) else { continue };
        // Held for a moment only: while it is, a close by its owner does not end the connection.
        if let Some(socket) =
            taken(pid, fd).filter(|socket| nonblocking(socket) && is(socket, connection.cookie))
            && adopt_one(maps, &socket, connection.cookie)?
        {
            adopted.push(connection.cookie);
        }
    }
    Ok(adopted)
}

/// Connections to ports that only monitor of which nothing is read.
pub(crate) fn unseen(
    maps: &Maps,
    covered: &Covered,
    ports: impl Iterator<Item = u16>,
) -> Result<Vec<Connection>, KernelError> {
    let mut diag = Diag::default();
    let mut unseen = Vec::new();
    let (conns, protected) = (maps.get("pc_conns")?, maps.get("pc_ports")?);
    for port in ports {
        let about =
            protected.get::<u32, Port>(&u32::from(port)).map_err(KernelError::system("read pc_ports"))?;
        if about.is_none_or(|about| about.flags & port_flag::ENFORCE != 0) {
            continue;
        }
        let open = diag.connections(port).map_err(KernelError::system("list connections"))?;
        for connection in open.into_iter().filter(|connection| covered.has(connection)) {
            let known = conns.get::<u64, Conn>(&connection.cookie);
            if known.map_err(KernelError::system("read pc_conns"))?.is_none() {
                unseen.push(connection);
            }
        }
    }
    Ok(unseen)
}

/// Forgets those that have ended; their sockets have left the map by themselves.
pub(crate) fn forget(maps: &Maps, adopted: &mut Vec<u64>) -> Result<(), KernelError> {
    let (socks, conns) = (maps.get("pc_socks")?, maps.get("pc_conns")?);
    let mut ended = Vec::new();
    for cookie in &*adopted {
        let socket = socks.get::<u64, u64>(cookie).map_err(KernelError::system("read pc_socks"))?;
        if socket.is_none() {
            ended.push(*cookie);
        }
    }
    for cookie in &ended {
        conns.remove(cookie).map_err(KernelError::system("delete from pc_conns"))?;
    }
    adopted.retain(|cookie| !ended.contains(cookie));
    Ok(())
}

/// Those that an agent before this one adopted.
pub(crate) fn adopted(maps: &Maps) -> Result<Vec<u64>, KernelError> {
    let conns = maps.get("pc_conns")?;
    let mut adopted = Vec::new();
    for cookie in conns.keys::<u64>().map_err(KernelError::system("list pc_conns"))? {
        let conn = conns.get::<u64, Conn>(&cookie).map_err(KernelError::system("read pc_conns"))?;
        if conn.is_some_and(|conn| conn.flags & conn_flag::ADOPTED != 0) {
            adopted.push(cookie);
        }
    }
    Ok(adopted)
}

fn adopt_one(maps: &Maps, socket: &OwnedFd, cookie: u64) -> Result<bool, KernelError> {
    let (socks, conns) = (maps.get("pc_socks")?, maps.get("pc_conns")?);
    // First, because the programs drop what they know nothing of. Where the stream stands they see by themselves.
    let conn = Conn { state: conn_state::SEEKING, flags: conn_flag::ADOPTED, ..Conn::zeroed() };
    if conns.set(&cookie, &conn).is_err() {
        // The table is full.
        return Ok(false);
    }
    // Refused: it ended meanwhile, it speaks TLS in the kernel, the table is full.
    if socks.set(&cookie, &(socket.as_raw_fd() as u64)).is_err() {
        conns.remove(&cookie).map_err(KernelError::system("delete from pc_conns"))?;
        return Ok(false);
    }
    Ok(true)
}
