//! Access records on their way to the control plane: bounded, in order, numbered, losses counted.
//!
//! With a spool they are files from the moment that they are collected, and outlive the agent; each has a number, so that
//! a batch that is sent twice counts once and a gap can be seen. Without one they wait in memory, unnumbered.
//!
//! **Invariant:** every record is sent, waiting or counted as lost.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use portcullis_wire::AccessLog;

use crate::PlaneError;
use crate::plane::{Batch, Numbers, Plane};
use crate::tell;

mod spool;

pub use spool::SpoolError;

use spool::Spool;

/// Where records wait on disk, and how much of it they may take.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SpoolConfig {
    /// A directory of this agent's own; made when absent.
    pub dir: std::path::PathBuf,
    /// Bytes that records may take; beyond, the oldest are lost.
    pub bytes_max: u64,
}

/// The queue.
#[derive(Debug)]
pub(crate) struct Logs {
    queue: Mutex<Queue>,
    /// Held while a batch is under way: records stay in order.
    sending: Mutex<()>,
}

/// How many records went where.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Taken by the control plane, since this agent began.
    pub sent: u64,
    /// Waiting.
    pub waiting: u64,
    /// Lost by agents: too many waited, or the disk or the control plane refused them.
    pub lost: u64,
    /// Lost in the kernel, because its ring was full.
    pub kernel_lost: u64,
}

#[derive(Debug)]
enum Queue {
    Memory(Memory),
    Disk(Spool),
}

#[derive(Debug, Default)]
struct Memory {
    records: VecDeque<String>,
    /// Counts what was taken out at the front, by whichever way.
    taken: u64,
    sent: u64,
    lost: u64,
    kernel: KernelLoss,
}

/// A counter of the kernel's that starts again with the instance, and what it added up to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct KernelLoss {
    pub seen: u64,
    pub total: u64,
}

/// Records of one batch, with the number of the first: of the stream, or of what was ever taken out of memory.
struct Chunk {
    first: u64,
    lines: Vec<String>,
}

/// Records that may wait in memory; beyond, the oldest are lost.
const WAITING_MAX: usize = 100_000;
/// Records in one request.
const BATCH: usize = 1_000;
/// Bytes of records in one request: well below what control planes accept.
const BATCH_BYTES: usize = 1 << 20;

// === impl Logs ===

impl Logs {
    /// Opens the spool, and finds in it what an agent before this one left.
    pub(crate) fn new(spool: Option<&SpoolConfig>) -> Result<Logs, SpoolError> {
        let queue = match spool {
            None => Queue::Memory(Memory::default()),
            Some(config) => Queue::Disk(Spool::open(config)?),
        };
        Ok(Logs { queue: Mutex::new(queue), sending: Mutex::default() })
    }

    /// Adds records.
    pub(crate) fn push(&self, batch: &[AccessLog]) {
        let lines = batch.iter().filter_map(|record| match serde_json::to_string(record) {
            Ok(line) => Some(line),
            Err(error) => {
                tell!("portcullis: a record cannot be written: {error}");
                None
            }
        });
        let lines: Vec<String> = lines.collect();
        let unwritten = (batch.len() - lines.len()) as u64;
        match &mut *self.queue() {
            Queue::Memory(memory) => memory.push(lines, unwritten),
            Queue::Disk(spool) => spool.push(&lines, unwritten),
        }
    }

    /// Tells what the kernel's counter of lost events says now.
    pub(crate) fn kernel_lost(&self, counter: u64) {
        match &mut *self.queue() {
            Queue::Memory(memory) => drop(memory.kernel.saw(counter)),
            Queue::Disk(spool) => spool.kernel_lost(counter),
        }
    }

    /// Sends what waits, oldest first; what is not taken waits on. How many were sent.
    pub(crate) fn send_all(&self, plane: &Plane) -> Result<u64, PlaneError> {
        self.send_to(|batch| plane.report(batch))
    }

    fn send_to(&self, report: impl Fn(&Batch) -> Result<(), PlaneError>) -> Result<u64, PlaneError> {
        let _one = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sent = 0;
        // After a refusal records go one by one, until the one that is meant is found.
        let mut singly = 0_usize;
        loop {
            let (chunk, numbers) = {
                let mut queue = self.queue();
                let Some(chunk) = queue.oldest(if singly > 0 { 1 } else { BATCH }) else { return Ok(sent) };
                let numbers = queue.numbers(chunk.first);
                (chunk, numbers)
            };
            let count = chunk.lines.len() as u64;
            match report(&Batch { numbers, records: chunk.lines.join(",") }) {
                Ok(()) => {
                    sent += count;
                    self.queue().done(chunk.first, count, true);
                }
                Err(error) if error.is_final() && count > 1 => {
                    singly = chunk.lines.len();
                    continue;
                }
                Err(error) if error.is_final() => {
                    tell!("portcullis: a record is lost, the control plane refuses it: {error}");
                    self.queue().done(chunk.first, 1, false);
                }
                Err(error) => return Err(error),
            }
            singly = singly.saturating_sub(chunk.lines.len());
        }
    }

    /// How many went where.
    pub(crate) fn counts(&self) -> Counts {
        match &*self.queue() {
            Queue::Memory(Memory { records, taken: _, sent, lost, kernel }) => {
                Counts { sent: *sent, waiting: records.len() as u64, lost: *lost, kernel_lost: kernel.total }
            }
            Queue::Disk(spool) => spool.counts(),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Queue ===

impl Queue {
    fn oldest(&mut self, most: usize) -> Option<Chunk> {
        let chunk = match self {
            Queue::Memory(memory) => memory.oldest(most),
            Queue::Disk(spool) => spool.oldest(most, BATCH_BYTES),
        };
        (!chunk.lines.is_empty()).then_some(chunk)
    }

    fn numbers(&self, first: u64) -> Option<Numbers> {
        match self {
            Queue::Memory(_) => None,
            Queue::Disk(spool) => Some(spool.numbers(first)),
        }
    }

    /// The records `first..first + count` need not be sent any more.
    fn done(&mut self, first: u64, count: u64, sent: bool) {
        match self {
            Queue::Memory(memory) => memory.done(first, count, sent),
            Queue::Disk(spool) => spool.done(first, count, sent),
        }
    }
}

// === impl Memory ===

impl Memory {
    fn push(&mut self, lines: Vec<String>, unwritten: u64) {
        self.records.extend(lines);
        self.lost += unwritten;
        while self.records.len() > WAITING_MAX {
            self.records.pop_front();
            self.taken += 1;
            self.lost += 1;
        }
    }

    fn oldest(&self, most: usize) -> Chunk {
        let mut bytes = 0;
        let fits = self.records.iter().take(most).take_while(|line| {
            bytes += line.len();
            bytes <= BATCH_BYTES || bytes == line.len()
        });
        Chunk { first: self.taken, lines: fits.cloned().collect() }
    }

    fn done(&mut self, first: u64, count: u64, sent: bool) {
        // What was pushed out meanwhile was counted as lost, and is not.
        let gone = self.taken.saturating_sub(first).min(count);
        for _ in gone..count {
            self.records.pop_front();
            self.taken += 1;
        }
        if sent {
            self.lost -= gone;
            self.sent += count;
        } else {
            self.lost += count - gone;
        }
    }
}

// === impl KernelLoss ===

impl KernelLoss {
    /// Takes a reading; whether it is news.
    pub(super) fn saw(&mut self, counter: u64) -> bool {
        // A counter that went back is one of a new instance.
        let more = if counter >= self.seen { counter - self.seen } else { counter };
        let news = counter != self.seen;
        self.seen = counter;
        self.total += more;
        news
    }
}

#[cfg(test)]
mod tests;
