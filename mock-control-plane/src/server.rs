//! Starting and stopping.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use portcullis_token::mint::{MintError, SigningKey};
use portcullis_wire::Policy;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::config::ACCESS_TOKEN_TTL_MAX_S;
use crate::faults::Faults;
use crate::rotation::rotate_due;
use crate::store::{Journal, Store, StoreGuard, Tenant};
use crate::tls::{Secured, acceptor};
use crate::{Clock, Config, Problem, StartError, TenantConfig, api};

/// The control plane; see [`ControlPlane::start`].
#[derive(Debug)]
pub struct ControlPlane;

/// A running control plane. Dropping the handle stops it too, without waiting.
pub struct Handle {
    addr: SocketAddr,
    scheme: &'static str,
    shared: Shared,
    stop: watch::Sender<bool>,
    task: JoinHandle<io::Result<()>>,
    journal: Option<Journal>,
}

/// What every request handler shares.
#[derive(Clone)]
pub(crate) struct Shared {
    store: Arc<Mutex<Store>>,
    journal: Option<Journal>,
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

/// How often the clock is looked at without a request.
const TICK: Duration = Duration::from_millis(250);
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
            tls,
            issuer_base,
            test_api,
            clock,
            access_token_ttl_s,
            session_ttl_s,
            password_rounds,
            state,
        } = config;
        let acceptor = tls.as_ref().map(acceptor).transpose();
        let acceptor = acceptor.map_err(|reason| StartError::Tls { reason })?;
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        let listener =
            TcpListener::bind(listen).await.map_err(|source| StartError::Bind { addr: listen, source })?;
        let addr = listener.local_addr().map_err(|source| StartError::Bind { addr: listen, source })?;
        let (journal, store) = match state {
            Some(path) => {
                let (journal, written) = Journal::open(&path)?;
                let store = Store::load(written)
                    .map_err(|error| StartError::State { path, reason: error.to_string() })?;
                (Some(journal), store)
            }
            None => (None, Store::default()),
        };
        if let Some(ahead_s) = store.ahead_s() {
            clock.advance(ahead_s - clock.ahead_s());
        }
        let (stop, stopping) = watch::channel(false);
        let access_token_ttl_s = access_token_ttl_s.min(ACCESS_TOKEN_TTL_MAX_S);
        let shared = Shared {
            store: Arc::new(Mutex::new(store)),
            journal: journal.clone(),
            clock,
            faults: Faults::default(),
            limits: Limits { access_token_ttl_s, session_ttl_s, password_rounds },
            stopping: stopping.clone(),
        };
        let own = format!("{scheme}://{addr}");
        for tenant in tenants {
            shared.configure(tenant, issuer_base.as_deref(), &own)?;
        }
        shared.durable().await.map_err(|problem| StartError::Write { reason: problem.detail })?;
        tokio::spawn(tick(shared.clone()));
        let router = api::router(shared.clone(), test_api);
        let task = tokio::spawn(async move {
            let stop = stopped(stopping);
            match acceptor {
                Some(acceptor) => {
                    let listener = Secured::new(listener, addr, acceptor);
                    axum::serve(listener, router).with_graceful_shutdown(stop).await
                }
                None => axum::serve(listener, router).with_graceful_shutdown(stop).await,
            }
        });
        Ok(Handle { addr, scheme, shared, stop, task, journal })
    }
}

// === impl Handle ===

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("url", &self.url()).finish_non_exhaustive()
    }
}

impl Handle {
    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Base URL, without a trailing slash.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.addr)
    }

    /// Creates a policy of a tenant as the management interface does; one that is there already, by its identifier or
    /// without one by its name, is replaced.
    ///
    /// # Errors
    /// What the management interface would answer.
    pub async fn publish(&self, tenant: &str, policy: Policy) -> Result<Policy, Problem> {
        let policy = api::publish(self.shared.store().tenant_mut(tenant)?, policy)?;
        self.shared.durable().await.map(|()| policy)
    }

    /// Stops listening, ends idle and waiting connections, and waits a few seconds for requests in progress.
    pub async fn shutdown(self) {
        self.stop.send_replace(true);
        let Handle { addr: _, scheme: _, shared, stop: _, mut task, journal } = self;
        drop(shared);
        // After `wait` has seen the end there is nothing left to wait for.
        if !task.is_finished() && timeout(GRACE, &mut task).await.is_err() {
            // A client that sends half a request and then nothing does not hold us up.
            task.abort();
        }
        if let Some(journal) = journal {
            // Longer only if such a client still holds a part of the server.
            let _closed = timeout(GRACE, journal.closed()).await.is_ok();
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
    pub(crate) fn store(&self) -> StoreGuard<'_> {
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        StoreGuard::new(store, self.journal.as_ref())
    }

    /// Waits until whatever was changed so far is as safe as it is going to be.
    pub(crate) async fn durable(&self) -> Result<(), Problem> {
        match &self.journal {
            Some(journal) => journal.durable().await,
            None => Ok(()),
        }
    }

    /// Does what is due by the clock: rotations, retention.
    pub(crate) async fn upkeep(&self) -> Result<(), Problem> {
        rotate_due(self).await?;
        let mut store = self.store();
        store.forget_old_records(self.clock.now_s());
        self.sync_clouds(&mut store);
        Ok(())
    }

    fn sync_clouds(&self, store: &mut Store) {
        store.sync_clouds(self.clock.now(), |tenant| self.faults.is_down(tenant));
    }

    /// Makes a tenant, or makes one that was written what the configuration says.
    fn configure(
        &self,
        config: TenantConfig,
        issuer_base: Option<&str>,
        own: &str,
    ) -> Result<(), StartError> {
        let name = config.name.clone();
        check(&config)?;
        let issuer = issuer_base.map(|base| format!("{base}/v1/{name}"));
        let mut store = self.store();
        let fits = if store.tenant(&name).is_ok() && store.was_loaded(&name) {
            store.configure(config, issuer)
        } else {
            let issuer = issuer.unwrap_or_else(|| format!("{own}/v1/{name}"));
            let failed = |e: MintError| StartError::Key { tenant: name.clone(), reason: e.to_string() };
            let key = SigningKey::generate_rs256(2048).map_err(failed)?;
            let bundle_key = SigningKey::generate_es256().map_err(failed)?;
            let tenant = Tenant::new(config, issuer, key, bundle_key, self.clock.now_s());
            store.insert(&name, tenant)
        };
        if fits {
            return Ok(());
        }
        Err(StartError::Tenant { tenant: name, reason: "its name or its API key is used twice" })
    }
}

/// Returns when the server is to stop: it was told to, or its handle is gone.
pub(crate) async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error is the handle's end, which stops too.
    let _told_or_dropped = stopping.wait_for(|stop| *stop).await.is_ok();
}

/// Looks at the clock from time to time: who waits for a change makes no request that would.
async fn tick(shared: Shared) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(TICK) => {
                // What fails here fails again, and is answered, at the next request.
                let _done = shared.upkeep().await.is_ok();
            }
            () = stopped(shared.stopping.clone()) => return,
        }
    }
}

/// What time has brought is done before anything else is.
pub(crate) async fn upkeep(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    match shared.upkeep().await {
        Ok(()) => {
            let response = next.run(request).await;
            // What the request has changed begins its way to the cloud providers now, not at the next request.
            shared.sync_clouds(&mut shared.store());
            response
        }
        Err(problem) => problem.into_response(),
    }
}

/// Waits for the disk before an answer leaves.
pub(crate) async fn durable(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    match shared.durable().await {
        Ok(()) => response,
        Err(problem) => problem.into_response(),
    }
}

fn check(config: &TenantConfig) -> Result<(), StartError> {
    let TenantConfig { name, api_key, audiences, leeway_s: _, plan: _ } = config;
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
    Ok(())
}
