//! Problem documents, RFC 9457: the body of every error answer.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

/// A problem document.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Problem {
    /// A URI reference that names the kind of problem, stable for programs.
    #[serde(rename = "type")]
    pub kind: String,
    /// Summary of the kind, the same for every occurrence.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// This occurrence, in words, with the remedy.
    pub detail: String,
    /// What is wrong with which member of the request's body.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// When to come back, seconds; `Retry-After`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// Whether what is not found here is another organisation's. Never on the wire.
    #[serde(skip)]
    pub(crate) foreign: bool,
}

/// Marks the answer to a request that named something of another organisation, for the audit log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Foreign;

/// One wrong member of a request body.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
pub struct FieldError {
    /// JSON Pointer (RFC 6901) to the member.
    pub pointer: String,
    /// What is wrong with it and what to write instead.
    pub detail: String,
}

// === impl Problem ===

impl Problem {
    fn new(status: StatusCode, kind: &str, title: &str, detail: impl Into<String>) -> Problem {
        Problem {
            kind: format!("urn:portcullis:problem:{kind}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
            retry_after: None,
            foreign: false,
        }
    }

    /// 400: the body or query cannot be read.
    pub fn unreadable(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "unreadable", "The request cannot be read", detail)
    }

    /// 401: no or wrong credentials.
    pub fn unauthorized(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "Credentials are missing or wrong", detail)
    }

    /// 403: known, but not allowed.
    pub fn forbidden(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, "forbidden", "That is not allowed", detail)
    }

    /// 403: more than the tenant's plan allows.
    pub fn plan(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, "plan-limit", "The plan does not allow that", detail)
    }

    /// 404: no such thing.
    pub fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "not-found", "There is no such thing", detail)
    }

    /// 405: the path exists, the method does not.
    pub fn method(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", "The method is not offered here", detail)
    }

    /// 409: at odds with what exists.
    pub fn conflict(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::CONFLICT, "conflict", "The request conflicts with what exists", detail)
    }

    /// 413: longer than the documented limit.
    pub fn too_large(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The request is too large", detail)
    }

    /// 415: not JSON.
    pub fn media_type(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", "The body is not JSON", detail)
    }

    /// 422: readable, but members are wrong.
    pub fn invalid(errors: Vec<FieldError>) -> Problem {
        let detail =
            errors.iter().map(|e| format!("{}: {}", e.pointer, e.detail)).collect::<Vec<_>>().join("; ");
        let title = "Members of the request body are wrong";
        Problem { errors, ..Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", title, detail) }
    }

    /// 429: guessed too often.
    pub fn too_many(wait_s: u64) -> Problem {
        let detail = format!("too many failed attempts; wait {wait_s} seconds");
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many", "Too many attempts", detail);
        Problem { retry_after: Some(wait_s), ..problem }
    }

    /// 500: our fault.
    pub fn internal(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The control plane failed", detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let (retry_after, foreign) = (self.retry_after, self.foreign);
        let mut response = (status, Json(self)).into_response();
        if foreign {
            response.extensions_mut().insert(Foreign);
        }
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(wait_s) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait_s));
        }
        if status == StatusCode::UNAUTHORIZED {
            // RFC 9110 section 11.6.1: a 401 carries at least one challenge.
            headers
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"control-plane\""));
        }
        response
    }
}

// === impl FieldError ===

impl FieldError {
    /// `detail` about the member at `pointer`.
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> FieldError {
        FieldError { pointer: pointer.into(), detail: detail.into() }
    }
}
