//! Connections that must end: those that are older than the protection of their port, and websockets whose token is not
//! good any more.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use portcullis_bpf::abi::{Conn, Port, Tunnel, conn_flag, conn_state, port_flag};

use super::diag::{Connection, Diag};
use super::error::KernelError;
use super::map::Maps;

/// The cgroups that an instance is about: others may use the same ports, in namespaces of their own.
#[derive(Debug)]
pub(crate) struct Covered(BTreeSet<u64>);

// === impl Covered ===

impl Covered {
    /// Those at and below a directory, at this moment.
    pub(crate) fn below(cgroup: &Path) -> Covered {
        let (mut ids, mut left) = (BTreeSet::new(), vec![cgroup.to_owned()]);
        // The id of a cgroup is the inode of its directory. Some go meanwhile.
        while let Some(dir) = left.pop() {
            ids.extend(fs::metadata(&dir).map(|about| about.ino()));
            let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
            let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            left.extend(below.map(|entry| entry.path()));
        }
        Covered(ids)
    }

    /// Whether a connection's socket is of one of them, or may be.
    pub(crate) fn has(&self, connection: &Connection) -> bool {
        connection.cgroup == 0 || self.0.contains(&connection.cgroup)
    }
}

/// Destroys established connections to enforced ports that are not under control. Nothing that they send is read by the
/// application any more (the guard sees to that); the reset tells both ends. How many there were.
///
/// # Errors
/// The first failure; the others are still destroyed.
pub(crate) fn uncontrolled(
    maps: &Maps,
    covered: &Covered,
    ports: impl Iterator<Item = u16>,
) -> Result<usize, KernelError> {
    let mut diag = Diag::default();
    let mut ended = Ended::default();
    for port in ports {
        if !enforces(maps, port)? {
            continue;
        }
        let open = diag.connections(port).map_err(KernelError::system("list connections"))?;
        for connection in open.into_iter().filter(|connection| covered.has(connection)) {
            let left = conn_flag::CONTROLLED | conn_flag::OUTGOING;
            if conn(maps, connection.cookie)?.is_none_or(|conn| conn.flags & left == 0) {
                ended.note(diag.destroy(&connection));
            }
        }
    }
    ended.count()
}

/// Destroys connections to enforced ports that speak websocket by a token that is not `good` any more, silent ones too,
/// and those that have asked to and wait for the answer. How many there were.
///
/// # Errors
/// The first failure; the others are still destroyed.
pub(crate) fn tunnels(
    maps: &Maps,
    diag: &mut Diag,
    good: impl Fn(&Tunnel) -> bool,
) -> Result<usize, KernelError> {
    let tunnels = maps.get("pc_tunnels")?;
    let mut ended = Ended::default();
    for cookie in tunnels.keys::<u64>().map_err(KernelError::system("list pc_tunnels"))? {
        let tunnel = tunnels.get::<u64, Tunnel>(&cookie).map_err(KernelError::system("read pc_tunnels"))?;
        let Some(tunnel) = tunnel.filter(|tunnel| !good(tunnel)) else { continue };
        // One that was answered otherwise than with 101 speaks HTTP, and its requests are decided one by one.
        let may_switch =
            |conn: Conn| conn.flags & conn_flag::SWITCHED != 0 || conn.state == conn_state::UPGRADE;
        if conn(maps, cookie)?.is_some_and(may_switch) && enforces(maps, tunnel.dport)? {
            ended.note(diag.destroy(&connection(cookie, &tunnel)));
        }
    }
    ended.count()
}

/// Connections that were destroyed. One that cannot be does not keep the others alive.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    count: usize,
    failed: Option<io::Error>,
}

// === impl Ended ===

impl Ended {
    /// `Ok(false)`: there was none any more.
    pub(crate) fn note(&mut self, done: io::Result<bool>) {
        match done {
            Ok(done) => self.count += usize::from(done),
            Err(error) => self.failed = self.failed.take().or(Some(error)),
        }
    }

    /// How many, or the first failure.
    pub(crate) fn count(self) -> Result<usize, KernelError> {
        self.failed.map_or(Ok(self.count), |error| Err(KernelError::system("destroy a connection")(error)))
    }
}

/// Whether the token has not expired.
pub(crate) fn unexpired(tunnel: &Tunnel, now_s: u64) -> bool {
    tunnel.until == 0 || now_s < tunnel.until
}

/// The token.
pub(crate) fn token(tunnel: &Tunnel) -> &[u8] {
    tunnel.token.get(..tunnel.len as usize).unwrap_or_default()
}

/// Whether some rule of the port enforces.
pub(crate) fn enforces(maps: &Maps, port: u16) -> Result<bool, KernelError> {
    let about = maps.get("pc_ports")?.get::<u32, Port>(&u32::from(port));
    let about = about.map_err(KernelError::system("read pc_ports"))?;
    Ok(about.is_some_and(|about| about.flags & port_flag::ENFORCE != 0))
}

/// The state of a connection.
pub(crate) fn conn(maps: &Maps, cookie: u64) -> Result<Option<Conn>, KernelError> {
    maps.get("pc_conns")?.get(&cookie).map_err(KernelError::system("read pc_conns"))
}

fn connection(cookie: u64, tunnel: &Tunnel) -> Connection {
    let Tunnel { saddr, daddr, sport, dport, ipv6, device, .. } = tunnel;
    let address = |bytes: &[u8; 16]| match ipv6 {
        0 => IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]]),
        _ => IpAddr::from(*bytes),
    };
    Connection {
        local: SocketAddr::new(address(daddr), *dport),
        peer: SocketAddr::new(address(saddr), *sport),
        cookie,
        device: *device,
        inode: 0,
        cgroup: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_told_and_what_was_destroyed_is_counted() {
        let noted = |all: Vec<io::Result<bool>>| {
            let mut ended = Ended::default();
            all.into_iter().for_each(|done| ended.note(done));
            ended.count().map_err(|error| error.to_string())
        };
        assert_eq!(noted(vec![Ok(true), Ok(false), Ok(true)]), Ok(2));
        let failed = |code| Err(io::Error::from_raw_os_error(code));
        let told = noted(vec![Ok(true), failed(libc::EPERM), failed(libc::EIO), Ok(true)]);
        assert!(told.as_ref().is_err_and(|text| text.contains("os error 1")), "{told:?}");
    }
}
