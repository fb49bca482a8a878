//! The agent: keeps the kernel's configuration equal to the control plane's and reports what was decided.
//!
//! **Invariant:** what cannot be fetched, read or compiled changes nothing: the generation before stays in force.
//! **Invariant:** an older version than the one in force is refused.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use portcullis_wire::Bundle;

use crate::compile::{self, CompileError};
use crate::kernel::{self, Datapath, KernelError};

mod cache;
mod logs;
mod plane;

pub use plane::{Identity, PlaneError};

use cache::Cache;
use logs::Logs;
use plane::{Fetched, Plane};

/// How an agent is run.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Base URL of the control plane (`AUTHFI_API_URL`), without a trailing slash.
    pub api_url: String,
    /// Tenant (`AUTHFI_TENANT`).
    pub tenant: String,
    /// Who the agent is (`AUTHFI_AGENT_TOKEN`).
    pub identity: Identity,
    /// The kernel's part.
    pub kernel: kernel::Config,
    /// How often the configuration is asked for.
    pub poll: Duration,
    /// How often access records are sent.
    pub report: Duration,
    /// File that keeps the last good configuration over restarts.
    pub cache: Option<std::path::PathBuf>,
}

/// A running agent. Dropping it, like [`Agent::stop`], leaves enforcement in place.
#[derive(Debug)]
pub struct Agent {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// How an agent is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Status {
    /// Version in force; 0: none yet.
    pub generation: u64,
    /// What went wrong at the last attempt to get a configuration; `None` when it went well.
    pub error: Option<String>,
    /// Parts of the configuration that are left out, such as unusable keys.
    pub problems: Vec<String>,
    /// Attachments that somebody else removed or replaced.
    pub detached: Vec<String>,
    /// Access records that the control plane took.
    pub records_sent: u64,
    /// Access records that wait.
    pub records_waiting: u64,
    /// Access records that were lost here because too many waited. Those that the kernel lost are in its counters.
    pub records_lost: u64,
}

/// An agent cannot be started, or a configuration not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// The configuration cannot be compiled.
    #[error("configuration version {version}: {source}")]
    Compile {
        /// Version of the bundle.
        version: u64,
        /// Why.
        source: CompileError,
    },
    /// The kernel's part.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The control plane sent an older version than the one in force.
    #[error("configuration version {offered} is older than {current}, which is in force: refused")]
    Older {
        /// What was sent.
        offered: u64,
        /// What is in force.
        current: u64,
    },
    /// The control plane.
    #[error(transparent)]
    Plane(#[from] PlaneError),
    /// A thread could not be started.
    #[error("starting a thread: {0}")]
    Thread(std::io::Error),
}

#[derive(Debug)]
struct Shared {
    plane: Plane,
    cache: Option<Cache>,
    datapath: Mutex<Option<Datapath>>,
    logs: Arc<Logs>,
    status: Mutex<Status>,
    /// Set once; threads look at it whenever `wake` is notified.
    stop: AtomicBool,
    asked: Mutex<bool>,
    wake: Condvar,
}

// === impl Agent ===

impl Agent {
    /// Registers if need be, makes or takes over the instance, puts the control plane's configuration into force (or
    /// the cached one while the plane cannot be reached), and goes on doing so.
    ///
    /// # Errors
    /// When the kernel's part cannot be started or the agent cannot be identified. A control plane that cannot be
    /// reached afterwards is no error: see [`Agent::status`].
    pub fn start(config: AgentConfig) -> Result<Agent, AgentError> {
        kernel::probe().map_err(KernelError::from)?;
        let AgentConfig { api_url, tenant, identity, mut kernel, poll, report, cache } = config;
        let plane = Plane::connect(&api_url, &tenant, identity)?;
        kernel.agent_id = plane.agent_id().to_owned();
        let logs = Arc::new(Logs::default());
        let queue = logs.clone();
        let datapath = Datapath::start(kernel, Box::new(move |batch| queue.push(batch)))?;
        let shared = Arc::new(Shared {
            plane,
            cache: cache.map(Cache::new),
            datapath: Mutex::new(Some(datapath)),
            logs,
            status: Mutex::default(),
            stop: AtomicBool::new(false),
            asked: Mutex::new(false),
            wake: Condvar::new(),
        });
        if let Err(error) = shared.sync() {
            shared.fail(&error);
            shared.use_cache();
        }
        let mut agent = Agent { shared, threads: Vec::new() };
        agent.spawn("pc-sync", poll, Shared::poll)?;
        agent.spawn("pc-report", report, |shared| shared.logs.send(&shared.plane))?;
        Ok(agent)
    }

    /// Asks the control plane for its configuration now, and puts it into force if it is new.
    ///
    /// # Errors
    /// When it cannot be fetched, read, compiled or installed. What was in force stays.
    pub fn sync(&self) -> Result<(), AgentError> {
        self.shared.sync().inspect_err(|error| self.shared.fail(error))
    }

    /// How it is.
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// Runs `look` on the kernel's part; `None` when it was detached.
    pub fn with_datapath<T>(&self, look: impl FnOnce(&Datapath) -> T) -> Option<T> {
        lock(&self.shared.datapath).as_ref().map(look)
    }

    /// Collects the decisions made so far and sends them to the control plane.
    ///
    /// # Errors
    /// When the control plane does not take them; they wait for the next attempt.
    pub fn flush(&self) -> Result<(), AgentError> {
        self.with_datapath(Datapath::flush);
        Ok(self.shared.logs.send_all(&self.shared.plane)?)
    }

    /// Stops the agent; the kernel goes on enforcing the last generation.
    pub fn stop(mut self) {
        self.end();
    }

    /// Stops the agent and ends enforcement.
    ///
    /// # Errors
    /// When something cannot be detached or removed.
    pub fn detach(mut self) -> Result<(), AgentError> {
        self.end();
        let datapath = lock(&self.shared.datapath).take();
        datapath.map_or(Ok(()), |datapath| Ok(datapath.detach()?))
    }

    fn spawn(
        &mut self,
        name: &str,
        every: Duration,
        work: impl Fn(&Shared) + Send + 'static,
    ) -> Result<(), AgentError> {
        let shared = self.shared.clone();
        let run = move || {
            while shared.rest(every) {
                work(&shared);
            }
        };
        self.threads
            .push(thread::Builder::new().name(name.to_owned()).spawn(run).map_err(AgentError::Thread)?);
        Ok(())
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        *lock(&self.shared.asked) = true;
        self.shared.wake.notify_all();
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
        if let Some(datapath) = lock(&self.shared.datapath).as_ref() {
            datapath.flush();
        }
        // The last records get one chance.
        drop(self.shared.logs.send_all(&self.shared.plane));
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if !self.shared.stop.load(Ordering::Acquire) {
            self.end();
        }
    }
}

// === impl Shared ===

impl Shared {
    /// Sleeps; `false` when the agent stops.
    fn rest(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut asked = lock(&self.asked);
        while !self.stop.load(Ordering::Acquire) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            asked = self.wake.wait_timeout(asked, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        false
    }

    fn poll(&self) {
        if let Err(error) = self.sync() {
            self.fail(&error);
        }
    }

    fn sync(&self) -> Result<(), AgentError> {
        if let Fetched::New { bundle, text, tag } = self.plane.fetch()? {
            self.install(&bundle)?;
            // Only what is in force is answered with "not modified" from now on.
            self.plane.accepted(tag);
            if let Some(cache) = &self.cache {
                cache.write(&text);
            }
        }
        lock(&self.status).error = None;
        Ok(())
    }

    fn install(&self, bundle: &Bundle) -> Result<(), AgentError> {
        let mut datapath = lock(&self.datapath);
        let Some(datapath) = datapath.as_mut() else { return Ok(()) };
        let current = datapath.health()?.generation;
        if bundle.version < current {
            return Err(AgentError::Older { offered: bundle.version, current });
        }
        let compiled = compile::compile(bundle)
            .map_err(|source| AgentError::Compile { version: bundle.version, source })?;
        let problems = compiled.problems.iter().map(ToString::to_string).collect();
        datapath.apply(Arc::new(compiled))?;
        let mut status = lock(&self.status);
        status.generation = bundle.version;
        status.problems = problems;
        Ok(())
    }

    fn use_cache(&self) {
        let Some(bundle) = self.cache.as_ref().and_then(Cache::read) else { return };
        if let Err(error) = self.install(&bundle) {
            self.fail(&error);
        }
    }

    fn fail(&self, error: &AgentError) {
        lock(&self.status).error = Some(error.to_string());
    }

    fn status(&self) -> Status {
        let mut status = lock(&self.status).clone();
        if let Some(datapath) = lock(&self.datapath).as_ref() {
            match datapath.health() {
                Ok(health) => {
                    status.detached = health.missing;
                    status.generation = health.generation;
                }
                Err(error) => status.detached.push(error.to_string()),
            }
        }
        (status.records_sent, status.records_waiting, status.records_lost) = self.logs.counts();
        status
    }
}

/// A thread that panicked while it held a lock left whole values behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
