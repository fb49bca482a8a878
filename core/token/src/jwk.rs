//! Vetting of one JSON Web Key (RFC 7517, RFC 7518 section 6).
//!
//! **Invariant:** a [`VettedKey`] is a public signature key of one algorithm, and is sound for it. What is doubtful is
//! refused: a key set is configuration, and mistakes in it are cheaper to see than to guess about.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};
use portcullis_wire::Jwk;

use crate::{base64url, limits};

/// A key that may verify tokens of its issuer.
#[derive(Clone, Debug)]
pub struct VettedKey {
    kid: String,
    material: Material,
    parsed: ParsedPublicKey,
}

/// Algorithm of a key (RFC 7518 section 3.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Alg {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256 {
        /// Size of the modulus: 2048, 3072 or 4096.
        bits: usize,
    },
    /// ECDSA with P-256 and SHA-256.
    Es256,
}

/// Public numbers of a key, big-endian.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyMaterial<'a> {
    /// The exponent is 65537.
    Rsa {
        /// Without leading zeros: 256, 384 or 512 octets.
        modulus: &'a [u8],
    },
    /// A point of P-256.
    P256 {
        /// First coordinate.
        x: &'a [u8; 32],
        /// Second coordinate.
        y: &'a [u8; 32],
    },
}

/// What is wrong with a key, or with the issuer that it belongs to.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyDefect {
    /// `alg` is another one than the key type's.
    #[error("alg is {0:?}; an RSA key must say RS256, a P-256 key ES256, or nothing")]
    Alg(String),
    /// An audience cannot be recognised.
    #[error("audience {0:?} has no character, or more than {max} bytes", max = limits::NAME_MAX)]
    Audience(String),
    /// No audience is accepted.
    #[error("accepts no audience, so that no token of this issuer is valid")]
    AudienceNone,
    /// A number is not canonical base64url.
    #[error("{0} is not canonical base64url (RFC 7515 section 2: no padding, spare bits zero)")]
    Base64(&'static str),
    /// Another curve than P-256.
    #[error("crv is {0:?}; only P-256 is accepted")]
    Curve(String),
    /// Different keys of the set share the kid, and which one is meant would be a guess.
    #[error("kid is not unique: {0} different keys of the set have it, and all of them are refused")]
    Duplicate(usize),
    /// The exponent is not 65537.
    #[error("e is not 65537")]
    Exponent,
    /// The modulus is even or has a small prime factor (NIST SP 800-89 section 5.3.3).
    #[error("n is divisible by {0}: not the product of two large primes")]
    Factor(u32),
    /// The issuer's name cannot be recognised.
    #[error("issuer has no character, or more than {max} bytes", max = limits::NAME_MAX)]
    Issuer,
    /// The same issuer stands twice in the configuration.
    #[error("issuer is listed twice; only the first entry counts")]
    IssuerTwice,
    /// The kid is empty or too long.
    #[error("kid has no character, or more than {max} bytes", max = limits::NAME_MAX)]
    Kid,
    /// There is no kid, so no token can name the key.
    #[error("kid is missing")]
    KidMissing,
    /// A number starts with a zero octet (RFC 7518 section 6.3.1.1).
    #[error("{0} starts with a zero octet (RFC 7518 section 6.3.1.1: minimum number of octets)")]
    LeadingZero(&'static str),
    /// A coordinate of P-256 has 32 octets (RFC 7518 section 6.2.1.2).
    #[error("{member} has {octets} octets; a coordinate of P-256 has 32 (RFC 7518 section 6.2.1.2)")]
    Length {
        /// `x` or `y`.
        member: &'static str,
        /// How many it has.
        octets: usize,
    },
    /// A leeway that would make expired tokens good for long.
    #[error("leeway_s is {0}, and {max} are used: the most that clocks may be apart", max = limits::LEEWAY_MAX_S)]
    Leeway(u32),
    /// A member that the key type needs.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A modulus of this many bits.
    #[error("n has {0} bits; 2048, 3072 or 4096 are accepted")]
    ModulusSize(usize),
    /// The engine that verifies holds no more keys of this algorithm and size.
    #[error("no room for more than {0} keys of this kind; retire old keys, or trust fewer issuers")]
    NoRoom(usize),
    /// `key_ops` does not list `verify`, or lists what is no business of a signature key.
    #[error("key_ops is {0:?}; it must list verify, and nothing but verify and sign, once each")]
    Operations(Vec<String>),
    /// A member of another key type.
    #[error("{0} belongs to another key type")]
    OtherType(&'static str),
    /// The point does not satisfy the curve's equation, or a coordinate is not below p.
    #[error("the point (x, y) is not on P-256")]
    Point,
    /// A private key was published: whoever read the set can sign.
    #[error("private member {0} is published; the key is compromised: replace it")]
    Private(&'static str),
    /// The same key under the same kid once more.
    #[error("stands in the set more than once; it counts once")]
    Repeated,
    /// A shared secret (`kty` is `oct`, or there is a `k`).
    #[error("symmetric key: whoever can verify with it can sign with it, and it is published")]
    Symmetric,
    /// Another key type.
    #[error("kty is {0:?}; RSA and EC are accepted")]
    Type(String),
    /// It is no key at all: not an object, a member missing, twice, or of the wrong type.
    #[error("cannot be read as a key: {0:?}")]
    Unreadable(String),
    /// The cryptographic library refuses the key.
    #[error("the cryptographic library refuses the key")]
    Unusable,
    /// A key for another use than signatures.
    #[error("use is {0:?}; it must be sig")]
    Use(String),
}

#[derive(Clone, Debug)]
enum Material {
    Rsa { modulus: Box<[u8]> },
    P256 { x: [u8; 32], y: [u8; 32] },
}

// === impl VettedKey ===

impl VettedKey {
    /// Vets a key of a published set.
    ///
    /// # Errors
    /// When it is not sound, or of another kind.
    pub fn new(jwk: &Jwk) -> Result<VettedKey, KeyDefect> {
        let Jwk { kty, kid, use_, key_ops, alg, n, e, crv, x, y, d, p, q, dp, dq, qi, oth, k, unreadable } =
            jwk;
        if let Some(reason) = unreadable {
            return Err(KeyDefect::Unreadable(reason.clone()));
        }
        let kid = match kid {
            None => return Err(KeyDefect::KidMissing),
            Some(kid) if kid.is_empty() || kid.len() > limits::NAME_MAX => return Err(KeyDefect::Kid),
            Some(kid) => kid.clone(),
        };
        if kty == "oct" || k.is_some() {
            return Err(KeyDefect::Symmetric);
        }
        let private = [("d", d), ("p", p), ("q", q), ("dp", dp), ("dq", dq), ("qi", qi)];
        if let Some((name, _)) = private.into_iter().find(|(_, value)| value.is_some()) {
            return Err(KeyDefect::Private(name));
        }
        if oth.is_some() {
            return Err(KeyDefect::Private("oth"));
        }
        check_use(use_.as_deref(), key_ops.as_deref())?;
        let check_alg = |own: &str| match alg {
            Some(alg) if alg != own => Err(KeyDefect::Alg(alg.clone())),
            _ => Ok(()),
        };
        match kty.as_str() {
            "RSA" => {
                check_alg("RS256")?;
                absent([("crv", crv), ("x", x), ("y", y)])?;
                VettedKey::rsa(kid, &number("n", n)?, &number("e", e)?)
            }
            "EC" => {
                check_alg("ES256")?;
                absent([("n", n), ("e", e)])?;
                match crv.as_deref() {
                    Some("P-256") => VettedKey::p256(kid, coordinate("x", x)?, coordinate("y", y)?),
                    Some(other) => Err(KeyDefect::Curve(other.to_owned())),
                    None => Err(KeyDefect::Missing("crv")),
                }
            }
            other => Err(KeyDefect::Type(other.to_owned())),
        }
    }

    fn rsa(kid: String, n: &[u8], e: &[u8]) -> Result<VettedKey, KeyDefect> {
        for (name, octets) in [("n", n), ("e", e)] {
            if octets.first() == Some(&0) {
                return Err(KeyDefect::LeadingZero(name));
            }
        }
        if e != [1, 0, 1] {
            return Err(KeyDefect::Exponent);
        }
        let bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
        if ![2048, 3072, 4096].contains(&bits) {
            return Err(KeyDefect::ModulusSize(bits));
        }
        if let Some(factor) = small_factor(n) {
            return Err(KeyDefect::Factor(factor));
        }
        let parsed = RsaPublicKeyComponents { n, e }
            .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
            .map_err(|_| KeyDefect::Unusable)?;
        Ok(VettedKey { kid, material: Material::Rsa { modulus: n.into() }, parsed })
    }

    fn p256(kid: String, x: [u8; 32], y: [u8; 32]) -> Result<VettedKey, KeyDefect> {
        // SEC 1 section 2.3.4: 0x04, x, y. The library checks the equation and the range of the coordinates.
        let point = [&[4][..], &x, &y].concat();
        let parsed = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).map_err(|_| KeyDefect::Point)?;
        Ok(VettedKey { kid, material: Material::P256 { x, y }, parsed })
    }

    /// Whether the other one is the same key.
    pub(crate) fn is(&self, other: &VettedKey) -> bool {
        self.material() == other.material()
    }

    /// Key identifier, unique within the issuer.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The one algorithm that the key is for.
    #[must_use]
    pub fn alg(&self) -> Alg {
        match &self.material {
            Material::Rsa { modulus } => Alg::Rs256 { bits: modulus.len() * 8 },
            Material::P256 { .. } => Alg::Es256,
        }
    }

    /// Its public numbers.
    #[must_use]
    pub fn material(&self) -> KeyMaterial<'_> {
        match &self.material {
            Material::Rsa { modulus } => KeyMaterial::Rsa { modulus },
            Material::P256 { x, y } => KeyMaterial::P256 { x, y },
        }
    }

    /// Whether the octets are a signature of the message: RSASSA-PKCS1-v1_5 as long as the modulus (RFC 8017 section
    /// 8.2.2), or ECDSA as r and s of 32 octets each (RFC 7518 section 3.4), never DER.
    #[must_use]
    pub fn verify_signature(&self, message: &[u8], signature: &[u8]) -> bool {
        let octets = match &self.material {
            Material::Rsa { modulus } => modulus.len(),
            Material::P256 { .. } => 64,
        };
        signature.len() == octets && self.parsed.verify_sig(message, signature).is_ok()
    }
}

// === impl Alg ===

impl Alg {
    /// Name in a JOSE header or a JWK (RFC 7518 section 3.1).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Alg::Rs256 { .. } => "RS256",
            Alg::Es256 => "ES256",
        }
    }
}

/// RFC 7517 sections 4.2 and 4.3.
fn check_use(use_: Option<&str>, key_ops: Option<&[String]>) -> Result<(), KeyDefect> {
    if let Some(use_) = use_.filter(|use_| *use_ != "sig") {
        return Err(KeyDefect::Use(use_.to_owned()));
    }
    let Some(operations) = key_ops else { return Ok(()) };
    let count = |name: &str| operations.iter().filter(|o| *o == name).count();
    if count("verify") == 1 && count("sign") <= 1 && count("verify") + count("sign") == operations.len() {
        Ok(())
    } else {
        Err(KeyDefect::Operations(operations.to_vec()))
    }
}

/// Refuses members that another key type has: such a key could be read in two ways.
fn absent<const N: usize>(members: [(&'static str, &Option<String>); N]) -> Result<(), KeyDefect> {
    match members.into_iter().find(|(_, value)| value.is_some()) {
        Some((name, _)) => Err(KeyDefect::OtherType(name)),
        None => Ok(()),
    }
}

fn number(name: &'static str, text: &Option<String>) -> Result<Vec<u8>, KeyDefect> {
    let text = text.as_deref().filter(|text| !text.is_empty()).ok_or(KeyDefect::Missing(name))?;
    base64url::decode(text.as_bytes()).ok_or(KeyDefect::Base64(name))
}

fn coordinate(name: &'static str, text: &Option<String>) -> Result<[u8; 32], KeyDefect> {
    number(name, text)?
        .try_into()
        .map_err(|octets: Vec<u8>| KeyDefect::Length { member: name, octets: octets.len() })
}

/// The smallest prime below 752 that divides a big-endian number (NIST SP 800-89 section 5.3.3, step d).
fn small_factor(number: &[u8]) -> Option<u32> {
    // A composite divisor has a smaller prime one, which is found first.
    (2..752).find(|d| number.iter().fold(0, |rest, octet| (rest * 256 + u32::from(*octet)) % d) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_below_752() {
        let factor = |number: u64| small_factor(&number.to_be_bytes());
        assert_eq!(factor(2 * 3), Some(2));
        assert_eq!(factor(3 * 751), Some(3));
        assert_eq!(factor(751 * 757), Some(751));
        assert_eq!(factor(757 * 761), None);
        assert_eq!(factor(4_294_967_291 * 4_294_967_279), None, "the two greatest primes below 2^32");
    }
}
