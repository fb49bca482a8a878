//! What time it is for the agent.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Unix time, which harnesses can move. Clones share one offset.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clock(Arc<AtomicI64>);

// === impl Clock ===

impl Clock {
    /// Seconds since the epoch.
    pub(crate) fn now_s(&self) -> u64 {
        #[expect(clippy::disallowed_methods, reason = "the agent's one reading of the machine's clock")]
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        now.saturating_add_signed(self.0.load(Ordering::Acquire))
    }

    /// Moves it, seconds relative to the machine's clock.
    pub(crate) fn set_offset_s(&self, offset_s: i64) {
        self.0.store(offset_s, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_clock_moves_its_clones() {
        let clock = Clock::default();
        let clone = clock.clone();
        let before = clone.now_s();
        clock.set_offset_s(3600);
        assert!(clone.now_s() >= before + 3600);
    }
}
