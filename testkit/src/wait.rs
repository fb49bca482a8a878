//! Waiting for something that another thread or process does.

use std::thread;
use std::time::{Duration, Instant};

/// Asks `ready` every few milliseconds until it returns a value.
///
/// # Panics
/// When `limit` has passed, naming `what` was waited for.
#[track_caller]
pub fn eventually<T>(what: &str, limit: Duration, mut ready: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} for {what}, in vain");
        thread::sleep(Duration::from_millis(5));
    }
}
