//! A user's own sessions, and who the user is.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Serialize;

use crate::Problem;
use crate::directory::{Effective, Scope};
use crate::extract::Caller;
use crate::server::Shared;
use crate::session::Session;

/// A session.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct SessionAnswer {
    session_id: String,
    /// Seconds since the epoch, like the next ones.
    created_at: u64,
    last_used_at: u64,
    expires_at: u64,
    /// When the user last showed a password or a code.
    auth_time: u64,
    mfa_verified: bool,
    /// Whether it is the one that asks.
    current: bool,
}

/// Sessions of the user.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct SessionList {
    sessions: Vec<SessionAnswer>,
}

/// Who the user is, and what tokens say about rights.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct UserInfo {
    sub: String,
    email: Option<String>,
    email_verified: bool,
    name: String,
    org_id: Option<String>,
    /// Names.
    roles: Vec<String>,
    /// Names.
    groups: Vec<String>,
    permissions: Vec<String>,
}

/// `GET /v1/{tenant}/auth/sessions`
pub(super) async fn list(State(shared): State<Shared>, caller: Caller) -> Result<Json<SessionList>, Problem> {
    let now_s = shared.clock.now_s();
    let store = shared.store();
    let row = |session: &Session| SessionAnswer {
        session_id: session.id.clone(),
        created_at: session.created_s,
        last_used_at: session.used_s,
        expires_at: session.expires_s,
        auth_time: session.strength.auth_time_s,
        mfa_verified: session.strength.mfa,
        current: session.id == caller.bearer.sid,
    };
    let sessions =
        store.tenant(&caller.tenant)?.sessions.of_user(&caller.bearer.user, now_s).map(row).collect();
    Ok(Json(SessionList { sessions }))
}

/// `POST /v1/{tenant}/auth/logout`: this session ends, and its tokens are revoked.
pub(super) async fn logout(State(shared): State<Shared>, caller: Caller) -> Result<StatusCode, Problem> {
    let mut store = shared.store();
    store.tenant_mut(&caller.tenant)?.end_session(&caller.bearer.sid, shared.clock.now());
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /v1/{tenant}/auth/sessions`: all sessions of the user end.
pub(super) async fn end_all(State(shared): State<Shared>, caller: Caller) -> Result<StatusCode, Problem> {
    let mut store = shared.store();
    store.tenant_mut(&caller.tenant)?.end_sessions(&caller.bearer.user, shared.clock.now());
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /v1/{tenant}/auth/sessions/{session}`
pub(super) async fn end(
    State(shared): State<Shared>,
    Path((_, sid)): Path<(String, String)>,
    caller: Caller,
) -> Result<StatusCode, Problem> {
    let now = shared.clock.now();
    let mut store = shared.store();
    let tenant = store.tenant_mut(&caller.tenant)?;
    // Another user's session does not exist as far as this one can tell.
    let own =
        tenant.sessions.get(&sid, now.as_secs()).is_some_and(|session| session.user == caller.bearer.user);
    if !own {
        return Err(Problem::not_found("no such session"));
    }
    tenant.end_session(&sid, now);
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /v1/{tenant}/userinfo`: OpenID Connect Core 1.0 section 5.3, with what tokens say about rights.
pub(super) async fn userinfo(
    State(shared): State<Shared>,
    caller: Caller,
) -> Result<Json<UserInfo>, Problem> {
    let store = shared.store();
    let directory = &store.tenant(&caller.tenant)?.directory;
    let user = directory.user(&Scope::Tenant, &caller.bearer.user)?;
    let Effective { roles, groups, permissions } = directory.effective(&user.id);
    Ok(Json(UserInfo {
        sub: user.id.clone(),
        email: user.email().map(str::to_owned),
        email_verified: user.email_verified,
        name: user.name(),
        org_id: user.org.clone(),
        roles: roles.into_iter().collect(),
        groups: groups.into_iter().collect(),
        permissions: permissions.into_keys().collect(),
    }))
}
