//! Who signs.

use portcullis_wire::{Issuer, JwkSet};

use crate::limits::NAME_MAX;
use crate::mint::{MintError, SigningKey};

/// An issuer with its private keys.
#[derive(Debug)]
pub struct Party {
    /// Value of `iss`.
    pub issuer: String,
    /// Accepted audiences.
    pub audiences: Vec<String>,
    /// Clock leeway, seconds.
    pub leeway_s: u32,
    /// Keys by kid.
    pub keys: Vec<(String, SigningKey)>,
}

// === impl Party ===

impl Party {
    /// Three issuers with keys of every algorithm and size. Two of them use the same kids for different keys, one of
    /// these even for another algorithm, and share an audience; the third has the longest names that are recognised.
    ///
    /// # Errors
    /// When the cryptographic library makes no key.
    pub fn three() -> Result<Vec<Party>, MintError> {
        let ec = SigningKey::generate_es256;
        let long = |prefix: &str| format!("{prefix}{}", "é".repeat((NAME_MAX - prefix.len()) / 2));
        Ok(vec![
            Party {
                issuer: "https://id.example/a".to_owned(),
                audiences: vec!["api://a".to_owned(), "api://shared".to_owned()],
                leeway_s: 0,
                keys: vec![
                    ("k1".to_owned(), SigningKey::generate_rs256(2048)?),
                    ("k2".to_owned(), ec()?),
                    ("shared".to_owned(), ec()?),
                ],
            },
            Party {
                issuer: "https://id.example/b".to_owned(),
                audiences: vec!["api://b".to_owned(), "api://shared".to_owned()],
                leeway_s: 60,
                keys: vec![
                    ("k1".to_owned(), ec()?),
                    ("k3".to_owned(), SigningKey::generate_rs256(3072)?),
                    ("k4".to_owned(), SigningKey::generate_rs256(4096)?),
                    ("shared".to_owned(), ec()?),
                ],
            },
            Party {
                issuer: long("https://id.example/"),
                audiences: vec![long("api:")],
                leeway_s: crate::limits::LEEWAY_MAX_S,
                keys: vec![(long("ke"), ec()?)],
            },
        ])
    }

    /// What a relying party is configured with.
    #[must_use]
    pub fn wire(&self) -> Issuer {
        Issuer {
            issuer: self.issuer.clone(),
            audiences: self.audiences.clone(),
            leeway_s: self.leeway_s,
            jwks: JwkSet { keys: self.keys.iter().map(|(kid, key)| key.public_jwk(kid)).collect() },
        }
    }
}
