//! Keys of the vectors and keys that the tests make: nothing secret is committed.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use portcullis_bpf::{p256_tables, rsa_key};
use zerocopy::IntoBytes;

use crate::engine::Engine;

/// A size of RSA keys, and what depends on it.
#[derive(Clone, Copy, Debug)]
pub struct RsaSize {
    /// Bits of the modulus.
    pub bits: usize,
    /// Map of the keys.
    pub map: &'static str,
}

pub const RSA2048: RsaSize = RsaSize { bits: 2048, map: "pc_rsa2048" };
pub const RSA3072: RsaSize = RsaSize { bits: 3072, map: "pc_rsa3072" };
pub const RSA4096: RsaSize = RsaSize { bits: 4096, map: "pc_rsa4096" };

// === impl RsaSize ===

impl RsaSize {
    /// Puts the key of a modulus at `index`.
    pub fn set_key(self, engine: &mut Engine, index: u32, modulus: &[u8]) {
        let value = match self.bits {
            2048 => rsa_key::rsa2048(modulus).expect("key").as_bytes().to_vec(),
            3072 => rsa_key::rsa3072(modulus).expect("key").as_bytes().to_vec(),
            _ => rsa_key::rsa4096(modulus).expect("key").as_bytes().to_vec(),
        };
        engine.update(self.map, &index.to_ne_bytes(), &value);
    }

    /// A new key pair.
    pub fn generate(self) -> RsaKeyPair {
        let size = match self.bits {
            2048 => KeySize::Rsa2048,
            3072 => KeySize::Rsa3072,
            _ => KeySize::Rsa4096,
        };
        RsaKeyPair::generate(size).expect("key pair")
    }
}

/// Modulus of a key pair, without leading zeros.
pub fn modulus(pair: &RsaKeyPair) -> Vec<u8> {
    // RSAPublicKey (RFC 8017 appendix A.1.1): SEQUENCE and INTEGER with lengths of two octets, a leading 0, the number.
    pair.public_key().as_ref()[9..][..pair.public_modulus_len()].to_vec()
}

/// RSASSA-PKCS1-v1_5 with SHA-256.
pub fn sign_rsa(pair: &RsaKeyPair, message: &[u8]) -> Vec<u8> {
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).expect("signature");
    signature
}

/// A new P-256 key pair.
pub fn generate_p256() -> EcdsaKeyPair {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("key pair")
}

/// Coordinates of an uncompressed point.
pub fn coordinates(point: &[u8]) -> ([u8; 32], [u8; 32]) {
    assert_eq!((point.len(), point[0]), (65, 4), "uncompressed point");
    (point[1..33].try_into().expect("x"), point[33..].try_into().expect("y"))
}

/// Puts the table of a key pair's public point at `index`.
pub fn set_p256_key(engine: &mut Engine, index: u32, pair: &EcdsaKeyPair) {
    let (x, y) = coordinates(pair.public_key().as_ref());
    engine.key_table(index, &p256_tables::key_table(&x, &y).expect("on the curve"));
}

/// ECDSA with SHA-256, r then s.
pub fn sign_p256(pair: &EcdsaKeyPair, message: &[u8]) -> Vec<u8> {
    pair.sign(&SystemRandom::new(), message).expect("signature").as_ref().to_vec()
}
