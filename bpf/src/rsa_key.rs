//! RSA public keys as the kernel wants them: limbs, and the constants of the verification (lib/rsa.h).
//!
//! The exponent is 65537 throughout; the constants make it so.
//!
//! **Invariant:** a modulus of another size or an even one gives no key.

use num_bigint::BigUint;

use crate::abi::{Rsa2048Key, Rsa3072Key, Rsa4096Key};
use crate::limits::{RSA2048_LIMBS, RSA3072_LIMBS, RSA4096_LIMBS};

/// The key of a 2048-bit modulus, octets most significant first; `None` unless it is odd and has exactly 2048 bits.
pub fn rsa2048(modulus: &[u8]) -> Option<Rsa2048Key> {
    let k = Constants::new(modulus, 2048, RSA2048_LIMBS)?;
    Some(Rsa2048Key { n: limbs(&k.n), c1: limbs(&k.c1), k1: limbs(&k.k1), n0: k.n0, pad: 0 })
}

/// The key of a 3072-bit modulus, as [`rsa2048`].
pub fn rsa3072(modulus: &[u8]) -> Option<Rsa3072Key> {
    let k = Constants::new(modulus, 3072, RSA3072_LIMBS)?;
    Some(Rsa3072Key { n: limbs(&k.n), c1: limbs(&k.c1), k1: limbs(&k.k1), n0: k.n0, pad: 0 })
}

/// The key of a 4096-bit modulus, as [`rsa2048`].
pub fn rsa4096(modulus: &[u8]) -> Option<Rsa4096Key> {
    let k = Constants::new(modulus, 4096, RSA4096_LIMBS)?;
    Some(Rsa4096Key { n: limbs(&k.n), c1: limbs(&k.c1), k1: limbs(&k.k1), n0: k.n0, pad: 0 })
}

struct Constants {
    n: BigUint,
    c1: BigUint,
    k1: BigUint,
    n0: u32,
}

// === impl Constants ===

impl Constants {
    /// With R = 2^(31 * limbs): c1 = -R^-65535 mod n and k1 = EM0 * c1 mod n.
    fn new(modulus: &[u8], bits: u64, limbs: usize) -> Option<Self> {
        let n = BigUint::from_bytes_be(modulus);
        if n.bits() != bits || !n.bit(0) {
            return None;
        }
        let r = BigUint::from(1u8) << (LIMB_BITS * limbs);
        let inverse = r.modinv(&n)?;
        let c1 = &n - inverse.modpow(&BigUint::from(65535u32), &n);
        let k1 = encoded_message(bits as usize / 8) * &c1 % &n;
        Some(Self { n0: negative_inverse(&n)?, n, c1, k1 })
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

/// `-n^-1 mod 2^31`.
fn negative_inverse(n: &BigUint) -> Option<u32> {
    let base = BigUint::from(1u32 << LIMB_BITS);
    let inverse = (n % &base).modinv(&base)?;
    (base - inverse).try_into().ok()
}

/// 31-bit limbs, least significant first. `x` fits: it is below the modulus.
fn limbs<const N: usize>(x: &BigUint) -> [u32; N] {
    let mut out = [0; N];
    let mask = BigUint::from((1u32 << LIMB_BITS) - 1);
    for (i, limb) in out.iter_mut().enumerate() {
        let part = (x >> (LIMB_BITS * i)) & &mask;
        *limb = part.to_u32_digits().first().copied().unwrap_or(0);
    }
    out
}

const LIMB_BITS: usize = 31;
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
        let x = BigUint::from_bytes_be(&(1..=100).collect::<Vec<u8>>());
        let sum = limbs::<30>(&x).iter().rev().fold(BigUint::ZERO, |sum, l| (sum << 31u32) + *l);
        assert_eq!(sum, x);
    }

    #[test]
    fn the_digit_constant_is_the_negative_inverse() {
        let n = BigUint::from(0xdead_beef_u32);
        let n0 = negative_inverse(&n).unwrap();
        assert_eq!((n * n0 + 1u32) % (1u32 << 31), BigUint::ZERO);
    }
}
