//! Starting and stopping.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_token::mint::SigningKey;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::config::ACCESS_TOKEN_TTL_MAX_S;
use crate::faults::Faults;
use crate::store::{Store, Tenant};
use crate::{Clock, Config, StartError, TenantConfig, api};

/// The control plane; see [`ControlPlane::start`].
#[derive(Debug)]
pub struct ControlPlane;

/// A running control plane. Dropping the handle stops it too, without waiting.
#[derive(Debug)]
pub struct Handle {
    addr: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<io::Result<()>>,
}

/// What every request handler shares.
#[derive(Clone)]
pub(crate) struct Shared {
    store: Arc<Mutex<Store>>,
    /// The clock.
    pub(crate) clock: Clock,
    /// Faults to show.
    pub(crate) faults: Faults,
    /// Lifetimes and costs.
    pub(crate) limits: Limits,
    /// Becomes true, or loses its sender, when the server stops.
    pub(crate) stopping: watch::Receiver<bool>,
}

/// Lifetimes and costs; see [`Config`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Lifetime of access tokens, seconds.
    pub access_token_ttl_s: u64,
    /// Lifetime of sessions, seconds.
    pub session_ttl_s: u64,
    /// Rounds of PBKDF2.
    pub password_rounds: NonZeroU32,
}

/// Longest wait for requests in progress when stopping.
const GRACE: Duration = Duration::from_secs(3);

// === impl ControlPlane ===

impl ControlPlane {
    /// Binds, makes each tenant's first signing key, and serves until the handle stops it. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the address cannot be used or a tenant cannot be served.
    pub async fn start(config: Config) -> Result<Handle, StartError> {
        let Config {
            listen,
            tenants,
            issuer_base,
            test_api,
            clock,
            access_token_ttl_s,
            session_ttl_s,
            password_rounds,
        } = config;
        let listener =
            TcpListener::bind(listen).await.map_err(|source| StartError::Bind { addr: listen, source })?;
        let addr = listener.local_addr().map_err(|source| StartError::Bind { addr: listen, source })?;
        let base = issuer_base.unwrap_or_else(|| format!("http://{addr}"));
        let mut store = Store::default();
        for tenant in tenants {
            let name = tenant.name.clone();
            if !store.insert(&name, new_tenant(tenant, &base)?) {
                return Err(StartError::Tenant {
                    tenant: name,
                    reason: "its name or its API key is used twice",
                });
            }
        }
        let (stop, stopping) = watch::channel(false);
        let access_token_ttl_s = access_token_ttl_s.min(ACCESS_TOKEN_TTL_MAX_S);
        let shared = Shared {
            store: Arc::new(Mutex::new(store)),
            clock,
            faults: Faults::default(),
            limits: Limits { access_token_ttl_s, session_ttl_s, password_rounds },
            stopping: stopping.clone(),
        };
        let router = api::router(shared, test_api);
        let task = tokio::spawn(async move {
            axum::serve(listener, router).with_graceful_shutdown(stopped(stopping)).await
        });
        Ok(Handle { addr, stop, task })
    }
}

// === impl Handle ===

impl Handle {
    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Base URL, without a trailing slash.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Stops listening, ends idle and waiting connections, and waits a few seconds for requests in progress.
    pub async fn shutdown(self) {
        self.stop.send_replace(true);
        let Handle { addr: _, stop: _, mut task } = self;
        // After `wait` has seen the end there is nothing left to wait for.
        if !task.is_finished() && timeout(GRACE, &mut task).await.is_err() {
            // A client that sends half a request and then nothing does not hold us up.
            task.abort();
        }
    }

    /// Waits until the server ends by itself, which it does only on an error of its listener.
    ///
    /// # Errors
    /// That error.
    pub async fn wait(&mut self) -> io::Result<()> {
        (&mut self.task).await.map_err(io::Error::other)?
    }
}

// === impl Shared ===

impl Shared {
    /// The store. Handlers hold it only between two awaits; a handler that panicked left whole rows behind.
    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns when the server is to stop: it was told to, or its handle is gone.
pub(crate) async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error is the handle's end, which stops too.
    let _told_or_dropped = stopping.wait_for(|stop| *stop).await.is_ok();
}

fn new_tenant(config: TenantConfig, base: &str) -> Result<Tenant, StartError> {
    let TenantConfig { name, api_key, audiences, leeway_s } = config;
    let refuse = |reason| Err(StartError::Tenant { tenant: name.clone(), reason });
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
        return refuse("the name must be letters, digits, `-` and `_`");
    }
    if api_key.is_empty() {
        return refuse("the API key is empty");
    }
    if audiences.is_empty() {
        return refuse("at least one audience is needed");
    }
    let key = SigningKey::generate_rs256(2048)
        .map_err(|e| StartError::Key { tenant: name.clone(), reason: e.to_string() })?;
    let issuer = format!("{base}/v1/{name}");
    Ok(Tenant::new(name, &api_key, issuer, audiences, leeway_s, key))
}
