//! `/scim/v2/{tenant}`: SCIM 2.0, RFC 7644. Its answers have a media type and errors of their own.

pub(super) mod groups;
pub(super) mod meta;
pub(super) mod tokens;
pub(super) mod users;

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::IntoResponse as _;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::bundle::not_modified;
use crate::directory::Scope;
use crate::extract::{Body, Query, bearer, tenant_of};
use crate::openapi::Said;
use crate::scim::{Meta, Projection, ResourceType, ScimError, ScimKind};
use crate::server::Shared;
use crate::store::Tenant;

/// A directory with a valid bearer token for the URL's tenant.
pub(crate) struct Provisioner {
    /// The tenant's name.
    tenant: String,
    /// The directory's name.
    source: String,
    /// What it may provision.
    scope: Scope,
}

/// A JSON body.
pub(crate) struct ScimBody<T>(T);

/// A query string.
pub(crate) struct ScimQuery<T>(T);

// === impl Provisioner ===

impl FromRequestParts<Shared> for Provisioner {
    type Rejection = ScimError;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, ScimError> {
        let tenant = tenant_of(parts, shared).await?;
        let presented = bearer(&parts.headers).unwrap_or_default();
        let store = shared.store();
        let token = store.tenant(&tenant).ok().and_then(|row| row.scim_tokens.by_secret(presented));
        match token {
            Some(token) => {
                Ok(Provisioner { source: token.source.clone(), scope: token.scope.clone(), tenant })
            }
            None => {
                Err(ScimError::new(ScimKind::Unauthorized, "send the SCIM token as `Authorization: Bearer`"))
            }
        }
    }
}

// === impl ScimBody ===

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for ScimBody<T> {
    type Rejection = ScimError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ScimError> {
        let Body::<T>(value) = Body::from_request(request, state).await?;
        Ok(ScimBody(value))
    }
}

// === impl ScimQuery ===

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for ScimQuery<T> {
    type Rejection = ScimError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ScimError> {
        let Query(value) = Query::from_request_parts(parts, state)
            .await
            .map_err(|problem| ScimError { kind: ScimKind::InvalidValue, ..ScimError::from(problem) })?;
        Ok(ScimQuery(value))
    }
}

/// Base URL of the tenant's SCIM interface.
fn base(tenant: &Tenant) -> String {
    let own = format!("/v1/{}", tenant.name);
    let root = tenant.issuer.strip_suffix(&own).unwrap_or(&tenant.issuer);
    format!("{root}/scim/v2/{}", tenant.name)
}

/// A JSON answer.
fn answer<T>(status: StatusCode, body: Value) -> Said<T> {
    let mut response = (status, Json(body)).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/scim+json"));
    response.into()
}

/// A resource as an answer, with its tag and its place.
fn resource<T>(
    status: StatusCode,
    kind: &ResourceType,
    meta: &Meta,
    resource: Map<String, Value>,
    projection: &Projection,
) -> Said<T> {
    let body: Said<T> = answer(status, Value::Object(projection.apply(resource)));
    let mut response = body.into_response();
    for (name, value) in [(header::ETAG, meta.version()), (header::LOCATION, meta.location(kind))] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    response.into()
}

/// 304 if the client has that version.
fn unchanged<T>(headers: &HeaderMap, meta: &Meta) -> Option<Said<T>> {
    not_modified(headers, &meta.version())
        .then(|| (StatusCode::NOT_MODIFIED, [(header::ETAG, meta.version())]).into_response().into())
}

/// Refuses a change of a version other than the client's: RFC 7644 section 3.14, with weak tags all the same.
fn check_version(headers: &HeaderMap, meta: &Meta) -> Result<(), ScimError> {
    let mut tags =
        headers.get_all(header::IF_MATCH).iter().filter_map(|value| value.to_str().ok()).peekable();
    let current = meta.version();
    let is_current = |tag: &str| {
        let tag = tag.trim();
        tag == "*" || tag.trim_start_matches("W/") == current.trim_start_matches("W/")
    };
    if tags.peek().is_none() || tags.any(|list| list.split(',').any(is_current)) {
        return Ok(());
    }
    Err(ScimError::new(ScimKind::PreconditionFailed, format!("the resource is at version {current} now")))
}
