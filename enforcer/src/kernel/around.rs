//! Reads that go around the verdict programs, and the programs that refuse them (`bpf/progs/around.h`).
//!
//! They are programs of the BPF LSM, which is not in every kernel: what they are for is tried, and enforcement goes on
//! without.

use std::fs;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd};

use portcullis_bpf::abi::{Conn, conn_flag};
use portcullis_follower::tell;

use super::descriptors::{cookie, option};
use super::error::KernelError;
use super::loopback;
use super::map::Maps;
use super::object::Loaded;
use super::pins::{self, Pins};
use super::sys;

/// A program, and where it is attached.
pub(crate) struct Hook {
    pub link: &'static str,
    pub program: &'static str,
    /// Of include/linux/lsm_hook_defs.h.
    pub hook: &'static str,
}

/// All of them.
pub(crate) const HOOKS: [Hook; 2] = [
    Hook { link: "splice", program: "pc_splice", hook: "file_permission" },
    Hook { link: "zerocopy", program: "pc_zerocopy", hook: "socket_getsockopt" },
];

/// linux/tcp.h
const TCP_ZEROCOPY_RECEIVE: i32 = 35;

/// The hook that a program is for.
pub(crate) fn hook_of(program: &str) -> Option<&'static str> {
    HOOKS.iter().find(|hook| hook.program == program).map(|hook| hook.hook)
}

/// Attaches what was loaded, in place of what is pinned: the old programs go when the new ones are attached.
pub(crate) fn attach(loaded: &Loaded, pins: &Pins) {
    let attached = HOOKS.iter().try_for_each(|hook| attach_one(hook, loaded, pins));
    // The reason is the same for all of them, mostly.
    if let Some(why) = loaded.without().first().or(attached.as_ref().err()) {
        tell!("portcullis: {why}");
    }
}

fn attach_one(hook: &Hook, loaded: &Loaded, pins: &Pins) -> Result<(), KernelError> {
    // Said by `without` already.
    let Ok(program) = loaded.program(hook.program) else { return Ok(()) };
    let link = sys::hook(program).map_err(|error| KernelError::Load {
        program: hook.program.to_owned(),
        message: format!("attaching to the hook {}: {error}", hook.hook),
    })?;
    let (pin, new) = (pins.link(hook.link), pins.link(&format!("{}-new", hook.link)));
    pins::remove_file(&new)?;
    sys::pin(link.as_fd(), &new).map_err(|source| KernelError::at("pin", &new, source))?;
    fs::rename(&new, &pin).map_err(|source| KernelError::at("move", &new, source))
}

/// Says so when such reads are not refused here.
pub(crate) fn tell(maps: &Maps) {
    let why = match refused(maps) {
        Ok(true) => return,
        Ok(false) => "that takes the BPF LSM: bpf in the list lsm= of the kernel's command line".to_owned(),
        Err(error) => error.to_string(),
    };
    tell!(
        "portcullis: splice(2) and TCP_ZEROCOPY_RECEIVE are not refused here: a server that reads so gets what came before \
         accept(2) undecided, and nothing later ({why})"
    );
}

/// Whether such reads are refused here, tried on a connection of our own.
fn refused(maps: &Maps) -> Result<bool, KernelError> {
    let (_client, server) = loopback::pair().map_err(KernelError::system("connect to itself"))?;
    server.set_nonblocking(true).map_err(KernelError::system("set O_NONBLOCK"))?;
    let cookie = cookie(&server).map_err(KernelError::system("read a socket's cookie"))?;
    let conns = maps.get("pc_conns")?;
    let controlled = Conn { flags: conn_flag::CONTROLLED, ..Conn::zeroed() };
    conns.set(&cookie, &controlled).map_err(KernelError::system("write pc_conns"))?;
    let tried = splice(&server).map(|splice| splice && zerocopy(&server));
    conns.remove(&cookie).map_err(KernelError::system("delete from pc_conns"))?;
    tried.map_err(KernelError::system("make a pipe"))
}

/// Whether splice(2) from the connection, which has nothing to read, is refused.
fn splice(stream: &TcpStream) -> io::Result<bool> {
    let (_read, write) = io::pipe()?;
    let (from, to, none) = (stream.as_raw_fd(), write.as_raw_fd(), std::ptr::null_mut());
    // SAFETY: both descriptors are open, and no offsets are passed.
    let moved = unsafe { libc::splice(from, none, to, none, 1, libc::SPLICE_F_NONBLOCK) };
    Ok(moved < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL))
}

/// Whether getsockopt(TCP_ZEROCOPY_RECEIVE) is. Else it says that there is nothing.
fn zerocopy(stream: &TcpStream) -> bool {
    // The first fields of `struct tcp_zerocopy_receive` (linux/tcp.h): address, length, recv_skip_hint.
    let nothing = option::<[u64; 2]>(stream, libc::IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE);
    nothing.is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL))
}
