//! The tenant's own settings, its revocations, and the sync log.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use portcullis_wire::{Revocation, RevokedClaim};
use serde::{Deserialize, Serialize};

use crate::audit::AuditEntry;
use crate::extract::{Body, Manager, Query};
use crate::mfa::MfaPolicy;
use crate::server::Shared;
use crate::store::Tenant;
use crate::sync_log::{Entry, SyncEntry};
use crate::{FieldError, Plan, Problem};

/// What is to be different.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TenantChange {
    #[serde(default)]
    mfa_policy: Option<MfaPolicy>,
    #[serde(default)]
    plan: Option<Plan>,
    /// How long a change takes to a cloud provider, seconds.
    #[serde(default)]
    cloud_delay_s: Option<u64>,
}

/// Which part of the audit log.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditFilter {
    #[serde(default)]
    org_id: Option<String>,
    #[serde(default)]
    actor: Option<String>,
    /// The `cursor` of the page before: only older entries.
    #[serde(default)]
    cursor: Option<u64>,
    #[serde(default)]
    limit: Option<usize>,
}

/// Tokens to refuse.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRevocation {
    claim: RevokedClaim,
    value: String,
    /// Tokens made before; absent: every token.
    #[serde(default)]
    not_before: Option<u64>,
}

/// Which part of the sync log.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LogFilter {
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    org_id: Option<String>,
    #[serde(default)]
    limit: Option<usize>,
}

/// Settings of the tenant.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Settings {
    name: String,
    issuer: String,
    audiences: Vec<String>,
    mfa_policy: MfaPolicy,
    plan: Plan,
    /// How long a change takes to a cloud provider, seconds.
    cloud_delay_s: u64,
    config_version: u64,
}

/// Revocations in force.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct RevocationList {
    revocations: Vec<Revocation>,
}

/// The version that holds the revocation.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Revoked {
    config_version: u64,
}

/// A part of the sync log.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct SyncLogPage {
    /// Newest first.
    entries: Vec<SyncEntry>,
    /// Older entries that are gone.
    forgotten: u64,
}

/// A part of the audit log.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct AuditPage {
    /// Newest first.
    entries: Vec<AuditEntry>,
    /// Where the next page begins, if there may be one.
    cursor: Option<u64>,
    /// Older entries that are gone.
    forgotten: u64,
}

const VALUE_BYTES_MAX: usize = 240;
const LOG_LIMIT: usize = 100;
const CLOUD_DELAY_S_MAX: u64 = 86_400;
const LOG_LIMIT_MAX: usize = 10_000;

/// `GET /manage/v1/{tenant}/tenant`
pub(super) async fn get(State(shared): State<Shared>, manager: Manager) -> Result<Json<Settings>, Problem> {
    Ok(Json(show(shared.store().tenant(&manager.tenant)?)))
}

/// `PATCH /manage/v1/{tenant}/tenant`
pub(super) async fn change(
    State(shared): State<Shared>,
    manager: Manager,
    Body(TenantChange { mfa_policy, plan, cloud_delay_s }): Body<TenantChange>,
) -> Result<Json<Settings>, Problem> {
    if cloud_delay_s.is_some_and(|delay| delay > CLOUD_DELAY_S_MAX) {
        let detail = format!("must be at most {CLOUD_DELAY_S_MAX}");
        return Err(Problem::invalid(vec![FieldError::new("/cloud_delay_s", detail)]));
    }
    let mut store = shared.store();
    let tenant = store.tenant_mut(&manager.tenant)?;
    tenant.mfa_policy = mfa_policy.unwrap_or(tenant.mfa_policy);
    tenant.plan = plan.unwrap_or(tenant.plan);
    tenant.cloud_delay_s = cloud_delay_s.unwrap_or(tenant.cloud_delay_s);
    Ok(Json(show(tenant)))
}

/// `GET /manage/v1/{tenant}/revocations`
pub(super) async fn revocations(
    State(shared): State<Shared>,
    manager: Manager,
) -> Result<Json<RevocationList>, Problem> {
    let revocations = shared.store().tenant(&manager.tenant)?.bundle().revocations;
    Ok(Json(RevocationList { revocations }))
}

/// `POST /manage/v1/{tenant}/revocations`
pub(super) async fn revoke(
    State(shared): State<Shared>,
    manager: Manager,
    Body(NewRevocation { claim, value, not_before }): Body<NewRevocation>,
) -> Result<(StatusCode, Json<Revoked>), Problem> {
    let now = shared.clock.now();
    if value.is_empty() || value.len() > VALUE_BYTES_MAX {
        let detail = format!("must have 1 to {VALUE_BYTES_MAX} bytes");
        return Err(Problem::invalid(vec![FieldError::new("/value", detail)]));
    }
    if not_before.is_some_and(|time| time > now.as_secs() + 1) {
        let detail = "is in the future: it would refuse tokens that are not made yet";
        return Err(Problem::invalid(vec![FieldError::new("/not_before", detail)]));
    }
    let mut store = shared.store();
    let tenant = store.tenant_mut(&manager.tenant)?;
    if claim == RevokedClaim::Sid {
        tenant.sessions.end(&value);
    }
    tenant.revoke(claim, &value, not_before, now);
    Ok((StatusCode::CREATED, Json(Revoked { config_version: tenant.version.get() })))
}

/// `GET /manage/v1/{tenant}/directory/sync-log`: newest first.
pub(super) async fn sync_log(
    State(shared): State<Shared>,
    manager: Manager,
    Query(LogFilter { source, org_id, limit }): Query<LogFilter>,
) -> Result<Json<SyncLogPage>, Problem> {
    let limit = limit.unwrap_or(LOG_LIMIT);
    if limit == 0 || limit > LOG_LIMIT_MAX {
        return Err(Problem::unreadable(format!("query: `limit` must be 1 to {LOG_LIMIT_MAX}")));
    }
    let store = shared.store();
    let (entries, forgotten) = store.tenant(&manager.tenant)?.sync_log.entries();
    let wanted = entries.rev().filter(|entry| {
        source.as_ref().is_none_or(|source| *source == entry.source)
            && (org_id.is_none() || org_id == entry.org_id)
    });
    let entries = wanted.take(limit).map(Entry::show).collect();
    Ok(Json(SyncLogPage { entries, forgotten }))
}

/// `GET /manage/v1/{tenant}/audit`: who reached for what belongs to another organisation; newest first.
pub(super) async fn audit(
    State(shared): State<Shared>,
    manager: Manager,
    Query(AuditFilter { org_id, actor, cursor, limit }): Query<AuditFilter>,
) -> Result<Json<AuditPage>, Problem> {
    let limit = limit.unwrap_or(LOG_LIMIT);
    if limit == 0 || limit > LOG_LIMIT_MAX {
        return Err(Problem::unreadable(format!("query: `limit` must be 1 to {LOG_LIMIT_MAX}")));
    }
    let store = shared.store();
    let audit = &store.tenant(&manager.tenant)?.audit;
    let wanted = audit.since(0).rev().filter(|(number, entry)| {
        cursor.is_none_or(|cursor| *number < cursor)
            && actor.as_ref().is_none_or(|actor| *actor == entry.actor)
            && (org_id.is_none() || org_id == entry.org_id)
    });
    let page: Vec<_> = wanted.take(limit).collect();
    let cursor = page.last().filter(|_| page.len() == limit).map(|(number, _)| *number);
    let entries = page.into_iter().map(|(_, entry)| entry.clone()).collect();
    Ok(Json(AuditPage { entries, cursor, forgotten: audit.forgotten() }))
}

fn show(tenant: &Tenant) -> Settings {
    Settings {
        name: tenant.name.clone(),
        issuer: tenant.issuer.clone(),
        audiences: tenant.audiences.clone(),
        mfa_policy: tenant.mfa_policy,
        plan: tenant.plan,
        cloud_delay_s: tenant.cloud_delay_s,
        config_version: tenant.version.get(),
    }
}
