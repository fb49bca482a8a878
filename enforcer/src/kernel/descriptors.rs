//! Sockets of other processes, by their descriptors.
//!
//! What is taken is held for a moment only: while it is, a close by its owner does not end the connection.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Lets this process have as many descriptors as it may: it takes one for each network namespace of the host, and services are
/// started with room for 1,024. Where that fails, what there is has to do.
pub(crate) fn raise_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a live struct, to be written and then read.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

/// All sockets of all processes: process, descriptor, inode. Processes and descriptors come and go meanwhile.
pub(crate) fn sockets() -> Vec<(u32, i32, u32)> {
    let mut sockets = Vec::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(pid) = process.file_name().to_string_lossy().parse() else { continue };
        for entry in fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten() {
            let target = fs::read_link(entry.path()).unwrap_or_default();
            let inode =
                target.to_str().and_then(|t| t.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            if let (Some(inode), Ok(fd)) = (inode, entry.file_name().to_string_lossy().parse()) {
                sockets.push((pid, fd, inode));
            }
        }
    }
    sockets
}

/// A copy of a descriptor of another process. `None`: it is gone, or CAP_SYS_PTRACE is missing.
pub(crate) fn taken(pid: u32, fd: i32) -> Option<OwnedFd> {
    // SAFETY: integers only.
    let process = owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: a live descriptor and integers.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), fd, 0) })
}

fn owned(fd: libc::c_long) -> Option<OwnedFd> {
    // SAFETY: the caller's call made this descriptor and nothing else owns it.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Descriptors are used again: whether this is the socket with the cookie.
pub(crate) fn is(socket: &impl AsRawFd, of: u64) -> bool {
    cookie(socket).is_ok_and(|cookie| cookie == of)
}

/// The number by which the programs know a socket.
pub(crate) fn cookie(socket: &impl AsRawFd) -> io::Result<u64> {
    option(socket, libc::SOL_SOCKET, libc::SO_COOKIE)
}

/// A socket option of the size of `T`, an integer.
pub(crate) fn option<T: Default>(socket: &impl AsRawFd, level: i32, name: i32) -> io::Result<T> {
    let (mut value, mut size) = (T::default(), size_of::<T>() as libc::socklen_t);
    let into = (&raw mut value).cast();
    // SAFETY: a live integer and its size, to be written.
    match unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, into, &raw mut size) } {
        0 => Ok(value),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether reads do not block. The flag is the file's, so it is what the owner set.
pub(crate) fn nonblocking(socket: &OwnedFd) -> bool {
    // SAFETY: a live descriptor and integers.
    let flags = unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_GETFL) };
    flags >= 0 && flags & libc::O_NONBLOCK != 0
}
