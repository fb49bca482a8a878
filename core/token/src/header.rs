//! The JOSE header (RFC 7515 section 4).
//!
//! **Invariant:** keys that the header carries or points to (`jwk`, `jku`, `x5u`, `x5c`) mean nothing (RFC 8725
//! section 3.10), and neither does anything else in it but `alg`, `kid` and `typ`.

use portcullis_wire::Reason;

use crate::json::{Reader, Refused};
use crate::limits;

/// What a header says.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Header {
    pub(crate) alg: HeaderAlg,
    pub(crate) kid: Option<String>,
}

/// Algorithms that a header may name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum HeaderAlg {
    Rs256,
    Es256,
}

// === impl Header ===

impl Header {
    pub(crate) fn parse(octets: &[u8]) -> Result<Header, Reason> {
        let Members { alg, kid, typ } = Members::parse(octets).map_err(|Refused| Reason::TokenHeader)?;
        let alg = alg.ok_or(Reason::TokenHeader)?;
        if typ.is_some_and(|typ| !is_jwt(&typ)) {
            return Err(Reason::TokenHeader);
        }
        let alg = match alg.as_str() {
            "RS256" => HeaderAlg::Rs256,
            "ES256" => HeaderAlg::Es256,
            _ => return Err(Reason::TokenAlg),
        };
        Ok(Header { alg, kid })
    }
}

#[derive(Default)]
struct Members {
    alg: Option<String>,
    kid: Option<String>,
    typ: Option<String>,
}

// === impl Members ===

impl Members {
    fn parse(octets: &[u8]) -> Result<Members, Refused> {
        if octets.len() > limits::JOSE_MAX {
            return Err(Refused);
        }
        let mut members = Members::default();
        Reader::object(octets, |name, value| {
            let member = match name {
                "alg" => &mut members.alg,
                "kid" => &mut members.kid,
                "typ" => &mut members.typ,
                // None is understood, least of all one that changes what is signed (RFC 7797).
                //= https://www.rfc-editor.org/rfc/rfc7515#section-4.1.11
                //# If any of the listed extension Header Parameters are not understood and supported by the
                //# recipient, then the JWS is invalid.
                "crit" | "b64" => return Err(Refused),
                _ => return value.skip(),
            };
            //= https://www.rfc-editor.org/rfc/rfc7515#section-4
            //# The Header Parameter names within the JOSE Header MUST be unique
            match member.replace(value.string()?) {
                Some(_) => Err(Refused),
                None => Ok(()),
            }
        })?;
        Ok(members)
    }
}

/// Media types of a JWT (RFC 7515 section 4.1.9, RFC 9068 section 4), in any case.
fn is_jwt(typ: &str) -> bool {
    ["jwt", "at+jwt", "application/jwt", "application/at+jwt"]
        .iter()
        .any(|known| typ.eq_ignore_ascii_case(known))
}
