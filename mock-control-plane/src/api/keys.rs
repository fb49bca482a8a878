//! Signing keys: publish ahead, activate, retire; rotate (publish and activate at once); revoke in an emergency.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use portcullis_token::mint::SigningKey;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::extract::{Body, Manager};
use crate::key_ring::{KeyRing, KeyState};
use crate::password::off_thread;
use crate::server::Shared;
use crate::{FieldError, Problem};

/// A key to make.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKey {
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default)]
    bits: Option<usize>,
}

/// `GET …/keys`
pub(super) async fn list(State(shared): State<Shared>, manager: Manager) -> Result<Json<Value>, Problem> {
    Ok(Json(listing(&shared.store().tenant(&manager.tenant)?.keys)))
}

/// `POST …/keys`: published, not yet used.
pub(super) async fn add(
    State(shared): State<Shared>,
    manager: Manager,
    Body(wanted): Body<NewKey>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    insert(&shared, &manager.tenant, wanted, false).await
}

/// `POST …/keys/rotate`: published and used from now on; the old one stays published.
pub(super) async fn rotate(
    State(shared): State<Shared>,
    manager: Manager,
) -> Result<(StatusCode, Json<Value>), Problem> {
    insert(&shared, &manager.tenant, NewKey::default(), true).await
}

/// `POST …/keys/{kid}/activate`
pub(super) async fn activate(
    State(shared): State<Shared>,
    Path((_, kid)): Path<(String, String)>,
    manager: Manager,
) -> Result<Json<Value>, Problem> {
    let mut store = shared.store();
    let keys = &mut store.tenant_mut(&manager.tenant)?.keys;
    keys.activate(&kid)?;
    Ok(Json(listing(keys)))
}

/// `DELETE …/keys/{kid}`: whatever it signed is refused from the next bundle on.
pub(super) async fn retire(
    State(shared): State<Shared>,
    Path((_, kid)): Path<(String, String)>,
    manager: Manager,
) -> Result<StatusCode, Problem> {
    let mut store = shared.store();
    let tenant = store.tenant_mut(&manager.tenant)?;
    tenant.keys.retire(&kid)?;
    tenant.version.bump();
    Ok(StatusCode::NO_CONTENT)
}

/// `POST …/keys/{kid}/revoke`: the key is known to others. It goes at once; if it signed, a new one signs.
pub(super) async fn revoke(
    State(shared): State<Shared>,
    Path((_, kid)): Path<(String, String)>,
    manager: Manager,
) -> Result<Json<Value>, Problem> {
    let spare = make("RS256", 2048).await?;
    let mut store = shared.store();
    let tenant = store.tenant_mut(&manager.tenant)?;
    let row = tenant.keys.get(&kid).ok_or_else(|| Problem::not_found(format!("no key `{kid}`")))?;
    if row.state == KeyState::Active {
        let new = tenant.keys.free_kid(&tenant.name);
        tenant.keys.publish(new.clone(), spare)?;
        tenant.keys.activate(&new)?;
    }
    tenant.keys.retire(&kid)?;
    tenant.version.bump();
    Ok(Json(listing(&tenant.keys)))
}

async fn insert(
    shared: &Shared,
    tenant: &str,
    wanted: NewKey,
    active: bool,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let NewKey { kid, alg, bits } = wanted;
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if kid.as_ref().is_some_and(|kid| kid.is_empty() || kid.len() > 240 || !kid.bytes().all(legal)) {
        let detail = "must have 1 to 240 letters, digits, `-`, `_` and `.`";
        return Err(Problem::invalid(vec![FieldError::new("/kid", detail)]));
    }
    let key = make(alg.as_deref().unwrap_or("RS256"), bits.unwrap_or(2048)).await?;
    let mut store = shared.store();
    let tenant = store.tenant_mut(tenant)?;
    let kid = kid.unwrap_or_else(|| tenant.keys.free_kid(&tenant.name));
    let jwk = key.public_jwk(&kid);
    tenant.keys.publish(kid.clone(), key)?;
    if active {
        tenant.keys.activate(&kid)?;
    }
    tenant.version.bump();
    Ok((StatusCode::CREATED, Json(json!({ "kid": kid, "active": active, "jwk": jwk }))))
}

/// Making an RSA key takes tens of milliseconds: not on a thread that serves requests.
async fn make(alg: &str, bits: usize) -> Result<SigningKey, Problem> {
    let refuse = |pointer, detail| Err(Problem::invalid(vec![FieldError::new(pointer, detail)]));
    let made = match (alg, bits) {
        ("RS256", 2048 | 3072 | 4096) => off_thread(move || SigningKey::generate_rs256(bits)).await?,
        ("RS256", _) => return refuse("/bits", "must be 2048, 3072 or 4096"),
        ("ES256", _) => SigningKey::generate_es256(),
        _ => return refuse("/alg", "must be RS256 or ES256"),
    };
    made.map_err(|e| Problem::internal(e.to_string()))
}

fn listing(keys: &KeyRing) -> Value {
    let row = |row: &crate::key_ring::KeyRow| {
        let active = row.state == KeyState::Active;
        json!({ "kid": row.kid, "alg": row.key.alg(), "state": row.state, "active": active })
    };
    json!({ "keys": keys.rows().iter().map(row).collect::<Vec<_>>() })
}
