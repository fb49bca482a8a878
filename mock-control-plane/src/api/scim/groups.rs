//! `/scim/v2/{tenant}/Groups`

use std::collections::BTreeSet;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};

use super::users::label;
use super::{Provisioner, ScimBody, ScimQuery, answer, base, check_version, resource, unchanged};
use crate::directory::{Group, Refusal, Scope};
use crate::openapi::Said;
use crate::scim::{
    GROUP, GroupDocument, GroupRequest, ListDocument, ListQuery, Patch, ResourceType, ScimError, ScimKind,
    canonical,
};
use crate::secret;
use crate::server::Shared;
use crate::store::Tenant;
use crate::sync_log::{Status, What};

/// `GET …/Groups`
pub(in crate::api) async fn list(
    State(shared): State<Shared>,
    provisioner: Provisioner,
    ScimQuery(query): ScimQuery<ListQuery>,
) -> Result<Said<ListDocument<GroupDocument>>, ScimError> {
    find(&shared, &provisioner, &query)
}

/// `POST …/Groups/.search`
pub(in crate::api) async fn search(
    State(shared): State<Shared>,
    provisioner: Provisioner,
    ScimBody(query): ScimBody<ListQuery>,
) -> Result<Said<ListDocument<GroupDocument>>, ScimError> {
    find(&shared, &provisioner, &query)
}

/// `POST …/Groups`
pub(in crate::api) async fn create(
    State(shared): State<Shared>,
    provisioner: Provisioner,
    ScimQuery(query): ScimQuery<ListQuery>,
    ScimBody(body): ScimBody<Map<String, Value>>,
) -> Result<Said<GroupDocument>, ScimError> {
    let began = shared.clock.now();
    let made = || -> Result<String, ScimError> {
        let GroupRequest { draft } = GroupRequest::read(canonical(&GROUP, body)?)?;
        let id = secret::random("grp-")?;
        let mut store = shared.store();
        let tenant = store.tenant_mut(&provisioner.tenant)?;
        let added = tenant.directory.add_group(&provisioner.scope, id.clone(), draft, began.as_secs());
        let group = added.map_err(unknown_member)?.clone();
        note(tenant, &provisioner, "Group created", group.name.clone(), &group, began, shared.clock.now());
        note_members(tenant, &provisioner, &BTreeSet::new(), &group, began, shared.clock.now());
        Ok(id)
    };
    let id = made().inspect_err(|error| provisioner.refused(&shared, "Group create", error, began))?;
    show(&shared, &provisioner, &id, StatusCode::CREATED, &query)
}

/// `GET …/Groups/{id}`
pub(in crate::api) async fn get(
    State(shared): State<Shared>,
    Path((_, id)): Path<(String, String)>,
    provisioner: Provisioner,
    ScimQuery(query): ScimQuery<ListQuery>,
    headers: HeaderMap,
) -> Result<Said<GroupDocument>, ScimError> {
    let meta = {
        let store = shared.store();
        let tenant = store.tenant(&provisioner.tenant)?;
        tenant.directory.group(&provisioner.scope, &id)?.meta(&base(tenant))
    };
    match unchanged(&headers, &meta) {
        Some(response) => Ok(response),
        None => show(&shared, &provisioner, &id, StatusCode::OK, &query),
    }
}

/// `PUT …/Groups/{id}`
pub(in crate::api) async fn replace(
    State(shared): State<Shared>,
    Path((_, id)): Path<(String, String)>,
    provisioner: Provisioner,
    ScimQuery(query): ScimQuery<ListQuery>,
    headers: HeaderMap,
    ScimBody(body): ScimBody<Map<String, Value>>,
) -> Result<Said<GroupDocument>, ScimError> {
    let began = shared.clock.now();
    let changed = change(&shared, &provisioner, &id, &headers, began, |_| canonical(&GROUP, body));
    changed.inspect_err(|error| provisioner.refused(&shared, "Group update", error, began))?;
    show(&shared, &provisioner, &id, StatusCode::OK, &query)
}

/// `PATCH …/Groups/{id}`
pub(in crate::api) async fn patch(
    State(shared): State<Shared>,
    Path((_, id)): Path<(String, String)>,
    provisioner: Provisioner,
    ScimQuery(query): ScimQuery<ListQuery>,
    headers: HeaderMap,
    ScimBody(patch): ScimBody<Patch>,
) -> Result<Said<GroupDocument>, ScimError> {
    let began = shared.clock.now();
    let changed =
        change(&shared, &provisioner, &id, &headers, began, |group| patch.apply(&GROUP, &group.attributes()));
    changed.inspect_err(|error| provisioner.refused(&shared, "Group update", error, began))?;
    show(&shared, &provisioner, &id, StatusCode::OK, &query)
}

/// `DELETE …/Groups/{id}`
pub(in crate::api) async fn remove(
    State(shared): State<Shared>,
    Path((_, id)): Path<(String, String)>,
    provisioner: Provisioner,
    headers: HeaderMap,
) -> Result<StatusCode, ScimError> {
    let now = shared.clock.now();
    let mut store = shared.store();
    let tenant = store.tenant_mut(&provisioner.tenant)?;
    let base = base(tenant);
    let group = tenant.directory.group(&provisioner.scope, &id)?.clone();
    check_version(&headers, &group.meta(&base))?;
    let members: Vec<String> = group.members.iter().cloned().collect();
    tenant.change(&members, now, |directory| directory.remove_group(&provisioner.scope, &id))?;
    note(tenant, &provisioner, "Group deleted", group.name.clone(), &group, now, shared.clock.now());
    Ok(StatusCode::NO_CONTENT)
}

fn change(
    shared: &Shared,
    provisioner: &Provisioner,
    id: &str,
    headers: &HeaderMap,
    began: Duration,
    new: impl FnOnce(&Group) -> Result<Map<String, Value>, ScimError>,
) -> Result<(), ScimError> {
    let scope = &provisioner.scope;
    let now = shared.clock.now();
    let mut store = shared.store();
    let tenant = store.tenant_mut(&provisioner.tenant)?;
    let before = tenant.directory.group(scope, id)?.clone();
    check_version(headers, &before.meta(&base(tenant)))?;
    let GroupRequest { draft } = GroupRequest::read(new(&before)?)?;
    let members: Vec<String> = before.members.iter().cloned().collect();
    let changed = tenant
        .change(&members, now, |directory| directory.change_group(scope, id, draft, now.as_secs()).cloned());
    let after = changed.map_err(unknown_member)?;
    if after.name != before.name || after.external_id != before.external_id {
        note(tenant, provisioner, "Group updated", after.name.clone(), &after, began, now);
    }
    note_members(tenant, provisioner, &before.members, &after, began, now);
    Ok(())
}

/// A member who does not exist is a wrong value, not a wrong place.
fn unknown_member(refusal: Refusal) -> ScimError {
    match refusal {
        Refusal::NotFound("user") => ScimError::new(ScimKind::InvalidValue, "a member is no user here"),
        Refusal::Foreign("user") => {
            ScimError { foreign: true, ..ScimError::new(ScimKind::InvalidValue, "a member is no user here") }
        }
        other => other.into(),
    }
}

fn note(
    tenant: &mut Tenant,
    provisioner: &Provisioner,
    event: &'static str,
    detail: String,
    group: &Group,
    began: Duration,
    now: Duration,
) {
    let what = What { source: provisioner.source.clone(), event, detail, org: group.org.clone() };
    tenant.sync_log.done(what, Status::Synced, began, now);
}

fn note_members(
    tenant: &mut Tenant,
    provisioner: &Provisioner,
    before: &BTreeSet<String>,
    group: &Group,
    began: Duration,
    now: Duration,
) {
    let changes = [
        ("Group add", group.members.difference(before)),
        ("Group removed", before.difference(&group.members)),
    ];
    for (event, users) in changes {
        for id in users {
            let user = tenant.directory.user(&Scope::Tenant, id).map(label).unwrap_or_else(|_| id.clone());
            note(tenant, provisioner, event, format!("{user} → {}", group.name), group, began, now);
        }
    }
}

fn find(
    shared: &Shared,
    provisioner: &Provisioner,
    query: &ListQuery,
) -> Result<Said<ListDocument<GroupDocument>>, ScimError> {
    let store = shared.store();
    let tenant = store.tenant(&provisioner.tenant)?;
    let base = base(tenant);
    Ok(answer(StatusCode::OK, query.answer(all(tenant, &provisioner.scope, &base))?))
}

fn show(
    shared: &Shared,
    provisioner: &Provisioner,
    id: &str,
    status: StatusCode,
    query: &ListQuery,
) -> Result<Said<GroupDocument>, ScimError> {
    let store = shared.store();
    let tenant = store.tenant(&provisioner.tenant)?;
    let base = base(tenant);
    let group = tenant.directory.group(&provisioner.scope, id)?;
    let whole = group.resource(&base);
    Ok(resource(status, &GROUP, &group.meta(&base), whole, &query.projection(&GROUP)))
}

/// Every group that the scope sees.
pub(super) fn all<'a>(
    tenant: &'a Tenant,
    scope: &'a Scope,
    base: &'a str,
) -> impl Iterator<Item = (&'static ResourceType, Map<String, Value>)> + 'a {
    tenant.directory.groups(scope).map(|group| (&GROUP, group.resource(base)))
}
