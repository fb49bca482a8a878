//! Access records on their way: to lines of JSON, and to the control plane. Bounded, in order, losses counted.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

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
    sent: u64,
    lost: u64,
    closed: bool,
}

/// A thread that writes records as lines.
#[derive(Debug)]
pub(crate) struct Lines {
    pub(crate) queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

/// Records that may wait; beyond, the oldest are lost.
const WAITING_MAX: usize = 100_000;
/// Records in one request to the control plane, and in one write.
pub(crate) const BATCH: usize = 1_000;

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
    pub(crate) fn take(&self) -> Vec<AccessLog> {
        let mut state = self.state();
        let count = state.records.len().min(BATCH);
        state.records.drain(..count).collect()
    }

    /// They were not sent and wait on.
    pub(crate) fn give_back(&self, batch: Vec<AccessLog>) {
        let mut state = self.state();
        for record in batch.into_iter().rev() {
            state.records.push_front(record);
        }
    }

    /// They were sent.
    pub(crate) fn sent(&self, count: usize) {
        self.state().sent += count as u64;
    }

    /// Sent, waiting, lost.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        let state = self.state();
        (state.sent, state.records.len() as u64, state.lost)
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

// === impl Lines ===

impl Lines {
    /// Starts writing to `out`. What cannot be written is lost, and counted.
    pub(crate) fn start(mut out: Box<dyn Write + Send>) -> std::io::Result<Lines> {
        let queue = Arc::new(Queue::default());
        let from = Arc::clone(&queue);
        let run = move || {
            while let Some(batch) = from.wait() {
                let mut text = Vec::new();
                for record in &batch {
                    if serde_json::to_writer(&mut text, record).is_ok() {
                        text.push(b'\n');
                    }
                }
                match out.write_all(&text).and_then(|()| out.flush()) {
                    Ok(()) => from.sent(batch.len()),
                    Err(_) => from.state().lost += batch.len() as u64,
                }
            }
        };
        let thread = thread::Builder::new().name("pc-lines".to_owned()).spawn(run)?;
        Ok(Lines { queue, thread: Some(thread) })
    }
}

impl Drop for Lines {
    /// Writes what is left.
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
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
        assert_eq!(queue.counts(), (0, WAITING_MAX as u64, 10_000));
        let batch = queue.take();
        assert_eq!((batch.len(), batch[0].source_port), (BATCH, 1));
        queue.give_back(batch);
        assert_eq!(queue.counts().1, WAITING_MAX as u64);
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
        let lines = Lines::start(Box::new(out.clone())).unwrap();
        lines.queue.push((0..2_500).map(record));
        drop(lines);
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let read: Vec<u16> =
            text.lines().map(|line| serde_json::from_str::<AccessLog>(line).unwrap().source_port).collect();
        assert_eq!(read, (0..2_500).collect::<Vec<_>>());
    }
}
