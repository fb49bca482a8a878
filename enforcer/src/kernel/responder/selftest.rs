//! Tries the silent drop and the injection on a connection of our own before relying on them.
//!
//! That a failed redirect does not wake the reader is how the kernels since 2023 behave, and nothing that they promise.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use portcullis_bpf::abi::{Conn, conn_flag, conn_state};
use portcullis_follower::tell;

use super::{Channel, DenyMode, Sent};
use crate::kernel::descriptors::cookie;
use crate::kernel::loopback;
use crate::kernel::map::Maps;

/// How long the reader has to sleep on; a spurious wake-up ends it at once.
const ASLEEP: Duration = Duration::from_millis(120);

/// A kernel on which it does not work fails each time; a busy machine may be late once.
const TRIALS: usize = 3;

/// Agent mode when both work here, else kernel mode.
pub(super) fn run(maps: &Maps, channel: &Channel) -> DenyMode {
    let mut why = String::new();
    for _ in 0..TRIALS {
        match trial(maps, channel) {
            Ok(true) => return DenyMode::Agent,
            Ok(false) => "a silent drop wakes the reader".clone_into(&mut why),
            Err(error) => why = error.to_string(),
        }
    }
    tell!("portcullis: self-test of denials: {why}; the kernel answers alone");
    DenyMode::Kernel
}

fn trial(maps: &Maps, channel: &Channel) -> io::Result<bool> {
    let (mut client, mut server) = loopback::pair()?;
    let cookie = cookie(&server)?;
    let conns = maps.get("pc_conns").map_err(io::Error::other)?;
    let socks = maps.get("pc_socks").map_err(io::Error::other)?;
    // Poisoned: whatever arrives is dropped in the way of a denial. One reply is due, so injection is open.
    let state =
        Conn { state: conn_state::POISON, flags: conn_flag::CONTROLLED, pending: 1, ..Conn::zeroed() };
    conns.set(&cookie, &state)?;
    let result = socks.set(&cookie, &(server.as_raw_fd() as u64)).and_then(|()| {
        Ok(sleeps_on(&mut server, &mut client)? && is_answered(maps, channel, &mut client, cookie)?)
    });
    drop(socks.remove(&cookie));
    drop(conns.remove(&cookie));
    result
}

fn sleeps_on(server: &mut TcpStream, client: &mut TcpStream) -> io::Result<bool> {
    server.set_read_timeout(Some(ASLEEP))?;
    let start = Instant::now();
    let read = thread::scope(|scope| {
        let reader = scope.spawn(|| server.read(&mut [0; 16]));
        // The interesting case is a reader that is already asleep.
        thread::sleep(ASLEEP / 4);
        client.write_all(b"self-test")?;
        reader.join().unwrap_or_else(|_| Err(io::Error::other("the reader panicked")))
    });
    let timed_out = matches!(read, Err(ref error) if error.kind() == io::ErrorKind::WouldBlock);
    Ok(timed_out && start.elapsed() >= ASLEEP)
}

fn is_answered(maps: &Maps, channel: &Channel, client: &mut TcpStream, cookie: u64) -> io::Result<bool> {
    const TEXT: &[u8] = b"self-test";
    client.set_read_timeout(Some(Duration::from_secs(1)))?;
    if channel.send(maps, cookie, true, TEXT)? != Sent::Out {
        return Ok(false);
    }
    let mut got = [0; TEXT.len()];
    client.read_exact(&mut got)?;
    Ok(got == TEXT)
}
