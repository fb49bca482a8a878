//! The sockets through which denied requests are dropped and answered.
//!
//! The sink: a UNIX stream socket in `pc_sinks` whose pipe is broken. A redirect to it consumes the client's bytes and
//! fails, and a failed redirect does not wake the application. The injector: a TCP connection of the agent with itself;
//! what is sent on it is redirected by `pc_inject` to the client of `pc_target`, and is with TCP when the send returns.
//! Both leave their maps when the process ends; the kernel programs then find no sink and answer by themselves.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use portcullis_bpf::abi::{Conn, Target, conn_flag, conn_state, injected};

use crate::kernel::descriptors::{cookie, option};
use crate::kernel::error::KernelError;
use crate::kernel::loopback;
use crate::kernel::map::Maps;
use crate::kernel::reply::Denial;

/// The agent's ends. Dropping it takes sink and injector out of their maps.
#[derive(Debug)]
pub(crate) struct Channel {
    near: TcpStream,
    /// Gets what is for no client, and throws it away.
    far: TcpStream,
    _sink: (UnixStream, UnixStream),
}

/// What became of an injection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sent {
    /// TCP has it.
    Out,
    /// Nobody waits for it.
    Refused,
    /// The client must be told to close, and this reply did not say so.
    MustClose,
}

/// The byte that primes the sink passes the loopback interface within this.
const PRIMED_WITHIN: Duration = Duration::from_secs(1);
/// `enum` of include/net/tcp_states.h.
const TCP_ESTABLISHED: u8 = 1;

// === impl Channel ===

impl Channel {
    /// Makes the sockets, puts them into their maps and breaks the sink's pipe.
    pub(crate) fn open(maps: &Maps) -> Result<Channel, KernelError> {
        let fail = |what| KernelError::system(what);
        let (near, far) = loopback::pair().map_err(fail("make the injector, a connection over loopback"))?;
        let sink = UnixStream::pair().map_err(fail("make the sink"))?;
        insert(maps, "pc_injectors", near.as_raw_fd())?;
        insert(maps, "pc_sinks", sink.0.as_raw_fd())?;
        sink.0.shutdown(Shutdown::Write).map_err(fail("shut the sink down"))?;
        near.set_nonblocking(true).map_err(fail("set up the injector"))?;
        far.set_nonblocking(true).map_err(fail("set up the injector"))?;
        // A reply is one send; nothing is gathered.
        near.set_nodelay(true).map_err(fail("set up the injector"))?;
        let channel = Channel { near, far, _sink: sink };
        channel.prime(maps).map_err(fail("prime the sink"))?;
        Ok(channel)
    }

    /// Whether the injector's connection stands: anybody who may destroy sockets may have ended it.
    pub(crate) fn stands(&self) -> bool {
        // The first byte of struct tcp_info is its state.
        option::<u8>(&self.near, libc::IPPROTO_TCP, libc::TCP_INFO)
            .is_ok_and(|state| state == TCP_ESTABLISHED)
    }

    /// Sends a denial to the client of `cookie`.
    pub(crate) fn answer(&self, maps: &Maps, cookie: u64, denial: &Denial) -> io::Result<Sent> {
        self.send(maps, cookie, denial.close, &denial.text())
    }

    /// Sends raw text to the client of `cookie`; `last`: it says that the connection closes. The program runs within the
    /// call, so one slot for the target is enough.
    ///
    /// # Errors
    /// TCP did not take all of it: the connection is gone, or its buffer is full because the client reads none of its
    /// denials, or there is no memory. This waits for none of that. And when somebody took the program away.
    pub(crate) fn send(&self, maps: &Maps, cookie: u64, last: bool, text: &[u8]) -> io::Result<Sent> {
        let slot = maps.get("pc_target").map_err(io::Error::other)?;
        slot.set(&0u32, &Target { cookie, last: u32::from(last), injected: injected::UNSEEN })?;
        let n = (&self.near).write(text)?;
        let target: Option<Target> = slot.get(&0u32)?;
        let injected = target.map_or(injected::UNSEEN, |target| target.injected);
        if injected != injected::SENT {
            self.discard();
        }
        match injected {
            injected::SENT if n < text.len() => {
                Err(io::Error::other(format!("only {n} of {} bytes went out", text.len())))
            }
            injected::SENT => Ok(Sent::Out),
            injected::MUST_CLOSE => Ok(Sent::MustClose),
            injected::NOT => Ok(Sent::Refused),
            _ => Err(io::Error::other("pc_inject does not run on the injector")),
        }
    }

    /// Throws away what is for no client. What has not arrived yet is taken by the next call, long before the buffers of
    /// the two ends are full.
    fn discard(&self) {
        let mut bytes = [0; 4096];
        while (&self.far).read(&mut bytes).is_ok_and(|n| n > 0) {}
    }

    /// The first redirect to the sink is what breaks its pipe: a byte to the far end, which is under control for so long.
    fn prime(&self, maps: &Maps) -> io::Result<()> {
        let far = cookie(&self.far)?;
        let conns = maps.get("pc_conns").map_err(io::Error::other)?;
        let socks = maps.get("pc_socks").map_err(io::Error::other)?;
        // Poisoned: whatever arrives is dropped in the way of a denial.
        let state = Conn { state: conn_state::POISON, flags: conn_flag::CONTROLLED, ..Conn::zeroed() };
        conns.set(&far, &state)?;
        let arrived =
            || -> io::Result<bool> { Ok(conns.get::<_, Conn>(&far)?.is_some_and(|conn| conn.skbs != 0)) };
        let result = socks.set(&far, &(self.far.as_raw_fd() as u64)).and_then(|()| {
            self.send(maps, 0, false, b"x")?;
            let deadline = Instant::now() + PRIMED_WITHIN;
            while !arrived()? {
                if Instant::now() > deadline {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                thread::sleep(Duration::from_micros(50));
            }
            Ok(())
        });
        drop(socks.remove(&far));
        drop(conns.remove(&far));
        result
    }
}

/// Socket maps take descriptors as values of 8 bytes here, see progs/maps.h.
fn insert(maps: &Maps, map: &str, fd: i32) -> Result<(), KernelError> {
    maps.get(map)?
        .set(&0u64, &(fd as u64))
        .map_err(KernelError::system("put a socket of the agent into its map"))
}
