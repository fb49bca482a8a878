//! Arithmetic modulo the prime of P-256 for building tables: four 64-bit words, Montgomery form with R = 2^256.
//!
//! Values are reduced and unique. Nothing is secret here, so nothing is constant-time.

/// A field element times 2^256.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Fe([u64; 4]);

// === impl Fe ===

impl Fe {
    #[cfg(test)]
    pub(super) const ZERO: Self = Self([0; 4]);
    /// 1: 2^256 - p.
    pub(super) const ONE: Self = Self([1, 0xffff_ffff_0000_0000, u64::MAX, 0xffff_fffe]);
    /// The curve's coefficient b.
    pub(super) fn curve_b() -> Self {
        Self::from_words([
            0x3bce_3c3e_27d2_604b,
            0x651d_06b0_cc53_b0f6,
            0xb3eb_bd55_7698_86bc,
            0x5ac6_35d8_aa3a_93e7,
        ])
    }

    /// The number in 32 octets, most significant first; `None` when it is not below p.
    pub(super) fn from_octets(octets: &[u8; 32]) -> Option<Self> {
        let mut words = [0; 4];
        for (word, chunk) in words.iter_mut().rev().zip(octets.chunks_exact(8)) {
            *word = chunk.iter().fold(0, |w, b| w << 8 | u64::from(*b));
        }
        (!at_least_p(&words)).then(|| Self::from_words(words))
    }

    fn from_words(words: [u64; 4]) -> Self {
        Self(words).mul(Self(R_SQUARED))
    }

    /// The plain number times 2^261 mod p, the form of `pc_p256_point`: another five doublings.
    pub(super) fn kernel_words(self) -> [u64; 4] {
        let mut x = self;
        for _ in 0..5 {
            x = x.add(x);
        }
        x.0
    }

    /// The plain number.
    #[cfg(test)]
    pub(super) fn plain(self) -> [u64; 4] {
        self.mul(Self([1, 0, 0, 0])).0
    }

    pub(super) fn add(self, other: Self) -> Self {
        let (sum, carry) = add_words(&self.0, &other.0);
        Self(if carry || at_least_p(&sum) { sub_words(&sum, &P).0 } else { sum })
    }

    pub(super) fn sub(self, other: Self) -> Self {
        let (difference, borrow) = sub_words(&self.0, &other.0);
        Self(if borrow { add_words(&difference, &P).0 } else { difference })
    }

    pub(super) fn square(self) -> Self {
        self.mul(self)
    }

    /// Montgomery product, one word of `self` a turn. p = -1 mod 2^64, so the digit is the low word itself.
    pub(super) fn mul(self, other: Self) -> Self {
        let mut t = [0u64; 5];
        for a in self.0 {
            let high = multiply_add(&mut t, a, &other.0);
            let digit = t[0];
            let higher = multiply_add(&mut t, digit, &P);
            // t[0] is 0 now. t stays below 2p, so its fifth word and the two carries make one bit.
            t = [t[1], t[2], t[3], t[4], u64::from(high) + u64::from(higher)];
        }
        let low = [t[0], t[1], t[2], t[3]];
        Self(if t[4] != 0 || at_least_p(&low) { sub_words(&low, &P).0 } else { low })
    }

    /// x^(p - 2), the inverse (Fermat); 0 for 0.
    pub(super) fn invert(self) -> Self {
        let (exponent, _) = sub_words(&P, &[2, 0, 0, 0]);
        let mut result = Self::ONE;
        for bit in (0..256).rev() {
            result = result.square();
            if exponent[bit / 64] >> (bit % 64) & 1 == 1 {
                result = result.mul(self);
            }
        }
        result
    }
}

/// Inverts every element with one inversion (Montgomery's trick). None may be 0.
pub(super) fn invert_all(elements: &mut [Fe]) {
    let mut products = Vec::with_capacity(elements.len());
    let mut all = Fe::ONE;
    for e in &*elements {
        products.push(all);
        all = all.mul(*e);
    }
    let mut inverse = all.invert();
    for (e, before) in elements.iter_mut().zip(products).rev() {
        let of_this = inverse.mul(before);
        inverse = inverse.mul(*e);
        *e = of_this;
    }
}

/// t += a * b; whether that left five words.
fn multiply_add(t: &mut [u64; 5], a: u64, b: &[u64; 4]) -> bool {
    let mut carry = 0u128;
    for i in 0..4 {
        let sum = u128::from(a) * u128::from(b[i]) + u128::from(t[i]) + carry;
        t[i] = sum as u64;
        carry = sum >> 64;
    }
    let (top, over) = t[4].overflowing_add(carry as u64);
    t[4] = top;
    over
}

fn add_words(a: &[u64; 4], b: &[u64; 4]) -> ([u64; 4], bool) {
    let mut sum = [0; 4];
    let mut carry = false;
    for i in 0..4 {
        let (s, c) = a[i].overflowing_add(b[i]);
        let (s, d) = s.overflowing_add(u64::from(carry));
        (sum[i], carry) = (s, c || d);
    }
    (sum, carry)
}

fn sub_words(a: &[u64; 4], b: &[u64; 4]) -> ([u64; 4], bool) {
    let mut difference = [0; 4];
    let mut borrow = false;
    for i in 0..4 {
        let (s, c) = a[i].overflowing_sub(b[i]);
        let (s, d) = s.overflowing_sub(u64::from(borrow));
        (difference[i], borrow) = (s, c || d);
    }
    (difference, borrow)
}

fn at_least_p(a: &[u64; 4]) -> bool {
    !sub_words(a, &P).1
}

/// 2^256 - 2^224 + 2^192 + 2^96 - 1, least significant word first.
const P: [u64; 4] = [u64::MAX, 0xffff_ffff, 0, 0xffff_ffff_0000_0001];
/// 2^512 mod p.
const R_SQUARED: [u64; 4] = [3, 0xffff_fffb_ffff_ffff, 0xffff_ffff_ffff_fffe, 0x4_ffff_fffd];

#[cfg(test)]
mod tests {
    use num_bigint::BigUint;
    use portcullis_testkit::{Rng, seed};

    use super::*;

    fn big(words: &[u64; 4]) -> BigUint {
        words.iter().rev().fold(BigUint::ZERO, |x, w| (x << 64u32) + *w)
    }

    fn random(rng: &mut Rng) -> Fe {
        loop {
            let mut octets = [0; 32];
            rng.fill(&mut octets);
            // words at the ends of their range are where carries go wrong
            for word in octets.chunks_exact_mut(8) {
                match rng.below(4) {
                    0 => word.fill(0),
                    1 => word.fill(0xff),
                    _ => {}
                }
            }
            if let Some(x) = Fe::from_octets(&octets) {
                return x;
            }
        }
    }

    #[test]
    fn arithmetic_agrees_with_big_integers() {
        let mut rng = Rng::new(seed());
        let p = big(&P);
        for _ in 0..2000 {
            let (a, b) = (random(&mut rng), random(&mut rng));
            let (x, y) = (big(&a.plain()), big(&b.plain()));
            assert_eq!(big(&a.add(b).plain()), (&x + &y) % &p);
            assert_eq!(big(&a.sub(b).plain()), (&x + &p - &y) % &p);
            assert_eq!(big(&a.mul(b).plain()), (&x * &y) % &p);
            assert_eq!(big(&a.kernel_words()), (&x << 261u32) % &p);
        }
    }

    #[test]
    fn inverses() {
        let mut rng = Rng::new(seed());
        let elements: Vec<Fe> = (0..50).map(|_| random(&mut rng)).filter(|e| *e != Fe::ZERO).collect();
        let mut inverses = elements.clone();
        invert_all(&mut inverses);
        for (e, i) in elements.iter().zip(&inverses) {
            assert_eq!(e.mul(*i), Fe::ONE);
            assert_eq!(e.invert(), *i);
        }
        assert_eq!(Fe::ZERO.invert(), Fe::ZERO);
    }

    #[test]
    fn numbers_from_p_on_are_refused() {
        let mut octets = [0; 32];
        for (chunk, word) in octets.chunks_exact_mut(8).zip(P.iter().rev()) {
            chunk.copy_from_slice(&word.to_be_bytes());
        }
        assert_eq!(Fe::from_octets(&octets), None);
        octets[31] -= 1;
        assert_eq!(Fe::from_octets(&octets), Some(Fe::ZERO.sub(Fe::ONE)));
        assert_eq!(Fe::from_octets(&[0xff; 32]), None);
    }
}
