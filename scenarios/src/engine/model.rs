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
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, Result};
use portcullis_mock_control_plane::Clock;
use portcullis_policy::PolicySet;
use portcullis_token::KeyStore;
use portcullis_wire::{AccessLog, Bundle};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::Setup;
use crate::plane::{AgentCredentials, Plane};

/// A front and what it enforces.
pub(crate) struct Model {
    addr: SocketAddr,
    plane: Plane,
    credentials: AgentCredentials,
    shared: Arc<Shared>,
    front: JoinHandle<()>,
    /// Keeps the configuration equal to the control plane's, once there is one.
    sync: Option<JoinHandle<()>>,
}

/// What the front's connections share.
pub(super) struct Shared {
    rules: RwLock<Option<Arc<Rules>>>,
    records: Mutex<Vec<AccessLog>>,
    next_decision: AtomicU64,
    /// How far the clock was moved, seconds.
    ahead_s: AtomicI64,
}

/// One generation of configuration.
pub(super) struct Rules {
    version: u64,
    policies: PolicySet,
    /// Policies on trial, with their name.
    candidate: Option<(String, PolicySet)>,
    keys: KeyStore,
    /// Roles that some rule names: the others are nobody's business, in the log as in the kernel.
    roles: Vec<String>,
}

/// Records in one request to the control plane.
const BATCH: usize = 1_000;
/// How often the control plane is asked.
const POLL: Duration = Duration::from_millis(20);
const ENFORCE_MAX: Duration = Duration::from_secs(20);

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
            ahead_s: AtomicI64::new(0),
        });
        let front = tokio::spawn(front::serve(listener, app.addr(), Arc::clone(&shared)));
        Ok(Model { addr, plane: plane.clone(), credentials, shared, front, sync: None })
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(super) async fn enforce(&mut self, version: u64) -> Result<()> {
        if self.sync.is_none() {
            // What is wrong with the first one is told; later ones come by themselves, as with an agent.
            take_bundle(&self.plane, &self.credentials, &self.shared).await?;
            let (plane, credentials) = (self.plane.clone(), self.credentials.clone());
            let shared = Arc::clone(&self.shared);
            self.sync = Some(tokio::spawn(async move {
                loop {
                    tokio::time::sleep(POLL).await;
                    // What cannot be had now is asked for again.
                    drop(take_bundle(&plane, &credentials, &shared).await);
                }
            }));
        }
        let reached = async {
            while self.shared.rules().is_none_or(|rules| rules.version < version) {
                tokio::time::sleep(POLL / 4).await;
            }
        };
        timeout(ENFORCE_MAX, reached).await.context("the control plane gave an older version")
    }

    pub(super) fn set_clock(&self, ahead_s: i64) {
        self.shared.ahead_s.store(ahead_s, Ordering::Release);
    }

    /// Reports what can be reported now; the rest waits.
    pub(super) async fn flush(&mut self) -> Result<()> {
        let mut records = std::mem::take(&mut *self.shared.records());
        while !records.is_empty() {
            let batch = &records[..records.len().min(BATCH)];
            if self.plane.report(&self.credentials, batch).await.is_err() {
                self.shared.records().splice(..0, records);
                break;
            }
            records.drain(..batch.len());
        }
        Ok(())
    }

    pub(super) async fn stop(mut self) -> Result<()> {
        self.front.abort();
        if let Some(sync) = self.sync.take() {
            sync.abort();
        }
        self.flush().await
    }
}

/// Takes the control plane's bundle, and confirms it.
async fn take_bundle(plane: &Plane, credentials: &AgentCredentials, shared: &Shared) -> Result<()> {
    let bundle = plane.bundle(credentials).await.context("reading the configuration")?;
    let current = shared.rules().map_or(0, |rules| rules.version);
    if bundle.version > current {
        let rules = Rules::new(&bundle)?;
        *shared.rules.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(rules));
        plane.heartbeat(credentials, bundle.version).await?;
    }
    Ok(())
}

// === impl Shared ===

impl Shared {
    fn records(&self) -> MutexGuard<'_, Vec<AccessLog>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Now, Unix seconds.
    fn now_s(&self) -> u64 {
        Clock::system().now_s().saturating_add_signed(self.ahead_s.load(Ordering::Acquire))
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
        let keys = keys.with_revocations(&bundle.revocations);
        let rules = || bundle.policies.iter().flat_map(|policy| &policy.rules);
        let lists =
            || rules().flat_map(|rule| [&rule.all_of, &rule.none_of]).flatten().flat_map(|list| &list.roles);
        let roles = rules().flat_map(|rule| &rule.required_roles).chain(lists()).cloned().collect();
        let candidate = match &bundle.candidate {
            None => None,
            Some(candidate) => match PolicySet::new(candidate.policies.clone()) {
                Ok(set) => Some((candidate.name.clone(), set)),
                Err(errors) => {
                    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
                    anyhow::bail!("the candidate's policies are not valid: {}", texts.join("; "))
                }
            },
        };
        Ok(Rules { version: bundle.version, policies, candidate, keys, roles })
    }
}
