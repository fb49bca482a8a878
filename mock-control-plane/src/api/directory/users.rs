//! `/api/v1/users`

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::groups::{Assigned, RoleRef, find_or_make, show_role};
use super::{Page, Rows};
use crate::directory::{Directory, Effective, Scope, Source, User, UserDraft};
use crate::extract::{Body, Query, Registrar};
use crate::password::{PASSWORD_BYTES, PasswordHash, off_thread};
use crate::server::Shared;
use crate::{FieldError, Problem, secret};

/// A user, or what is to be different about one.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct UserBody {
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    email_verified: Option<bool>,
    #[serde(default)]
    user_name: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    active: Option<bool>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    org_id: Option<String>,
}

/// A group of a user's.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(in crate::api) struct GroupRef {
    id: String,
    name: String,
}

/// A user.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(in crate::api) struct UserAnswer {
    id: String,
    user_name: String,
    email: Option<String>,
    email_verified: bool,
    name: String,
    title: Option<String>,
    active: bool,
    /// The user's organisation; null: the tenant itself.
    org_id: Option<String>,
    /// Identifier in the directory that provisions the user.
    external_id: Option<String>,
    mfa_enrolled: bool,
    groups: Vec<GroupRef>,
    /// Those that the user has directly.
    roles: Vec<Assigned>,
    /// Seconds since the epoch, like the next.
    created_at: u64,
    updated_at: u64,
}

/// A page of users.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(in crate::api) struct UserPage {
    users: Vec<UserAnswer>,
    /// All that match, on this page or not.
    total: usize,
    /// Where the next page begins; null: this is the last one.
    cursor: Option<String>,
}

/// What a user may do.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(in crate::api) struct PermissionsAnswer {
    effective: Vec<String>,
    /// Each permission with the roles that grant it.
    source: BTreeMap<String, Vec<Source>>,
    /// Names of all roles, direct and by groups.
    roles: Vec<String>,
    /// Names.
    groups: Vec<String>,
}

/// How many sessions ended.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(in crate::api) struct Ended {
    ended: usize,
}

const TEXT_BYTES_MAX: usize = 320;

/// `GET …/users?org_id=&limit=&cursor=`
pub(in crate::api) async fn list(
    State(shared): State<Shared>,
    registrar: Registrar,
    Query(page): Query<Page>,
) -> Result<Json<UserPage>, Problem> {
    let store = shared.store();
    let directory = &store.tenant(&registrar.tenant)?.directory;
    page.need_org(directory, &registrar.scope)?;
    let rows = directory.users(&registrar.scope).filter(|user| page.wants(user.org.as_deref()));
    let page = page.of(rows, |user| &user.id, |user| show(directory, user))?;
    let Rows { rows: users, total, cursor } = page;
    Ok(Json(UserPage { users, total, cursor }))
}

/// `POST …/users`
pub(in crate::api) async fn create(
    State(shared): State<Shared>,
    registrar: Registrar,
    Body(body): Body<UserBody>,
) -> Result<(StatusCode, Json<UserAnswer>), Problem> {
    let email = body.email.clone();
    let user_name = body.user_name.clone().or(email).unwrap_or_default();
    let base = UserDraft { org: body.org_id.clone(), user_name, active: true, ..UserDraft::default() };
    check(&body, false)?;
    let password = hashed(&shared, body.password.as_deref()).await?;
    let draft = overlay(base, body, password);
    let id = secret::random("usr-")?;
    let mut store = shared.store();
    let directory = &mut store.tenant_mut(&registrar.tenant)?.directory;
    directory.add_user(&registrar.scope, id.clone(), draft, shared.clock.now_s())?;
    Ok((StatusCode::CREATED, Json(show(directory, directory.user(&registrar.scope, &id)?))))
}

/// `GET …/users/{user}`
pub(in crate::api) async fn get(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    registrar: Registrar,
) -> Result<Json<UserAnswer>, Problem> {
    let store = shared.store();
    let directory = &store.tenant(&registrar.tenant)?.directory;
    Ok(Json(show(directory, directory.user(&registrar.scope, &id)?)))
}

/// `PATCH …/users/{user}`
pub(in crate::api) async fn change(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    registrar: Registrar,
    Body(body): Body<UserBody>,
) -> Result<Json<UserAnswer>, Problem> {
    if body.org_id.is_some() {
        let detail = "a user stays in its organisation; create a new one in the other";
        return Err(Problem::invalid(vec![FieldError::new("/org_id", detail)]));
    }
    check(&body, true)?;
    // Nobody gets work done on a user who is not there to be changed.
    shared.store().tenant(&registrar.tenant)?.directory.user(&registrar.scope, &id)?;
    let password = hashed(&shared, body.password.as_deref()).await?;
    let now = shared.clock.now();
    let mut store = shared.store();
    let tenant = store.tenant_mut(&registrar.tenant)?;
    // As the user is now: whoever was deactivated while the password was worked on stays so.
    let base = tenant.directory.user(&registrar.scope, &id)?.draft();
    let draft = overlay(base, body, password);
    let new_password = draft.password.is_some();
    tenant.change(std::slice::from_ref(&id), now, |directory| {
        directory.change_user(&registrar.scope, &id, draft, now.as_secs()).map(|_| ())
    })?;
    if new_password {
        // Whoever knew the old one is out.
        tenant.end_sessions(&id, now);
    }
    Ok(Json(show(&tenant.directory, tenant.directory.user(&registrar.scope, &id)?)))
}

/// `DELETE …/users/{user}`
pub(in crate::api) async fn remove(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    registrar: Registrar,
) -> Result<StatusCode, Problem> {
    let now = shared.clock.now();
    let mut store = shared.store();
    let tenant = store.tenant_mut(&registrar.tenant)?;
    tenant.change(std::slice::from_ref(&id), now, |directory| {
        directory.remove_user(&registrar.scope, &id, now.as_secs())
    })?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET …/users/{user}/permissions`
pub(in crate::api) async fn permissions(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    registrar: Registrar,
) -> Result<Json<PermissionsAnswer>, Problem> {
    let store = shared.store();
    let directory = &store.tenant(&registrar.tenant)?.directory;
    directory.user(&registrar.scope, &id)?;
    let Effective { roles, groups, permissions } = directory.effective(&id);
    Ok(Json(PermissionsAnswer {
        effective: permissions.keys().cloned().collect(),
        source: permissions,
        roles: roles.into_iter().collect(),
        groups: groups.into_iter().collect(),
    }))
}

/// `POST …/users/{user}/roles`
pub(in crate::api) async fn add_role(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    registrar: Registrar,
    Body(wanted): Body<RoleRef>,
) -> Result<(StatusCode, Json<Assigned>), Problem> {
    let new_id = secret::random("rol-")?;
    let mut store = shared.store();
    let directory = &mut store.tenant_mut(&registrar.tenant)?.directory;
    let org = directory.user(&registrar.scope, &id)?.org.clone();
    let role = find_or_make(directory, &registrar.scope, org, wanted, new_id)?;
    directory.set_user_role(&registrar.scope, &id, &role, true)?;
    Ok((StatusCode::CREATED, Json(show_role(directory.role(&registrar.scope, &role)?))))
}

/// `DELETE …/users/{user}/roles/{role}`
pub(in crate::api) async fn remove_role(
    State(shared): State<Shared>,
    Path((id, role)): Path<(String, String)>,
    registrar: Registrar,
) -> Result<StatusCode, Problem> {
    let mut store = shared.store();
    let tenant = store.tenant_mut(&registrar.tenant)?;
    tenant.change(std::slice::from_ref(&id), shared.clock.now(), |directory| {
        directory.set_user_role(&registrar.scope, &id, &role, false)
    })?;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE …/users/{user}/sessions`: all sessions end, all tokens are revoked.
pub(in crate::api) async fn end_sessions(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    registrar: Registrar,
) -> Result<Json<Ended>, Problem> {
    let mut store = shared.store();
    let tenant = store.tenant_mut(&registrar.tenant)?;
    tenant.directory.user(&registrar.scope, &id)?;
    Ok(Json(Ended { ended: tenant.end_sessions(&id, shared.clock.now()) }))
}

/// Whether the members are as they have to be; `named`: the user has a name already.
fn check(body: &UserBody, named: bool) -> Result<(), Problem> {
    let UserBody { email, email_verified: _, user_name, name, title, active: _, password, org_id: _ } = body;
    let mut errors = Vec::new();
    for (pointer, text) in [("/email", email), ("/user_name", user_name), ("/name", name), ("/title", title)]
    {
        if text.as_ref().is_some_and(|text| text.trim().is_empty() || text.len() > TEXT_BYTES_MAX) {
            errors.push(FieldError::new(pointer, format!("must have 1 to {TEXT_BYTES_MAX} bytes")));
        }
    }
    if email.as_ref().is_some_and(|email| !email.contains('@')) {
        errors.push(FieldError::new("/email", "is no address"));
    }
    if password.as_ref().is_some_and(|password| !PASSWORD_BYTES.contains(&password.len())) {
        let (min, max) = (PASSWORD_BYTES.start(), PASSWORD_BYTES.end());
        errors.push(FieldError::new("/password", format!("must have {min} to {max} bytes")));
    }
    if user_name.is_none() && email.is_none() && !named {
        errors.push(FieldError::new("/email", "is missing; send `email` or `user_name`"));
    }
    if errors.is_empty() { Ok(()) } else { Err(Problem::invalid(errors)) }
}

async fn hashed(shared: &Shared, password: Option<&str>) -> Result<Option<PasswordHash>, Problem> {
    let rounds = shared.limits.password_rounds;
    match password.map(str::to_owned) {
        Some(password) => off_thread(move || PasswordHash::of(&password, rounds)).await?.map(Some),
        None => Ok(None),
    }
}

/// What is to be different, over what is. The body's password is given by its hash.
fn overlay(base: UserDraft, body: UserBody, password: Option<PasswordHash>) -> UserDraft {
    let UserBody { email, email_verified, user_name, name, title, active, password: _, org_id: _ } = body;
    let mut profile = base.profile;
    // A new address has not been shown to be the user's, unless whoever changes it says so.
    let verified = email_verified.unwrap_or(base.email_verified && email.is_none());
    if let Some(email) = email {
        profile.insert("emails".to_owned(), json!([{ "value": email, "type": "work", "primary": true }]));
    }
    for (attribute, text) in [("displayName", name), ("title", title)] {
        if let Some(text) = text {
            profile.insert(attribute.to_owned(), json!(text));
        }
    }
    UserDraft {
        user_name: user_name.unwrap_or(base.user_name),
        active: active.unwrap_or(base.active),
        email_verified: verified,
        profile,
        password,
        ..base
    }
}

fn show(directory: &Directory, user: &User) -> UserAnswer {
    let role = |id: &String| directory.role(&Scope::Tenant, id).ok().map(show_role);
    let groups = directory.groups_of(&user.id);
    UserAnswer {
        id: user.id.clone(),
        user_name: user.user_name.clone(),
        email: user.email().map(str::to_owned),
        email_verified: user.email_verified,
        name: user.name(),
        title: user.profile.get("title").and_then(|title| title.as_str()).map(str::to_owned),
        active: user.active,
        org_id: user.org.clone(),
        external_id: user.external_id.clone(),
        mfa_enrolled: user.mfa.verified().is_some(),
        groups: groups.map(|group| GroupRef { id: group.id.clone(), name: group.name.clone() }).collect(),
        roles: user.roles.iter().filter_map(role).collect(),
        created_at: user.created_s,
        updated_at: user.updated_s,
    }
}
