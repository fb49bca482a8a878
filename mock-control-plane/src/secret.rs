//! Secrets and identifiers: made from the system's random source, kept only as hashes, compared in constant time.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;

use portcullis_token::mint::SigningKey;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Problem;

/// What is kept of a secret of full entropy. Passwords are kept by [`password`](crate::password).
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct SecretHash(#[serde(with = "Hexadecimal")] [u8; 32]);

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

/// How a signing key stands in the state file.
pub(crate) struct Kept;

// === impl Kept ===

impl Kept {
    /// For `#[serde(with)]`.
    pub(crate) fn serialize<S: Serializer>(key: &SigningKey, serializer: S) -> Result<S::Ok, S::Error> {
        Hexadecimal::serialize(&key.to_pkcs8().map_err(serde::ser::Error::custom)?, serializer)
    }

    /// For `#[serde(with)]`.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SigningKey, D::Error> {
        let der: Vec<u8> = Hexadecimal::deserialize(deserializer)?;
        SigningKey::from_pkcs8(&der).map_err(serde::de::Error::custom)
    }
}

/// How octets stand in the state file.
pub(crate) struct Hexadecimal;

// === impl Hexadecimal ===

impl Hexadecimal {
    /// For `#[serde(with)]`.
    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex(bytes))
    }

    /// For `#[serde(with)]`.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>, T: TryFrom<Vec<u8>>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        let text = String::deserialize(deserializer)?;
        let octet = |at| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(octet).collect();
        let value = bytes.and_then(|bytes| T::try_from(bytes).ok());
        value.ok_or_else(|| {
            serde::de::Error::custom("not octets in hexadecimal, or not as many as there must be")
        })
    }
}

/// Octets in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
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

    /// In hexadecimal: the identifier of what has no other one.
    pub(crate) fn id(&self) -> String {
        hex(&self.0)
    }
}
