//! `/api/v1/orgs`

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{Page, Rows};
use crate::directory::{Org, OrgDraft, Scope};
use crate::extract::{Body, Query, Registrar};
use crate::mfa::MfaPolicy;
use crate::server::Shared;
use crate::{Problem, secret};

/// A new organisation.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct NewOrg {
    slug: String,
    name: String,
    #[serde(default)]
    mfa_policy: Option<MfaPolicy>,
}

/// What is to be different.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct OrgChange {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    mfa_policy: Option<MfaPolicy>,
}

/// A user.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct UserRef {
    user_id: String,
}

/// An organisation.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(in crate::api) struct OrgAnswer {
    id: String,
    slug: String,
    name: String,
    /// Its own policy; null: the tenant's.
    mfa_policy: Option<MfaPolicy>,
    /// Identifiers of users.
    admins: Vec<String>,
}

/// A page of organisations.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(in crate::api) struct OrgPage {
    orgs: Vec<OrgAnswer>,
    /// All that match, on this page or not.
    total: usize,
    /// Where the next page begins; null: this is the last one.
    cursor: Option<String>,
}

// === impl UserRef ===

impl UserRef {
    /// Its identifier.
    pub(super) fn user_id(&self) -> &str {
        &self.user_id
    }
}

/// `GET …/orgs`
pub(in crate::api) async fn list(
    State(shared): State<Shared>,
    registrar: Registrar,
    Query(page): Query<Page>,
) -> Result<Json<OrgPage>, Problem> {
    let store = shared.store();
    let directory = &store.tenant(&registrar.tenant)?.directory;
    page.need_org(directory, &registrar.scope)?;
    let rows = directory.orgs(&registrar.scope).filter(|org| page.wants(Some(&org.id)));
    let Rows { rows: orgs, total, cursor } = page.of(rows, |org| &org.id, show)?;
    Ok(Json(OrgPage { orgs, total, cursor }))
}

/// `POST …/orgs`
pub(in crate::api) async fn create(
    State(shared): State<Shared>,
    registrar: Registrar,
    Body(NewOrg { slug, name, mfa_policy }): Body<NewOrg>,
) -> Result<(StatusCode, Json<OrgAnswer>), Problem> {
    if registrar.scope != Scope::Tenant {
        return Err(Problem::forbidden("only who manages the tenant can add an organisation"));
    }
    let id = secret::random("org-")?;
    let mut store = shared.store();
    let directory = &mut store.tenant_mut(&registrar.tenant)?.directory;
    let org = directory.add_org(id, OrgDraft { slug, name, mfa_policy })?;
    Ok((StatusCode::CREATED, Json(show(org))))
}

/// `GET …/orgs/{org}`
pub(in crate::api) async fn get(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    registrar: Registrar,
) -> Result<Json<OrgAnswer>, Problem> {
    let store = shared.store();
    let org = store.tenant(&registrar.tenant)?.directory.org(&registrar.scope, &id)?;
    Ok(Json(show(org)))
}

/// `PATCH …/orgs/{org}`
pub(in crate::api) async fn change(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    registrar: Registrar,
    Body(OrgChange { name, mfa_policy }): Body<OrgChange>,
) -> Result<Json<OrgAnswer>, Problem> {
    let mut store = shared.store();
    let directory = &mut store.tenant_mut(&registrar.tenant)?.directory;
    let org = directory.change_org(&registrar.scope, &id, name, mfa_policy.map(Some))?;
    Ok(Json(show(org)))
}

/// `POST …/orgs/{org}/admins`
pub(in crate::api) async fn add_admin(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    registrar: Registrar,
    Body(UserRef { user_id }): Body<UserRef>,
) -> Result<Json<OrgAnswer>, Problem> {
    let mut store = shared.store();
    let directory = &mut store.tenant_mut(&registrar.tenant)?.directory;
    Ok(Json(show(directory.set_org_admin(&registrar.scope, &id, &user_id, true)?)))
}

/// `DELETE …/orgs/{org}/admins/{user}`
pub(in crate::api) async fn remove_admin(
    State(shared): State<Shared>,
    Path((id, user)): Path<(String, String)>,
    registrar: Registrar,
) -> Result<StatusCode, Problem> {
    let mut store = shared.store();
    let tenant = store.tenant_mut(&registrar.tenant)?;
    tenant.change(std::slice::from_ref(&user), shared.clock.now(), |directory| {
        directory.set_org_admin(&registrar.scope, &id, &user, false).map(|_| ())
    })?;
    Ok(StatusCode::NO_CONTENT)
}

fn show(org: &Org) -> OrgAnswer {
    let Org { id, slug, name, mfa_policy, admins } = org.clone();
    OrgAnswer { id, slug, name, mfa_policy, admins: admins.into_iter().collect() }
}
