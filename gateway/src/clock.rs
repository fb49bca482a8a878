//! The time, as a parameter.

use std::fmt;
use std::sync::Arc;
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
