//! The configuration bundle that an agent polls, with an entity tag; with `Prefer: wait=N` (RFC 7240 section 4.3) the
//! answer comes when there is something new, or after N seconds.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use portcullis_wire::{Bundle, Jwk};
use tokio::time::{Instant, sleep_until};

use crate::Problem;
use crate::extract::Agent;
use crate::faults::Kind;
use crate::openapi::Said;
use crate::secret::fingerprint;
use crate::server::{Shared, stopped};

/// Longest wait, seconds: below the idle timeouts of common proxies.
const WAIT_MAX_S: u64 = 50;

/// `GET …/agents/{agent}/bundle-key`: what bundles are verified with, for an agent that was not told when it was
/// registered.
pub(super) async fn key(
    State(shared): State<Shared>,
    Path((_, id)): Path<(String, String)>,
    agent: Agent,
) -> Result<Json<Jwk>, Problem> {
    if agent.agent_id != id {
        return Err(Problem::not_found("the secret belongs to another agent"));
    }
    Ok(Json(shared.store().tenant(&agent.tenant)?.bundle_jwk()))
}

/// `GET …/agents/{agent}/config`
pub(super) async fn get(
    State(shared): State<Shared>,
    Path((_, id)): Path<(String, String)>,
    uri: Uri,
    agent: Agent,
    headers: HeaderMap,
) -> Result<Said<Bundle>, Problem> {
    if agent.agent_id != id {
        // The secret of one agent does not read another's configuration.
        return Err(Problem::not_found("the secret belongs to another agent"));
    }
    let deadline = Instant::now() + Duration::from_secs(wait_s(&headers));
    let mut changes = shared.store().tenant(&agent.tenant)?.version.subscribe();
    loop {
        let response = once(&shared, &agent, uri.path(), &headers)?;
        if response.status() != StatusCode::NOT_MODIFIED || Instant::now() >= deadline {
            return Ok(response.into());
        }
        let told = shared.faults.take(uri.path(), |kind| kind == Kind::DroppedPush).is_none();
        tokio::select! {
            changed = changes.changed(), if told => {
                if changed.is_err() {
                    return Ok(response.into());
                }
            }
            () = sleep_until(deadline) => return Ok(response.into()),
            () = stopped(shared.stopping.clone()) => return Ok(response.into()),
        }
    }
}

fn once(shared: &Shared, agent: &Agent, path: &str, headers: &HeaderMap) -> Result<Response, Problem> {
    let mut store = shared.store();
    let tenant = store.tenant_mut(&agent.tenant)?;
    let mut bundle = tenant.bundle();
    shared.faults.distort_bundle(path, &mut bundle);
    let failed = |e: serde_json::Error| Problem::internal(format!("bundle: {e}"));
    let mut value = serde_json::to_value(&bundle).map_err(failed)?;
    for issuer in value["issuers"].as_array_mut().into_iter().flatten() {
        shared.faults.spoil_keys(path, &mut issuer["jwks"]);
    }
    let body = serde_json::to_vec(&value).map_err(failed)?;
    // The version alone starts again with the process; the content makes the tag true for ever.
    let tag = format!("\"v{}-{}\"", bundle.version, fingerprint(&body));
    if not_modified(headers, &tag) {
        tenant.agent_has(&agent.agent_id, bundle.version, shared.clock.now());
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    if headers.contains_key(header::IF_NONE_MATCH)
        && shared.faults.take(path, |kind| kind == Kind::FalseNotModified).is_some()
    {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    let tag = match shared.faults.take(path, |kind| kind == Kind::WrongEtag) {
        Some(_) => format!("\"v{}-{}\"", bundle.version, fingerprint(b"another body")),
        None => tag,
    };
    // What is wrong on demand is signed too: it is the control plane that is wrong, not the way.
    let signature = tenant.sign_bundle(&agent.agent_id, bundle.version, &body);
    let headers = [
        (header::ETAG, tag),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
        (header::CONTENT_TYPE, "application/json".to_owned()),
        (HeaderName::from_static("portcullis-bundle-signature"), signature),
    ];
    Ok((headers, body).into_response())
}

//= https://www.rfc-editor.org/rfc/rfc9110#section-13.1.2
//# A recipient MUST use the weak comparison function when comparing entity tags for If-None-Match
pub(super) fn not_modified(headers: &HeaderMap, tag: &str) -> bool {
    let opaque = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|list| list.split(',').map(str::trim).any(|entry| entry == "*" || opaque(entry) == opaque(tag)))
}

/// Seconds of `Prefer: wait=N`; without, none. What cannot be read is ignored, as RFC 7240 section 2 wants it.
fn wait_s(headers: &HeaderMap) -> u64 {
    let preferences = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let wait = preferences.flat_map(|list| list.split(',')).find_map(|preference| {
        let (name, value) = preference.trim().split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then(|| value.trim().parse::<u64>().ok())?
    });
    wait.unwrap_or(0).min(WAIT_MAX_S)
}
