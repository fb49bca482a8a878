//! Byte classes: bytes that no pattern names behave alike, so automata need not tell them apart.
//!
//! **Invariant:** class 0 holds exactly the bytes that no pattern names.

use portcullis_bpf::abi;

/// Class of each byte, and how many classes there are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Classes {
    of: [u8; 256],
    count: usize,
}

/// Which bytes patterns name.
#[derive(Debug)]
pub(super) struct Census {
    named: [bool; 256],
}

// === impl Census ===

impl Census {
    /// No byte but the slash, which wildcards distinguish.
    pub(super) fn new() -> Self {
        let mut named = [false; 256];
        named[usize::from(b'/')] = true;
        Self { named }
    }

    /// Adds the bytes of a literal.
    pub(super) fn add(&mut self, literal: &[u8]) {
        for &byte in literal {
            self.named[usize::from(byte)] = true;
        }
    }

    /// Numbers the classes. `None`: every byte is named, which no valid policy does.
    pub(super) fn classes(&self) -> Option<Classes> {
        let mut of = [0; 256];
        let mut count: u8 = 0;
        for (class, _) in of.iter_mut().zip(self.named).filter(|(_, named)| *named) {
            count = count.checked_add(1)?;
            *class = count;
        }
        Some(Classes { of, count: usize::from(count) + 1 })
    }
}

// === impl Classes ===

impl Classes {
    /// Class of a byte.
    pub(super) fn class(&self, byte: u8) -> u8 {
        self.of[usize::from(byte)]
    }

    /// Number of classes, class 0 included.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Value of `pc_classes`.
    pub(super) fn value(&self) -> abi::Classes {
        abi::Classes { c: self.of }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_bytes_have_classes_of_their_own() {
        let mut census = Census::new();
        census.add(b"abba");
        let classes = census.classes().unwrap();
        assert_eq!(classes.count(), 4);
        let mut numbers = [b'a', b'b', b'/'].map(|byte| classes.class(byte));
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2, 3]);
        assert_eq!(classes.class(b'c'), 0);
        assert_eq!(classes.class(0xff), 0);
    }

    #[test]
    fn all_bytes_named_is_no_alphabet() {
        let mut census = Census::new();
        census.add(&(0..=255).collect::<Vec<u8>>());
        assert_eq!(census.classes(), None);
    }
}
