//! The model engine: the pure decision code, applied to the bytes of real connections between client and application.
//!
//! A front takes the clients' connections on a port of its own, which is the protected one, and opens one connection to
//! the application for each of them. What it reads at a time is a segment of `portcullis_verdict`; what passes goes on
//! unchanged, in both directions.
//!
//! **Invariant:** the front decides nothing itself: each segment's fate is what [`portcullis_verdict`] says.
//! **Invariant:** a record is kept before the client or the application sees anything of the decision.

mod front;
mod record;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use anyhow::{Context, Result, ensure};
use portcullis_policy::PolicySet;
use portcullis_token::KeyStore;
use portcullis_wire::{AccessLog, Bundle};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::Setup;
use crate::plane::{AgentCredentials, Plane};

/// A front and what it enforces.
pub(crate) struct Model {
    addr: SocketAddr,
    plane: Plane,
    credentials: AgentCredentials,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// What the front's connections share.
pub(super) struct Shared {
    rules: RwLock<Option<Arc<Rules>>>,
    records: Mutex<Vec<AccessLog>>,
    next_decision: AtomicU64,
}

/// One generation of configuration.
pub(super) struct Rules {
    version: u64,
    policies: PolicySet,
    keys: KeyStore,
    /// Roles that some rule names: the others are nobody's business, in the log as in the kernel.
    roles: Vec<String>,
}

/// Records in one request to the control plane.
const BATCH: usize = 1_000;

// === impl Model ===

impl Model {
    pub(super) async fn prepare(setup: Setup<'_>) -> Result<Model> {
        let Setup { plane, app, credentials, .. } = setup;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listening")?;
        let addr = listener.local_addr().context("listening")?;
        let shared = Arc::new(Shared {
            rules: RwLock::default(),
            records: Mutex::default(),
            // Numbers of different fronts differ, so that a log of several runs can be searched.
            next_decision: AtomicU64::new(u64::from(addr.port()) << 32 | 1),
        });
        let task = tokio::spawn(front::serve(listener, app.addr(), Arc::clone(&shared)));
        Ok(Model { addr, plane: plane.clone(), credentials, shared, task })
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(super) async fn enforce(&mut self, version: u64) -> Result<()> {
        let bundle = self.plane.bundle(&self.credentials).await.context("reading the configuration")?;
        ensure!(bundle.version >= version, "the control plane gave version {}", bundle.version);
        let rules = Rules::new(&bundle)?;
        *self.shared.rules.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(rules));
        Ok(())
    }

    pub(super) async fn flush(&mut self) -> Result<()> {
        let records = std::mem::take(&mut *self.shared.records());
        for batch in records.chunks(BATCH) {
            self.plane.report(&self.credentials, batch).await.context("reporting decisions")?;
        }
        Ok(())
    }

    pub(super) async fn stop(mut self) -> Result<()> {
        self.task.abort();
        self.flush().await
    }
}

// === impl Shared ===

impl Shared {
    fn records(&self) -> MutexGuard<'_, Vec<AccessLog>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rules(&self) -> Option<Arc<Rules>> {
        self.rules.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

// === impl Rules ===

impl Rules {
    fn new(bundle: &Bundle) -> Result<Rules> {
        let policies = PolicySet::new(bundle.policies.clone()).map_err(|errors| {
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            anyhow::anyhow!("the policies are not valid: {}", texts.join("; "))
        })?;
        let (keys, problems) = KeyStore::new(&bundle.issuers);
        let keys = keys.with_revocations(&bundle.revocations);
        if let Some(problem) = problems.first() {
            anyhow::bail!("the control plane's keys are not valid: {problem}");
        }
        let rules = || bundle.policies.iter().flat_map(|policy| &policy.rules);
        let lists =
            || rules().flat_map(|rule| [&rule.all_of, &rule.none_of]).flatten().flat_map(|list| &list.roles);
        let roles = rules().flat_map(|rule| &rule.required_roles).chain(lists()).cloned().collect();
        Ok(Rules { version: bundle.version, policies, keys, roles })
    }
}
