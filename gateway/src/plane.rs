//! The control plane as the gateway sees it: registration, configuration, access records. The same interface that the
//! kernel's agent uses.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, HOST, IF_NONE_MATCH};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use portcullis_wire::{AccessLog, Bundle};
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;

use crate::config::{ConfigError, Identity, PlaneConfig, authority};

/// A control plane, and who this is to it.
pub(crate) struct Plane {
    client: Client<HttpConnector, Full<Bytes>>,
    authority: String,
    base: String,
    credentials: Mutex<Credentials>,
    /// Entity tag of the configuration in force.
    tag: Mutex<Option<HeaderValue>>,
}

/// A new configuration.
pub(crate) struct Fetched {
    pub(crate) bundle: Bundle,
    /// As it was sent.
    pub(crate) text: Bytes,
    tag: Option<HeaderValue>,
}

#[derive(Clone)]
enum Credentials {
    Known { agent_id: String, bearer: HeaderValue },
    Unknown { api_key: HeaderValue, hostname: String },
}

#[derive(Deserialize)]
struct Registered {
    agent_id: String,
    agent_secret: String,
}

/// For one request, connecting included.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest accepted configuration, bytes.
const BUNDLE_MAX: usize = 64 << 20;
/// How much of an error's body is shown, characters.
const SHOWN: usize = 300;

// === impl Plane ===

impl Plane {
    pub(crate) fn new(config: &PlaneConfig) -> Result<Plane, ConfigError> {
        let PlaneConfig { url, tenant, identity, cache: _ } = config;
        let refuse = || ConfigError::Plane(url.clone());
        let (authority, _) = authority(url.trim_end_matches('/')).ok_or_else(refuse)?;
        let secret = |text: &str| HeaderValue::from_str(text).map_err(|_| ConfigError::Secret);
        let credentials = match identity {
            Identity::Known { agent_id, secret: text } => {
                Credentials::Known { agent_id: agent_id.clone(), bearer: secret(&format!("Bearer {text}"))? }
            }
            Identity::Register { api_key, hostname } => {
                Credentials::Unknown { api_key: secret(api_key)?, hostname: hostname.clone() }
            }
        };
        Ok(Plane {
            client: Client::builder(TokioExecutor::new()).build_http(),
            base: format!("http://{authority}/manage/v1/{tenant}/access"),
            authority,
            credentials: Mutex::new(credentials),
            tag: Mutex::default(),
        })
    }

    /// The configuration, if it is another one than that in force.
    pub(crate) async fn fetch(&self) -> Result<Option<Fetched>, String> {
        const WHAT: &str = "reading the configuration";
        let (agent_id, bearer) = self.credentials().await?;
        let tag = self.tag.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut fields = vec![(AUTHORIZATION, bearer)];
        fields.extend(tag.map(|tag| (IF_NONE_MATCH, tag)));
        let response =
            self.send(WHAT, Method::GET, &format!("/agents/{agent_id}/config"), fields, None).await?;
        if response.status() == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        let tag = response.headers().get(ETAG).cloned();
        let text = good(WHAT, response)?;
        let bundle =
            serde_json::from_slice(&text).map_err(|error| format!("control plane: {WHAT}: {error}"))?;
        Ok(Some(Fetched { bundle, text, tag }))
    }

    /// This configuration is in force: only it is answered with "not modified" from now on.
    pub(crate) fn accepted(&self, fetched: Fetched) {
        *self.tag.lock().unwrap_or_else(PoisonError::into_inner) = fetched.tag;
    }

    /// Sends access records.
    pub(crate) async fn report(&self, records: &[AccessLog]) -> Result<(), String> {
        const WHAT: &str = "sending access records";
        let (_, bearer) = self.credentials().await?;
        let body = json!({ "logs": records }).to_string();
        let fields = vec![(AUTHORIZATION, bearer)];
        let response = self.send(WHAT, Method::POST, "/logs", fields, Some(body)).await?;
        good(WHAT, response).map(drop)
    }

    /// Identifier and secret, after a registration if need be.
    async fn credentials(&self) -> Result<(String, HeaderValue), String> {
        const WHAT: &str = "registering";
        let known = self.credentials.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (api_key, hostname) = match known {
            Credentials::Known { agent_id, bearer } => return Ok((agent_id, bearer)),
            Credentials::Unknown { api_key, hostname } => (api_key, hostname),
        };
        let body = json!({
            "hostname": hostname,
            "agent_version": env!("CARGO_PKG_VERSION"),
            "os": std::env::consts::OS,
            "arch": std::env::consts::ARCH,
        });
        let fields = vec![(http::HeaderName::from_static("x-api-key"), api_key)];
        let response =
            self.send(WHAT, Method::POST, "/agents/register", fields, Some(body.to_string())).await?;
        let text = good(WHAT, response)?;
        let unusable = |error: &dyn std::fmt::Display| format!("control plane: {WHAT}: {error}");
        let Registered { agent_id, agent_secret } =
            serde_json::from_slice(&text).map_err(|error| unusable(&error))?;
        let bearer =
            HeaderValue::from_str(&format!("Bearer {agent_secret}")).map_err(|error| unusable(&error))?;
        let known = Credentials::Known { agent_id: agent_id.clone(), bearer: bearer.clone() };
        *self.credentials.lock().unwrap_or_else(PoisonError::into_inner) = known;
        Ok((agent_id, bearer))
    }

    async fn send(
        &self,
        what: &str,
        method: Method,
        path: &str,
        fields: Vec<(http::HeaderName, HeaderValue)>,
        body: Option<String>,
    ) -> Result<Response<Bytes>, String> {
        let failed = |error: &dyn std::fmt::Display| format!("control plane: {what}: {error}");
        let uri: Uri = format!("{}{path}", self.base).parse().map_err(|error| failed(&error))?;
        let mut request = Request::builder().method(method).uri(uri).header(HOST, &self.authority);
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::from(body.unwrap_or_default()));
        let mut request = request.map_err(|error| failed(&error))?;
        request.headers_mut().extend(fields);
        let work = async {
            let response = self.client.request(request).await.map_err(|error| failed(&chain(&error)))?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, BUNDLE_MAX).collect().await.map_err(|error| failed(&error))?;
            Ok(Response::from_parts(parts, body.to_bytes()))
        };
        timeout(TIMEOUT, work).await.map_err(|_| failed(&"it does not answer"))?
    }
}

fn good(what: &str, response: Response<Bytes>) -> Result<Bytes, String> {
    let status = response.status();
    if status.is_success() {
        return Ok(response.into_body());
    }
    let text: String = String::from_utf8_lossy(response.body()).chars().take(SHOWN).collect();
    Err(format!("control plane: {what}: status {}: {text}", status.as_u16()))
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

impl std::fmt::Debug for Plane {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plane").field("base", &self.base).finish_non_exhaustive()
    }
}
