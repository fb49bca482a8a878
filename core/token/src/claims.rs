//! The claims set (RFC 7519 section 4).
//!
//! **Invariant:** a known claim occurs once, at the top level, with its own type; an absent claim and a claim of the
//! wrong type are different things (CVE-2026-25537).

use crate::json::{Reader, Refused};

/// What a token says. Only those of a [`VerifiedToken`](crate::VerifiedToken) may be believed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Claims {
    /// Issuer.
    pub iss: String,
    /// Audiences.
    pub aud: Vec<String>,
    /// Subject.
    pub sub: Option<String>,
    /// Token identifier.
    pub jti: Option<String>,
    /// Session identifier.
    pub sid: Option<String>,
    /// Mail address.
    pub email: Option<String>,
    /// Organisation.
    pub org_id: Option<String>,
    /// Roles.
    pub roles: Vec<String>,
    /// Permissions.
    pub permissions: Vec<String>,
    /// Groups.
    pub groups: Vec<String>,
    /// Expiry, Unix seconds: from then on the token is not valid.
    pub exp: u64,
    /// Unix seconds before which the token is not valid.
    pub nbf: Option<u64>,
    /// When the token was issued, Unix seconds.
    pub iat: Option<u64>,
    /// When the user authenticated, Unix seconds.
    pub auth_time: Option<u64>,
    /// Whether the user authenticated with several factors; absent means no.
    pub mfa_verified: bool,
}

// === impl Claims ===

impl Claims {
    /// Reads a claims set; `iss` and `exp` must be there.
    pub(crate) fn parse(octets: &[u8]) -> Result<Claims, Refused> {
        let mut known = Known::default();
        Reader::object(octets, |name, value| known.member(name, value))?;
        let Known {
            iss,
            aud,
            sub,
            jti,
            sid,
            email,
            org_id,
            roles,
            permissions,
            groups,
            exp,
            nbf,
            iat,
            auth_time,
            mfa_verified,
        } = known;
        Ok(Claims {
            iss: iss.ok_or(Refused)?,
            aud: aud.unwrap_or_default(),
            sub,
            jti,
            sid,
            email,
            org_id,
            roles: roles.unwrap_or_default(),
            permissions: permissions.unwrap_or_default(),
            groups: groups.unwrap_or_default(),
            exp: exp.ok_or(Refused)?,
            nbf,
            iat,
            auth_time,
            mfa_verified: mfa_verified.unwrap_or_default(),
        })
    }
}

/// The known claims that were read so far.
#[derive(Default)]
struct Known {
    iss: Option<String>,
    aud: Option<Vec<String>>,
    sub: Option<String>,
    jti: Option<String>,
    sid: Option<String>,
    email: Option<String>,
    org_id: Option<String>,
    roles: Option<Vec<String>>,
    permissions: Option<Vec<String>>,
    groups: Option<Vec<String>>,
    exp: Option<u64>,
    nbf: Option<u64>,
    iat: Option<u64>,
    auth_time: Option<u64>,
    mfa_verified: Option<bool>,
}

// === impl Known ===

impl Known {
    fn member(&mut self, name: &str, value: &mut Reader<'_>) -> Result<(), Refused> {
        match name {
            "iss" => once(&mut self.iss, value.string()?),
            "aud" => once(&mut self.aud, value.string_or_strings()?),
            "sub" => once(&mut self.sub, value.string()?),
            "jti" => once(&mut self.jti, value.string()?),
            "sid" => once(&mut self.sid, value.string()?),
            "email" => once(&mut self.email, value.string()?),
            "org_id" => once(&mut self.org_id, value.string()?),
            "roles" => once(&mut self.roles, value.strings()?),
            "permissions" => once(&mut self.permissions, value.strings()?),
            "groups" => once(&mut self.groups, value.strings()?),
            "exp" => once(&mut self.exp, value.integer()?),
            "nbf" => once(&mut self.nbf, value.integer()?),
            "iat" => once(&mut self.iat, value.integer()?),
            "auth_time" => once(&mut self.auth_time, value.integer()?),
            "mfa_verified" => once(&mut self.mfa_verified, value.boolean()?),
            _ => value.skip(),
        }
    }
}

/// Sets a claim, which must not be there yet.
//= https://www.rfc-editor.org/rfc/rfc7519#section-4
//# The Claim Names within a JWT Claims Set MUST be unique
fn once<T>(claim: &mut Option<T>, value: T) -> Result<(), Refused> {
    match claim.replace(value) {
        Some(_) => Err(Refused),
        None => Ok(()),
    }
}
