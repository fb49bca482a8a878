//! Network namespaces and ports.

use std::fs::{self, File};
use std::io;
use std::marker::PhantomData;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::thread;

use anyhow::{Context, Result};

/// The calling thread is in a network namespace of its own, with `lo` up; on drop it goes back.
///
/// Threads and processes that this thread starts afterwards are in the namespace too, so a runtime has to be built
/// after entering. Not `Send`: the namespace is the thread's.
#[derive(Debug)]
pub struct NetNs {
    inside: File,
    outside: File,
    _thread: PhantomData<*const ()>,
}

/// A TCP port of 127.0.0.1 that was free a moment ago, in the calling thread's namespace.
pub fn free_port() -> Result<u16> {
    Ok(free_ports(1)?[0])
}

/// Several different free ports.
pub fn free_ports(count: usize) -> Result<Vec<u16>> {
    let held: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("binding 127.0.0.1:0"))
        .collect::<Result<_>>()?;
    held.iter().map(|l| Ok(l.local_addr().context("reading the bound address")?.port())).collect()
}

/// A connection from one of this host's addresses, for example any of 127.0.0.0/8, to another.
///
/// # Errors
/// Those of socket(2), bind(2) and connect(2).
pub fn connect_from(source: Ipv4Addr, to: SocketAddrV4) -> io::Result<TcpStream> {
    let address = |ip: &Ipv4Addr, port: u16| libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) },
        sin_zero: [0; 8],
    };
    let size = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    let check = |result: i32| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) };
    // SAFETY: no pointers.
    let fd = check(unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the descriptor is new, and nobody else has it.
    let stream = unsafe { TcpStream::from_raw_fd(fd) };
    let (from, to) = (address(&source, 0), address(to.ip(), to.port()));
    // SAFETY: the address is live and has this size.
    check(unsafe { libc::bind(fd, (&raw const from).cast(), size) })?;
    // SAFETY: as above.
    check(unsafe { libc::connect(fd, (&raw const to).cast(), size) })?;
    Ok(stream)
}

// === impl NetNs ===

impl NetNs {
    /// Makes a namespace and enters it with the calling thread.
    pub fn enter() -> Result<NetNs> {
        let outside = current_ns()?;
        unshare_net().context("unshare(CLONE_NEWNET)")?;
        // From here on the guard exists, so that a failure below still goes back.
        let ns = NetNs { inside: current_ns()?, outside, _thread: PhantomData };
        loopback_up().context("bringing lo up")?;
        Ok(ns)
    }

    /// Moves the calling thread, one that existed before the namespace, into it for good.
    pub fn join(inside: &File) -> Result<()> {
        set_ns(inside).context("setns to the test's network namespace")
    }

    /// A handle to the namespace for [`NetNs::join`] on another thread.
    pub fn handle(&self) -> Result<File> {
        self.inside.try_clone().context("duplicating the namespace handle")
    }

    /// Sets a sysctl of this namespace, by its path below `/proc/sys/net`, for example `mptcp/enabled`.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/net/{name}");
        fs::write(&path, value).with_context(|| format!("writing {value} to {path}"))
    }
}

impl Drop for NetNs {
    fn drop(&mut self) {
        if let Err(error) = set_ns(&self.outside) {
            eprintln!("cannot leave the test's network namespace: {error}");
        }
    }
}

/// Tries a namespace on a thread that ends with it.
pub(crate) fn probe_netns() -> Result<(), String> {
    let tried = thread::spawn(|| unshare_net().and_then(|()| loopback_up())).join();
    match tried {
        Ok(result) => result.map_err(|e| format!("making a network namespace: {e}")),
        Err(_) => Err("the probing thread panicked".to_owned()),
    }
}

/// Tries to make an MPTCP socket.
pub(crate) fn probe_mptcp() -> Result<(), String> {
    socket(libc::SOCK_STREAM, libc::IPPROTO_MPTCP)
        .map(drop)
        .map_err(|e| format!("socket(IPPROTO_MPTCP): {e}"))
}

fn current_ns() -> Result<File> {
    File::open("/proc/thread-self/ns/net").context("opening /proc/thread-self/ns/net")
}

fn unshare_net() -> io::Result<()> {
    // SAFETY: affects only the calling thread's namespace; no memory is involved.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) })
}

fn set_ns(ns: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open for the duration of the call; no memory is involved.
    check(unsafe { libc::setns(ns.as_raw_fd(), libc::CLONE_NEWNET) })
}

fn loopback_up() -> io::Result<()> {
    let socket = socket(libc::SOCK_DGRAM, 0)?;
    // SAFETY: ifreq is plain data for which all-zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which lives on this stack frame.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) })
}

fn socket(kind: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: takes integers only.
    let fd = unsafe { libc::socket(libc::AF_INET, kind | libc::SOCK_CLOEXEC, protocol) };
    check(fd.min(0))?;
    // SAFETY: the call above made this descriptor and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
