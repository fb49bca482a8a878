//! The agent: keeps the kernel's configuration equal to the control plane's and reports what was decided.
//!
//! **Invariant:** what cannot be fetched, read or compiled changes nothing: the generation before stays in force, until
//! its keys are too old; then tokens are refused.
//! **Invariant:** an older version than any that was ever in force is refused.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use portcullis_wire::{AccessLog, Reason};

use crate::compile;
use crate::kernel::{self, Datapath, KernelError};
use crate::learn::{Endpoint, Learner};

mod bundle;
mod cache;
mod clock;
mod config;
mod error;
mod host;
mod issuers;
mod logs;
mod metrics;
mod plane;
mod signal;
mod status;
mod wanted;
mod work;

pub use cache::CacheError;
pub use config::AgentConfig;
pub use error::AgentError;
pub use host::{Protection, Service};
pub use issuers::IssuerConfig;
pub use logs::{SpoolConfig, SpoolError};
pub use plane::{Identity, PlaneError};
pub use status::Status;

use cache::Cache;
use clock::Clock;
use logs::Logs;
use plane::Plane;
use signal::Signal;
use wanted::Wanted;
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
        let AgentConfig {
            api_url,
            tenant,
            identity,
            mut kernel,
            poll,
            push,
            report,
            cache,
            spool,
            issuers,
            issuers_every,
            key_age_max,
            host_every,
            metrics,
        } = config;
        let metrics = metrics.map(bind).transpose()?;
        let plane = Plane::connect(&api_url, &tenant, identity)?;
        kernel.agent_id = plane.agent_id().to_owned();
        let logs = Arc::new(Logs::new(spool.as_ref())?);
        let clock = Clock::default();
        clock.set_offset_s(kernel.clock_offset_ns / 1_000_000_000);
        let unknown_kid: Arc<Signal> = Arc::default();
        let learner: Arc<Mutex<Learner>> = Arc::default();
        let (queue, signal, pupil) = (logs.clone(), unknown_kid.clone(), learner.clone());
        let records = move |batch: Vec<AccessLog>| {
            queue.push(&batch);
            let mut pupil = lock(&pupil);
            batch.iter().for_each(|record| pupil.observe(record));
            drop(pupil);
            if batch.iter().any(|record| record.reason == Reason::TokenKey.slug()) {
                signal.set();
            }
        };
        let cache = cache.map(Cache::new);
        if let Some(Ok(Some((read, _)))) = cache.as_ref().map(Cache::read) {
            // Whatever is wrong with it is told when it is put into force.
            kernel.known.extend(compile::compile(&read.bundle).ok().map(Arc::new));
        }
        let datapath = Datapath::start(kernel, Box::new(records))?;
        let shared = Arc::new(Shared {
            plane,
            wanted: Mutex::new(Wanted::new(cache, issuers, issuers_every, key_age_max, clock.clone())),
            clock,
            datapath: Mutex::new(Some(datapath)),
            logs,
            learner,
            services: Mutex::default(),
            unseen: AtomicU64::default(),
            unknown_kid,
            error: Mutex::default(),
            stop: Arc::default(),
        });
        shared.begin();
        let mut agent = Agent { shared, threads: Vec::new(), metrics: None };
        agent.spawn("pc-poll", move |shared| shared.poll(poll))?;
        agent.spawn("pc-report", move |shared| shared.report(report))?;
        agent.spawn("pc-keys", |shared| shared.keys())?;
        agent.spawn("pc-host", move |shared| shared.host(host_every))?;
        if let Some((listener, addr)) = metrics {
            agent.metrics = Some(addr);
            agent.spawn("pc-metrics", move |shared| metrics::serve(&listener, || shared.metrics()))?;
        }
        if push {
            let shared = agent.shared.clone();
            // Not waited for at the end: its question may be open for a long time, and its answer is not used then.
            let spawned = thread::Builder::new().name("pc-push".to_owned()).spawn(move || shared.push(poll));
            drop(spawned.map_err(AgentError::Thread)?);
        }
        Ok(agent)
    }

    /// Asks the control plane for its configuration now, and puts it into force if it is new.
    ///
    /// # Errors
    /// When it cannot be fetched, read, compiled or installed. What was in force stays.
    pub fn sync(&self) -> Result<(), AgentError> {
        self.shared.sync(None).map(drop)
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
        lock(&self.shared.datapath).as_ref().map(look)
    }

    /// Moves the time that the programs and the agent see, seconds relative to the machine's clock. For harnesses.
    ///
    /// # Errors
    /// When the kernel cannot be told.
    pub fn set_clock_offset_s(&self, offset_s: i64) -> Result<(), AgentError> {
        self.shared.clock.set_offset_s(offset_s);
        let told = self.with_datapath(|datapath| datapath.set_clock_offset(offset_s * 1_000_000_000));
        told.unwrap_or(Ok(()))?;
        self.shared.age()
    }

    /// Collects the decisions made so far and sends them to the control plane.
    ///
    /// # Errors
    /// When the control plane does not take them; they wait for the next attempt.
    pub fn flush(&self) -> Result<(), AgentError> {
        self.with_datapath(Datapath::flush);
        self.shared.count_kernel_loss();
        self.shared.logs.send_all(&self.shared.plane)?;
        Ok(())
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
        self.shared.stop.set();
        self.shared.unknown_kid.set();
        if let Some(addr) = self.metrics {
            metrics::wake(addr);
        }
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
        let datapath = lock(&self.shared.datapath).take();
        if let Some(datapath) = &datapath {
            datapath.flush();
            // The last records get one chance; with a spool they wait for the next agent.
            drop(self.shared.logs.send_all(&self.shared.plane));
        }
        datapath
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if !self.shared.stop.is_set() {
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
