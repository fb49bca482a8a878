//! `/manage/v1/{tenant}/scim/tokens`: who may provision.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::directory::Scope;
use crate::extract::{Body, Manager};
use crate::scim::ScimToken;
use crate::secret::{SecretHash, random};
use crate::server::Shared;
use crate::{FieldError, Problem};

/// A directory.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct NewToken {
    /// Its name.
    source: String,
    /// The organisation that it provisions; absent: the tenant.
    #[serde(default)]
    org_id: Option<String>,
}

/// `GET …/scim/tokens`
pub(in crate::api) async fn list(
    State(shared): State<Shared>,
    manager: Manager,
) -> Result<Json<Value>, Problem> {
    let store = shared.store();
    let show = |token: &ScimToken| json!({ "token_id": token.id, "source": token.source, "org_id": org(&token.scope) });
    let tokens: Vec<Value> = store.tenant(&manager.tenant)?.scim_tokens.list().map(show).collect();
    Ok(Json(json!({ "tokens": tokens })))
}

/// `POST …/scim/tokens`
pub(in crate::api) async fn create(
    State(shared): State<Shared>,
    manager: Manager,
    Body(NewToken { source, org_id }): Body<NewToken>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    if source.trim().is_empty() || source.len() > 100 || source.contains(char::is_control) {
        let detail = "must have 1 to 100 bytes and no control characters";
        return Err(Problem::invalid(vec![FieldError::new("/source", detail)]));
    }
    let (id, token) = (random("stk-")?, random("scim_")?);
    let mut store = shared.store();
    let tenant = store.tenant_mut(&manager.tenant)?;
    let scope = match org_id {
        None => Scope::Tenant,
        Some(id) => Scope::Org(tenant.directory.org(&Scope::Tenant, &id)?.id.clone()),
    };
    let answer = json!({
        "token_id": id, "token": token, "source": source, "org_id": org(&scope),
        "note": "Save this token; it will not be shown again",
    });
    tenant.scim_tokens.add(ScimToken { id, source, scope, secret: SecretHash::of(token.as_bytes()) });
    Ok((StatusCode::CREATED, Json(answer)))
}

/// `DELETE …/scim/tokens/{token}`
pub(in crate::api) async fn remove(
    State(shared): State<Shared>,
    Path((_, id)): Path<(String, String)>,
    manager: Manager,
) -> Result<StatusCode, Problem> {
    let mut store = shared.store();
    let removed = store.tenant_mut(&manager.tenant)?.scim_tokens.remove(&id);
    if removed {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::not_found(format!("no SCIM token `{id}`")))
    }
}

fn org(scope: &Scope) -> Option<&str> {
    match scope {
        Scope::Tenant => None,
        Scope::Org(id) => Some(id),
    }
}
