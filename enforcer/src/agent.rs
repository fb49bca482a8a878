//! The agent: keeps the kernel's configuration equal to the control plane's and reports what was decided.
//!
//! How a control plane is followed is `portcullis-follower`'s; this is the kernel as what it puts configurations into,
//! and what only an agent knows: the services of its host, and whether they are protected.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use portcullis_follower::Follower;
use portcullis_wire::AccessLog;

use crate::compile;
use crate::kernel::{self, Datapath, KernelError};
use crate::learn::{Endpoint, Learner};

mod clock;
mod config;
mod engine;
mod error;
mod host;
mod metrics;
mod status;
mod work;

pub use config::AgentConfig;
pub use error::AgentError;
pub use host::{Protection, Service};
pub use portcullis_follower::{
    BundleKey, FollowConfig, FollowError, Identity, IssuerConfig, PlaneConfig, PlaneError, SpoolConfig,
    Trust, probe as probe_plane,
};
pub use status::Status;

use clock::Clock;
use engine::Kernel;
use work::Shared;

/// A running agent. Dropping it, like [`Agent::stop`], leaves enforcement in place.
#[derive(Debug)]
pub struct Agent {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    metrics: Option<SocketAddr>,
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
        let AgentConfig { plane, follow, mut kernel, host_every, metrics } = config;
        let metrics = metrics.map(bind).transpose()?;
        let clock = Clock::default();
        clock.set_offset_s(kernel.clock_offset_ns / 1_000_000_000);
        let now = clock.clone();
        let follower = Arc::new(Follower::new(plane, follow, Arc::new(move || now.now_s()))?);
        kernel.agent_id = follower.plane().agent_id().map_err(FollowError::from)?;
        let learner: Arc<Mutex<Learner>> = Arc::default();
        let (queue, pupil) = (follower.records(), learner.clone());
        let records = move |batch: Vec<AccessLog>| {
            queue.push(&batch);
            let mut pupil = lock(&pupil);
            batch.iter().for_each(|record| pupil.observe(record));
        };
        if let Some(bundle) = follower.cached() {
            kernel.known.extend(compile::compile(&bundle).ok().map(Arc::new));
        }
        let datapath = Datapath::start(kernel, Box::new(records))?;
        let shared = Arc::new(Shared {
            follower,
            clock,
            learner,
            services: Mutex::default(),
            unseen: AtomicU64::default(),
        });
        shared.follower.begin(Kernel::new(datapath));
        let mut agent = Agent { shared, threads: Vec::new(), metrics: None };
        agent.threads = agent.shared.follower.spawn()?;
        agent.spawn("pc-host", move |shared| shared.host(host_every))?;
        if let Some((listener, addr)) = metrics {
            agent.metrics = Some(addr);
            agent.spawn("pc-metrics", move |shared| metrics::serve(&listener, || shared.metrics()))?;
        }
        Ok(agent)
    }

    /// Asks the control plane for its configuration now, and puts it into force if it is new.
    ///
    /// # Errors
    /// When it cannot be fetched, read, compiled or installed. What was in force stays.
    pub fn sync(&self) -> Result<(), AgentError> {
        Ok(self.shared.follower.sync(None).map(drop)?)
    }

    /// How it is.
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// Where the metrics are.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// Endpoints learnt from traffic.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        lock(&self.shared.learner).endpoints()
    }

    /// Runs `look` on the kernel's part; `None` when it was detached.
    pub fn with_datapath<T>(&self, look: impl FnOnce(&Datapath) -> T) -> Option<T> {
        self.shared.follower.with_engine(|kernel| look(&kernel.datapath))
    }

    /// Moves the time that the programs and the agent see, seconds relative to the machine's clock. For harnesses.
    ///
    /// # Errors
    /// When the kernel cannot be told, or the instance is no harness's.
    pub fn set_clock_offset_s(&self, offset_s: i64) -> Result<(), AgentError> {
        let told =
            self.with_datapath(|datapath| datapath.set_clock_offset(offset_s.saturating_mul(1_000_000_000)));
        told.unwrap_or(Ok(()))?;
        self.shared.clock.set_offset_s(offset_s);
        Ok(self.shared.follower.age()?)
    }

    /// Collects the decisions made so far and sends them to the control plane.
    ///
    /// # Errors
    /// When the control plane does not take them; they wait for the next attempt.
    pub fn flush(&self) -> Result<(), AgentError> {
        self.with_datapath(Datapath::flush);
        Ok(self.shared.follower.send()?)
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
        self.end().map_or(Ok(()), |datapath| Ok(datapath.detach()?))
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce(&Shared) + Send + 'static) -> Result<(), AgentError> {
        let shared = self.shared.clone();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || work(&shared));
        self.threads.push(thread.map_err(AgentError::Thread)?);
        Ok(())
    }

    /// Stops every part but the kernel's, which is given back.
    fn end(&mut self) -> Option<Datapath> {
        self.shared.follower.stop();
        if let Some(addr) = self.metrics {
            metrics::wake(addr);
        }
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
        let datapath = self.shared.follower.take_engine().map(|kernel| kernel.datapath);
        if let Some(datapath) = &datapath {
            datapath.flush();
            // The last records get one chance; with a spool they wait for the next agent.
            drop(self.shared.follower.send());
        }
        datapath
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if !self.shared.follower.stopping().is_set() {
            self.end();
        }
    }
}

fn bind(addr: SocketAddr) -> Result<(TcpListener, SocketAddr), AgentError> {
    let bound = TcpListener::bind(addr).and_then(|listener| Ok((listener.local_addr()?, listener)));
    bound.map(|(addr, listener)| (listener, addr)).map_err(|source| AgentError::Metrics { addr, source })
}

/// A thread that panicked while it held a lock left whole values behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
