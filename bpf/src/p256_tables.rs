//! Tables of multiples of P-256 points, for the maps `pc_p256_g` and `pc_p256_q`.
//!
//! With them the kernel verifies ES256 by additions alone (lib/p256.h). A key's table costs tens of thousands of field
//! multiplications and a handful of inversions.
//!
//! **Invariant:** only a point on the curve gives a table: off it, the additions would be those of another curve.

mod field;

use field::{Fe, invert_all};

use crate::abi::P256Point;
use crate::limits::{P256_POINTS_G, P256_POINTS_Q, P256_WINDOW_G, P256_WINDOW_Q};

/// Why there is no table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BadPoint {
    /// A coordinate is not below the field's prime.
    NotReduced,
    /// The coordinates do not satisfy the curve's equation.
    NotOnCurve,
}

/// `P256_POINTS_Q` points for a key with the coordinates `x` and `y`, most significant octet first.
///
/// # Errors
/// The coordinates are no point of the curve; the point at infinity has none.
pub fn key_table(x: &[u8; 32], y: &[u8; 32]) -> Result<Vec<P256Point>, BadPoint> {
    let table = build_table(x, y, P256_WINDOW_Q)?;
    debug_assert_eq!(table.len(), P256_POINTS_Q);
    Ok(table)
}

/// `P256_POINTS_G` points for the curve's generator.
pub fn generator_table() -> Vec<P256Point> {
    let table = windows(generator(), P256_WINDOW_G);
    debug_assert_eq!(table.len(), P256_POINTS_G);
    table
}

/// The table of any point and any window width in bits: entry `(i << (window - 1)) + m - 1` is `m * 2^(window * i)`
/// times the point, for `m` from 1 to `2^(window - 1)` and every window of 257 bits.
///
/// # Errors
/// As [`key_table`].
pub fn build_table(x: &[u8; 32], y: &[u8; 32], window: usize) -> Result<Vec<P256Point>, BadPoint> {
    let coordinate = |octets| Fe::from_octets(octets).ok_or(BadPoint::NotReduced);
    let point = Affine { x: coordinate(x)?, y: coordinate(y)? };
    if !point.is_on_curve() {
        return Err(BadPoint::NotOnCurve);
    }
    Ok(windows(point, window))
}

/// A point that is not the point at infinity: the order is prime, so no multiple in a table is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Affine {
    x: Fe,
    y: Fe,
}

// === impl Affine ===

impl Affine {
    /// y^2 = x^3 - 3x + b
    fn is_on_curve(self) -> bool {
        let three_x = self.x.add(self.x).add(self.x);
        self.y.square() == self.x.square().mul(self.x).sub(three_x).add(Fe::curve_b())
    }

    /// What has to be inverted for the slope of `self + other`.
    fn slope_denominator(self, other: Self) -> Fe {
        if self == other { self.y.add(self.y) } else { other.x.sub(self.x) }
    }

    /// `self + other`, given the inverse of the denominator; `other` is not `-self`.
    fn add(self, other: Self, inverse: Fe) -> Self {
        let numerator = if self == other {
            let square = self.x.square();
            let three = Fe::ONE.add(Fe::ONE).add(Fe::ONE);
            square.add(square).add(square).sub(three)
        } else {
            other.y.sub(self.y)
        };
        let slope = numerator.mul(inverse);
        let x = slope.square().sub(self.x).sub(other.x);
        Self { x, y: slope.mul(self.x.sub(x)).sub(self.y) }
    }
}

fn windows(point: Affine, window: usize) -> Vec<P256Point> {
    let half = 1 << (window - 1);
    let mut table = Vec::with_capacity(257usize.div_ceil(window) * half);
    let mut base = point;
    for _ in 0..257usize.div_ceil(window) {
        let multiples = multiples(base, half);
        table.extend(multiples.iter().map(|p| P256Point { x: p.x.kernel_words(), y: p.y.kernel_words() }));
        let last = multiples[half - 1];
        base = last.add(last, last.slope_denominator(last).invert());
    }
    table
}

/// 1 to `count` times the base: each round adds the last multiple to all before it, with one inversion.
/// `count` is a power of two.
fn multiples(base: Affine, count: usize) -> Vec<Affine> {
    let mut all = Vec::with_capacity(count);
    all.push(base);
    while all.len() < count {
        let last = all[all.len() - 1];
        let mut inverses: Vec<Fe> = all.iter().map(|p| p.slope_denominator(last)).collect();
        invert_all(&mut inverses);
        for i in 0..inverses.len() {
            all.push(all[i].add(last, inverses[i]));
        }
    }
    all
}

/// SP 800-186 section 3.2.1.3.
fn generator() -> Affine {
    let coordinate =
        |octets: [u8; 32]| Fe::from_octets(&octets).expect("the generator's coordinates are reduced");
    Affine { x: coordinate(GENERATOR_X), y: coordinate(GENERATOR_Y) }
}

const GENERATOR_X: [u8; 32] = [
    0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6, 0xe5, 0x63, 0xa4, 0x40, 0xf2, 0x77,
    0x03, 0x7d, 0x81, 0x2d, 0xeb, 0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45, 0xd8, 0x98, 0xc2, 0x96,
];
const GENERATOR_Y: [u8; 32] = [
    0x4f, 0xe3, 0x42, 0xe2, 0xfe, 0x1a, 0x7f, 0x9b, 0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e, 0x16, 0x2b,
    0xce, 0x33, 0x57, 0x6b, 0x31, 0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51, 0xf5,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// k times the generator by an independent implementation, as x then y.
    fn multiple(k: &num_bigint::BigUint) -> ([u8; 32], [u8; 32]) {
        use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

        let mut scalar = vec![0; 32];
        let octets = k.to_bytes_be();
        scalar[32 - octets.len()..].copy_from_slice(&octets);
        // PKCS #8 with the scalar alone: the public key is computed from it.
        let der = [
            &[0x30, 0x41, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01]
                [..],
            &[
                0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x27, 0x30, 0x25, 0x02,
                0x01, 0x01,
            ],
            &[0x04, 0x20],
            &scalar,
        ]
        .concat();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der).unwrap();
        let public = pair.public_key().as_ref();
        (public[1..33].try_into().unwrap(), public[33..].try_into().unwrap())
    }

    fn kernel_point(x: &[u8; 32], y: &[u8; 32]) -> ([u64; 4], [u64; 4]) {
        let words = |c| Fe::from_octets(c).unwrap().kernel_words();
        (words(x), words(y))
    }

    /// Compares entries with the independent multiples.
    fn check(table: &[P256Point], window: usize, factor: u32, rows: impl IntoIterator<Item = (usize, u32)>) {
        for (i, m) in rows {
            let (x, y) = multiple(&((num_bigint::BigUint::from(factor) * m) << (window * i)));
            let entry = &table[(i << (window - 1)) + m as usize - 1];
            assert_eq!((entry.x, entry.y), kernel_point(&x, &y), "window {i}, multiple {m}");
        }
    }

    #[test]
    fn generator_table_holds_the_known_multiples() {
        let table = generator_table();
        assert_eq!(table.len(), P256_POINTS_G);
        let rows = (0..19).flat_map(|i| [1, 2, 3, 1000, 4095, 4096].map(|m| (i, m)));
        check(&table, P256_WINDOW_G, 1, rows);
    }

    #[test]
    fn key_table_holds_the_known_multiples() {
        let (x, y) = multiple(&7u32.into());
        let table = key_table(&x, &y).unwrap();
        assert_eq!(table.len(), P256_POINTS_Q);
        let rows = (0..25).flat_map(|i| [1, 2, 255, 256, 257, 511, 512].map(|m| (i, m)));
        check(&table, P256_WINDOW_Q, 7, rows);
    }

    #[test]
    fn every_entry_is_on_the_curve_and_no_two_are_equal() {
        let all = multiples(generator(), 512);
        assert!(all.iter().all(|p| p.is_on_curve()));
        let mut words: Vec<_> = all.iter().map(|p| p.x.kernel_words()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), 512);
    }

    #[test]
    fn other_points_have_no_table() {
        let mut y = GENERATOR_Y;
        y[31] ^= 1;
        assert_eq!(key_table(&GENERATOR_X, &y), Err(BadPoint::NotOnCurve));
        assert_eq!(key_table(&[0; 32], &[0; 32]), Err(BadPoint::NotOnCurve));
        assert_eq!(key_table(&[0xff; 32], &GENERATOR_Y), Err(BadPoint::NotReduced));
    }
}
