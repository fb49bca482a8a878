//! The control plane as its agents see it: registration, configuration, access records.
//!
//! **Invariant:** nothing of a bundle is read before its signature is verified, once the key is known.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portcullis_wire::Jwk;
use serde::Deserialize;
use serde_json::{Value, json};
use ureq::http::Response;

use crate::bundle::{self, Read};
use crate::config::PlaneConfig;
use crate::error::{IdentityError, PlaneError, TrustError};
use crate::identity::{Identity, IdentityFile, Kept};
use crate::lock;
use crate::signature::{BundleKey, SIGNATURE_FIELD, SignatureError};
use crate::trust::{Address, Trust, tls_trouble};

/// A control plane, and who this is to it.
pub struct Plane {
    http: ureq::Agent,
    trust: Trust,
    url: String,
    tenant: String,
    base: String,
    identity: Identity,
    /// The key that the settings name.
    given: Option<Arc<BundleKey>>,
    file: Option<IdentityFile>,
    who: Mutex<Option<Arc<Who>>>,
    /// Held while it registers or asks for the key: one registration is enough.
    joining: Mutex<()>,
    /// Entity tag of the configuration in force.
    tag: Mutex<Option<String>>,
}

/// Who this is to the control plane.
#[derive(Clone)]
pub(crate) struct Who {
    pub(crate) agent_id: String,
    secret: String,
    key: Pin,
}

/// What is known of the key that bundles are signed with.
#[derive(Clone)]
enum Pin {
    /// The control plane was not asked.
    Unasked,
    /// It signs no bundles.
    None,
    Key(Arc<BundleKey>),
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
        /// It is good, if there is a pinned key.
        signature: Option<String>,
        tag: Option<String>,
    },
}

#[derive(Deserialize)]
struct Registered {
    agent_id: String,
    agent_secret: String,
    #[serde(default)]
    bundle_key: Option<Jwk>,
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
/// For a question whether somebody is there.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest accepted configuration, bytes.
const BUNDLE_MAX: u64 = 64 << 20;
/// Longest accepted key set, bytes.
const KEYS_MAX: u64 = 1 << 20;
/// Places that an issuer may send on to, one after the other.
const REDIRECTS_MAX: u32 = 4;
/// How much of an error's body is shown, characters.
const SHOWN: usize = 300;

// === impl Plane ===

impl Plane {
    /// Reads the identity file; asks nothing.
    pub(crate) fn new(config: PlaneConfig) -> Result<Plane, PlaneError> {
        let PlaneConfig { url, tenant, identity, identity_file, bundle_key, trust } = config;
        let address = trust.address(&url)?;
        let http = client(&address, &trust, TIMEOUT)?;
        let url = address.url().to_owned();
        let file = identity_file.map(IdentityFile::new);
        let kept = file.as_ref().map(|file| file.read(&tenant)).transpose()?.flatten();
        let given = bundle_key.map(BundleKey::new).transpose()?;
        let pin = |kept: Option<Jwk>| -> Result<Pin, SignatureError> {
            let key = given.clone().map(Ok).or_else(|| kept.map(BundleKey::new)).transpose()?;
            Ok(key.map_or(Pin::Unasked, |key| Pin::Key(Arc::new(key))))
        };
        let who = match (&identity, kept) {
            (Identity::Known { agent_id, secret }, kept) => {
                let kept = kept.filter(|kept| kept.agent_id == *agent_id);
                let key = pin(kept.and_then(|kept| kept.bundle_key))?;
                Some(Who { agent_id: agent_id.clone(), secret: secret.clone(), key })
            }
            // The secret is for the control plane that gave it: another one has to register this agent, and names its key.
            (
                Identity::Register { .. },
                Some(Kept { url: of, tenant: _, agent_id, agent_secret: Some(secret), bundle_key }),
            ) if of == url => Some(Who { agent_id, secret, key: pin(bundle_key)? }),
            (Identity::Register { .. }, _) => None,
        };
        let secret = match (&who, &identity) {
            (Some(who), _) => &who.secret,
            (None, Identity::Register { api_key: secret, .. } | Identity::Known { secret, .. }) => secret,
        };
        if !secret.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            return Err(PlaneError::Secret);
        }
        // A key that was given is the key for whoever registers, too.
        let given = given.map(Arc::new);
        let base = format!("{url}/manage/v1/{tenant}/access");
        let who = Mutex::new(who.map(Arc::new));
        Ok(Plane {
            http,
            trust,
            url,
            tenant,
            base,
            identity,
            given,
            file,
            who,
            joining: Mutex::default(),
            tag: Mutex::default(),
        })
    }

    /// The agent's identifier, after a registration if need be.
    ///
    /// # Errors
    /// When it cannot be registered.
    pub fn agent_id(&self) -> Result<String, PlaneError> {
        Ok(self.who()?.agent_id.clone())
    }

    /// Whom it believes.
    pub(crate) fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Who this is, and the pinned key, as far as is known without asking.
    pub(crate) fn known(&self) -> Option<(String, Option<Arc<BundleKey>>)> {
        let who = lock(&self.who).clone()?;
        let key = match &who.key {
            Pin::Key(key) => Some(key.clone()),
            Pin::Unasked | Pin::None => None,
        };
        Some((who.agent_id.clone(), key))
    }

    /// Who this is, after a registration if need be.
    fn who(&self) -> Result<Arc<Who>, PlaneError> {
        let _one = lock(&self.joining);
        if let Some(who) = lock(&self.who).clone() {
            return Ok(who);
        }
        let Identity::Register { api_key, hostname } = &self.identity else {
            // Whoever is known is known from the beginning.
            return Err(PlaneError::Secret);
        };
        if let Some(file) = &self.file {
            file.try_write()?;
        }
        let Registered { agent_id, agent_secret, bundle_key } = self.register(api_key, hostname)?;
        let key = match &self.given {
            Some(key) => Pin::Key(key.clone()),
            None => bundle_key
                .map_or(Ok(Pin::None), |jwk| BundleKey::new(jwk).map(|key| Pin::Key(Arc::new(key))))?,
        };
        let who = Arc::new(Who { agent_id, secret: agent_secret, key });
        // It is somebody now, whether that can be kept or not.
        *lock(&self.who) = Some(who.clone());
        self.keep(&who)?;
        Ok(who)
    }

    /// Who this is, and the key that bundles are signed with, if the control plane signs them.
    fn with_key(&self) -> Result<(Arc<Who>, Option<Arc<BundleKey>>), PlaneError> {
        const WHAT: &str = "control plane: reading the key that bundles are signed with";
        let who = self.who()?;
        let _one = lock(&self.joining);
        let who = lock(&self.who).clone().unwrap_or(who);
        match &who.key {
            Pin::Key(key) => return Ok((who.clone(), Some(key.clone()))),
            Pin::None => return Ok((who, None)),
            Pin::Unasked => {}
        }
        let request = self.http.get(self.own(&who, "bundle-key")).header("authorization", who.bearer());
        let mut response = request.call().map_err(self.http_error(WHAT))?;
        let text = self.body(WHAT, &mut response, KEYS_MAX)?;
        let key = match response.status().as_u16() {
            200 => {
                let jwk = serde_json::from_slice(&text).map_err(|error| answer(WHAT, &error))?;
                Some(Arc::new(BundleKey::new(jwk)?))
            }
            // One of before bundles had signatures.
            404 => None,
            status => return Err(self.refused(WHAT, status, &text)),
        };
        let pin = key.clone().map_or(Pin::None, Pin::Key);
        let who = Arc::new(Who { key: pin, ..Who::clone(&who) });
        *lock(&self.who) = Some(who.clone());
        if key.is_some() {
            self.keep(&who)?;
        }
        Ok((who, key))
    }

    fn keep(&self, who: &Who) -> Result<(), IdentityError> {
        let Some(file) = &self.file else { return Ok(()) };
        let Who { agent_id, secret, key } = who;
        let given = matches!(self.identity, Identity::Known { .. });
        let bundle_key = match key {
            Pin::Key(key) => Some(key.jwk().clone()),
            Pin::Unasked | Pin::None => None,
        };
        file.write(&Kept {
            url: self.url.clone(),
            tenant: self.tenant.clone(),
            agent_id: agent_id.clone(),
            agent_secret: (!given).then(|| secret.clone()),
            bundle_key,
        })
    }

    /// Asks for the configuration; `wait`: the answer may come this much later, when there is something new (RFC 7240
    /// section 4.3).
    pub(crate) fn fetch(&self, wait: Option<Duration>) -> Result<Fetched, PlaneError> {
        const WHAT: &str = "control plane: reading the configuration";
        let (who, key) = self.with_key()?;
        let mut request = self.http.get(self.own(&who, "config")).header("authorization", who.bearer());
        let tag = lock(&self.tag).clone();
        if let Some(wait) = wait.filter(|_| tag.is_some()) {
            request = request.header("prefer", format!("wait={}", wait.as_secs()));
            request = request.config().timeout_global(Some(TIMEOUT + wait)).build();
        }
        if let Some(tag) = tag {
            request = request.header("if-none-match", tag);
        }
        let mut response = request.call().map_err(self.http_error(WHAT))?;
        let status = response.status().as_u16();
        if status == 304 {
            return Ok(Fetched::Same);
        }
        let tag = response.headers().get("etag").and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        let signature = signature(&response);
        let text = self.body(WHAT, &mut response, BUNDLE_MAX)?;
        if status != 200 {
            return Err(self.refused(WHAT, status, &text));
        }
        let signed = key.map(|key| key.verify(signature.as_deref(), &who.agent_id, &text)).transpose()?;
        let read = bundle::read(&text).map_err(|error| answer(WHAT, &error))?;
        let said = read.bundle.version;
        if let Some(signed) = signed.filter(|signed| *signed != said) {
            return Err(SignatureError::Version { signed, said }.into());
        }
        Ok(Fetched::New { read: Box::new(read), text, signature, tag })
    }

    /// The configuration with this tag is in force.
    pub(crate) fn accepted(&self, tag: Option<String>) {
        *lock(&self.tag) = tag;
    }

    /// Sends access records.
    pub(crate) fn report(&self, batch: &Batch) -> Result<(), PlaneError> {
        let Batch { numbers, records } = batch;
        let numbers = numbers.as_ref().map_or_else(String::new, |numbers| {
            let Numbers { stream, first_seq, dropped } = numbers;
            format!(r#""stream":{},"first_seq":{first_seq},"dropped":{dropped},"#, json!(stream))
        });
        let body = format!(r#"{{{numbers}"logs":[{records}]}}"#);
        self.post("control plane: sending access records", format!("{}/logs", self.base), body)
    }

    /// Tells how the agent is.
    ///
    /// # Errors
    /// When the control plane does not take it.
    pub fn heartbeat(&self, status: &str, version: u64) -> Result<(), PlaneError> {
        let body = json!({ "status": status, "config_version": version }).to_string();
        let url = self.own(&*self.who()?, "heartbeat");
        self.post("control plane: sending a heartbeat", url, body)
    }

    /// Tells what listens on this host, or which endpoints were seen: `what` is `services` or `endpoints`.
    ///
    /// # Errors
    /// When the control plane does not take it.
    pub fn inventory(&self, what: &'static str, rows: &[Value]) -> Result<(), PlaneError> {
        let url = self.own(&*self.who()?, what);
        self.post("control plane: telling of this host", url, json!({ what: rows }).to_string())
    }

    /// Reads a document of somebody else's: an issuer's keys.
    pub(crate) fn get(&self, what: &'static str, url: &str) -> Result<Vec<u8>, PlaneError> {
        let address = self.trust.address(url)?;
        // Keys that came with TLS half of the way came without.
        let request = self.http.get(url).config().max_redirects(REDIRECTS_MAX).https_only(address.is_tls());
        let request = request.proxy(proxy(&address));
        let mut response = request.build().call().map_err(|error| http_error(what, url, error))?;
        let text = self.body(what, &mut response, KEYS_MAX)?;
        match response.status().as_u16() {
            200 => Ok(text),
            status => Err(refused(what, status, &text)),
        }
    }

    fn register(&self, api_key: &str, hostname: &str) -> Result<Registered, PlaneError> {
        const WHAT: &str = "control plane: registering";
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let body = json!({
            "hostname": hostname,
            "agent_version": env!("CARGO_PKG_VERSION"),
            "os": std::env::consts::OS,
            "kernel_version": kernel.trim(),
            "arch": std::env::consts::ARCH,
        });
        let request = self.http.post(format!("{}/agents/register", self.base)).header("x-api-key", api_key);
        let request = request.header("content-type", "application/json");
        let mut response = request.send(body.to_string().as_bytes()).map_err(self.http_error(WHAT))?;
        let text = self.body(WHAT, &mut response, KEYS_MAX)?;
        match response.status().as_u16() {
            200..=299 => serde_json::from_slice(&text).map_err(|error| answer(WHAT, &error)),
            status => Err(refused(WHAT, status, &text)),
        }
    }

    fn post(&self, what: &'static str, url: String, body: String) -> Result<(), PlaneError> {
        let request = self.http.post(url).header("authorization", self.who()?.bearer());
        let request = request.header("content-type", "application/json");
        let mut response = request.send(body.as_bytes()).map_err(self.http_error(what))?;
        let text = response.body_mut().read_to_vec().unwrap_or_default();
        match response.status().as_u16() {
            200..=299 => Ok(()),
            status => Err(self.refused(what, status, &text)),
        }
    }

    fn body(
        &self,
        what: &'static str,
        response: &mut Response<ureq::Body>,
        most: u64,
    ) -> Result<Vec<u8>, PlaneError> {
        response.body_mut().with_config().limit(most).read_to_vec().map_err(self.http_error(what))
    }

    fn own(&self, who: &Who, what: &str) -> String {
        format!("{}/agents/{}/{what}", self.base, who.agent_id)
    }

    fn http_error(&self, what: &'static str) -> impl Fn(ureq::Error) -> PlaneError {
        move |error| http_error(what, &self.url, error)
    }

    /// A status that is no success, with the remedy where the identity file has a part in it.
    fn refused(&self, what: &'static str, status: u16, body: &[u8]) -> PlaneError {
        match (refused(what, status, body), &self.identity, self.file.as_ref().map(IdentityFile::path)) {
            (PlaneError::Status { message, .. }, Identity::Register { .. }, Some(path)) if status == 401 => {
                let message = format!("{message}; if this agent was deleted there, {}", forget(path));
                PlaneError::Status { what, status, message }
            }
            (error, ..) => error,
        }
    }
}

impl std::fmt::Debug for Plane {
    /// Without the secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plane")
            .field("base", &self.base)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

// === impl Who ===

impl Who {
    fn bearer(&self) -> String {
        format!("Bearer {}", self.secret)
    }
}

/// Whether a control plane answers at `url`: the status of its answer to a question for nothing.
///
/// # Errors
/// When it does not, or is not to be trusted.
pub fn probe(url: &str, trust: &Trust) -> Result<u16, PlaneError> {
    let address = trust.address(url)?;
    let answer = client(&address, trust, PROBE_TIMEOUT)?.get(address.url()).call();
    let answer = answer.map_err(|error| http_error("control plane: reaching it", address.url(), error))?;
    Ok(answer.status().as_u16())
}

fn client(address: &Address, trust: &Trust, timeout: Duration) -> Result<ureq::Agent, TrustError> {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(timeout))
        // A secret goes to no other place than the one that was written.
        .max_redirects(0)
        .proxy(proxy(address))
        .tls_config(trust.tls_config()?);
    Ok(config.build().into())
}

/// The proxy that the environment names (`HTTPS_PROXY`), which sees nothing of what is asked; what is asked in the clear
/// goes through none.
fn proxy(address: &Address) -> Option<ureq::Proxy> {
    address.is_tls().then(ureq::Proxy::try_from_env).flatten()
}

fn forget(path: &Path) -> String {
    format!("delete {} and start again: it registers then", path.display())
}

/// The field, if it is there once.
fn signature(response: &Response<ureq::Body>) -> Option<String> {
    let mut all = response.headers().get_all(SIGNATURE_FIELD).iter();
    match (all.next(), all.next()) {
        (Some(one), None) => one.to_str().ok().map(str::to_owned),
        // Which of two counts would be a guess.
        _ => None,
    }
}

fn answer(what: &'static str, error: &serde_json::Error) -> PlaneError {
    PlaneError::Answer { what, message: error.to_string() }
}

fn http_error(what: &'static str, url: &str, error: ureq::Error) -> PlaneError {
    match tls_trouble(url, &error) {
        Some(message) => PlaneError::Tls { what, message },
        None => PlaneError::Http { what, source: Box::new(error) },
    }
}

fn refused(what: &'static str, status: u16, body: &[u8]) -> PlaneError {
    let text: String = String::from_utf8_lossy(body).chars().take(SHOWN).collect();
    PlaneError::Status { what, status, message: text }
}
