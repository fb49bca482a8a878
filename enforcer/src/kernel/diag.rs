//! Listing and destroying TCP sockets through `NETLINK_SOCK_DIAG`.
//!
//! A netlink socket sees the network namespace in which it was made. [`Diag`] keeps one for each namespace that some
//! process is in; a connection is looked for in its own namespace first and then in the others. Making one in another
//! namespace takes CAP_SYS_ADMIN; namespaces that no visible process is in are not reached.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// A TCP connection as the kernel names it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Connection {
    /// This machine's end.
    pub local: SocketAddr,
    /// The other end.
    pub peer: SocketAddr,
    /// Socket cookie, the same number that the programs see.
    pub cookie: u64,
    /// Index of the device that the socket is bound to, 0: none. The kernel finds a bound one by it only.
    pub device: u32,
    /// Number of the socket's file; 0: not known, or not accepted yet.
    pub inode: u32,
    /// Id of the cgroup that the socket was made in; 0: not known.
    pub cgroup: u64,
}

/// Netlink sockets by inode of their namespace.
#[derive(Debug, Default)]
pub(crate) struct Diag {
    sockets: BTreeMap<u64, OwnedFd>,
    own: Option<u64>,
    refreshed: Option<Instant>,
}

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const TCP_ESTABLISHED: u32 = 1;
const TCP_LISTEN: u32 = 10;
/// `struct nlmsghdr`, `struct inet_diag_req_v2`, `struct inet_diag_msg`: sizes, bytes.
const HEADER: usize = 16;
const REQUEST: usize = 56;
const MESSAGE: usize = 72;
/// `inet_diag_msg.idiag_inode`
const INODE: usize = 68;
/// `INET_DIAG_CGROUP_ID`
const CGROUP_ID: u16 = 21;
/// Namespaces come and go: how long a list of them is used.
const NAMESPACES_FOR: Duration = Duration::from_secs(1);

// === impl Diag ===

impl Diag {
    /// Destroys a connection: its peer gets a reset, its owner ECONNABORTED. `false`: there is none.
    pub(crate) fn destroy(&mut self, connection: &Connection) -> io::Result<bool> {
        self.refresh(false)?;
        if self.destroy_in_known(connection)? {
            return Ok(true);
        }
        Ok(self.refresh(true)? && self.destroy_in_known(connection)?)
    }

    /// Established connections to a local port, in every namespace.
    pub(crate) fn connections(&mut self, port: u16) -> io::Result<Vec<Connection>> {
        self.sockets(port, TCP_ESTABLISHED)
    }

    /// Listeners at a local port, in every namespace; they have no peer.
    pub(crate) fn listeners(&mut self, port: u16) -> io::Result<Vec<Connection>> {
        self.sockets(port, TCP_LISTEN)
    }

    fn sockets(&mut self, port: u16, state: u32) -> io::Result<Vec<Connection>> {
        self.refresh(true)?;
        let mut found = Vec::new();
        for socket in self.sockets.values() {
            for family in [libc::AF_INET, libc::AF_INET6] {
                list(socket, family as u8, state, port, &mut found)?;
            }
        }
        Ok(found)
    }

    fn destroy_in_known(&self, connection: &Connection) -> io::Result<bool> {
        let own = self.own.and_then(|own| self.sockets.get_key_value(&own));
        let others = self.sockets.iter().filter(|(inode, _)| Some(**inode) != self.own);
        for (_, socket) in own.into_iter().chain(others) {
            match destroy(socket, connection) {
                Ok(()) => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Opens sockets in namespaces that are new; `false` when the list is young and was not made again.
    fn refresh(&mut self, now: bool) -> io::Result<bool> {
        if let Some(at) = self.refreshed
            && (!now || at.elapsed() < NAMESPACES_FOR)
            && !self.sockets.is_empty()
        {
            return Ok(false);
        }
        self.refreshed = Some(Instant::now());
        let own = fs::metadata("/proc/thread-self/ns/net")?.ino();
        self.own = Some(own);
        if let Entry::Vacant(entry) = self.sockets.entry(own) {
            entry.insert(netlink()?);
        }
        let (mut seen, mut closed) = (BTreeSet::from([own]), BTreeSet::new());
        for entry in fs::read_dir("/proc")?.flatten() {
            if !entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
                continue;
            }
            let path = entry.path().join("ns/net");
            // Looked at, not opened, when it is known. Processes end while we look.
            let Ok(inode) = fs::metadata(&path).map(|about| about.ino()) else { continue };
            if self.sockets.contains_key(&inode) {
                seen.insert(inode);
                continue;
            }
            if closed.contains(&inode) {
                continue;
            }
            match netlink_in(&path, inode) {
                Ok(socket) => {
                    self.sockets.insert(inode, socket);
                    seen.insert(inode);
                }
                // Another process may lead to it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                    // What is missing would not be found, so it must not count as looked at.
                    self.refreshed = None;
                    return Err(error);
                }
                // Without CAP_SYS_ADMIN only our own namespace is served.
                Err(_) => drop(closed.insert(inode)),
            }
        }
        self.sockets.retain(|inode, _| seen.contains(inode));
        Ok(true)
    }
}

/// A netlink socket made by a thread that enters the namespace and ends there. The process by which it was found may have gone
/// to another one since.
fn netlink_in(path: &Path, inode: u64) -> io::Result<OwnedFd> {
    let namespace = File::open(path)?;
    if namespace.metadata()?.ino() != inode {
        return Err(io::Error::from(io::ErrorKind::NotFound));
    }
    let made = thread::Builder::new().name("pc-netns".to_owned()).spawn(move || {
        // SAFETY: the descriptor is open; only this thread, which ends right after, changes its namespace.
        match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
            0 => netlink(),
            _ => Err(io::Error::last_os_error()),
        }
    });
    made?.join().unwrap_or_else(|_| Err(io::Error::other("the namespace thread panicked")))
}

fn netlink() -> io::Result<OwnedFd> {
    const NETLINK_SOCK_DIAG: libc::c_int = 4;
    // SAFETY: integers only.
    let fd =
        unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, NETLINK_SOCK_DIAG) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call above made this descriptor and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn destroy(socket: &OwnedFd, connection: &Connection) -> io::Result<()> {
    let Connection { local, peer, cookie, device, inode: _, cgroup: _ } = *connection;
    let family = if local.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 } as u8;
    let mut request = header(SOCK_DESTROY, (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16, family);
    put_id(&mut request[HEADER + 8..], local, peer, device, cookie);
    send(socket, &request)?;
    let mut buffer = vec![0; 1024];
    let read = receive(socket, &mut buffer)?;
    answer(&buffer[..read])
}

/// The kernel's acknowledgement: `struct nlmsgerr` behind the header, a negative errno or 0.
fn answer(bytes: &[u8]) -> io::Result<()> {
    match number(bytes, HEADER) as i32 {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

fn list(socket: &OwnedFd, family: u8, state: u32, port: u16, found: &mut Vec<Connection>) -> io::Result<()> {
    let mut request = header(SOCK_DIAG_BY_FAMILY, (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16, family);
    request[HEADER + 4..HEADER + 8].copy_from_slice(&(1u32 << state).to_ne_bytes());
    request[HEADER + 8..HEADER + 10].copy_from_slice(&port.to_be_bytes());
    send(socket, &request)?;
    let mut buffer = vec![0; 65_536];
    loop {
        let read = receive(socket, &mut buffer)?;
        let mut rest = &buffer[..read];
        while rest.len() >= HEADER {
            let (len, kind) = (number(rest, 0) as usize, u16::from_ne_bytes([rest[4], rest[5]]));
            if len < HEADER || len > rest.len() {
                return Err(io::Error::other("malformed netlink message"));
            }
            match i32::from(kind) {
                libc::NLMSG_DONE => return Ok(()),
                libc::NLMSG_ERROR => return answer(rest),
                _ if len >= HEADER + MESSAGE => {
                    let connection = parse(&rest[HEADER..len]);
                    if connection.local.port() == port {
                        found.push(connection);
                    }
                }
                _ => {}
            }
            rest = &rest[len.next_multiple_of(4).min(rest.len())..];
        }
    }
}

/// `struct nlmsghdr` and the beginning of `struct inet_diag_req_v2`.
fn header(kind: u16, flags: u16, family: u8) -> Vec<u8> {
    let mut bytes = vec![0; HEADER + REQUEST];
    bytes[..4].copy_from_slice(&((HEADER + REQUEST) as u32).to_ne_bytes());
    bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
    bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    bytes[HEADER] = family;
    bytes[HEADER + 1] = libc::IPPROTO_TCP as u8;
    bytes
}

/// `struct inet_diag_sockid`: ports, addresses, interface, cookie.
fn put_id(id: &mut [u8], local: SocketAddr, peer: SocketAddr, device: u32, cookie: u64) {
    id[..2].copy_from_slice(&local.port().to_be_bytes());
    id[2..4].copy_from_slice(&peer.port().to_be_bytes());
    for (at, address) in [(4, local.ip()), (20, peer.ip())] {
        match address {
            IpAddr::V4(v4) => id[at..at + 4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => id[at..at + 16].copy_from_slice(&v6.octets()),
        }
    }
    id[36..40].copy_from_slice(&device.to_ne_bytes());
    id[40..48].copy_from_slice(&cookie.to_ne_bytes());
}

/// `struct inet_diag_msg`: family, state, timer, retransmissions, then the id.
fn parse(message: &[u8]) -> Connection {
    let id = &message[4..];
    let port = |at: usize| u16::from_be_bytes([id[at], id[at + 1]]);
    let address = |at: usize| {
        let mut bytes = [0u8; 16];
        bytes.copy_from_slice(&id[at..at + 16]);
        if i32::from(message[0]) == libc::AF_INET {
            IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]])
        } else {
            IpAddr::from(bytes)
        }
    };
    let mut cookie = [0; 8];
    cookie.copy_from_slice(&id[40..48]);
    Connection {
        local: SocketAddr::new(address(4), port(0)),
        peer: SocketAddr::new(address(20), port(2)),
        cookie: u64::from_ne_bytes(cookie),
        device: number(id, 36),
        inode: number(message, INODE),
        cgroup: attribute(&message[MESSAGE..], CGROUP_ID).map_or(0, u64::from_ne_bytes),
    }
}

/// Value of an attribute of eight bytes: `struct nlattr`, a length that counts itself, and a type.
fn attribute(mut rest: &[u8], wanted: u16) -> Option<[u8; 8]> {
    while let [l0, l1, t0, t1, ..] = *rest {
        let (len, kind) = (usize::from(u16::from_ne_bytes([l0, l1])), u16::from_ne_bytes([t0, t1]));
        if kind == wanted {
            return rest.get(4..12)?.try_into().ok();
        }
        rest = rest.get(len.max(4).next_multiple_of(4)..)?;
    }
    None
}

fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))
}

fn send(socket: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: the buffer is live for the length given.
    let sent = unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is live and writable for the length given.
    let read = unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use portcullis_testkit::{NetNs, need};

    use super::*;

    /// The test's own namespace is another one than that of its process.
    #[test]
    fn a_namespace_for_which_there_is_no_descriptor_is_no_namespace_without_connections() {
        need!(Root, NetNs);
        let _inside = NetNs::enter().unwrap();
        let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
        // SAFETY: a live struct, which is read. nextest gives each test a process of its own.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
        let mut taken: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        let mut diag = Diag::default();
        // The socket of the own one, the directory, and the other one's file: the socket there is one too many.
        taken.truncate(taken.len() - 3);
        let error = diag.connections(1).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
        taken.truncate(taken.len() - 20);
        assert_eq!(diag.connections(1).unwrap(), []);
        assert!(diag.sockets.len() > 1, "{diag:?}");
    }
}
