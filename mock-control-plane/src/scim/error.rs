//! Error answers, RFC 7644 section 3.12.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::Problem;
use crate::directory::Refusal;
use crate::problem::Foreign;

/// What a request is refused with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ScimError {
    /// What kind of mistake.
    pub kind: ScimKind,
    /// In words.
    pub detail: String,
    /// Whether what is not found here is another organisation's.
    pub foreign: bool,
}

/// The kinds of mistakes: RFC 7644 table 9, and plain statuses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ScimKind {
    /// The control plane failed.
    Internal,
    /// A filter that cannot be read.
    InvalidFilter,
    /// A path that cannot be read, or names nothing.
    InvalidPath,
    /// A body that cannot be read.
    InvalidSyntax,
    /// A value of the wrong type, or a required one that is missing.
    InvalidValue,
    /// The body is not JSON by its media type.
    MediaType,
    /// The endpoint exists, the method does not.
    MethodNotAllowed,
    /// A read-only attribute.
    Mutability,
    /// A filtered path that matches nothing.
    NoTarget,
    /// No such resource.
    NotFound,
    /// Not offered.
    NotImplemented,
    /// The resource is no longer what `If-Match` says.
    PreconditionFailed,
    /// The body is longer than bodies may be.
    TooLarge,
    /// No or wrong credentials.
    Unauthorized,
    /// Taken.
    Uniqueness,
}

/// Media type of everything here, RFC 7644 section 8.1.
pub(crate) const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/scim+json");

// === impl ScimError ===

impl ScimError {
    /// `detail` as that kind of mistake.
    pub(crate) fn new(kind: ScimKind, detail: impl Into<String>) -> ScimError {
        ScimError { kind, detail: detail.into(), foreign: false }
    }

    /// The HTTP status, and the `scimType` if there is one.
    fn status(&self) -> (StatusCode, Option<&'static str>) {
        match self.kind {
            ScimKind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, None),
            ScimKind::InvalidFilter => (StatusCode::BAD_REQUEST, Some("invalidFilter")),
            ScimKind::InvalidPath => (StatusCode::BAD_REQUEST, Some("invalidPath")),
            ScimKind::InvalidSyntax => (StatusCode::BAD_REQUEST, Some("invalidSyntax")),
            ScimKind::InvalidValue => (StatusCode::BAD_REQUEST, Some("invalidValue")),
            ScimKind::MediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, None),
            ScimKind::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, None),
            ScimKind::Mutability => (StatusCode::BAD_REQUEST, Some("mutability")),
            ScimKind::NoTarget => (StatusCode::BAD_REQUEST, Some("noTarget")),
            ScimKind::NotFound => (StatusCode::NOT_FOUND, None),
            ScimKind::NotImplemented => (StatusCode::NOT_IMPLEMENTED, None),
            ScimKind::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, None),
            ScimKind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, None),
            ScimKind::Unauthorized => (StatusCode::UNAUTHORIZED, None),
            ScimKind::Uniqueness => (StatusCode::CONFLICT, Some("uniqueness")),
        }
    }
}

impl From<Refusal> for ScimError {
    fn from(refusal: Refusal) -> ScimError {
        match refusal {
            Refusal::Conflict(detail) => ScimError::new(ScimKind::Uniqueness, detail),
            Refusal::Invalid { pointer, detail } => ScimError::new(
                ScimKind::InvalidValue,
                format!("{}: {detail}", pointer.trim_start_matches('/')),
            ),
            Refusal::Foreign(what) => {
                ScimError { foreign: true, ..ScimError::new(ScimKind::NotFound, format!("no such {what}")) }
            }
            Refusal::NotFound(what) => ScimError::new(ScimKind::NotFound, format!("no such {what}")),
        }
    }
}

impl From<Problem> for ScimError {
    fn from(problem: Problem) -> ScimError {
        let kind = match problem.status {
            400 => ScimKind::InvalidSyntax,
            401 => ScimKind::Unauthorized,
            404 => ScimKind::NotFound,
            413 => ScimKind::TooLarge,
            415 => ScimKind::MediaType,
            422 => ScimKind::InvalidValue,
            _ => ScimKind::Internal,
        };
        ScimError { foreign: problem.foreign, ..ScimError::new(kind, problem.detail) }
    }
}

impl IntoResponse for ScimError {
    fn into_response(self) -> Response {
        let (status, scim_type) = self.status();
        let mut body = json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"],
            "status": status.as_u16().to_string(), "detail": self.detail,
        });
        if let Some(scim_type) = scim_type {
            body["scimType"] = json!(scim_type);
        }
        let mut response = (status, Json(body)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, MEDIA_TYPE);
        if self.foreign {
            response.extensions_mut().insert(Foreign);
        }
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"scim\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
