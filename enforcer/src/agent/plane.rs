//! The control plane as the agent sees it: registration, configuration, access records.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::bundle::{self, Read};

/// Who the agent is.
#[derive(Clone)]
pub enum Identity {
    /// Registered before.
    Known {
        /// Identifier.
        agent_id: String,
        /// Secret from the registration.
        secret: String,
    },
    /// To be registered at the start, with a key of the management interface.
    Register {
        /// The key.
        api_key: String,
        /// Name of this host.
        hostname: String,
    },
}

/// The control plane could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlaneError {
    /// It cannot be reached, or the connection broke.
    #[error("control plane: {what}: {source}")]
    Http {
        /// What was asked.
        what: &'static str,
        /// What the HTTP client says.
        source: Box<ureq::Error>,
    },
    /// Its answer is not what it should be.
    #[error("control plane: {what}: {message}")]
    Answer {
        /// What was asked.
        what: &'static str,
        /// What came.
        message: String,
    },
    /// It answered with a status that is no success.
    #[error("control plane: {what}: status {status}: {message}")]
    Status {
        /// What was asked.
        what: &'static str,
        /// The status.
        status: u16,
        /// The beginning of the body.
        message: String,
    },
}

/// A connection to the control plane.
pub(crate) struct Plane {
    http: ureq::Agent,
    base: String,
    agent_id: String,
    secret: String,
    /// Entity tag of the configuration in force.
    tag: Mutex<Option<String>>,
}

/// Answer to a question for the configuration.
pub(crate) enum Fetched {
    /// It is the one in force.
    Same,
    /// It is another one.
    New {
        read: Box<Read>,
        /// As it was sent.
        text: Vec<u8>,
        tag: Option<String>,
    },
}

#[derive(Deserialize)]
struct Registered {
    agent_id: String,
    agent_secret: String,
}

/// Records of one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    /// Numbers, when the records have some.
    pub numbers: Option<Numbers>,
    /// The records as JSON objects with commas between them.
    pub records: String,
}

/// What makes a batch idempotent, and its gaps countable.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Numbers {
    /// Name of the sequence.
    pub stream: String,
    /// Number of the first record.
    pub first_seq: u64,
    /// Records lost since the sequence began, wherever.
    pub dropped: u64,
}

/// For one request, connecting included.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest accepted configuration, bytes.
const BUNDLE_MAX: u64 = 64 << 20;
/// Longest accepted key set, bytes.
const KEYS_MAX: u64 = 1 << 20;
/// How much of an error's body is shown, characters.
const SHOWN: usize = 300;

// === impl Plane ===

impl Plane {
    /// Registers if need be.
    pub(crate) fn connect(url: &str, tenant: &str, identity: Identity) -> Result<Plane, PlaneError> {
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(TIMEOUT));
        let http: ureq::Agent = config.build().into();
        let base = format!("{}/manage/v1/{tenant}/access", url.trim_end_matches('/'));
        let (agent_id, secret) = match identity {
            Identity::Known { agent_id, secret } => (agent_id, secret),
            Identity::Register { api_key, hostname } => register(&http, &base, &api_key, &hostname)?,
        };
        Ok(Plane { http, base, agent_id, secret, tag: Mutex::new(None) })
    }

    /// The agent's identifier.
    pub(crate) fn agent_id(&self) -> &str {
        &self.agent_id
    }

    /// Asks for the configuration; `wait`: the answer may come this much later, when there is something new (RFC 7240
    /// section 4.3).
    pub(crate) fn fetch(&self, wait: Option<Duration>) -> Result<Fetched, PlaneError> {
        const WHAT: &str = "reading the configuration";
        let mut request = self.http.get(self.own("config")).header("authorization", self.bearer());
        let tag = self.tag.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(wait) = wait.filter(|_| tag.is_some()) {
            request = request.header("prefer", format!("wait={}", wait.as_secs()));
            request = request.config().timeout_global(Some(TIMEOUT + wait)).build();
        }
        if let Some(tag) = tag {
            request = request.header("if-none-match", tag);
        }
        let mut response = request.call().map_err(http(WHAT))?;
        let status = response.status().as_u16();
        if status == 304 {
            return Ok(Fetched::Same);
        }
        let tag = response.headers().get("etag").and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        let text = response.body_mut().with_config().limit(BUNDLE_MAX).read_to_vec().map_err(http(WHAT))?;
        if status != 200 {
            return Err(refused(WHAT, status, &text));
        }
        let read = bundle::read(&text)
            .map_err(|error| PlaneError::Answer { what: WHAT, message: error.to_string() })?;
        Ok(Fetched::New { read: Box::new(read), text, tag })
    }

    /// The configuration with this tag is in force.
    pub(crate) fn accepted(&self, tag: Option<String>) {
        *self.tag.lock().unwrap_or_else(PoisonError::into_inner) = tag;
    }

    /// Sends access records.
    pub(crate) fn report(&self, batch: &Batch) -> Result<(), PlaneError> {
        let Batch { numbers, records } = batch;
        let numbers = numbers.as_ref().map_or_else(String::new, |numbers| {
            let Numbers { stream, first_seq, dropped } = numbers;
            format!(r#""stream":{},"first_seq":{first_seq},"dropped":{dropped},"#, json!(stream))
        });
        let body = format!(r#"{{{numbers}"logs":[{records}]}}"#);
        self.post("sending access records", format!("{}/logs", self.base), body)
    }

    /// Tells how the agent is.
    pub(crate) fn heartbeat(&self, status: &str, version: u64) -> Result<(), PlaneError> {
        let body = json!({ "status": status, "config_version": version }).to_string();
        self.post("sending a heartbeat", self.own("heartbeat"), body)
    }

    /// Tells what listens on this host, or which endpoints were seen: `what` is `services` or `endpoints`.
    pub(crate) fn inventory(&self, what: &'static str, rows: &[Value]) -> Result<(), PlaneError> {
        self.post(what, self.own(what), json!({ what: rows }).to_string())
    }

    /// Reads a document of somebody else's: an issuer's keys.
    pub(crate) fn get(&self, what: &'static str, url: &str) -> Result<Vec<u8>, PlaneError> {
        let mut response = self.http.get(url).call().map_err(http(what))?;
        let text = response.body_mut().with_config().limit(KEYS_MAX).read_to_vec().map_err(http(what))?;
        match response.status().as_u16() {
            200 => Ok(text),
            status => Err(refused(what, status, &text)),
        }
    }

    fn post(&self, what: &'static str, url: String, body: String) -> Result<(), PlaneError> {
        let request = self.http.post(url).header("authorization", self.bearer());
        let mut response =
            request.header("content-type", "application/json").send(body.as_bytes()).map_err(http(what))?;
        let text = response.body_mut().read_to_vec().unwrap_or_default();
        match response.status().as_u16() {
            200..=299 => Ok(()),
            status => Err(refused(what, status, &text)),
        }
    }

    fn own(&self, what: &str) -> String {
        format!("{}/agents/{}/{what}", self.base, self.agent_id)
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.secret)
    }
}

impl std::fmt::Debug for Plane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plane")
            .field("base", &self.base)
            .field("agent_id", &self.agent_id)
            .finish_non_exhaustive()
    }
}

// === impl PlaneError ===

impl PlaneError {
    /// Whether the same request will be refused again: it is not a matter of who asks, how often, or when.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            PlaneError::Status { status, .. } => {
                matches!(status, 400..=499) && !matches!(status, 401 | 403 | 404 | 408 | 409 | 425 | 429)
            }
            PlaneError::Http { .. } | PlaneError::Answer { .. } => false,
        }
    }
}

// === impl Identity ===

impl std::fmt::Debug for Identity {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Known { agent_id, secret: _ } => {
                f.debug_struct("Known").field("agent_id", agent_id).finish()
            }
            Self::Register { api_key: _, hostname } => {
                f.debug_struct("Register").field("hostname", hostname).finish()
            }
        }
    }
}

fn register(
    http_client: &ureq::Agent,
    base: &str,
    api_key: &str,
    hostname: &str,
) -> Result<(String, String), PlaneError> {
    const WHAT: &str = "registering";
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let body = json!({
        "hostname": hostname,
        "agent_version": env!("CARGO_PKG_VERSION"),
        "os": std::env::consts::OS,
        "kernel_version": kernel.trim(),
        "arch": std::env::consts::ARCH,
    });
    let request = http_client.post(format!("{base}/agents/register")).header("x-api-key", api_key);
    let request = request.header("content-type", "application/json");
    let mut response = request.send(body.to_string().as_bytes()).map_err(http(WHAT))?;
    let text = response.body_mut().read_to_vec().map_err(http(WHAT))?;
    match response.status().as_u16() {
        200..=299 => {}
        status => return Err(refused(WHAT, status, &text)),
    }
    let Registered { agent_id, agent_secret } = serde_json::from_slice(&text)
        .map_err(|error| PlaneError::Answer { what: WHAT, message: error.to_string() })?;
    Ok((agent_id, agent_secret))
}

fn http(what: &'static str) -> impl Fn(ureq::Error) -> PlaneError {
    move |source| PlaneError::Http { what, source: Box::new(source) }
}

fn refused(what: &'static str, status: u16, body: &[u8]) -> PlaneError {
    let text: String = String::from_utf8_lossy(body).chars().take(SHOWN).collect();
    PlaneError::Status { what, status, message: text }
}
