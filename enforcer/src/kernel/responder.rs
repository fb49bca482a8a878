//! Answers denied requests and destroys connections that cannot go on.
//!
//! One thread, above normal priority, waits for `pc_replies`. It renews `pc_beat` while it is well: when it hangs or is
//! stopped, the time runs out and the kernel programs answer by themselves.
//!
//! **Invariant:** what happens here never lets a byte through to an application; injection goes to clients only.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use aya::maps::{Map, MapData, RingBuf};
use portcullis_bpf::abi::{Conn, Reply, reply_kind};
use portcullis_follower::tell;
use zerocopy::FromBytes;

use super::clock;
use super::diag::{Connection, Diag};
use super::error::KernelError;
use super::events::round;
use super::map::Maps;
use super::reply::Denial;

mod channel;
mod selftest;

pub(crate) use channel::{Channel, Sent};

/// Who answers denied requests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DenyMode {
    /// The kernel alone, with a reply of the request's length. The application is woken and finds nothing.
    Kernel,
    /// The agent, through the injector. The application sleeps on.
    Agent,
}

/// The running thread.
#[derive(Debug)]
pub(crate) struct Responder {
    thread: Option<JoinHandle<()>>,
    stop: Arc<OwnedFd>,
    mode: DenyMode,
    counters: Arc<Counters>,
}

/// What the responder did.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub answered: AtomicU64,
    pub failed: AtomicU64,
    pub destroyed: AtomicU64,
}

struct Worker {
    maps: Arc<Maps>,
    ring: RingBuf<MapData>,
    channel: Option<Channel>,
    diag: Diag,
    /// Connections that were told to close, and until when they may.
    closing: Vec<(Instant, Connection)>,
    counters: Arc<Counters>,
    mode: DenyMode,
    beaten: Option<Instant>,
    mended: Option<Instant>,
}

/// How often the beat is renewed, and for how long it then holds.
const BEAT_EVERY: Duration = Duration::from_millis(50);
const BEAT_FOR: Duration = Duration::from_millis(300);
/// A client that was told to close gets so long to do it, from the injection on.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// An injected reply is with the client after so long, mostly. What is not acknowledged goes with its connection.
const ARRIVES_WITHIN: Duration = Duration::from_millis(100);
/// A channel that was cut is opened anew at most so often.
const MEND_EVERY: Duration = Duration::from_secs(1);
/// Replies handled between two looks at the clock.
const BURST: usize = 64;

// === impl Responder ===

impl Responder {
    /// Opens the channel, tests it, and starts the thread. Without a working channel the kernel answers alone.
    pub(crate) fn start(
        maps: &Arc<Maps>,
        dir: &Path,
        wanted: Option<DenyMode>,
    ) -> Result<Responder, KernelError> {
        let alone = |error: &KernelError| tell!("portcullis: {error}; the kernel answers alone");
        let channel = match wanted {
            Some(DenyMode::Kernel) => None,
            Some(DenyMode::Agent) => Some(Channel::open(maps)?),
            None => Channel::open(maps).inspect_err(alone).ok(),
        };
        let mode = match (&channel, wanted) {
            (None, _) => DenyMode::Kernel,
            (Some(_), Some(mode)) => mode,
            (Some(channel), None) => selftest::run(maps, channel),
        };
        // Without its sink the programs drop in the way that wakes the reader, and answer themselves.
        let channel = channel.filter(|_| mode == DenyMode::Agent);
        let counters = Arc::new(Counters::default());
        let mut worker = Worker {
            maps: maps.clone(),
            ring: ring(&dir.join("maps/pc_replies"))?,
            channel,
            diag: Diag::default(),
            closing: Vec::new(),
            counters: counters.clone(),
            mode,
            beaten: None,
            mended: None,
        };
        worker.beat(true).map_err(KernelError::system("write the beat"))?;
        let stop = Arc::new(eventfd().map_err(KernelError::system("make an eventfd"))?);
        let stopped = stop.clone();
        let thread =
            thread::Builder::new().name("pc-responder".to_owned()).spawn(move || worker.run(&stopped));
        let thread = thread.map_err(KernelError::system("start the responder"))?;
        Ok(Responder { thread: Some(thread), stop, mode, counters })
    }

    /// Who answers.
    pub(crate) fn mode(&self) -> DenyMode {
        self.mode
    }

    /// What it did.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        let one = 1u64;
        // SAFETY: eight live bytes, as an eventfd wants.
        unsafe { libc::write(self.stop.as_raw_fd(), std::ptr::from_ref(&one).cast(), 8) };
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

// === impl Worker ===

impl Worker {
    fn run(&mut self, stop: &OwnedFd) {
        raise_priority();
        loop {
            match wait(self.ring.as_raw_fd(), stop.as_raw_fd(), BEAT_EVERY) {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => {
                    tell!("portcullis: the responder ends: {error}");
                    break;
                }
            }
            // What is left makes the next wait return at once, unless it is the end.
            round(|| {
                let more = self.burst() == BURST;
                self.tend();
                more
            });
        }
        // Who comes next answers; until then the kernel does.
        drop(self.maps.get("pc_beat").map(|map| map.set(&0u32, &0u64)));
    }

    /// Handles what is in the ring, up to a bound; how much it was.
    fn burst(&mut self) -> usize {
        let mut handled = 0;
        while handled < BURST {
            let Some(item) = self.ring.next() else { break };
            // A record of another size comes from another version; its connection is left to its poison.
            let reply = Reply::read_from_bytes(&item).ok();
            drop(item);
            handled += 1;
            if let Some(reply) = reply {
                self.handle(&reply);
            }
        }
        handled
    }

    fn handle(&mut self, reply: &Reply) {
        let connection = connection(reply);
        if reply.kind != reply_kind::SEND {
            // A reply that was injected a moment ago may still be on its way: it would be lost. Nothing passes meanwhile.
            match self.replied(reply.cookie) {
                true => self.closing.push((Instant::now() + ARRIVES_WITHIN, connection)),
                false => self.destroy(&connection),
            }
            return;
        }
        let mut denial = Denial {
            decision: reply.decision,
            status: reply.status,
            reason: reply.reason,
            close: reply.close != 0,
            head_request: reply.head_request != 0,
            mfa_max_age_s: reply.mfa_max_age_s,
        };
        match self.answer(reply.cookie, &mut denial) {
            Ok(sent) => {
                self.counters.answered.fetch_add(u64::from(sent == Sent::Out), Ordering::Relaxed);
                if denial.close {
                    self.closing.push((Instant::now() + CLOSE_WITHIN, connection));
                }
            }
            // Asked by an agent before us, or TCP has no memory: better a reset than a client that waits for ever.
            Err(_) => {
                self.counters.failed.fetch_add(1, Ordering::Relaxed);
                self.destroy(&connection);
            }
        }
    }

    /// Sends a denial, by a new channel when that of before was cut, and as the last one when it turns out that it must be.
    fn answer(&mut self, cookie: u64, denial: &mut Denial) -> io::Result<Sent> {
        loop {
            let channel = self.channel.as_ref().ok_or(io::ErrorKind::NotConnected)?;
            match channel.answer(&self.maps, cookie, denial) {
                Ok(Sent::MustClose) if !denial.close => denial.close = true,
                Err(_) if self.mend() => {}
                result => return result,
            }
        }
    }

    /// Opens the channel anew if somebody cut it. Until that is done there is no sink, and the kernel answers.
    fn mend(&mut self) -> bool {
        let cut = self.mode == DenyMode::Agent && !self.channel.as_ref().is_some_and(Channel::stands);
        if !cut || self.mended.is_some_and(|at| at.elapsed() < MEND_EVERY) {
            return false;
        }
        self.mended = Some(Instant::now());
        self.channel = None;
        match Channel::open(&self.maps) {
            Ok(channel) => self.channel = Some(channel),
            Err(error) => tell!("portcullis: {error}; the kernel answers denials alone for now"),
        }
        self.channel.is_some()
    }

    /// What time brings: the beat, and connections that had to close and did not.
    fn tend(&mut self) {
        if let Err(error) = self.beat(false) {
            tell!("portcullis: cannot write the beat: {error}");
        }
        let now = Instant::now();
        let due: Vec<Connection> =
            self.closing.extract_if(.., |(at, _)| *at <= now).map(|(_, connection)| connection).collect();
        for connection in due {
            if self.conn(connection.cookie).is_some() {
                self.destroy(&connection);
            }
            // There may be thousands, and clients that are denied wait for the agent only while it beats.
            if let Err(error) = self.beat(false) {
                tell!("portcullis: cannot write the beat: {error}");
            }
        }
    }

    /// Whether a reply went out and no request was answered otherwise since.
    fn replied(&self, cookie: u64) -> bool {
        self.conn(cookie).is_some_and(|conn| conn.injected != 0)
    }

    fn conn(&self, cookie: u64) -> Option<Conn> {
        self.maps.get("pc_conns").ok()?.get(&cookie).ok()?
    }

    fn destroy(&mut self, connection: &Connection) {
        match self.diag.destroy(connection) {
            Ok(true) => drop(self.counters.destroyed.fetch_add(1, Ordering::Relaxed)),
            Ok(false) => {}
            Err(error) => {
                tell!("portcullis: cannot destroy a connection of {}: {error}", connection.peer)
            }
        }
    }

    /// Says that this thread is well, if it is time or `now`, after a look at what that takes.
    fn beat(&mut self, now: bool) -> io::Result<()> {
        if !now && self.beaten.is_some_and(|at| at.elapsed() < BEAT_EVERY) {
            return Ok(());
        }
        self.mend();
        self.beaten = Some(Instant::now());
        let until = match self.mode {
            DenyMode::Agent => clock::boot_ns() as u64 + BEAT_FOR.as_nanos() as u64,
            DenyMode::Kernel => 0,
        };
        self.maps.get("pc_beat").map_err(io::Error::other)?.set(&0u32, &until)
    }
}

/// A consumer of a pinned ring. Each ring has one: the lock of the instance sees to it.
pub(crate) fn ring(path: &Path) -> Result<RingBuf<MapData>, KernelError> {
    let fail = |error: aya::maps::MapError| KernelError::at("read the ring", path, io::Error::other(error));
    let data = MapData::from_pin(path).map_err(fail)?;
    RingBuf::try_from(Map::RingBuf(data)).map_err(fail)
}

fn connection(reply: &Reply) -> Connection {
    let address = |bytes: [u8; 16]| match reply.ipv6 {
        0 => IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]]),
        _ => IpAddr::from(bytes),
    };
    Connection {
        local: SocketAddr::new(address(reply.daddr), reply.dport),
        peer: SocketAddr::new(address(reply.saddr), reply.sport),
        cookie: reply.cookie,
        device: reply.device,
        inode: 0,
        cgroup: 0,
    }
}

fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: integers only.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call above made this descriptor and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Waits for the ring or the end; `true` is the end.
fn wait(ring: i32, stop: i32, at_most: Duration) -> io::Result<bool> {
    let mut fds = [ring, stop].map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    // SAFETY: two live entries, and their number is passed.
    let ready = unsafe { libc::poll(fds.as_mut_ptr(), 2, at_most.as_millis() as libc::c_int) };
    if ready < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::Interrupted { Ok(false) } else { Err(error) };
    }
    Ok(fds[1].revents != 0)
}

/// Denied clients wait for this thread. Without the right to it the thread stays as it is.
fn raise_priority() {
    // SAFETY: integers only; Linux takes a thread's id here.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, libc::gettid() as libc::id_t, -10) };
}
