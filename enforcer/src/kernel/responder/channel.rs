//! The two socket pairs through which denied requests are dropped and answered.
//!
//! The sink: a UNIX stream socket in `pc_sinks` whose pipe is broken. A redirect to it consumes the client's bytes and
//! fails, and a failed redirect does not wake the application. The injector: what is sent on it is redirected by
//! `pc_inject` to the client of `pc_target`. Both leave their maps when the process ends; the kernel programs then find
//! no sink and answer by themselves.

use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::{Duration, Instant};

use portcullis_bpf::abi::Target;

use crate::kernel::error::KernelError;
use crate::kernel::map::Maps;
use crate::kernel::reply::Denial;

/// The agent's ends. Dropping it takes sink and injector out of their maps.
#[derive(Debug)]
pub(crate) struct Channel {
    near: UnixDatagram,
    _far: UnixDatagram,
    _sink: (UnixStream, UnixStream),
}

// === impl Channel ===

impl Channel {
    /// Makes the sockets, puts them into their maps and breaks the sink's pipe.
    pub(crate) fn open(maps: &Maps) -> Result<Channel, KernelError> {
        let fail = |what| KernelError::system(what);
        let (near, far) = UnixDatagram::pair().map_err(fail("make the injector"))?;
        let sink = UnixStream::pair().map_err(fail("make the sink"))?;
        insert(maps, "pc_injectors", far.as_raw_fd())?;
        insert(maps, "pc_sinks", sink.0.as_raw_fd())?;
        sink.0.shutdown(Shutdown::Write).map_err(fail("shut the sink down"))?;
        near.set_nonblocking(true).map_err(fail("set up the injector"))?;
        let channel = Channel { near, _far: far, _sink: sink };
        // Cookie 0: pc_inject sends this byte to the sink; the failure is what breaks its pipe.
        channel.send(maps, &Target::zeroed(), b"x").map_err(fail("prime the sink"))?;
        Ok(channel)
    }

    /// Sends a denial to the client of `cookie`.
    pub(crate) fn answer(&self, maps: &Maps, cookie: u64, denial: &Denial) -> io::Result<()> {
        let Denial { decision, status, reason, close, head_request, mfa_max_age_s } = *denial;
        let target = Target {
            cookie,
            decision,
            status,
            reason,
            last: u32::from(close),
            mfa_max_age_s,
            head_request: u32::from(head_request),
        };
        self.send(maps, &target, &denial.text())
    }

    /// Sends raw text to `target`. The program runs within the call, so one slot for the target is enough.
    pub(crate) fn send(&self, maps: &Maps, target: &Target, text: &[u8]) -> io::Result<()> {
        maps.get("pc_target").map_err(io::Error::other)?.set(&0u32, target)?;
        // A full queue drains as fast as a kernel worker writes to the clients.
        let deadline = Instant::now() + Duration::from_millis(20);
        loop {
            match self.near.send(text) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_micros(50));
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Socket maps take descriptors as values of 8 bytes here, see progs/maps.h.
fn insert(maps: &Maps, map: &str, fd: i32) -> Result<(), KernelError> {
    maps.get(map)?
        .set(&0u64, &(fd as u64))
        .map_err(KernelError::system("put a socket of the agent into its map"))
}
