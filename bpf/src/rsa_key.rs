//! RSA public keys as the kernel wants them: limbs, and the constants of the verification (lib/rsa.h).
//!
//! The exponent is 65537 throughout; the constants make it so.
//!
//! **Invariant:** a modulus of another size or an even one gives no key.

use num_bigint::{BigInt, BigUint};

use crate::abi::{Rsa2048Key, Rsa3072Key, Rsa4096Key};
use crate::limits::{
    RSA2048_LIMB_BITS, RSA2048_LIMBS, RSA3072_LIMB_BITS, RSA3072_LIMBS, RSA4096_LIMB_BITS, RSA4096_LIMBS,
};

/// The key of a 2048-bit modulus, octets most significant first; `None` unless it is odd and has exactly 2048 bits.
pub fn rsa2048(modulus: &[u8]) -> Option<Rsa2048Key> {
    let k = Constants::new(modulus, 2048, RSA2048_LIMB_BITS, RSA2048_LIMBS)?;
    Some(Rsa2048Key { n: k.limbs(&k.n), c1: k.limbs(&k.c1), k1: k.limbs(&k.k1), m: k.m, pad: 0 })
}

/// The key of a 3072-bit modulus, as [`rsa2048`].
pub fn rsa3072(modulus: &[u8]) -> Option<Rsa3072Key> {
    let k = Constants::new(modulus, 3072, RSA3072_LIMB_BITS, RSA3072_LIMBS)?;
    Some(Rsa3072Key { n: k.limbs(&k.n), c1: k.limbs(&k.c1), k1: k.limbs(&k.k1), m: k.m, pad: 0 })
}

/// The key of a 4096-bit modulus, as [`rsa2048`].
pub fn rsa4096(modulus: &[u8]) -> Option<Rsa4096Key> {
    let k = Constants::new(modulus, 4096, RSA4096_LIMB_BITS, RSA4096_LIMBS)?;
    Some(Rsa4096Key { n: k.limbs(&k.n), c1: k.limbs(&k.c1), k1: k.limbs(&k.k1), m: k.m, pad: 0 })
}

struct Constants {
    limb_bits: usize,
    n: BigUint,
    c1: BigUint,
    k1: BigUint,
    m: u32,
}

// === impl Constants ===

impl Constants {
    /// With R = 2^(limb_bits * limbs): N = m * n, m * c1 and m * k1, where c1 = -R^-65535 mod n and
    /// k1 = EM0 * c1 mod n.
    fn new(modulus: &[u8], bits: u64, limb_bits: usize, limbs: usize) -> Option<Self> {
        let n = BigUint::from_bytes_be(modulus);
        if n.bits() != bits || !n.bit(0) {
            return None;
        }
        let r = BigUint::from(1u8) << (limb_bits * limbs);
        let inverse = r.modinv(&n)?;
        let c1 = &n - inverse.modpow(&BigUint::from(65535u32), &n);
        let k1 = encoded_message(bits as usize / 8) * &c1 % &n;
        let m = negative_inverse(&n, limb_bits)?;
        Some(Self { limb_bits, n: n * m, c1: c1 * m, k1: k1 * m, m })
    }

    /// Signed limbs from -2^(limb_bits - 1) to 2^(limb_bits - 1) - 1, least significant first. `x` fits: it is at
    /// most N, which leaves the highest limb's highest bit free.
    fn limbs<const N: usize>(&self, x: &BigUint) -> [i32; N] {
        let mut rest = BigInt::from(x.clone());
        let (base, half) = (BigInt::from(1) << self.limb_bits, BigInt::from(1) << (self.limb_bits - 1));
        let mut out = [0; N];
        for limb in &mut out {
            // In two's complement, as `&` takes it, the low bits of a negative number are right too.
            let part = ((&rest + &half) & (&base - 1)) - &half;
            rest = (rest - &part) >> self.limb_bits;
            *limb = i32::try_from(part).unwrap_or(0);
        }
        debug_assert_eq!(rest, BigInt::ZERO, "the number fits");
        out
    }
}

/// EM of RFC 8017 section 9.2 with zeros for the digest: 00 01 FF .. FF 00, DigestInfo of SHA-256.
fn encoded_message(octets: usize) -> BigUint {
    let tail = DIGEST_INFO.len() + DIGEST_OCTETS;
    let mut em = vec![0xff; octets];
    em[..2].copy_from_slice(&[0, 1]);
    em[octets - tail - 1] = 0;
    em[octets - tail..][..DIGEST_INFO.len()].copy_from_slice(&DIGEST_INFO);
    em[octets - DIGEST_OCTETS..].fill(0);
    BigUint::from_bytes_be(&em)
}

/// `-n^-1 mod 2^bits`.
fn negative_inverse(n: &BigUint, bits: usize) -> Option<u32> {
    let base = BigUint::from(1u8) << bits;
    let inverse = (n % &base).modinv(&base)?;
    (base - inverse).try_into().ok()
}

const DIGEST_OCTETS: usize = 32;
/// RFC 8017 section 9.2, note 1.
const DIGEST_INFO: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00,
    0x04, 0x20,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_modulus_of_another_size_or_an_even_one_is_no_key() {
        let mut modulus = [0xff; 256];
        assert!(rsa2048(&modulus).is_some());
        assert!(rsa3072(&modulus).is_none());
        modulus[255] = 0xfe;
        assert!(rsa2048(&modulus).is_none(), "even");
        modulus[255] = 0xff;
        modulus[0] = 0x7f;
        assert!(rsa2048(&modulus).is_none(), "2047 bits");
    }

    #[test]
    fn limbs_put_together_are_the_number() {
        let k = Constants::new(&[0xff; 256], 2048, RSA2048_LIMB_BITS, RSA2048_LIMBS).unwrap();
        for x in [&k.n, &k.c1, &k.k1] {
            let limbs: [i32; RSA2048_LIMBS] = k.limbs(x);
            assert!(limbs.iter().all(|limb| (-(1 << 28)..1 << 28).contains(limb)), "signed, of 29 bits");
            let sum = limbs.iter().rev().fold(BigInt::ZERO, |sum, l| (sum << RSA2048_LIMB_BITS) + *l);
            assert_eq!(sum, BigInt::from(x.clone()));
        }
    }

    #[test]
    fn the_modulus_is_stretched_to_minus_one_in_its_lowest_limb() {
        let mut modulus = [0x5a; 512];
        modulus[0] = 0x80;
        modulus[511] = 0x0b;
        let k = rsa4096(&modulus).unwrap();
        assert_eq!(k.n[0], -1);
        let n = BigUint::from(0xdead_beef_u32);
        assert_eq!((&n * negative_inverse(&n, 29).unwrap() + 1u32) % (1u32 << 29), BigUint::ZERO);
    }
}
