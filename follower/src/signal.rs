//! Something that threads wait for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::lock;

/// Something that is waited for: set once or again and again, by whoever knows.
#[derive(Debug, Default)]
pub struct Signal {
    set: AtomicBool,
    lock: Mutex<()>,
    wake: Condvar,
}

// === impl Signal ===

impl Signal {
    /// Sets it.
    pub fn set(&self) {
        let _held = lock(&self.lock);
        self.set.store(true, Ordering::Release);
        self.wake.notify_all();
    }

    /// Unsets it.
    pub fn clear(&self) {
        self.set.store(false, Ordering::Release);
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        self.set.load(Ordering::Acquire)
    }

    /// Waits until it is set, for so long at most; whether it is.
    pub fn wait(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut held = lock(&self.lock);
        while !self.is_set() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            held = self.wake.wait_timeout(held, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}
