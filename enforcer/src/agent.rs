//! The agent: keeps the kernel's configuration equal to the control plane's and reports what was decided.
//!
//! **Invariant:** what cannot be fetched, read or compiled changes nothing: the generation before stays in force, until
//! its keys are too old; then tokens are refused.
//! **Invariant:** an older version than any that was ever in force is refused.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use portcullis_wire::{AccessLog, Reason};
use serde_json::Value;

use crate::compile::{self, CompileError};
use crate::discover;
use crate::generation::version_of;
use crate::kernel::{self, Datapath, KernelError};
use crate::learn::{Endpoint, Learner};

mod bundle;
mod cache;
mod clock;
mod config;
mod host;
mod issuers;
mod logs;
mod metrics;
mod plane;
mod wanted;

pub use cache::CacheError;
pub use config::AgentConfig;
pub use host::{Protection, Service};
pub use issuers::IssuerConfig;
pub use logs::{SpoolConfig, SpoolError};
pub use plane::{Identity, PlaneError};

use cache::Cache;
use clock::{Backoff, Clock};
use issuers::{Question, UNKNOWN_KID_EVERY};
use logs::Logs;
use plane::Plane;
use wanted::Wanted;

/// A running agent. Dropping it, like [`Agent::stop`], leaves enforcement in place.
#[derive(Debug)]
pub struct Agent {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    metrics: Option<SocketAddr>,
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
    /// Seconds since the control plane last said that the configuration is the right one; `None`: never.
    pub config_age_s: Option<u64>,
    /// How the host is, by what a connection to each service showed.
    pub protection: Protection,
    /// Services on this host, as they were found last.
    pub services: Vec<Service>,
    /// Access records that the control plane took.
    pub records_sent: u64,
    /// Access records that wait.
    pub records_waiting: u64,
    /// Access records that were lost here: too many waited, or the disk failed, or the control plane refuses them.
    pub records_lost: u64,
    /// Access records that were lost in the kernel, because the agent did not collect them in time.
    pub records_lost_in_kernel: u64,
}

/// An agent cannot be started, or a configuration not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// The last good configuration on disk.
    #[error(transparent)]
    Cache(#[from] CacheError),
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
    #[error("configuration version {offered} is older than {current}, which was in force: refused")]
    Older {
        /// What was sent.
        offered: u64,
        /// What is, or was, in force.
        current: u64,
    },
    /// The address for the metrics.
    #[error("metrics at {addr}: {source}")]
    Metrics {
        /// The address.
        addr: SocketAddr,
        /// Why it cannot be used.
        source: std::io::Error,
    },
    /// The control plane.
    #[error(transparent)]
    Plane(#[from] PlaneError),
    /// The records' place on disk.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// A thread could not be started.
    #[error("starting a thread: {0}")]
    Thread(std::io::Error),
}

#[derive(Debug)]
struct Shared {
    plane: Plane,
    clock: Clock,
    wanted: Mutex<Wanted>,
    datapath: Mutex<Option<Datapath>>,
    logs: Arc<Logs>,
    learner: Arc<Mutex<Learner>>,
    services: Mutex<Vec<Service>>,
    /// A token came whose kid nobody knows.
    unknown_kid: Arc<Signal>,
    error: Mutex<Option<String>>,
    stop: Arc<Signal>,
}

/// Something that is waited for: set once or again and again, by whoever knows.
#[derive(Debug, Default)]
struct Signal {
    set: AtomicBool,
    lock: Mutex<()>,
    wake: Condvar,
}

/// Longest wait in one question for changes: below the idle timeouts of common proxies.
const PUSH_WAIT: Duration = Duration::from_secs(45);
/// First wait after a failure.
const RETRY_FIRST: Duration = Duration::from_millis(250);
/// When a host is first looked at.
const HOST_FIRST: Duration = Duration::from_secs(2);
/// Endpoints that are told, the busiest.
const ENDPOINTS_MAX: usize = 5_000;
/// How often the age of keys is looked at.
const AGE_EVERY: Duration = Duration::from_millis(500);

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

// === impl Shared ===

impl Shared {
    /// The first configuration: the cached one at once, so that a control plane that is slow or gone costs nothing, and
    /// then the control plane's.
    fn begin(&self) {
        self.refresh_issuers(false);
        // Failures are in the status.
        drop(self.told(self.with_kernel(|wanted, datapath| wanted.use_cache(datapath))));
        drop(self.sync(None));
    }

    fn poll(&self, every: Duration) {
        while !self.stop.wait(every) {
            drop(self.sync(None));
        }
    }

    /// Asks for changes all the time; the answer comes when there is one.
    fn push(&self, poll: Duration) {
        let mut backoff = Backoff::new(RETRY_FIRST.min(poll), poll);
        while !self.stop.is_set() {
            let begin = Instant::now();
            match self.sync(Some(PUSH_WAIT)) {
                // A control plane that has nothing new to say and says so at once knows no waiting: asking again and
                // again would be polling, which is done already.
                Ok(false) if begin.elapsed() < PUSH_WAIT / 2 => drop(self.stop.wait(poll)),
                Ok(_) => backoff.reset(),
                Err(_) => drop(self.stop.wait(backoff.next())),
            }
        }
    }

    fn report(&self, every: Duration) {
        let mut backoff = Backoff::new(every.max(RETRY_FIRST), Duration::from_secs(30));
        let mut wait = every;
        while !self.stop.wait(wait) {
            self.count_kernel_loss();
            wait = match self.logs.send_all(&self.plane) {
                Ok(_) => {
                    backoff.reset();
                    every
                }
                // The next round tries again, and the counts show that records wait.
                Err(_) => backoff.next(),
            };
        }
    }

    /// Keeps keys young: fetches those of issuers' URLs, also when a kid is unknown, and leaves out those too old.
    fn keys(&self) {
        let mut asked: Option<Instant> = None;
        while !self.stop.is_set() {
            self.unknown_kid.wait(AGE_EVERY);
            let unknown =
                self.unknown_kid.is_set() && asked.is_none_or(|at| at.elapsed() >= UNKNOWN_KID_EVERY);
            if unknown {
                asked = Some(Instant::now());
                self.unknown_kid.clear();
                drop(self.sync(None));
            } else if self.unknown_kid.is_set() && self.stop.wait(AGE_EVERY) {
                return;
            }
            if self.refresh_issuers(unknown) {
                drop(self.told(self.with_kernel(|wanted, datapath| wanted.reinstall(datapath))));
            }
            if let Err(error) = self.age() {
                drop(self.told::<()>(Err(error)));
            }
        }
    }

    /// Looks at the host, and tells the control plane.
    fn host(&self, every: Duration) {
        let mut told: [Vec<Value>; 2] = Default::default();
        // The first look waits for the services of a host that starts.
        let mut wait = every.min(HOST_FIRST);
        while !self.stop.wait(wait) {
            wait = every;
            self.look();
            let status = self.status();
            // What cannot be told now is told the next time.
            drop(self.plane.heartbeat(status.protection.name(), status.generation));
            let services = host::services_wire(&status.services);
            let endpoints = host::endpoints_wire(lock(&self.learner).endpoints(), ENDPOINTS_MAX);
            for ((what, rows), told) in
                [("services", services), ("endpoints", endpoints)].into_iter().zip(&mut told)
            {
                if rows != *told && self.plane.inventory(what, &rows).is_ok() {
                    *told = rows;
                }
            }
        }
    }

    /// Finds the services and tries those that policies are about.
    fn look(&self) {
        let proc = Path::new(discover::PROC);
        let Ok(listeners) = discover::listeners(proc) else { return };
        let wishes = lock(&self.wanted).wishes();
        let Some(prober) = lock(&self.datapath).as_ref().map(Datapath::prober) else { return };
        let services = wishes.judge(listeners, discover::own_netns(proc), |addr, pid| {
            prober.controls(addr, pid).map_err(|error| error.to_string())
        });
        *lock(&self.services) = services;
    }

    fn metrics(&self) -> Option<String> {
        if self.stop.is_set() {
            return None;
        }
        self.count_kernel_loss();
        let stats = lock(&self.datapath).as_ref().and_then(|datapath| datapath.stats().ok());
        let kernel = stats.map(|stats| kernel::named_stats(&stats)).unwrap_or_default();
        let endpoints = lock(&self.learner).endpoints().len();
        Some(metrics::page(&self.status(), endpoints, &kernel))
    }

    /// Fetches keys of issuers' URLs that are due; whether any changed.
    fn refresh_issuers(&self, unknown_kid: bool) -> bool {
        let questions = lock(&self.wanted).questions(unknown_kid);
        let ask = |question: Question| {
            let answer = question.ask(&self.plane);
            lock(&self.wanted).answered(&question, answer)
        };
        questions.into_iter().fold(false, |changed, question| ask(question) | changed)
    }

    /// Lets keys go that are too old.
    fn age(&self) -> Result<(), AgentError> {
        self.with_kernel(|wanted, datapath| wanted.age(datapath))
    }

    /// Asks the control plane; `wait`: the answer may come this much later. Whether it was something new.
    fn sync(&self, wait: Option<Duration>) -> Result<bool, AgentError> {
        let done = self.plane.fetch(wait).map_err(AgentError::from).and_then(|fetched| {
            self.with_kernel(|wanted, datapath| wanted.take(fetched, &self.plane, datapath))
        });
        self.told(done)
    }

    /// Runs `work` on the configuration and the kernel's part, one thread at a time; not when the agent ends.
    fn with_kernel<T: Default>(
        &self,
        work: impl FnOnce(&mut Wanted, &mut Datapath) -> Result<T, AgentError>,
    ) -> Result<T, AgentError> {
        let mut wanted = lock(&self.wanted);
        let mut datapath = lock(&self.datapath);
        match datapath.as_mut() {
            Some(datapath) if !self.stop.is_set() => work(&mut wanted, datapath),
            Some(_) | None => Ok(T::default()),
        }
    }

    /// Keeps for the status how it went.
    fn told<T>(&self, done: Result<T, AgentError>) -> Result<T, AgentError> {
        *lock(&self.error) = done.as_ref().err().map(ToString::to_string);
        done
    }

    fn count_kernel_loss(&self) {
        let stats = lock(&self.datapath).as_ref().map(Datapath::stats);
        // Counters that cannot be read now can be read later: they only grow.
        if let Some(Ok(stats)) = stats {
            self.logs.kernel_lost(stats.events_lost);
        }
    }

    fn status(&self) -> Status {
        let mut status = Status { error: lock(&self.error).clone(), ..Status::default() };
        lock(&self.wanted).describe(&mut status);
        if let Some(datapath) = lock(&self.datapath).as_ref() {
            match datapath.health() {
                Ok(health) => {
                    status.detached = health.missing;
                    status.generation = version_of(health.generation);
                }
                Err(error) => status.detached.push(error.to_string()),
            }
        }
        status.services = lock(&self.services).clone();
        if status.generation > 0 && status.detached.is_empty() {
            status.protection = lock(&self.wanted).wishes().overall(&status.services);
        }
        let counts = self.logs.counts();
        status.records_sent = counts.sent;
        status.records_waiting = counts.waiting;
        status.records_lost = counts.lost;
        status.records_lost_in_kernel = counts.kernel_lost;
        status
    }
}

// === impl Signal ===

impl Signal {
    fn set(&self) {
        let _held = lock(&self.lock);
        self.set.store(true, Ordering::Release);
        self.wake.notify_all();
    }

    fn clear(&self) {
        self.set.store(false, Ordering::Release);
    }

    fn is_set(&self) -> bool {
        self.set.load(Ordering::Acquire)
    }

    /// Waits until it is set, for so long at most; whether it is.
    fn wait(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut held = lock(&self.lock);
        while !self.is_set() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            held = self.wake.wait_timeout(held, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
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
