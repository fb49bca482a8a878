//! `/api/v1/roles` and `/api/v1/permissions`

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Page;
use crate::directory::{Role, RoleDraft};
use crate::extract::{Body, Query, Registrar};
use crate::server::Shared;
use crate::{Problem, secret};

/// A role.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct RoleBody {
    name: String,
    #[serde(default)]
    description: String,
    #[schemars(with = "Vec<String>")]
    #[serde(default)]
    permissions: BTreeSet<String>,
    #[serde(default)]
    org_id: Option<String>,
}

/// `GET …/roles`
pub(in crate::api) async fn list(
    State(shared): State<Shared>,
    registrar: Registrar,
    Query(page): Query<Page>,
) -> Result<Json<Value>, Problem> {
    let store = shared.store();
    let directory = &store.tenant(&registrar.tenant)?.directory;
    page.need_org(directory, &registrar.scope)?;
    let rows = directory.roles(&registrar.scope).filter(|role| page.wants(role.org.as_deref()));
    page.of("roles", rows, |role| &role.id, show).map(Json)
}

/// `POST …/roles`
pub(in crate::api) async fn create(
    State(shared): State<Shared>,
    registrar: Registrar,
    Body(body): Body<RoleBody>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let id = secret::random("rol-")?;
    let mut store = shared.store();
    let directory = &mut store.tenant_mut(&registrar.tenant)?.directory;
    let role = directory.add_role(&registrar.scope, id, draft(body))?;
    Ok((StatusCode::CREATED, Json(show(role))))
}

/// `GET …/roles/{role}`
pub(in crate::api) async fn get(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    registrar: Registrar,
) -> Result<Json<Value>, Problem> {
    let store = shared.store();
    Ok(Json(show(store.tenant(&registrar.tenant)?.directory.role(&registrar.scope, &id)?)))
}

/// `PUT …/roles/{role}`
pub(in crate::api) async fn replace(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    registrar: Registrar,
    Body(body): Body<RoleBody>,
) -> Result<Json<Value>, Problem> {
    let mut store = shared.store();
    let tenant = store.tenant_mut(&registrar.tenant)?;
    let holders = tenant.directory.holders(&id);
    tenant.change(&holders, shared.clock.now(), |directory| {
        directory.change_role(&registrar.scope, &id, draft(body)).map(|_| ())
    })?;
    Ok(Json(show(tenant.directory.role(&registrar.scope, &id)?)))
}

/// `DELETE …/roles/{role}`
pub(in crate::api) async fn remove(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    registrar: Registrar,
) -> Result<StatusCode, Problem> {
    let mut store = shared.store();
    let tenant = store.tenant_mut(&registrar.tenant)?;
    let holders = tenant.directory.holders(&id);
    tenant.change(&holders, shared.clock.now(), |directory| directory.remove_role(&registrar.scope, &id))?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET …/permissions`: each permission with the roles that grant it.
pub(in crate::api) async fn permissions(
    State(shared): State<Shared>,
    registrar: Registrar,
) -> Result<Json<Value>, Problem> {
    let store = shared.store();
    let mut all: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for role in store.tenant(&registrar.tenant)?.directory.roles(&registrar.scope) {
        for permission in &role.permissions {
            all.entry(permission).or_default().push(&role.id);
        }
    }
    let rows: Vec<Value> =
        all.into_iter().map(|(name, roles)| json!({ "name": name, "roles": roles })).collect();
    Ok(Json(json!({ "permissions": rows })))
}

fn draft(body: RoleBody) -> RoleDraft {
    let RoleBody { name, description, permissions, org_id } = body;
    RoleDraft { org: org_id, name, description, permissions }
}

fn show(role: &Role) -> Value {
    let Role { id, org, name, description, permissions } = role;
    json!({ "id": id, "name": name, "description": description, "permissions": permissions, "org_id": org })
}
