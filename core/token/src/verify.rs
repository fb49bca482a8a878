//! The judgement of one token.
//!
//! Order of the checks, each with its reason: size, compact form and base64url of header and payload, JOSE header,
//! algorithm name, claims set, issuer, audience, key, algorithm of the key, exp, nbf, iat, signature, revocation.
//! Cheap ones come first, whether a token is revoked is told to nobody who could not have it signed, and the kernel (`bpf/lib/jwt.h`) has the same order.

use portcullis_wire::Reason;

use crate::base64url;
use crate::claims::Claims;
use crate::compact::Compact;
use crate::header::{Header, HeaderAlg};
use crate::json::Refused;
use crate::jwk::Alg;
use crate::keystore::{KeyStore, TrustedIssuer};

/// A token that a trusted issuer signed, for an accepted audience, within its time.
#[derive(Clone, Debug)]
pub struct VerifiedToken {
    claims: Claims,
    kid: String,
}

// === impl VerifiedToken ===

impl VerifiedToken {
    /// What it says.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Which key verified it.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Who issued it.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.claims.iss
    }
}

/// Verifies a token as of `now_s`, Unix seconds.
///
/// # Errors
/// The first check that fails, in the order above.
pub fn verify(token: &[u8], keys: &KeyStore, now_s: u64) -> Result<VerifiedToken, Reason> {
    let Compact { signing_input, header, payload, signature } = Compact::parse(token)?;
    let Header { alg, kid } = Header::parse(&header)?;
    let claims = Claims::parse(&payload).map_err(|Refused| Reason::TokenClaims)?;
    let issuer = keys.issuer(&claims.iss).ok_or(Reason::TokenIssuer)?;
    //= https://www.rfc-editor.org/rfc/rfc7519#section-4.1.3
    //# If the principal processing the claim does not identify itself with a value in the "aud" claim when this claim
    //# is present, then the JWT MUST be rejected.
    if !claims.aud.iter().any(|audience| issuer.audiences().contains(audience)) {
        return Err(Reason::TokenAudience);
    }
    let kid = kid.ok_or(Reason::TokenKey)?;
    //= https://www.rfc-editor.org/rfc/rfc8725#section-3.8
    //# When a JWT contains an "iss" (issuer) claim, the application MUST validate that the cryptographic keys used for
    //# the cryptographic operations in the JWT belong to the issuer.
    let key = issuer.key(&kid).ok_or(Reason::TokenKey)?;
    //= https://www.rfc-editor.org/rfc/rfc8725#section-3.1
    //# Each key MUST be used with exactly one algorithm, and this MUST be checked when the cryptographic operation is
    //# performed.
    match (alg, key.alg()) {
        (HeaderAlg::Rs256, Alg::Rs256 { .. }) | (HeaderAlg::Es256, Alg::Es256) => {}
        (HeaderAlg::Rs256, Alg::Es256) | (HeaderAlg::Es256, Alg::Rs256 { .. }) => {
            return Err(Reason::TokenAlg);
        }
    }
    check_times(&claims, issuer, now_s)?;
    let signature = base64url::decode(signature).ok_or(Reason::TokenSignature)?;
    if !key.verify_signature(signing_input, &signature) {
        return Err(Reason::TokenSignature);
    }
    if issuer.revocations.as_ref().is_some_and(|revocations| revocations.refuse(&claims)) {
        return Err(Reason::TokenRevoked);
    }
    Ok(VerifiedToken { claims, kid })
}

/// `exp`, `nbf` and `iat` with the issuer's leeway (RFC 7519 sections 4.1.4 to 4.1.6).
fn check_times(claims: &Claims, issuer: &TrustedIssuer, now_s: u64) -> Result<(), Reason> {
    let leeway_s = u64::from(issuer.leeway_s());
    // Claims have 15 digits and the leeway 32 bits, so the first sum is exact; where the second one would not be, the
    // token has expired.
    //= https://www.rfc-editor.org/rfc/rfc7519#section-4.1.4
    //# The "exp" (expiration time) claim identifies the expiration time on or after which the JWT MUST NOT be accepted
    //# for processing.
    if now_s >= claims.exp.saturating_add(leeway_s) {
        return Err(Reason::TokenExpired);
    }
    let latest_s = now_s.saturating_add(leeway_s);
    //= https://www.rfc-editor.org/rfc/rfc7519#section-4.1.5
    //# The "nbf" (not before) claim identifies the time before which the JWT MUST NOT be accepted for processing.
    if claims.nbf.is_some_and(|nbf| latest_s < nbf) {
        return Err(Reason::TokenNotYet);
    }
    if claims.iat.is_some_and(|iat| latest_s < iat) {
        return Err(Reason::TokenIat);
    }
    Ok(())
}
