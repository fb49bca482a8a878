//! The time, as a parameter.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Reads the time since the Unix epoch.
#[derive(Clone)]
pub struct Clock {
    read: Arc<dyn Fn() -> Duration + Send + Sync>,
}

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
        Clock { read: Arc::new(read) }
    }

    /// A clock that shows what `read` says.
    #[must_use]
    pub fn from_fn(read: impl Fn() -> Duration + Send + Sync + 'static) -> Clock {
        Clock { read: Arc::new(read) }
    }

    /// The machine's clock, ahead by as many seconds as `ahead_s` says at the time.
    #[must_use]
    pub fn ahead(ahead_s: Arc<AtomicI64>) -> Clock {
        let system = Clock::system();
        Clock::from_fn(move || {
            let (now, ahead) = (system.now(), ahead_s.load(Ordering::Acquire));
            let by = Duration::from_secs(ahead.unsigned_abs());
            if ahead < 0 { now.saturating_sub(by) } else { now.saturating_add(by) }
        })
    }

    /// Time since the Unix epoch.
    pub(crate) fn now(&self) -> Duration {
        (self.read)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").finish_non_exhaustive()
    }
}
