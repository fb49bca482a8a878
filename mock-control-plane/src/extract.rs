//! Extractors whose refusals are problem documents: JSON bodies, queries, and who asks.

use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_path_to_error::{Segment, Track};

use crate::access::{Bearer, claimed_issuer};
use crate::directory::Scope;
use crate::scim::ScimError;
use crate::server::Shared;
use crate::store::Store;
use crate::{FieldError, Problem, strict};

/// Longest accepted request body, bytes.
pub(crate) const BODY_MAX: usize = 4 << 20;

/// Longest body that is read to its end to be refused, bytes.
const DRAIN_MAX: usize = 4 * BODY_MAX;

/// A JSON body, in which every struct is an object.
pub(crate) struct Body<T>(pub T);

/// A query string.
pub(crate) struct Query<T>(pub T);

/// The tenant of the URL, with the right to manage it: a valid `X-API-Key`.
pub(crate) struct Manager {
    /// The tenant's name.
    pub tenant: String,
}

/// An agent of the URL's tenant: a valid bearer secret.
pub(crate) struct Agent {
    /// The tenant's name.
    pub tenant: String,
    /// The agent's identifier.
    pub agent_id: String,
}

/// A user of the URL's tenant: a valid access token.
pub(crate) struct Caller {
    /// The tenant's name.
    pub tenant: String,
    /// The user and the session.
    pub bearer: Bearer,
}

/// Who may manage a directory: the API key of a tenant, or the access token of an organisation's administrator. The
/// directory's URLs do not name the tenant.
pub(crate) struct Registrar {
    /// The tenant's name.
    pub tenant: String,
    /// How far the right reaches.
    pub scope: Scope,
}

/// Reads the body before anything can refuse the request: a connection with half a request in it would be closed under
/// a client that is about to use it again.
pub(crate) async fn whole_body(request: Request, next: Next) -> Response {
    let is_scim = request.uri().path().starts_with("/scim/");
    let (parts, body) = request.into_parts();
    match axum::body::to_bytes(body, DRAIN_MAX).await {
        Ok(bytes) if bytes.len() <= BODY_MAX => next.run(Request::from_parts(parts, bytes.into())).await,
        Ok(_) | Err(_) => {
            let problem =
                Problem::too_large(format!("the body is longer than {BODY_MAX} bytes, or broke off"));
            if is_scim { ScimError::from(problem).into_response() } else { problem.into_response() }
        }
    }
}

// === impl Body ===

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let kind =
            request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        // The documented curl calls send none, or a form's type: `curl -d` does that by itself.
        let accepted = ["", "application/json", "application/x-www-form-urlencoded"];
        if !accepted.contains(&essence.as_str()) && !essence.ends_with("+json") {
            return Err(Problem::media_type(format!(
                "send `content-type: application/json`, not `{essence}`"
            )));
        }
        let bytes = axum::body::to_bytes(request.into_body(), BODY_MAX).await.map_err(|_| {
            Problem::too_large(format!("the body is longer than {BODY_MAX} bytes, or broke off"))
        })?;
        read(&bytes).map(Body)
    }
}

/// JSON as a `T`: what is not JSON is unreadable, what is and does not fit is invalid at a place.
fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let mut track = Track::new();
    let value = strict::deserialize(serde_path_to_error::Deserializer::new(&mut reader, &mut track));
    let value = value.map_err(|error| {
        let error = serde_path_to_error::Error::new(track.path(), error);
        let pointer = pointer(error.path());
        let error = error.into_inner();
        if error.is_data() {
            Problem::invalid(vec![FieldError::new(pointer, error.to_string())])
        } else {
            Problem::unreadable(format!("body: {error}"))
        }
    })?;
    reader.end().map_err(|error| Problem::unreadable(format!("body: {error}")))?;
    Ok(value)
}

/// A path as a JSON Pointer (RFC 6901 section 3).
fn pointer(path: &serde_path_to_error::Path) -> String {
    let part = |segment: &Segment| match segment {
        Segment::Seq { index } => format!("/{index}"),
        Segment::Map { key } => format!("/{}", key.replace('~', "~0").replace('/', "~1")),
        // The name of an enum's variant is a value, not a place.
        Segment::Enum { .. } | Segment::Unknown => String::new(),
    };
    path.iter().map(part).collect()
}

// === impl Query ===

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        axum::extract::Query::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Query(value)| Query(value))
            .map_err(|e| Problem::unreadable(e.body_text()))
    }
}

// === impl Manager ===

impl FromRequestParts<Shared> for Manager {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Problem> {
        let tenant = tenant_of(parts, shared).await?;
        let store = shared.store();
        // One answer for an unknown tenant and a wrong key: the interface does not tell which tenants exist.
        match store.tenant(&tenant) {
            Ok(known) if known.api_key.matches(api_key(&parts.headers)) => Ok(Manager { tenant }),
            Ok(_) | Err(_) => Err(Problem::unauthorized("send the tenant's API key as `X-API-Key`")),
        }
    }
}

// === impl Agent ===

impl FromRequestParts<Shared> for Agent {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Problem> {
        let tenant = tenant_of(parts, shared).await?;
        let presented = bearer(&parts.headers).unwrap_or_default();
        let store = shared.store();
        let agent = store.tenant(&tenant).ok().and_then(|t| t.agent_by_secret(presented));
        match agent {
            Some(agent) => Ok(Agent { agent_id: agent.id.clone(), tenant }),
            None => Err(Problem::unauthorized("send the agent's secret as `Authorization: Bearer`")),
        }
    }
}

// === impl Caller ===

impl FromRequestParts<Shared> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Problem> {
        let tenant = tenant_of(parts, shared).await?;
        let presented = bearer(&parts.headers).unwrap_or_default();
        let now_s = shared.clock.now_s();
        let found = shared.store().tenant(&tenant).ok().and_then(|t| t.bearer(presented, now_s));
        match found {
            Some(bearer) => Ok(Caller { tenant, bearer }),
            None => Err(Problem::unauthorized("send a valid access token as `Authorization: Bearer`")),
        }
    }
}

// === impl Registrar ===

impl FromRequestParts<Shared> for Registrar {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Problem> {
        registrar(&shared.store(), &parts.headers, shared.clock.now_s()).map(|(registrar, _)| registrar)
    }
}

/// Who may manage a directory with these headers, and who that is for the audit log.
pub(crate) fn registrar(
    store: &Store,
    headers: &HeaderMap,
    now_s: u64,
) -> Result<(Registrar, String), Problem> {
    if let Some(tenant) = store.by_api_key(api_key(headers)) {
        let registrar = Registrar { tenant: tenant.name.clone(), scope: Scope::Tenant };
        return Ok((registrar, "api-key".to_owned()));
    }
    let presented = bearer(headers).unwrap_or_default();
    let tenant = claimed_issuer(presented).and_then(|issuer| store.by_issuer(&issuer));
    let found = tenant.and_then(|tenant| tenant.bearer(presented, now_s).map(|bearer| (tenant, bearer)));
    let Some((tenant, bearer)) = found else {
        return Err(Problem::unauthorized(
            "send an API key as `X-API-Key`, or an organisation administrator's access token as \
             `Authorization: Bearer`",
        ));
    };
    match tenant.directory.managed_by(&bearer.user) {
        Some(org) => {
            let scope = Scope::Org(org.id.clone());
            Ok((Registrar { tenant: tenant.name.clone(), scope }, bearer.user))
        }
        None => Err(Problem::forbidden("only administrators of an organisation can do that")),
    }
}

/// The tenant that the URL names.
pub(crate) async fn tenant_of(parts: &mut Parts, shared: &Shared) -> Result<String, Problem> {
    let Path(params) = Path::<Vec<(String, String)>>::from_request_parts(parts, shared)
        .await
        .map_err(|e| Problem::unreadable(e.body_text()))?;
    let tenant = params.into_iter().find(|(name, _)| name == "tenant").map(|(_, value)| value);
    tenant.ok_or_else(|| Problem::not_found("the URL names no tenant"))
}

/// The credentials of `Authorization: Bearer`.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, secret) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(secret)
}

fn api_key(headers: &HeaderMap) -> &[u8] {
    headers.get("x-api-key").map(|v| v.as_bytes()).unwrap_or_default()
}
