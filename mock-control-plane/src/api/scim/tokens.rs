//! `/manage/v1/{tenant}/scim/tokens`: who may provision.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

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

/// A token of a directory, without its secret.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(in crate::api) struct TokenAnswer {
    token_id: String,
    /// Name of the directory.
    source: String,
    /// The organisation that it provisions; null: the tenant.
    org_id: Option<String>,
}

/// Tokens of directories.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(in crate::api) struct ScimTokenList {
    tokens: Vec<TokenAnswer>,
}

/// A new token, shown this once.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(in crate::api) struct TokenMade {
    token_id: String,
    token: String,
    source: String,
    org_id: Option<String>,
    note: &'static str,
}

/// `GET …/scim/tokens`
pub(in crate::api) async fn list(
    State(shared): State<Shared>,
    manager: Manager,
) -> Result<Json<ScimTokenList>, Problem> {
    let store = shared.store();
    let show = |token: &ScimToken| TokenAnswer {
        token_id: token.id.clone(),
        source: token.source.clone(),
        org_id: org(&token.scope),
    };
    let tokens = store.tenant(&manager.tenant)?.scim_tokens.list().map(show).collect();
    Ok(Json(ScimTokenList { tokens }))
}

/// `POST …/scim/tokens`
pub(in crate::api) async fn create(
    State(shared): State<Shared>,
    manager: Manager,
    Body(NewToken { source, org_id }): Body<NewToken>,
) -> Result<(StatusCode, Json<TokenMade>), Problem> {
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
    let (org_id, secret) = (org(&scope), SecretHash::of(token.as_bytes()));
    tenant.scim_tokens.add(ScimToken { id: id.clone(), source: source.clone(), scope, secret });
    let note = "Save this token; it will not be shown again";
    Ok((StatusCode::CREATED, Json(TokenMade { token_id: id, token, source, org_id, note })))
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

fn org(scope: &Scope) -> Option<String> {
    match scope {
        Scope::Tenant => None,
        Scope::Org(id) => Some(id.clone()),
    }
}
