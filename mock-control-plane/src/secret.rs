//! Secrets and identifiers: made from the system's random source, kept only as hashes, compared in constant time.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;

use crate::Problem;

/// What is kept of a secret of full entropy. Passwords are kept by [`password`](crate::password).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct SecretHash([u8; 32]);

/// `prefix` and 128 random bits in hexadecimal.
pub(crate) fn random(prefix: &str) -> Result<String, Problem> {
    let bytes: [u8; 16] = random_bytes()?;
    Ok(format!("{prefix}{}", hex(&bytes)))
}

/// Random bytes.
pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N], Problem> {
    let mut bytes = [0_u8; N];
    rand::fill(&mut bytes).map_err(|_| Problem::internal("the system's random source failed"))?;
    Ok(bytes)
}

/// `length` symbols of `alphabet`, each as likely as the others.
pub(crate) fn random_text(alphabet: &[u8], length: usize) -> Result<String, Problem> {
    // Bytes from here on would make the first symbols likelier than the last.
    let fair = 256 - 256 % alphabet.len();
    let mut text = String::with_capacity(length);
    while text.len() < length {
        for byte in random_bytes::<32>()?.map(usize::from) {
            if byte < fair && text.len() < length {
                text.push(char::from(alphabet[byte % alphabet.len()]));
            }
        }
    }
    Ok(text)
}

/// A short fingerprint of `bytes`, for entity tags.
pub(crate) fn fingerprint(bytes: &[u8]) -> String {
    let hash = SecretHash::of(bytes);
    hex(&hash.0[..8])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

// === impl SecretHash ===

impl SecretHash {
    /// Hash of `secret`.
    pub(crate) fn of(secret: &[u8]) -> SecretHash {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, secret).as_ref());
        SecretHash(hash)
    }

    /// Whether `presented` is the secret.
    pub(crate) fn matches(&self, presented: &[u8]) -> bool {
        verify_slices_are_equal(&self.0, &SecretHash::of(presented).0).is_ok()
    }
}
