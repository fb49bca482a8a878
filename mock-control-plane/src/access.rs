//! Access tokens: made for a session, and recognised when they come back to the control plane itself.
//!
//! The control plane does not use the verifier that agents use: see the crate's invariants. What it needs is less: it
//! knows its own keys, and which sessions there are.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis_wire::Jwk;
use serde::Deserialize;
use serde_json::json;

use crate::directory::{Effective, Scope, User};
use crate::session::Session;
use crate::store::Tenant;
use crate::{Problem, secret};

/// Whom an access token speaks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Bearer {
    /// The user.
    pub user: String,
    /// The session.
    pub sid: String,
}

/// Longest token that is looked at, bytes.
const TOKEN_BYTES_MAX: usize = 16_384;

// === impl Tenant ===

impl Tenant {
    /// An access token for a session, with all that the user has now.
    pub(crate) fn access_token(&self, sid: &str, now_s: u64, ttl_s: u64) -> Result<String, Problem> {
        let gone = || Problem::unauthorized("the session has ended; log in again");
        let session = self.sessions.get(sid, now_s).ok_or_else(gone)?;
        let user = self.directory.user(&Scope::Tenant, &session.user).map_err(|_| gone())?;
        if !user.active {
            return Err(gone());
        }
        let claims = self.claims(session, user, now_s, ttl_s)?;
        let row = self.keys.active()?;
        let header = json!({ "alg": row.key.alg(), "typ": "JWT", "kid": row.kid });
        Ok(row.key.sign(&header.to_string(), &claims.to_string()))
    }

    fn claims(
        &self,
        session: &Session,
        user: &User,
        now_s: u64,
        ttl_s: u64,
    ) -> Result<serde_json::Value, Problem> {
        let Effective { roles, groups, permissions } = self.directory.effective(&user.id);
        let org = user.org.as_ref().and_then(|id| self.directory.org(&Scope::Tenant, id).ok());
        let mut claims = json!({
            "iss": self.issuer, "aud": self.audiences.first(), "sub": user.id,
            "iat": now_s, "exp": now_s.saturating_add(ttl_s).min(session.expires_s), "jti": secret::random("")?,
            "sid": session.id, "auth_time": session.strength.auth_time_s, "amr": session.strength.amr(),
            "mfa_verified": session.strength.mfa, "tenant_id": self.name, "name": user.name(),
            "roles": roles, "groups": groups, "permissions": permissions.keys().collect::<Vec<_>>(),
        });
        if let Some(email) = user.email() {
            claims["email"] = json!(email);
            claims["email_verified"] = json!(user.email_verified);
        }
        if let Some(org) = org {
            claims["org_id"] = json!(org.id);
            claims["org_slug"] = json!(org.slug);
            claims["org_role"] = json!(if org.admins.contains(&user.id) { "admin" } else { "member" });
        }
        Ok(claims)
    }

    /// Whom a token of ours speaks for, if its session goes on and its user is active.
    pub(crate) fn bearer(&self, token: &[u8], now_s: u64) -> Option<Bearer> {
        #[derive(Deserialize)]
        struct Header {
            alg: String,
            kid: String,
        }
        #[derive(Deserialize)]
        struct Claims {
            iss: String,
            sub: String,
            sid: String,
            exp: u64,
        }
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let token = std::str::from_utf8(token).ok()?;
        let (input, signature) = token.rsplit_once('.')?;
        let (header, claims) = input.split_once('.')?;
        let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        let row = self.keys.get(&header.kid).filter(|row| row.key.alg() == header.alg)?;
        if !verifies(
            &row.key.public_jwk(&row.kid),
            input.as_bytes(),
            &URL_SAFE_NO_PAD.decode(signature).ok()?,
        ) {
            return None;
        }
        let Claims { iss, sub, sid, exp } =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        let session = self.sessions.get(&sid, now_s).filter(|session| session.user == sub)?;
        let user = self.directory.user(&Scope::Tenant, &session.user).ok()?;
        (iss == self.issuer && now_s < exp && user.active).then_some(Bearer { user: sub, sid })
    }
}

/// The tenant that a token claims to be from; nothing is verified yet.
pub(crate) fn claimed_issuer(token: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Claims {
        iss: String,
    }
    let claims = token.split(|b| *b == b'.').nth(1).filter(|part| part.len() <= TOKEN_BYTES_MAX)?;
    let Claims { iss } = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    Some(iss)
}

fn verifies(jwk: &Jwk, input: &[u8], signature: &[u8]) -> bool {
    let member = |text: &Option<String>| {
        URL_SAFE_NO_PAD.decode(text.as_deref().unwrap_or_default()).unwrap_or_default()
    };
    if jwk.kty == "RSA" {
        let key = RsaPublicKeyComponents { n: member(&jwk.n), e: member(&jwk.e) };
        key.verify(&RSA_PKCS1_2048_8192_SHA256, input, signature).is_ok()
    } else {
        let point = [vec![4], member(&jwk.x), member(&jwk.y)].concat();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(input, signature).is_ok()
    }
}
