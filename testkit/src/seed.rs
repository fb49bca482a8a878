//! Randomness that can be repeated.
//!
//! **Invariant:** whoever draws a seed prints it; `PORTCULLIS_SEED=<number>` repeats the run.

use std::collections::hash_map::RandomState;
use std::env;
use std::hash::{BuildHasher, Hasher};

/// The seed of this run: `PORTCULLIS_SEED` (decimal or 0x hexadecimal), else a random one. Prints it.
///
/// # Panics
/// When `PORTCULLIS_SEED` is not a number: running with another seed than was asked for would mislead.
pub fn seed() -> u64 {
    let seed = match env::var("PORTCULLIS_SEED") {
        Ok(text) => parse(&text).unwrap_or_else(|| panic!("PORTCULLIS_SEED={text} is not a 64-bit number")),
        Err(_) => RandomState::new().build_hasher().finish(),
    };
    eprintln!("seed: PORTCULLIS_SEED={seed}");
    seed
}

/// SplitMix64: small, good enough to make test inputs, the same on every machine.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

// === impl Rng ===

impl Rng {
    /// Starts the sequence of `seed`.
    pub fn new(seed: u64) -> Rng {
        Rng { state: seed }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`, or 0 when the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of `items`, or `None` when there are none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len() as u64) as usize)
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

fn parse(text: &str) -> Option<u64> {
    let text = text.trim();
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_splitmix64() {
        // The published first outputs for seed 1234567 (Vigna, prng.di.unimi.it).
        let mut rng = Rng::new(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| rng.next_u64()).collect();
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn below_stays_below_and_reaches_both_ends() {
        let mut rng = Rng::new(7);
        let drawn: Vec<u64> = (0..200).map(|_| rng.below(3)).collect();
        assert!((0..3).all(|n| drawn.contains(&n)) && drawn.iter().all(|n| *n < 3), "{drawn:?}");
        assert_eq!(rng.below(0), 0);
    }

    #[test]
    fn seeds_are_decimal_or_hexadecimal() {
        assert_eq!(parse("42"), Some(42));
        assert_eq!(parse("0xff"), Some(255));
        assert_eq!(parse("many"), None);
    }
}
