//! What systemd wants to know of a service: sd_notify(3), without its library.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use portcullis_follower::tell;

/// The way to the service manager, if one started this process and wants to be told.
#[derive(Debug)]
pub struct Notify(Option<(UnixDatagram, SocketAddr)>);

// === impl Notify ===

impl Notify {
    /// From `NOTIFY_SOCKET`.
    pub fn from_env() -> anyhow::Result<Notify> {
        let Some(path) = env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else {
            return Ok(Notify(None));
        };
        let addr = match path.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(&path)?,
        };
        Ok(Notify(Some((UnixDatagram::unbound()?, addr))))
    }

    /// Tells something: `READY=1`, `STATUS=…`, `STOPPING=1`, `WATCHDOG=1`.
    pub fn tell(&self, what: &str) {
        let Some((socket, addr)) = &self.0 else { return };
        if let Err(error) = socket.send_to_addr(what.as_bytes(), addr)
            && error.kind() != io::ErrorKind::WouldBlock
        {
            tell!("warning: the service manager cannot be told {what:?}: {error}");
        }
    }
}

/// How often the service manager wants a sign of life: half of what it waits for (sd_watchdog_enabled(3)).
pub fn watchdog() -> Option<Duration> {
    let of_us = env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
    let usec: u64 = env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    (of_us && usec > 0).then(|| Duration::from_micros(usec) / 2)
}
