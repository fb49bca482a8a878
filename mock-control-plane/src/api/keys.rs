//! Signing keys: publish ahead, activate, retire; rotate (publish and activate at once); revoke in an emergency.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use portcullis_wire::Jwk;
use serde::{Deserialize, Serialize};

use crate::extract::{Body, Manager};
use crate::key_ring::{KeyRing, KeyState};
use crate::rotation::{Schedule, make};
use crate::server::Shared;
use crate::{FieldError, Problem};

/// A key to make.
#[derive(Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKey {
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default)]
    bits: Option<usize>,
}

/// A signing key, without its private part.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct KeyAnswer {
    kid: String,
    /// `RS256` or `ES256`
    alg: &'static str,
    state: KeyState,
    /// Whether it signs.
    active: bool,
    /// Seconds since the epoch, like the next.
    published_at: u64,
    /// Since when it is in this state.
    since: u64,
}

/// Signing keys, and the schedule by which they rotate, if there is one.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct KeyList {
    keys: Vec<KeyAnswer>,
    rotation: Option<Schedule>,
}

/// A new key.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct KeyMade {
    kid: String,
    /// Whether it signs.
    active: bool,
    jwk: Jwk,
}

/// The schedule by which keys rotate, if there is one.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Rotation {
    rotation: Option<Schedule>,
}

/// Shortest and longest time that a key signs, seconds: a minute, ten years.
const EVERY_S_MIN: u64 = 60;
const EVERY_S_MAX: u64 = 10 * 365 * 86_400;

/// `GET …/keys`
pub(super) async fn list(State(shared): State<Shared>, manager: Manager) -> Result<Json<KeyList>, Problem> {
    Ok(Json(listing(&shared.store().tenant(&manager.tenant)?.keys)))
}

/// `POST …/keys`: published, not yet used.
pub(super) async fn add(
    State(shared): State<Shared>,
    manager: Manager,
    Body(wanted): Body<NewKey>,
) -> Result<(StatusCode, Json<KeyMade>), Problem> {
    insert(&shared, &manager.tenant, wanted, false).await
}

/// `POST …/keys/rotate`: published and used from now on; the old one stays published.
pub(super) async fn rotate(
    State(shared): State<Shared>,
    manager: Manager,
) -> Result<(StatusCode, Json<KeyMade>), Problem> {
    insert(&shared, &manager.tenant, NewKey::default(), true).await
}

/// `POST …/keys/{kid}/activate`
pub(super) async fn activate(
    State(shared): State<Shared>,
    Path((_, kid)): Path<(String, String)>,
    manager: Manager,
) -> Result<Json<KeyList>, Problem> {
    let now_s = shared.clock.now_s();
    let mut store = shared.store();
    let keys = &mut store.tenant_mut(&manager.tenant)?.keys;
    keys.activate(&kid, now_s)?;
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
) -> Result<Json<KeyList>, Problem> {
    let spare = make("RS256", 2048).await?;
    let now_s = shared.clock.now_s();
    let mut store = shared.store();
    let tenant = store.tenant_mut(&manager.tenant)?;
    let row = tenant.keys.get(&kid).ok_or_else(|| Problem::not_found(format!("no key `{kid}`")))?;
    if row.state == KeyState::Active {
        // One that verifiers know already is better than one that they have yet to hear of.
        let new = match tenant.keys.next() {
            Some(next) => next.kid.clone(),
            None => {
                let new = tenant.keys.free_kid(&tenant.name);
                tenant.keys.publish(new.clone(), spare, now_s)?;
                new
            }
        };
        tenant.keys.activate(&new, now_s)?;
    }
    tenant.keys.retire(&kid)?;
    tenant.version.bump();
    Ok(Json(listing(&tenant.keys)))
}

/// `GET …/keys/rotation`
pub(super) async fn schedule(
    State(shared): State<Shared>,
    manager: Manager,
) -> Result<Json<Rotation>, Problem> {
    let rotation = shared.store().tenant(&manager.tenant)?.keys.schedule().cloned();
    Ok(Json(Rotation { rotation }))
}

/// `PUT …/keys/rotation`: from now on keys come and go by themselves.
pub(super) async fn set_schedule(
    State(shared): State<Shared>,
    manager: Manager,
    Body(schedule): Body<Schedule>,
) -> Result<Json<Rotation>, Problem> {
    check_schedule(&schedule, shared.limits.access_token_ttl_s)?;
    let mut store = shared.store();
    let keys = &mut store.tenant_mut(&manager.tenant)?.keys;
    keys.set_schedule(Some(schedule));
    Ok(Json(Rotation { rotation: keys.schedule().cloned() }))
}

/// `DELETE …/keys/rotation`: keys stay as they are.
pub(super) async fn end_schedule(
    State(shared): State<Shared>,
    manager: Manager,
) -> Result<StatusCode, Problem> {
    shared.store().tenant_mut(&manager.tenant)?.keys.set_schedule(None);
    Ok(StatusCode::NO_CONTENT)
}

fn check_schedule(schedule: &Schedule, ttl_s: u64) -> Result<(), Problem> {
    let Schedule { every_s, publish_ahead_s, retire_after_s, alg, bits } = schedule;
    check_kind(alg, *bits)?;
    let mut errors = Vec::new();
    if !(EVERY_S_MIN..=EVERY_S_MAX).contains(every_s) {
        errors.push(FieldError::new("/every_s", format!("must be {EVERY_S_MIN} to {EVERY_S_MAX}")));
    }
    if publish_ahead_s >= every_s {
        errors.push(FieldError::new("/publish_ahead_s", "must be less than `every_s`"));
    }
    if *retire_after_s < ttl_s || *retire_after_s > EVERY_S_MAX {
        let detail = format!("must be {ttl_s}, the lifetime of a token, to {EVERY_S_MAX}");
        errors.push(FieldError::new("/retire_after_s", detail));
    }
    if errors.is_empty() { Ok(()) } else { Err(Problem::invalid(errors)) }
}

async fn insert(
    shared: &Shared,
    tenant: &str,
    wanted: NewKey,
    active: bool,
) -> Result<(StatusCode, Json<KeyMade>), Problem> {
    let NewKey { kid, alg, bits } = wanted;
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if kid.as_ref().is_some_and(|kid| kid.is_empty() || kid.len() > 240 || !kid.bytes().all(legal)) {
        let detail = "must have 1 to 240 letters, digits, `-`, `_` and `.`";
        return Err(Problem::invalid(vec![FieldError::new("/kid", detail)]));
    }
    let (alg, bits) = (alg.unwrap_or_else(|| "RS256".to_owned()), bits.unwrap_or(2048));
    check_kind(&alg, bits)?;
    let key = make(&alg, bits).await?;
    let now_s = shared.clock.now_s();
    let mut store = shared.store();
    let tenant = store.tenant_mut(tenant)?;
    let kid = kid.unwrap_or_else(|| tenant.keys.free_kid(&tenant.name));
    let jwk = key.public_jwk(&kid);
    tenant.keys.publish(kid.clone(), key, now_s)?;
    if active {
        tenant.keys.activate(&kid, now_s)?;
    }
    tenant.version.bump();
    Ok((StatusCode::CREATED, Json(KeyMade { kid, active, jwk })))
}

fn check_kind(alg: &str, bits: usize) -> Result<(), Problem> {
    let refuse = |pointer, detail| Err(Problem::invalid(vec![FieldError::new(pointer, detail)]));
    match (alg, bits) {
        ("RS256", 2048 | 3072 | 4096) | ("ES256", _) => Ok(()),
        ("RS256", _) => refuse("/bits", "must be 2048, 3072 or 4096"),
        _ => refuse("/alg", "must be RS256 or ES256"),
    }
}

fn listing(keys: &KeyRing) -> KeyList {
    let row = |row: &crate::key_ring::KeyRow| KeyAnswer {
        kid: row.kid.clone(),
        alg: row.key.alg(),
        state: row.state,
        active: row.state == KeyState::Active,
        published_at: row.published_s,
        since: row.since_s,
    };
    KeyList { keys: keys.rows().into_iter().map(row).collect(), rotation: keys.schedule().cloned() }
}
