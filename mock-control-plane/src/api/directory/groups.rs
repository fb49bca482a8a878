//! `/api/v1/groups`

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::orgs::UserRef;
use super::{Page, Rows};
use crate::directory::{Directory, Group, GroupDraft, Refusal, Role, RoleDraft, Scope};
use crate::extract::{Body, Query, Registrar};
use crate::server::Shared;
use crate::store::Tenant;
use crate::{FieldError, Problem, secret};

/// A group.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct GroupBody {
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    org_id: Option<String>,
}

/// A role: one that exists, by identifier; or by name, made with these permissions if there is none.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct RoleRef {
    #[serde(default)]
    role_id: Option<String>,
    #[serde(default)]
    role_name: Option<String>,
    #[schemars(with = "Option<Vec<String>>")]
    #[serde(default)]
    permissions: Option<BTreeSet<String>>,
}

/// A role that a user or a group has.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(in crate::api) struct Assigned {
    role_id: String,
    role_name: String,
    permissions: Vec<String>,
}

/// A group.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(in crate::api) struct GroupAnswer {
    id: String,
    name: String,
    description: String,
    /// The group's organisation; null: the tenant itself.
    org_id: Option<String>,
    /// Identifier in the directory that provisions the group.
    external_id: Option<String>,
    /// Identifiers of users.
    members: Vec<String>,
    roles: Vec<Assigned>,
}

/// A page of groups.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(in crate::api) struct GroupPage {
    groups: Vec<GroupAnswer>,
    /// All that match, on this page or not.
    total: usize,
    /// Where the next page begins; null: this is the last one.
    cursor: Option<String>,
}

/// `GET …/groups`
pub(in crate::api) async fn list(
    State(shared): State<Shared>,
    registrar: Registrar,
    Query(page): Query<Page>,
) -> Result<Json<GroupPage>, Problem> {
    let store = shared.store();
    let directory = &store.tenant(&registrar.tenant)?.directory;
    page.need_org(directory, &registrar.scope)?;
    let rows = directory.groups(&registrar.scope).filter(|group| page.wants(group.org.as_deref()));
    let page = page.of(rows, |group| &group.id, |group| show(directory, group))?;
    let Rows { rows: groups, total, cursor } = page;
    Ok(Json(GroupPage { groups, total, cursor }))
}

/// `POST …/groups`
pub(in crate::api) async fn create(
    State(shared): State<Shared>,
    registrar: Registrar,
    Body(GroupBody { name, description, org_id }): Body<GroupBody>,
) -> Result<(StatusCode, Json<GroupAnswer>), Problem> {
    let id = secret::random("grp-")?;
    let mut store = shared.store();
    let directory = &mut store.tenant_mut(&registrar.tenant)?.directory;
    let draft = GroupDraft { org: org_id, name, description, ..GroupDraft::default() };
    directory.add_group(&registrar.scope, id.clone(), draft, shared.clock.now_s())?;
    Ok((StatusCode::CREATED, Json(show(directory, directory.group(&registrar.scope, &id)?))))
}

/// `GET …/groups/{group}`
pub(in crate::api) async fn get(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    registrar: Registrar,
) -> Result<Json<GroupAnswer>, Problem> {
    let store = shared.store();
    let directory = &store.tenant(&registrar.tenant)?.directory;
    Ok(Json(show(directory, directory.group(&registrar.scope, &id)?)))
}

/// `PUT …/groups/{group}`: name and description.
pub(in crate::api) async fn replace(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    registrar: Registrar,
    Body(GroupBody { name, description, org_id: _ }): Body<GroupBody>,
) -> Result<Json<GroupAnswer>, Problem> {
    let now = shared.clock.now();
    let mut store = shared.store();
    let tenant = store.tenant_mut(&registrar.tenant)?;
    let row = tenant.directory.group(&registrar.scope, &id)?;
    let external_id = row.external_id.clone();
    let draft = GroupDraft { name, description, external_id, ..GroupDraft::default() };
    change(tenant, &registrar.scope, &id, now, |directory, scope| {
        directory.change_group(scope, &id, draft, now.as_secs()).map(|_| ())
    })?;
    Ok(Json(show(&tenant.directory, tenant.directory.group(&registrar.scope, &id)?)))
}

/// `DELETE …/groups/{group}`
pub(in crate::api) async fn remove(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    registrar: Registrar,
) -> Result<StatusCode, Problem> {
    let mut store = shared.store();
    let tenant = store.tenant_mut(&registrar.tenant)?;
    change(tenant, &registrar.scope, &id, shared.clock.now(), |directory, scope| {
        directory.remove_group(scope, &id)
    })?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST …/groups/{group}/roles`
pub(in crate::api) async fn add_role(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    registrar: Registrar,
    Body(wanted): Body<RoleRef>,
) -> Result<(StatusCode, Json<Assigned>), Problem> {
    let new_id = secret::random("rol-")?;
    let mut store = shared.store();
    let directory = &mut store.tenant_mut(&registrar.tenant)?.directory;
    let org = directory.group(&registrar.scope, &id)?.org.clone();
    let role = find_or_make(directory, &registrar.scope, org, wanted, new_id)?;
    directory.set_group_role(&registrar.scope, &id, &role, true)?;
    Ok((StatusCode::CREATED, Json(show_role(directory.role(&registrar.scope, &role)?))))
}

/// `DELETE …/groups/{group}/roles/{role}`
pub(in crate::api) async fn remove_role(
    State(shared): State<Shared>,
    Path((id, role)): Path<(String, String)>,
    registrar: Registrar,
) -> Result<StatusCode, Problem> {
    let mut store = shared.store();
    let tenant = store.tenant_mut(&registrar.tenant)?;
    change(tenant, &registrar.scope, &id, shared.clock.now(), |directory, scope| {
        directory.set_group_role(scope, &id, &role, false)
    })?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST …/groups/{group}/members`
pub(in crate::api) async fn add_member(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    registrar: Registrar,
    Body(user): Body<UserRef>,
) -> Result<StatusCode, Problem> {
    let mut store = shared.store();
    let directory = &mut store.tenant_mut(&registrar.tenant)?.directory;
    directory.set_member(&registrar.scope, &id, user.user_id(), true, shared.clock.now_s())?;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE …/groups/{group}/members/{user}`
pub(in crate::api) async fn remove_member(
    State(shared): State<Shared>,
    Path((id, user)): Path<(String, String)>,
    registrar: Registrar,
) -> Result<StatusCode, Problem> {
    let now = shared.clock.now();
    let mut store = shared.store();
    let tenant = store.tenant_mut(&registrar.tenant)?;
    change(tenant, &registrar.scope, &id, now, |directory, scope| {
        directory.set_member(scope, &id, &user, false, now.as_secs()).map(|_| ())
    })?;
    Ok(StatusCode::NO_CONTENT)
}

/// The role that is meant, made if need be.
pub(super) fn find_or_make(
    directory: &mut Directory,
    scope: &Scope,
    org: Option<String>,
    wanted: RoleRef,
    new_id: String,
) -> Result<String, Problem> {
    match wanted {
        RoleRef { role_id: Some(id), role_name: None, permissions: None } => {
            Ok(directory.role(scope, &id)?.id.clone())
        }
        RoleRef { role_id: None, role_name: Some(name), permissions } => {
            if let Some(role) = directory.role_by_name(org.as_deref(), &name) {
                if permissions.is_some_and(|permissions| permissions != role.permissions) {
                    let detail =
                        format!("role `{name}` exists with other permissions; change it by `PUT …/roles`");
                    return Err(Problem::conflict(detail));
                }
                return Ok(role.id.clone());
            }
            let permissions = permissions.unwrap_or_default();
            let draft = RoleDraft { org, name, description: String::new(), permissions };
            Ok(directory.add_role(scope, new_id, draft)?.id.clone())
        }
        RoleRef { .. } => {
            let detail = "send `role_id` alone, or `role_name` with `permissions`";
            Err(Problem::invalid(vec![FieldError::new("/role_id", detail)]))
        }
    }
}

/// A role as the answer to its assignment.
pub(super) fn show_role(role: &Role) -> Assigned {
    let permissions = role.permissions.iter().cloned().collect();
    Assigned { role_id: role.id.clone(), role_name: role.name.clone(), permissions }
}

/// A change of a group, which may take rights from its members.
fn change(
    tenant: &mut Tenant,
    scope: &Scope,
    id: &str,
    now: std::time::Duration,
    change: impl FnOnce(&mut Directory, &Scope) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let members: Vec<String> = tenant.directory.group(scope, id)?.members.iter().cloned().collect();
    tenant.change(&members, now, |directory| change(directory, scope))
}

fn show(directory: &Directory, group: &Group) -> GroupAnswer {
    let role = |id: &String| directory.role(&Scope::Tenant, id).ok().map(show_role);
    GroupAnswer {
        id: group.id.clone(),
        name: group.name.clone(),
        description: group.description.clone(),
        org_id: group.org.clone(),
        external_id: group.external_id.clone(),
        members: group.members.iter().cloned().collect(),
        roles: group.roles.iter().filter_map(role).collect(),
    }
}
