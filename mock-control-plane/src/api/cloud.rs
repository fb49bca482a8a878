//! `/manage/v1/{tenant}/cloud`: which group has which role at which provider, and what the simulated providers have.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::cloud::{Binding, Mapping, Provider};
use crate::directory::{NAME_BYTES_MAX, Scope};
use crate::extract::{Body, Manager, Query};
use crate::server::Shared;
use crate::{FieldError, Problem, secret};

/// A mapping.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewMapping {
    /// The group.
    group_id: String,
    /// The provider.
    provider: Provider,
    /// Role as the provider names it.
    role: String,
    /// Project or account.
    resource: String,
}

/// Which bindings.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BindingFilter {
    /// Only this provider's.
    #[serde(default)]
    provider: Option<Provider>,
    /// Only this user's, by address.
    #[serde(default)]
    member: Option<String>,
}

/// Roles of groups.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Mappings {
    mappings: Vec<Mapping>,
}

/// What the providers have.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Bindings {
    bindings: Vec<Binding>,
    /// Changes that are on their way to them.
    pending: usize,
}

const MAPPINGS_MAX: usize = 1_000;

/// `GET …/cloud/mappings`
pub(super) async fn list(State(shared): State<Shared>, manager: Manager) -> Result<Json<Mappings>, Problem> {
    let store = shared.store();
    let mappings = store.tenant(&manager.tenant)?.cloud.mappings.values().cloned().collect();
    Ok(Json(Mappings { mappings }))
}

/// `POST …/cloud/mappings`
pub(super) async fn create(
    State(shared): State<Shared>,
    manager: Manager,
    Body(mapping): Body<NewMapping>,
) -> Result<(StatusCode, Json<Mapping>), Problem> {
    let NewMapping { group_id, provider, role, resource } = mapping;
    let odd = |text: &str| {
        text.is_empty() || text.len() > NAME_BYTES_MAX || text.contains(|c: char| c.is_control() || c == ' ')
    };
    let errors: Vec<FieldError> = [("/role", &role), ("/resource", &resource)]
        .into_iter()
        .filter(|(_, text)| odd(text))
        .map(|(pointer, _)| {
            let detail =
                format!("must have 1 to {NAME_BYTES_MAX} bytes, no spaces and no control characters");
            FieldError::new(pointer, detail)
        })
        .collect();
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let id = secret::random("map-")?;
    let mut store = shared.store();
    let tenant = store.tenant_mut(&manager.tenant)?;
    tenant.directory.group(&Scope::Tenant, &group_id)?;
    let mapping = Mapping { id: id.clone(), group_id, provider, role, resource };
    let same = |other: &Mapping| Mapping { id: id.clone(), ..other.clone() } == mapping;
    if tenant.cloud.mappings.values().any(same) {
        return Err(Problem::conflict("that mapping exists"));
    }
    if tenant.cloud.mappings.len() >= MAPPINGS_MAX {
        return Err(Problem::conflict(format!("{MAPPINGS_MAX} mappings exist; delete one first")));
    }
    tenant.cloud.mappings.insert(id, mapping.clone());
    Ok((StatusCode::CREATED, Json(mapping)))
}

/// `DELETE …/cloud/mappings/{mapping}`: what it gave is taken back.
pub(super) async fn remove(
    State(shared): State<Shared>,
    Path((_, id)): Path<(String, String)>,
    manager: Manager,
) -> Result<StatusCode, Problem> {
    let mut store = shared.store();
    let removed = store.tenant_mut(&manager.tenant)?.cloud.mappings.remove(&id);
    removed.map(|_| StatusCode::NO_CONTENT).ok_or_else(|| Problem::not_found(format!("no mapping `{id}`")))
}

/// `GET …/cloud/bindings`: what the providers have now, and how many changes are on their way to them.
pub(super) async fn bindings(
    State(shared): State<Shared>,
    manager: Manager,
    Query(BindingFilter { provider, member }): Query<BindingFilter>,
) -> Result<Json<Bindings>, Problem> {
    let store = shared.store();
    let cloud = &store.tenant(&manager.tenant)?.cloud;
    let wanted = cloud.bindings().filter(|binding| {
        provider.is_none_or(|provider| provider == binding.provider)
            && member.as_ref().is_none_or(|member| *member == binding.member)
    });
    let bindings = wanted.cloned().collect();
    Ok(Json(Bindings { bindings, pending: cloud.pending() }))
}
