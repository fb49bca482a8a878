//! Collects the decisions that the kernel reports, and keeps its clock right.
//!
//! Events come without a wake-up each: one costs more than a decision. A thread looks every few milliseconds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use aya::maps::{MapData, RingBuf};
use portcullis_follower::tell;
use portcullis_wire::AccessLog;

use super::deferring::Deferring;
use super::diag::Diag;
use super::error::KernelError;
use super::heads::Heads;
use super::map::Maps;
use super::responder::ring;
use super::{Config, Records, adopt, clock, stats, sweep};
use crate::compile::{Compiled, Tables};
use crate::generation::version_of;
use crate::record;

/// The collecting thread.
#[derive(Debug)]
pub(crate) struct Keeper {
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

/// What the thread shares with its owner.
#[derive(Debug)]
pub(crate) struct Shared {
    stop: AtomicBool,
    /// Times that the ring was found empty.
    rounds: AtomicU64,
    /// Held while the clock is published, so that the last offset is also the one that the programs have.
    offset_ns: Mutex<i64>,
    /// Cookies of adopted connections that were open when they were last looked at.
    adopted: Mutex<Vec<u64>>,
    deferring: Mutex<Deferring>,
    tables: Mutex<BTreeMap<u64, Arc<Compiled>>>,
}

struct Worker {
    maps: Arc<Maps>,
    ring: RingBuf<MapData>,
    records: Records,
    agent_id: String,
    shared: Arc<Shared>,
    /// Unix time minus boot time, as it was last published.
    boot_to_unix_ns: i64,
    clock_read: Instant,
    swept: Instant,
    diag: Diag,
    heads: Heads,
    head_within: Duration,
    cgroup: PathBuf,
    /// What the guard had dropped at the last look.
    dropped: u64,
    /// The second for which websockets were last looked at.
    tunnels_at_s: u64,
}

/// Generations of which the tables are kept: events come a little later than the change.
const GENERATIONS: usize = 8;
/// While there are events to read.
const GENERATIONS_MAX: usize = 64;
/// Steps of the clock are noticed within this.
const CLOCK_EVERY: Duration = Duration::from_millis(100);
/// Connections that must end by themselves are looked for this often.
const SWEEP_EVERY: Duration = Duration::from_millis(250);
/// Smaller differences are measuring error, ns.
const CLOCK_NOISE_NS: i64 = 50_000;
/// Records handed over at a time.
const BATCH: usize = 1024;
/// How often what comes without end is gone on with, before what time brings has its turn.
const ROUND: usize = 16;
/// Who waits for the end of a flood waits no longer than this.
const FLUSH_WITHIN: Duration = Duration::from_secs(5);

// === impl Keeper ===

impl Keeper {
    pub(crate) fn start(
        config: &Config,
        maps: &Arc<Maps>,
        dir: &Path,
        records: Records,
    ) -> Result<Keeper, KernelError> {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            rounds: AtomicU64::new(0),
            offset_ns: Mutex::new(config.clock_offset_ns),
            adopted: Mutex::new(adopt::adopted(maps)?),
            deferring: Mutex::default(),
            tables: Mutex::new(BTreeMap::new()),
        });
        config.known.iter().for_each(|compiled| shared.remember(compiled));
        let mut worker = Worker {
            maps: maps.clone(),
            ring: ring(&dir.join("maps/pc_events"))?,
            records,
            agent_id: config.agent_id.clone(),
            shared: shared.clone(),
            boot_to_unix_ns: 0,
            clock_read: Instant::now(),
            swept: Instant::now(),
            diag: Diag::default(),
            heads: Heads::default(),
            head_within: config.head_within,
            cgroup: config.cgroup.clone(),
            dropped: 0,
            tunnels_at_s: 0,
        };
        worker.publish_clock();
        let poll = config.poll;
        let thread = thread::Builder::new().name("pc-events".to_owned()).spawn(move || worker.run(poll));
        let thread = thread.map_err(KernelError::system("start the collector of events"))?;
        Ok(Keeper { thread: Some(thread), shared })
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Waits until the ring was read to its end, from now on. In a flood there is none: what is not read by the end of
    /// the wait is read later.
    pub(crate) fn flush(&self) {
        let begin = Instant::now();
        let before = self.shared.rounds.load(Ordering::Acquire);
        // The round that runs now may have passed the last event: the one after it has not.
        while self.shared.rounds.load(Ordering::Acquire) < before + 2 {
            if self.thread.as_ref().is_none_or(JoinHandle::is_finished) || begin.elapsed() >= FLUSH_WITHIN {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

// === impl Shared ===

impl Shared {
    /// Keeps what the numbers in a generation's events mean.
    pub(crate) fn remember(&self, compiled: &Arc<Compiled>) {
        let mut tables = self.tables();
        // The same version has the same names, however often it is put into force.
        tables.insert(version_of(compiled.tables.version), compiled.clone());
        while tables.len() > GENERATIONS_MAX {
            tables.pop_first();
        }
    }

    /// What the numbers of a version mean. `last`, mostly.
    fn version(&self, version: u64, last: Option<Arc<Compiled>>) -> Option<Arc<Compiled>> {
        last.filter(|last| version_of(last.tables.version) == version)
            .or_else(|| self.tables().get(&version).cloned())
    }

    /// When no events are left: what may still come is of the last generations.
    fn forget(&self) {
        let mut tables = self.tables();
        while tables.len() > GENERATIONS {
            tables.pop_first();
        }
    }

    /// Adds connections that were adopted.
    pub(crate) fn adopted(&self, cookies: Vec<u64>) {
        self.adopted.lock().unwrap_or_else(PoisonError::into_inner).extend(cookies);
    }

    /// What is known of listeners.
    pub(crate) fn deferring(&self) -> MutexGuard<'_, Deferring> {
        self.deferring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Unix seconds, as the programs see the time.
    pub(crate) fn now_s(&self) -> u64 {
        let now_ns = clock::boot_ns() + clock::boot_to_unix_ns(*self.offset());
        u64::try_from(now_ns / 1_000_000_000).unwrap_or(0)
    }

    /// Tells the programs another time.
    pub(crate) fn set_offset(&self, maps: &Maps, offset_ns: i64) -> Result<(), KernelError> {
        let mut offset = self.offset();
        *offset = offset_ns;
        clock::publish(maps, clock::boot_to_unix_ns(offset_ns))
    }

    fn offset(&self) -> MutexGuard<'_, i64> {
        self.offset_ns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tables(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Compiled>>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Worker ===

impl Worker {
    fn run(&mut self, poll: Duration) {
        loop {
            let last = self.shared.stop.load(Ordering::Acquire);
            let empty = round(|| self.collect());
            if empty {
                self.shared.forget();
                self.shared.rounds.fetch_add(1, Ordering::Release);
            }
            // What is left is in the pinned ring, for the next agent.
            if last {
                return;
            }
            if self.clock_read.elapsed() >= CLOCK_EVERY {
                self.publish_clock();
            }
            if self.swept.elapsed() >= SWEEP_EVERY {
                self.swept = Instant::now();
                if let Err(error) = self.sweep() {
                    tell!("portcullis: {error}");
                }
            }
            if empty {
                thread::sleep(poll);
            }
        }
    }

    /// Hands over a batch; whether there was any.
    fn collect(&mut self) -> bool {
        let mut batch: Vec<AccessLog> = Vec::new();
        let mut last: Option<Arc<Compiled>> = None;
        while batch.len() < BATCH {
            let Some(event) = self.ring.next() else { break };
            // Only now: a generation is remembered before its first event is written, but not before this batch began.
            last = record::version(&event).ok().and_then(|version| self.shared.version(version, last));
            let of: Option<&Tables> = last.as_ref().map(|compiled| &compiled.tables);
            match record::to_access_log(&event, of, &self.agent_id, self.boot_to_unix_ns) {
                Ok(log) => batch.push(log),
                Err(error) => tell!("portcullis: an event is lost: {error}"),
            }
        }
        if batch.is_empty() {
            return false;
        }
        (self.records)(batch);
        true
    }

    /// What time ends: heads that do not become complete, websockets whose token has expired, what is kept of adopted
    /// connections; and listeners that hold back what could be taken.
    ///
    /// # Errors
    /// The first failure; none keeps the others from being done.
    fn sweep(&mut self) -> Result<(), KernelError> {
        let heads = self.heads.sweep(&self.maps, &mut self.diag, Instant::now(), self.head_within);
        let (tunnels, listeners) = (self.sweep_tunnels(), self.sweep_listeners());
        let mut adopted = self.shared.adopted.lock().unwrap_or_else(PoisonError::into_inner);
        let adopted = adopt::forget(&self.maps, &mut adopted);
        heads.and(tunnels).and(listeners).and(adopted)
    }

    /// Tokens expire with a second, and there may be many.
    fn sweep_tunnels(&mut self) -> Result<(), KernelError> {
        let now_s = self.shared.now_s();
        if now_s == self.tunnels_at_s {
            return Ok(());
        }
        self.tunnels_at_s = now_s;
        sweep::tunnels(&self.maps, &mut self.diag, |tunnel| sweep::unexpired(tunnel, now_s)).map(drop)
    }

    fn sweep_listeners(&mut self) -> Result<(), KernelError> {
        let dropped = stats::read(&self.maps)?.guard_dropped;
        if dropped == self.dropped {
            return Ok(());
        }
        self.dropped = dropped;
        self.shared.deferring().sweep(&self.maps, &self.cgroup).map(drop)
    }

    fn publish_clock(&mut self) {
        self.clock_read = Instant::now();
        let offset = self.shared.offset();
        let now = clock::boot_to_unix_ns(*offset);
        if (now - self.boot_to_unix_ns).abs() < CLOCK_NOISE_NS {
            return;
        }
        match clock::publish(&self.maps, now) {
            Ok(()) => self.boot_to_unix_ns = now,
            Err(error) => tell!("portcullis: {error}"),
        }
    }
}

/// Goes on while there is more, up to a bound: whoever makes a flood must not keep the clock, the ends of tokens and the
/// agent's own end waiting. Whether nothing was left.
pub(super) fn round(mut more: impl FnMut() -> bool) -> bool {
    (0..ROUND).any(|_| !more())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_ends_a_round() {
        let mut left = 3;
        let ended = round(|| {
            left -= 1;
            left > 0
        });
        assert_eq!((ended, left), (true, 0));
        let mut done = 0;
        let ended = round(|| {
            done += 1;
            assert!(done < 1_000_000, "a flood is gone on with for ever");
            true
        });
        assert_eq!((ended, done), (false, ROUND));
    }
}
