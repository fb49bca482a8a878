//! Access records on their way from the connections: to lines of JSON, and to the spool for the control plane. Bounded, in
//! order, losses counted. A thread of its own writes: no request waits for a disk.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use portcullis_follower::Records;
use portcullis_wire::AccessLog;

/// Records for one reader.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct State {
    records: VecDeque<AccessLog>,
    lost: u64,
    closed: bool,
}

/// A thread that takes records elsewhere.
#[derive(Debug)]
pub(crate) struct Carrier {
    pub(crate) queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Records that may wait; beyond, the oldest are lost.
const WAITING_MAX: usize = 100_000;
/// Records in one write.
const BATCH: usize = 1_000;

// === impl Queue ===

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds records.
    pub(crate) fn push(&self, records: impl IntoIterator<Item = AccessLog>) {
        let mut state = self.state();
        state.records.extend(records);
        while state.records.len() > WAITING_MAX {
            state.records.pop_front();
            state.lost += 1;
        }
        self.more.notify_one();
    }

    /// The oldest, taken out.
    fn take(&self) -> Vec<AccessLog> {
        let mut state = self.state();
        let count = state.records.len().min(BATCH);
        state.records.drain(..count).collect()
    }

    /// Waiting, lost.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let state = self.state();
        (state.records.len() as u64, state.lost)
    }

    fn close(&self) {
        self.state().closed = true;
        self.more.notify_all();
    }

    /// Waits for records; `None` when there will be none.
    fn wait(&self) -> Option<Vec<AccessLog>> {
        let mut state = self.state();
        while state.records.is_empty() {
            if state.closed {
                return None;
            }
            state = self.more.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        Some(self.take())
    }
}

// === impl Carrier ===

impl Carrier {
    /// Writes lines to `out`. What cannot be written is lost, and counted.
    pub(crate) fn to_lines(mut out: Box<dyn Write + Send>) -> io::Result<Carrier> {
        Carrier::start("pc-lines", move |batch| {
            let mut text = Vec::new();
            for record in batch {
                if serde_json::to_writer(&mut text, record).is_ok() {
                    text.push(b'\n');
                }
            }
            out.write_all(&text).and_then(|()| out.flush()).is_ok()
        })
    }

    /// Gives them to whoever sends them to the control plane, which counts its own losses.
    pub(crate) fn to_plane(records: Records) -> io::Result<Carrier> {
        Carrier::start("pc-records", move |batch| {
            records.push(batch);
            true
        })
    }

    fn start(
        name: &str,
        mut carry: impl FnMut(&[AccessLog]) -> bool + Send + 'static,
    ) -> io::Result<Carrier> {
        let queue = Arc::new(Queue::default());
        let from = Arc::clone(&queue);
        let run = move || {
            while let Some(batch) = from.wait() {
                if !carry(&batch) {
                    from.state().lost += batch.len() as u64;
                }
            }
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(Carrier { queue, thread: Mutex::new(Some(thread)) })
    }

    /// Returns when what waits was taken; what comes later is not.
    pub(crate) fn finish(&self) {
        self.queue.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            drop(thread.join());
        }
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u16) -> AccessLog {
        AccessLog { source_port: number, ..AccessLog::default() }
    }

    #[test]
    fn the_oldest_are_lost_first_and_counted() {
        let queue = Queue::default();
        for round in 0..=10 {
            queue.push((0..10_000).map(|_| record(round)));
        }
        assert_eq!(queue.counts(), (WAITING_MAX as u64, 10_000));
        let batch = queue.take();
        assert_eq!((batch.len(), batch[0].source_port), (BATCH, 1));
    }

    #[test]
    fn what_waits_at_the_end_is_written() {
        #[derive(Clone, Default)]
        struct Shared(Arc<Mutex<Vec<u8>>>);
        impl Write for Shared {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let out = Shared::default();
        let lines = Carrier::to_lines(Box::new(out.clone())).unwrap();
        lines.queue.push((0..2_500).map(record));
        drop(lines);
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let read: Vec<u16> =
            text.lines().map(|line| serde_json::from_str::<AccessLog>(line).unwrap().source_port).collect();
        assert_eq!(read, (0..2_500).collect::<Vec<_>>());
    }
}
