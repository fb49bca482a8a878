//! How long to wait after a failure.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// Growing waits: doubled at each failure up to a bound, and spread, so that the agents of a control plane that comes
/// back do not all ask at once.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    max: Duration,
    failures: u32,
}

// === impl Backoff ===

impl Backoff {
    pub(crate) fn new(first: Duration, max: Duration) -> Backoff {
        Backoff { first, max: max.max(first), failures: 0 }
    }

    /// It went well: the next failure is the first one.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// How long to wait after one more failure: between a half and the whole of the doubled wait.
    pub(crate) fn next(&mut self) -> Duration {
        let whole = self.first.saturating_mul(1 << self.failures.min(20)).min(self.max);
        self.failures = self.failures.saturating_add(1);
        whole / 2 + (whole / 2).mul_f64(random_fraction())
    }
}

/// From 0 up to 1; no secret.
fn random_fraction() -> f64 {
    random_u64() as f64 / u64::MAX as f64
}

/// A number that differs between calls and processes; no secret. The standard library seeds its hash maps from the
/// system's random numbers.
pub(crate) fn random_u64() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_bound_and_are_spread() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for whole_ms in [100, 200, 400, 800, 1000, 1000] {
            let wait = backoff.next();
            let whole = Duration::from_millis(whole_ms);
            assert!(whole / 2 <= wait && wait <= whole, "{wait:?} of {whole:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(100));
        let waits: std::collections::BTreeSet<_> =
            (0..32).map(|_| Backoff::new(Duration::from_secs(1), Duration::from_secs(1)).next()).collect();
        assert!(waits.len() > 1, "the same wait every time: {waits:?}");
    }

    #[test]
    fn a_failure_without_end_does_not_overflow() {
        let mut backoff = Backoff { failures: u32::MAX, ..Backoff::new(Duration::MAX / 4, Duration::MAX) };
        assert!(backoff.next() > Duration::from_secs(1));
    }
}
