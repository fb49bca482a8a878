//! `/api/v1/roles` and `/api/v1/permissions`

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{Page, Rows};
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

/// A role.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(in crate::api) struct RoleAnswer {
    id: String,
    name: String,
    description: String,
    permissions: Vec<String>,
    /// The role's organisation; null: the tenant itself.
    org_id: Option<String>,
}

/// A page of roles.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(in crate::api) struct RolePage {
    roles: Vec<RoleAnswer>,
    /// All that match, on this page or not.
    total: usize,
    /// Where the next page begins; null: this is the last one.
    cursor: Option<String>,
}

/// A permission.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(in crate::api) struct PermissionAnswer {
    name: String,
    /// Identifiers of the roles that grant it.
    roles: Vec<String>,
}

/// All permissions.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(in crate::api) struct PermissionList {
    permissions: Vec<PermissionAnswer>,
}

/// `GET …/roles`
pub(in crate::api) async fn list(
    State(shared): State<Shared>,
    registrar: Registrar,
    Query(page): Query<Page>,
) -> Result<Json<RolePage>, Problem> {
    let store = shared.store();
    let directory = &store.tenant(&registrar.tenant)?.directory;
    page.need_org(directory, &registrar.scope)?;
    let rows = directory.roles(&registrar.scope).filter(|role| page.wants(role.org.as_deref()));
    let Rows { rows: roles, total, cursor } = page.of(rows, |role| &role.id, show)?;
    Ok(Json(RolePage { roles, total, cursor }))
}

/// `POST …/roles`
pub(in crate::api) async fn create(
    State(shared): State<Shared>,
    registrar: Registrar,
    Body(body): Body<RoleBody>,
) -> Result<(StatusCode, Json<RoleAnswer>), Problem> {
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
) -> Result<Json<RoleAnswer>, Problem> {
    let store = shared.store();
    Ok(Json(show(store.tenant(&registrar.tenant)?.directory.role(&registrar.scope, &id)?)))
}

/// `PUT …/roles/{role}`
pub(in crate::api) async fn replace(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    registrar: Registrar,
    Body(body): Body<RoleBody>,
) -> Result<Json<RoleAnswer>, Problem> {
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
) -> Result<Json<PermissionList>, Problem> {
    let store = shared.store();
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for role in store.tenant(&registrar.tenant)?.directory.roles(&registrar.scope) {
        for permission in &role.permissions {
            all.entry(permission.clone()).or_default().push(role.id.clone());
        }
    }
    let permissions = all.into_iter().map(|(name, roles)| PermissionAnswer { name, roles }).collect();
    Ok(Json(PermissionList { permissions }))
}

fn draft(body: RoleBody) -> RoleDraft {
    let RoleBody { name, description, permissions, org_id } = body;
    RoleDraft { org: org_id, name, description, permissions }
}

fn show(role: &Role) -> RoleAnswer {
    let Role { id, org, name, description, permissions } = role.clone();
    RoleAnswer { id, name, description, permissions: permissions.into_iter().collect(), org_id: org }
}
