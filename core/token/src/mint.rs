//! Signing keys and token making, for the control plane and tests.
//!
//! **Invariant:** a key leaves this module only when it is asked for by name, as PKCS #8 ([`SigningKey::to_pkcs8`]): for
//! the state file of a control plane.

use std::fmt;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaEncoding, RsaKeyPair,
};
use portcullis_wire::Jwk;

use crate::base64url;

/// A key pair.
pub struct SigningKey {
    pair: Pair,
}

enum Pair {
    Rsa(Box<RsaKeyPair>),
    P256(EcdsaKeyPair),
}

/// Why no key was made.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MintError {
    /// The cryptographic library refused.
    #[error("the cryptographic library made no key")]
    Generate,
    /// Octets that are no key pair of ours.
    #[error("not the PKCS #8 of an RSA key of 2048, 3072 or 4096 bits or of a P-256 key")]
    Pkcs8,
    /// No such key size.
    #[error("an RSA key has 2048, 3072 or 4096 bits, not {0}")]
    Size(usize),
}

// === impl SigningKey ===

impl SigningKey {
    /// A new RSA key; `bits` is 2048, 3072 or 4096. The larger take a second or more.
    ///
    /// # Errors
    /// [`MintError::Size`] for other sizes.
    pub fn generate_rs256(bits: usize) -> Result<SigningKey, MintError> {
        let size = match bits {
            2048 => KeySize::Rsa2048,
            3072 => KeySize::Rsa3072,
            4096 => KeySize::Rsa4096,
            _ => return Err(MintError::Size(bits)),
        };
        let pair = RsaKeyPair::generate(size).map_err(|_| MintError::Generate)?;
        Ok(SigningKey { pair: Pair::Rsa(Box::new(pair)) })
    }

    /// A new P-256 key.
    ///
    /// # Errors
    /// When the cryptographic library makes none.
    pub fn generate_es256() -> Result<SigningKey, MintError> {
        let pair =
            EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| MintError::Generate)?;
        Ok(SigningKey { pair: Pair::P256(pair) })
    }

    /// The key pair as PKCS #8 (RFC 5208), private part included.
    ///
    /// # Errors
    /// When the cryptographic library does not give it.
    pub fn to_pkcs8(&self) -> Result<Vec<u8>, MintError> {
        let der = match &self.pair {
            Pair::Rsa(pair) => pair.as_der().map(|der| der.as_ref().to_vec()),
            Pair::P256(pair) => pair.to_pkcs8v1().map(|der| der.as_ref().to_vec()),
        };
        der.map_err(|_| MintError::Generate)
    }

    /// The key pair that [`SigningKey::to_pkcs8`] gave.
    ///
    /// # Errors
    /// [`MintError::Pkcs8`] for anything else.
    pub fn from_pkcs8(der: &[u8]) -> Result<SigningKey, MintError> {
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der) {
            return Ok(SigningKey { pair: Pair::P256(pair) });
        }
        let pair = RsaKeyPair::from_pkcs8(der).map_err(|_| MintError::Pkcs8)?;
        match pair.public_modulus_len() {
            256 | 384 | 512 => Ok(SigningKey { pair: Pair::Rsa(Box::new(pair)) }),
            _ => Err(MintError::Pkcs8),
        }
    }

    /// The algorithm's name in a JOSE header (RFC 7518 section 3.1).
    #[must_use]
    pub fn alg(&self) -> &'static str {
        match self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::P256(_) => "ES256",
        }
    }

    /// The public key as a JWK (RFC 7518 section 6).
    #[must_use]
    pub fn public_jwk(&self, kid: &str) -> Jwk {
        let encode = |bytes: &[u8]| Some(base64url::encode(bytes));
        let base = Jwk {
            kid: Some(kid.to_owned()),
            use_: Some("sig".to_owned()),
            alg: Some(self.alg().to_owned()),
            ..Jwk::default()
        };
        match &self.pair {
            Pair::Rsa(pair) => {
                // RSAPublicKey::exponent and ::modulus are minimal, as RFC 7518 section 6.3.1 wants them.
                let public = pair.public_key();
                Jwk {
                    kty: "RSA".to_owned(),
                    n: encode(public.modulus().big_endian_without_leading_zero()),
                    e: encode(public.exponent().big_endian_without_leading_zero()),
                    ..base
                }
            }
            Pair::P256(pair) => {
                // SEC 1 section 2.3.3: 0x04, x, y
                let point = pair.public_key().as_ref();
                Jwk {
                    kty: "EC".to_owned(),
                    crv: Some("P-256".to_owned()),
                    x: encode(&point[1..33]),
                    y: encode(&point[33..65]),
                    ..base
                }
            }
        }
    }

    /// A compact JWS (RFC 7515 section 3.1) of exactly these texts.
    #[must_use]
    pub fn sign(&self, header_json: &str, claims_json: &str) -> String {
        self.sign_octets(header_json.as_bytes(), claims_json.as_bytes())
    }

    /// The same of any octets, for tests of those who read them.
    #[must_use]
    pub fn sign_octets(&self, header: &[u8], claims: &[u8]) -> String {
        let input = format!("{}.{}", base64url::encode(header), base64url::encode(claims));
        let signature = self.signature(input.as_bytes());
        format!("{input}.{}", base64url::encode(signature))
    }

    /// The signature over `input`, as it stands in a JWS.
    #[must_use]
    pub fn signature(&self, input: &[u8]) -> Vec<u8> {
        match &self.pair {
            Pair::Rsa(pair) => rsa_signature(pair, &RSA_PKCS1_SHA256, input),
            Pair::P256(pair) => pair
                .sign(&SystemRandom::new(), input)
                .expect("a whole key pair signs anything")
                .as_ref()
                .to_vec(),
        }
    }

    /// A signature of another scheme (PSS, another digest); `None` when this is no RSA key.
    pub(crate) fn foreign_signature(
        &self,
        scheme: &'static dyn RsaEncoding,
        input: &[u8],
    ) -> Option<Vec<u8>> {
        match &self.pair {
            Pair::Rsa(pair) => Some(rsa_signature(pair, scheme, input)),
            Pair::P256(_) => None,
        }
    }
}

fn rsa_signature(pair: &RsaKeyPair, scheme: &'static dyn RsaEncoding, input: &[u8]) -> Vec<u8> {
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(scheme, &SystemRandom::new(), input, &mut signature).expect("a whole key pair signs anything");
    signature
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the key.
        f.debug_struct("SigningKey").field("alg", &self.alg()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_was_kept_is_the_same_key() {
        for key in [SigningKey::generate_es256(), SigningKey::generate_rs256(2048)] {
            let key = key.expect("a key");
            let again = SigningKey::from_pkcs8(&key.to_pkcs8().expect("PKCS #8")).expect("the same key");
            assert_eq!((again.alg(), again.public_jwk("k")), (key.alg(), key.public_jwk("k")));
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let der = SigningKey::generate_es256().and_then(|key| key.to_pkcs8()).expect("PKCS #8");
        for odd in [&[][..], b"-----BEGIN PRIVATE KEY-----", &der[..der.len() - 1]] {
            assert_eq!(SigningKey::from_pkcs8(odd).map(|_| ()), Err(MintError::Pkcs8));
        }
    }
}
