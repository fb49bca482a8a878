//! What the SCIM interface is: RFC 7644 section 4.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{Provisioner, ScimBody, answer, base, groups, users};
use crate::openapi::Said;
use crate::scim::{
    AnyDocument, ConfigDocument, GROUP, ListDocument, ListQuery, ResourceTypeDocument, SchemaDocument,
    ScimError, ScimKind, USER, schemas,
};
use crate::server::Shared;

/// `GET …/ServiceProviderConfig`
pub(in crate::api) async fn config(
    State(shared): State<Shared>,
    provisioner: Provisioner,
) -> Result<Said<ConfigDocument>, ScimError> {
    let base = base(shared.store().tenant(&provisioner.tenant)?);
    let config = json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"],
        "patch": { "supported": true },
        "bulk": { "supported": false, "maxOperations": 0, "maxPayloadSize": 0 },
        "filter": { "supported": true, "maxResults": crate::scim::COUNT_MAX },
        "changePassword": { "supported": true },
        "sort": { "supported": false },
        "etag": { "supported": true },
        "authenticationSchemes": [{
            "type": "oauthbearertoken", "name": "Bearer token", "primary": true,
            "description": "A token of the tenant's management interface, as Authorization: Bearer",
        }],
        "meta": { "resourceType": "ServiceProviderConfig", "location": format!("{base}/ServiceProviderConfig") },
    });
    Ok(answer(StatusCode::OK, config))
}

/// `GET …/ResourceTypes`
pub(in crate::api) async fn resource_types(
    State(shared): State<Shared>,
    provisioner: Provisioner,
) -> Result<Said<ListDocument<ResourceTypeDocument>>, ScimError> {
    let base = base(shared.store().tenant(&provisioner.tenant)?);
    Ok(list(vec![USER.show(&base), GROUP.show(&base)]))
}

/// `GET …/ResourceTypes/{id}`
pub(in crate::api) async fn resource_type(
    State(shared): State<Shared>,
    Path((_, id)): Path<(String, String)>,
    provisioner: Provisioner,
) -> Result<Said<ResourceTypeDocument>, ScimError> {
    let base = base(shared.store().tenant(&provisioner.tenant)?);
    one([USER.show(&base), GROUP.show(&base)], &id)
}

/// `GET …/Schemas`
pub(in crate::api) async fn all_schemas(
    State(shared): State<Shared>,
    provisioner: Provisioner,
) -> Result<Said<ListDocument<SchemaDocument>>, ScimError> {
    let base = base(shared.store().tenant(&provisioner.tenant)?);
    Ok(list(schemas(&base)))
}

/// `GET …/Schemas/{id}`
pub(in crate::api) async fn schema(
    State(shared): State<Shared>,
    Path((_, id)): Path<(String, String)>,
    provisioner: Provisioner,
) -> Result<Said<SchemaDocument>, ScimError> {
    let base = base(shared.store().tenant(&provisioner.tenant)?);
    one(schemas(&base), &id)
}

/// `POST …/.search`: users and groups together, RFC 7644 section 3.4.3.
pub(in crate::api) async fn search(
    State(shared): State<Shared>,
    provisioner: Provisioner,
    ScimBody(query): ScimBody<ListQuery>,
) -> Result<Said<ListDocument<AnyDocument>>, ScimError> {
    let store = shared.store();
    let tenant = store.tenant(&provisioner.tenant)?;
    let base = base(tenant);
    let scope = &provisioner.scope;
    let all = users::all(tenant, scope, &base).chain(groups::all(tenant, scope, &base));
    Ok(answer(StatusCode::OK, query.answer(all)?))
}

/// `POST …/Bulk`, `…/Me`
pub(in crate::api) async fn not_offered(_: Provisioner) -> ScimError {
    ScimError::new(ScimKind::NotImplemented, "not offered; see ServiceProviderConfig")
}

/// Whatever else is below the base.
pub(in crate::api) async fn no_route(_: Provisioner) -> ScimError {
    ScimError::new(ScimKind::NotFound, "no such endpoint; see ResourceTypes")
}

fn list<T>(resources: Vec<Value>) -> Said<ListDocument<T>> {
    let list = json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
        "totalResults": resources.len(), "startIndex": 1, "itemsPerPage": resources.len(), "Resources": resources,
    });
    answer(StatusCode::OK, list)
}

fn one<T>(resources: impl IntoIterator<Item = Value>, id: &str) -> Result<Said<T>, ScimError> {
    let found = resources.into_iter().find(|resource| resource["id"] == id);
    found
        .map(|resource| answer(StatusCode::OK, resource))
        .ok_or_else(|| ScimError::new(ScimKind::NotFound, format!("no `{id}`")))
}
