//! Access records on their way to the control plane: bounded, in order, losses counted.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use portcullis_wire::AccessLog;

use super::plane::{Plane, PlaneError};

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    queue: Mutex<Queue>,
    /// Held while a batch is under way: records stay in order.
    sending: Mutex<()>,
}

#[derive(Debug, Default)]
struct Queue {
    records: VecDeque<AccessLog>,
    sent: u64,
    lost: u64,
}

/// Records that may wait; beyond, the oldest are lost.
const WAITING_MAX: usize = 100_000;
/// Records in one request.
const BATCH: usize = 1_000;

// === impl Logs ===

impl Logs {
    /// Adds records.
    pub(crate) fn push(&self, batch: Vec<AccessLog>) {
        let mut queue = self.queue();
        queue.records.extend(batch);
        while queue.records.len() > WAITING_MAX {
            queue.records.pop_front();
            queue.lost += 1;
        }
    }

    /// Sends what waits; what is not taken waits on.
    pub(crate) fn send(&self, plane: &Plane) {
        // The next round tries again, and the counts show that records wait.
        drop(self.send_all(plane));
    }

    /// Sends what waits.
    pub(crate) fn send_all(&self, plane: &Plane) -> Result<(), PlaneError> {
        let _one = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let batch: Vec<AccessLog> = {
                let mut queue = self.queue();
                let count = queue.records.len().min(BATCH);
                queue.records.drain(..count).collect()
            };
            if batch.is_empty() {
                return Ok(());
            }
            if let Err(error) = plane.report(&batch) {
                let mut queue = self.queue();
                for record in batch.into_iter().rev() {
                    queue.records.push_front(record);
                }
                return Err(error);
            }
            self.queue().sent += batch.len() as u64;
        }
    }

    /// Sent, waiting, lost.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        let queue = self.queue();
        (queue.sent, queue.records.len() as u64, queue.lost)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_records_are_lost_first_and_counted() {
        let logs = Logs::default();
        let record = |port| AccessLog { source_port: port, ..AccessLog::default() };
        logs.push(vec![record(1), record(2)]);
        logs.push(vec![record(3); WAITING_MAX - 1]);
        assert_eq!(logs.counts(), (0, WAITING_MAX as u64, 1));
        assert_eq!(logs.queue().records[0].source_port, 2);
    }
}
