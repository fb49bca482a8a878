//! The clock of the control plane: a parameter, so that tests and scenarios can move it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Reads the time as a duration since the Unix epoch. Clones share one offset: moving one moves all.
#[derive(Clone)]
pub struct Clock {
    read: Arc<dyn Fn() -> Duration + Send + Sync>,
    ahead_s: Arc<AtomicI64>,
}

/// Farthest that a clock can be moved from what it is based on, seconds: a hundred years.
pub(crate) const AHEAD_MAX_S: i64 = 100 * 365 * 86_400;

// === impl Clock ===

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Clock {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place of this crate that reads the real clock"
        )]
        let read = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { read: Arc::new(read), ahead_s: Arc::default() }
    }

    /// A clock that shows `seconds`, read at every use.
    #[must_use]
    pub fn manual(seconds: Arc<AtomicU64>) -> Clock {
        let read = move || Duration::from_secs(seconds.load(Ordering::Relaxed));
        Clock { read: Arc::new(read), ahead_s: Arc::default() }
    }

    /// Time since the Unix epoch.
    #[must_use]
    pub fn now(&self) -> Duration {
        let base = (self.read)();
        let ahead = self.ahead_s.load(Ordering::Relaxed);
        let distance = Duration::from_secs(ahead.unsigned_abs());
        if ahead < 0 { base.saturating_sub(distance) } else { base.saturating_add(distance) }
    }

    /// Whole seconds since the Unix epoch.
    #[must_use]
    pub fn now_s(&self) -> u64 {
        self.now().as_secs()
    }

    /// How far the clock was moved from what it is based on, seconds; negative: back.
    #[must_use]
    pub fn ahead_s(&self) -> i64 {
        self.ahead_s.load(Ordering::Relaxed)
    }

    /// Moves the clock by `seconds`, at most a hundred years away from what it is based on.
    pub fn advance(&self, seconds: i64) {
        let moved = |ahead: i64| Some(ahead.saturating_add(seconds).clamp(-AHEAD_MAX_S, AHEAD_MAX_S));
        // The closure never refuses, so there is no failure to look at.
        let _before = self.ahead_s.fetch_update(Ordering::Relaxed, Ordering::Relaxed, moved);
    }
}

impl Default for Clock {
    fn default() -> Self {
        Clock::system()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now_s()).finish()
    }
}
