//! A user's own sessions, and who the user is.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::Problem;
use crate::directory::{Effective, Scope};
use crate::extract::Caller;
use crate::server::Shared;
use crate::session::Session;

/// `GET /v1/{tenant}/auth/sessions`
pub(super) async fn list(State(shared): State<Shared>, caller: Caller) -> Result<Json<Value>, Problem> {
    let now_s = shared.clock.now_s();
    let store = shared.store();
    let row = |session: &Session| {
        json!({
            "session_id": session.id, "created_at": session.created_s, "last_used_at": session.used_s,
            "expires_at": session.expires_s, "auth_time": session.strength.auth_time_s,
            "mfa_verified": session.strength.mfa, "current": session.id == caller.bearer.sid,
        })
    };
    let sessions: Vec<Value> =
        store.tenant(&caller.tenant)?.sessions.of_user(&caller.bearer.user, now_s).map(row).collect();
    Ok(Json(json!({ "sessions": sessions })))
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
pub(super) async fn userinfo(State(shared): State<Shared>, caller: Caller) -> Result<Json<Value>, Problem> {
    let store = shared.store();
    let directory = &store.tenant(&caller.tenant)?.directory;
    let user = directory.user(&Scope::Tenant, &caller.bearer.user)?;
    let Effective { roles, groups, permissions } = directory.effective(&user.id);
    Ok(Json(json!({
        "sub": user.id, "email": user.email(), "email_verified": user.email_verified, "name": user.name(),
        "org_id": user.org, "roles": roles, "groups": groups, "permissions": permissions.keys().collect::<Vec<_>>(),
    })))
}
