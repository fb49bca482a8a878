//! `/scim/v2/{tenant}/Users`

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value};

use super::{Provisioner, ScimBody, ScimQuery, answer, base, check_version, resource, unchanged};
use crate::directory::{Scope, User, UserDraft};
use crate::openapi::Said;
use crate::password::{PasswordHash, off_thread};
use crate::scim::{
    ListDocument, ListQuery, Patch, ResourceType, ScimError, ScimKind, USER, UserDocument, UserRequest,
    canonical,
};
use crate::secret;
use crate::server::Shared;
use crate::store::Tenant;
use crate::sync_log::{Status, What};

/// How often a change is applied anew to what others have made of the user meanwhile.
const TRIES: usize = 32;

/// `GET …/Users`
pub(in crate::api) async fn list(
    State(shared): State<Shared>,
    provisioner: Provisioner,
    ScimQuery(query): ScimQuery<ListQuery>,
) -> Result<Said<ListDocument<UserDocument>>, ScimError> {
    find(&shared, &provisioner, &query)
}

/// `POST …/Users/.search`
pub(in crate::api) async fn search(
    State(shared): State<Shared>,
    provisioner: Provisioner,
    ScimBody(query): ScimBody<ListQuery>,
) -> Result<Said<ListDocument<UserDocument>>, ScimError> {
    find(&shared, &provisioner, &query)
}

/// `POST …/Users`
pub(in crate::api) async fn create(
    State(shared): State<Shared>,
    provisioner: Provisioner,
    ScimQuery(query): ScimQuery<ListQuery>,
    ScimBody(body): ScimBody<Map<String, Value>>,
) -> Result<Said<UserDocument>, ScimError> {
    let began = shared.clock.now();
    let made = async {
        let draft = read(&shared, canonical(&USER, body)?, true).await?;
        let id = secret::random("usr-")?;
        let mut store = shared.store();
        let tenant = store.tenant_mut(&provisioner.tenant)?;
        let draft = UserDraft { email_verified: true, ..draft };
        let user = tenant.directory.add_user(&provisioner.scope, id.clone(), draft, shared.clock.now_s())?;
        let (detail, org) = (label(user), user.org.clone());
        let what = What { source: provisioner.source.clone(), event: "User created", detail, org };
        tenant.sync_log.done(what, Status::Synced, began, shared.clock.now());
        Ok(id)
    };
    let id = made.await.inspect_err(|error| provisioner.refused(&shared, "User create", error, began))?;
    show(&shared, &provisioner, &id, StatusCode::CREATED, &query)
}

/// `GET …/Users/{id}`
pub(in crate::api) async fn get(
    State(shared): State<Shared>,
    Path((_, id)): Path<(String, String)>,
    provisioner: Provisioner,
    ScimQuery(query): ScimQuery<ListQuery>,
    headers: HeaderMap,
) -> Result<Said<UserDocument>, ScimError> {
    let meta = {
        let store = shared.store();
        let tenant = store.tenant(&provisioner.tenant)?;
        tenant.directory.user(&provisioner.scope, &id)?.meta(&base(tenant))
    };
    match unchanged(&headers, &meta) {
        Some(response) => Ok(response),
        None => show(&shared, &provisioner, &id, StatusCode::OK, &query),
    }
}

/// `PUT …/Users/{id}`
pub(in crate::api) async fn replace(
    State(shared): State<Shared>,
    Path((_, id)): Path<(String, String)>,
    provisioner: Provisioner,
    ScimQuery(query): ScimQuery<ListQuery>,
    headers: HeaderMap,
    ScimBody(body): ScimBody<Map<String, Value>>,
) -> Result<Said<UserDocument>, ScimError> {
    let began = shared.clock.now();
    let changed =
        change(&shared, &provisioner, &id, &headers, began, |_| canonical(&USER, body.clone())).await;
    changed.inspect_err(|error| provisioner.refused(&shared, "User update", error, began))?;
    show(&shared, &provisioner, &id, StatusCode::OK, &query)
}

/// `PATCH …/Users/{id}`
pub(in crate::api) async fn patch(
    State(shared): State<Shared>,
    Path((_, id)): Path<(String, String)>,
    provisioner: Provisioner,
    ScimQuery(query): ScimQuery<ListQuery>,
    headers: HeaderMap,
    ScimBody(patch): ScimBody<Patch>,
) -> Result<Said<UserDocument>, ScimError> {
    let began = shared.clock.now();
    let change =
        change(&shared, &provisioner, &id, &headers, began, |user| patch.apply(&USER, &user.attributes()));
    change.await.inspect_err(|error| provisioner.refused(&shared, "User update", error, began))?;
    show(&shared, &provisioner, &id, StatusCode::OK, &query)
}

/// `DELETE …/Users/{id}`
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
    let user = tenant.directory.user(&provisioner.scope, &id)?;
    check_version(&headers, &user.meta(&base))?;
    let (detail, org) = (label(user), user.org.clone());
    let what = What { source: provisioner.source.clone(), event: "User deleted", detail, org };
    tenant.change(std::slice::from_ref(&id), now, |directory| {
        directory.remove_user(&provisioner.scope, &id, now.as_secs())
    })?;
    tenant.sync_log.done(what, Status::Synced, now, shared.clock.now());
    Ok(StatusCode::NO_CONTENT)
}

// === impl Provisioner ===

impl Provisioner {
    /// Notes a change that was refused.
    pub(super) fn refused(&self, shared: &Shared, event: &'static str, error: &ScimError, began: Duration) {
        if let Ok(tenant) = shared.store().tenant_mut(&self.tenant) {
            let org = match &self.scope {
                crate::directory::Scope::Tenant => None,
                crate::directory::Scope::Org(id) => Some(id.clone()),
            };
            let what = What { source: self.source.clone(), event, detail: error.detail.clone(), org };
            tenant.sync_log.done(what, Status::Failed, began, shared.clock.now());
        }
    }
}

async fn change(
    shared: &Shared,
    provisioner: &Provisioner,
    id: &str,
    headers: &HeaderMap,
    began: Duration,
    new: impl Fn(&User) -> Result<Map<String, Value>, ScimError>,
) -> Result<(), ScimError> {
    for _ in 0..TRIES {
        if try_change(shared, provisioner, id, headers, began, &new).await? {
            return Ok(());
        }
        if headers.contains_key(header::IF_MATCH) {
            break;
        }
    }
    let detail = "the resource was changed at the same time; try again";
    Err(ScimError::new(ScimKind::PreconditionFailed, detail))
}

/// Whether it is done: not, if the user was changed while a password was worked on.
async fn try_change(
    shared: &Shared,
    provisioner: &Provisioner,
    id: &str,
    headers: &HeaderMap,
    began: Duration,
    new: impl Fn(&User) -> Result<Map<String, Value>, ScimError>,
) -> Result<bool, ScimError> {
    let scope = &provisioner.scope;
    let (attributes, revision, verified, active) = {
        let store = shared.store();
        let tenant = store.tenant(&provisioner.tenant)?;
        let user = tenant.directory.user(scope, id)?;
        check_version(headers, &user.meta(&base(tenant)))?;
        (new(user)?, user.revision, user.email_verified, user.active)
    };
    let draft = UserDraft { email_verified: verified, ..read(shared, attributes, active).await? };
    let now = shared.clock.now();
    let mut store = shared.store();
    let tenant = store.tenant_mut(&provisioner.tenant)?;
    let user = tenant.directory.user(scope, id)?;
    if user.revision != revision {
        return Ok(false);
    }
    let (was_active, org, new_password) = (user.active, user.org.clone(), draft.password.is_some());
    let event = match (was_active, draft.active) {
        (true, false) => "User deactivated",
        (false, true) => "User reactivated",
        (true, true) | (false, false) => "User updated",
    };
    tenant.change(&[id.to_owned()], now, |directory| {
        directory.change_user(scope, id, draft, now.as_secs()).map(|_| ())
    })?;
    if new_password {
        tenant.end_sessions(id, now);
    }
    let detail = label(tenant.directory.user(scope, id)?);
    let what = What { source: provisioner.source.clone(), event, detail, org };
    tenant.sync_log.done(what, Status::Synced, began, now);
    Ok(true)
}

async fn read(shared: &Shared, attributes: Map<String, Value>, active: bool) -> Result<UserDraft, ScimError> {
    let UserRequest { draft, active: wanted, password } = UserRequest::read(attributes)?;
    let rounds = shared.limits.password_rounds;
    let password = match password {
        Some(password) => Some(off_thread(move || PasswordHash::of(&password, rounds)).await??),
        None => None,
    };
    Ok(UserDraft { active: wanted.unwrap_or(active), password, ..draft })
}

fn find(
    shared: &Shared,
    provisioner: &Provisioner,
    query: &ListQuery,
) -> Result<Said<ListDocument<UserDocument>>, ScimError> {
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
) -> Result<Said<UserDocument>, ScimError> {
    let store = shared.store();
    let tenant = store.tenant(&provisioner.tenant)?;
    let base = base(tenant);
    let user = tenant.directory.user(&provisioner.scope, id)?;
    let whole = user.resource(&tenant.directory, &base);
    Ok(resource(status, &USER, &user.meta(&base), whole, &query.projection(&USER)))
}

/// Every user that the scope sees.
pub(super) fn all<'a>(
    tenant: &'a Tenant,
    scope: &'a Scope,
    base: &'a str,
) -> impl Iterator<Item = (&'static ResourceType, Map<String, Value>)> + 'a {
    tenant.directory.users(scope).map(|user| (&USER, user.resource(&tenant.directory, base)))
}

/// A user in the sync log.
pub(super) fn label(user: &User) -> String {
    user.email().unwrap_or(&user.user_name).to_owned()
}
