//! Numbers of generations: the version of a bundle, and how often the agent has put that version into force.
//!
//! The kernel empties its token cache when the generation's number changes, and not otherwise. The same version can come
//! to mean something else: keys of an issuer's own URL are fetched anew, keys become too old, an agent starts again.
//! So each installation gets a number of its own.
//!
//! **Invariant:** two installations in a row have different numbers.

use portcullis_follower::VERSION_MAX;

/// A generation's number: 14 bits of count above 48 bits of version; the kernel has 63.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Generation(u64);

/// As many as [`VERSION_MAX`] has.
const VERSION_BITS: u32 = VERSION_MAX.trailing_ones();
const COUNTS: u64 = 1 << 14;

// === impl Generation ===

impl Generation {
    /// As the kernel has it.
    pub(crate) fn from_number(number: u64) -> Generation {
        Generation(number)
    }

    /// For the kernel.
    pub(crate) fn number(self) -> u64 {
        self.0
    }

    /// Version of the bundle; 0: none yet.
    pub(crate) fn version(self) -> u64 {
        self.0 & VERSION_MAX
    }

    /// The number for the next installation, of `version`.
    pub(crate) fn next(self, version: u64) -> Generation {
        let count = if self.version() == version { (self.0 >> VERSION_BITS) + 1 } else { 0 };
        Generation(((count % COUNTS) << VERSION_BITS) | (version & VERSION_MAX))
    }
}

/// Version of the bundle that a generation's number names.
pub(crate) fn version_of(number: u64) -> u64 {
    Generation(number).version()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_installation_has_another_number_and_the_same_version() {
        let first = Generation::from_number(0).next(7);
        assert_eq!((first.number(), first.version()), (7, 7));
        let second = first.next(7);
        assert_ne!(second, first);
        assert_eq!(second.version(), 7);
        assert_eq!(second.next(8).number(), 8);
        let mut now = first;
        for _ in 0..COUNTS + 3 {
            let next = now.next(7);
            assert!(next != now && next.version() == 7 && next.number() < 1 << 63);
            now = next;
        }
    }
}
