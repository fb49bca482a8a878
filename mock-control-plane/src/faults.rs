//! Faults on demand: what an agent meets when the control plane is slow, broken, or lies.
//!
//! Faults of transport apply to any answer, around its handler. Faults of content are asked for by the handlers of
//! bundles and key sets, which know what a wrong one looks like.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body::Frame;
use portcullis_wire::{Bundle, JwkSet};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Sleep;

use crate::Problem;
use crate::extract::BODY_MAX;
use crate::server::{Shared, stopped};

/// The faults to show. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults(Arc<Mutex<Vec<Row>>>);

/// One fault to show.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct Row {
    /// Identifier.
    pub id: String,
    /// The tenant whose fault it is.
    #[serde(skip)]
    pub tenant: String,
    /// What it is.
    #[serde(flatten)]
    pub fault: Fault,
    /// How often it was shown.
    pub shown: u64,
}

/// What is to go wrong, where, and how often.
#[derive(Clone, Debug, Deserialize, Serialize, schemars::JsonSchema)]
pub(crate) struct Fault {
    /// Paths that begin with this; absent: every path of the tenant.
    #[serde(default)]
    pub path: String,
    /// How often; absent: until it is deleted.
    #[serde(default)]
    pub times: Option<u64>,
    /// What.
    #[serde(flatten)]
    pub kind: Kind,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub(crate) enum Kind {
    /// The answer comes late.
    Delay {
        /// How late, milliseconds.
        ms: u64,
    },
    /// This status instead of the answer.
    Status {
        /// 400 to 599.
        status: u16,
    },
    /// The connection breaks in the middle of the body.
    TornBody,
    /// The entity tag is of something else.
    WrongEtag,
    /// 304 although there is something new.
    FalseNotModified,
    /// The newest key is not in the key set.
    StaleKeys,
    /// The newest key is in the key set twice, the second time with another key's numbers.
    DuplicateKeys,
    /// No key at all.
    EmptyKeys,
    /// The first member of the key set is no key: its `kty` is a number.
    BadKey,
    /// The first member of the key set has no `kty`.
    MissingKty,
    /// The simulated cloud providers take no change, until the fault is deleted.
    CloudDown,
    /// The version is one less than the last one given.
    OlderVersion,
    /// Who waits for a change is not told of it.
    DroppedPush,
}

/// Longest delay, milliseconds.
pub(crate) const DELAY_MAX_MS: u64 = 120_000;
/// Most faults at a time.
pub(crate) const FAULTS_MAX: usize = 100;
/// Time between the first half of a torn body and its end: the first half has to leave before.
const TEAR: Duration = Duration::from_millis(30);

// === impl Faults ===

impl Faults {
    /// The faults, to look at or to change.
    pub(crate) fn rows(&self) -> MutexGuard<'_, Vec<Row>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next fault to show on `path` of those that are `wanted`; it is thereby shown once.
    pub(crate) fn take(&self, path: &str, wanted: impl Fn(Kind) -> bool) -> Option<Kind> {
        let mut rows = self.rows();
        let row = rows.iter_mut().find(|row| {
            let Fault { path: prefix, times, kind } = &row.fault;
            let of_tenant = path.split('/').any(|part| part == row.tenant);
            of_tenant
                && path.starts_with(prefix)
                && times.is_none_or(|times| row.shown < times)
                && wanted(*kind)
        })?;
        row.shown += 1;
        Some(row.fault.kind)
    }

    /// What is to be wrong with the keys in an answer on `path`.
    pub(crate) fn distort_keys(&self, path: &str, jwks: &mut JwkSet) {
        let of_keys = |kind| matches!(kind, Kind::StaleKeys | Kind::DuplicateKeys | Kind::EmptyKeys);
        match self.take(path, of_keys) {
            Some(Kind::StaleKeys) => drop(jwks.keys.pop()),
            Some(Kind::DuplicateKeys) => {
                if let (Some(first), Some(last)) = (jwks.keys.first().cloned(), jwks.keys.last()) {
                    let kid = last.kid.clone();
                    jwks.keys.push(portcullis_wire::Jwk { kid, ..first });
                }
            }
            Some(Kind::EmptyKeys) => jwks.keys.clear(),
            Some(_) | None => {}
        }
    }

    /// What is to be wrong with single keys in an answer on `path`, as JSON: of these types there is no wrong one.
    pub(crate) fn spoil_keys(&self, path: &str, jwks: &mut Value) {
        let Some(keys) = jwks.get_mut("keys").and_then(Value::as_array_mut) else { return };
        match self.take(path, |kind| matches!(kind, Kind::BadKey | Kind::MissingKty)) {
            Some(Kind::BadKey) => {
                keys.insert(0, json!({ "kty": 2, "kid": "bad", "use": "sig", "n": [], "e": "AQAB" }));
            }
            Some(Kind::MissingKty) => {
                let mut key = keys.first().cloned().unwrap_or_else(|| json!({}));
                if let Some(members) = key.as_object_mut() {
                    members.remove("kty");
                    members.insert("kid".to_owned(), json!("no-kty"));
                }
                keys.insert(0, key);
            }
            Some(_) | None => {}
        }
    }

    /// Whether a tenant's cloud providers take no change.
    pub(crate) fn is_down(&self, tenant: &str) -> bool {
        self.rows().iter().any(|row| row.tenant == tenant && row.fault.kind == Kind::CloudDown)
    }

    /// What is to be wrong with a bundle on `path`.
    pub(crate) fn distort_bundle(&self, path: &str, bundle: &mut Bundle) {
        for issuer in &mut bundle.issuers {
            self.distort_keys(path, &mut issuer.jwks);
        }
        if self.take(path, |kind| kind == Kind::OlderVersion).is_some() {
            bundle.version = bundle.version.saturating_sub(1);
        }
    }
}

/// Shows the faults of transport.
pub(crate) async fn apply(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    if path.contains("/test/") {
        // The way to take a fault back has none.
        return next.run(request).await;
    }
    if let Some(Kind::Delay { ms }) = shared.faults.take(&path, |kind| matches!(kind, Kind::Delay { .. })) {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(ms)) => {}
            () = stopped(shared.stopping.clone()) => {}
        }
    }
    if let Some(Kind::Status { status }) =
        shared.faults.take(&path, |kind| matches!(kind, Kind::Status { .. }))
    {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let problem = Problem::internal("a fault on demand");
        return (status, Problem { status: status.as_u16(), ..problem }).into_response();
    }
    let response = next.run(request).await;
    match shared.faults.take(&path, |kind| kind == Kind::TornBody) {
        Some(_) => torn(response).await,
        None => response,
    }
}

async fn torn(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let whole = axum::body::to_bytes(body, BODY_MAX).await.unwrap_or_default();
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(whole.len()));
    let half = Some(whole.slice(..whole.len() / 2));
    Response::from_parts(parts, Body::new(Torn { half, rest: Box::pin(tokio::time::sleep(TEAR)) }))
}

/// A body that breaks off.
struct Torn {
    half: Option<Bytes>,
    rest: Pin<Box<Sleep>>,
}

// === impl Torn ===

impl http_body::Body for Torn {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        match self.half.take() {
            Some(half) => Poll::Ready(Some(Ok(Frame::data(half)))),
            None => self
                .rest
                .as_mut()
                .poll(context)
                .map(|()| Some(Err(std::io::Error::other("a fault on demand")))),
        }
    }
}
