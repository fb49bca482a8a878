//! The test mint: tokens with any claims, and broken ones. Exists only when the configuration says so.

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::defect::{self, Defect};
use crate::extract::Body;
use crate::server::Shared;
use crate::{FieldError, Problem, secret};

/// What is to be minted.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    /// Claims, laid over the usual ones; `null` removes a claim.
    #[serde(default)]
    claims: Map<String, Value>,
    /// Header members, laid over the usual ones; `null` removes a member.
    #[serde(default)]
    header: Map<String, Value>,
    /// `exp` relative to now, seconds; negative: expired.
    #[serde(default)]
    expires_in_s: Option<i64>,
    /// What is wrong with the token.
    #[serde(default)]
    defect: Option<Defect>,
    /// Key to sign with; absent: the active one.
    #[serde(default)]
    kid: Option<String>,
}

/// The minted token.
#[derive(Serialize, schemars::JsonSchema)]
pub(super) struct Minted {
    token: String,
    header: Value,
    claims: Value,
}

const LIFETIME_S: i64 = 3600;

/// `POST /v1/{tenant}/test/mint`
pub(super) async fn mint(
    State(shared): State<Shared>,
    Path(tenant): Path<String>,
    Body(order): Body<Order>,
) -> Result<Json<Minted>, Problem> {
    let Order { claims, header, expires_in_s, defect, kid } = order;
    let now = i64::try_from(shared.clock.now_s()).unwrap_or(i64::MAX);
    let jti = secret::random("")?;
    let store = shared.store();
    let tenant = store.tenant(&tenant)?;
    let row = match &kid {
        None => tenant.keys.active()?,
        Some(kid) => tenant.keys.get(kid).ok_or_else(|| {
            Problem::invalid(vec![FieldError::new(
                "/kid",
                "no such key; leave it out to sign with the active one",
            )])
        })?,
    };
    let exp = expires_in_s.unwrap_or(LIFETIME_S).saturating_add(now).max(0);
    let usual = serde_json::json!({
        "iss": tenant.issuer, "aud": tenant.audiences.first(), "sub": "user-1", "jti": jti,
        "iat": now.min(exp), "exp": exp,
    });
    let claims = overlay(usual, claims);
    let header = overlay(serde_json::json!({ "alg": row.key.alg(), "typ": "JWT", "kid": row.kid }), header);
    let (header, claims, token) = defect::sign(&row.key, header, claims, defect)
        .map_err(|reason| Problem::invalid(vec![FieldError::new("/defect", reason)]))?;
    Ok(Json(Minted { token, header, claims }))
}

fn overlay(mut base: Value, over: Map<String, Value>) -> Value {
    if let Value::Object(base) = &mut base {
        for (name, value) in over {
            if value.is_null() {
                base.remove(&name);
            } else {
                base.insert(name, value);
            }
        }
    }
    base
}
