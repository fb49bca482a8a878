//! What the agent's threads do.
//!
//! **Invariant:** locks are taken in the order configuration, kernel's part, anything else; nothing is asked over the
//! network while one is held, but for the one that keeps batches of records in order.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::clock::{Backoff, Clock};
use super::host::{self, Service};
use super::issuers::{Question, UNKNOWN_KID_EVERY};
use super::logs::Logs;
use super::plane::Plane;
use super::signal::Signal;
use super::wanted::Wanted;
use super::{AgentError, Status, lock, metrics};
use crate::discover;
use crate::generation::version_of;
use crate::kernel::{self, Datapath};
use crate::learn::Learner;

/// What they share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) plane: Plane,
    pub(super) clock: Clock,
    pub(super) wanted: Mutex<Wanted>,
    pub(super) datapath: Mutex<Option<Datapath>>,
    pub(super) logs: Arc<Logs>,
    pub(super) learner: Arc<Mutex<Learner>>,
    pub(super) services: Mutex<Vec<Service>>,
    /// Connections to monitored ports of which nothing is read.
    pub(super) unseen: AtomicU64,
    /// A token came whose kid nobody knows.
    pub(super) unknown_kid: Arc<Signal>,
    pub(super) error: Mutex<Option<String>>,
    pub(super) stop: Arc<Signal>,
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

// === impl Shared ===

impl Shared {
    /// The first configuration: the cached one at once, so that a control plane that is slow or gone costs nothing, and
    /// then the control plane's.
    pub(super) fn begin(&self) {
        self.refresh_issuers(false);
        // Failures are in the status.
        drop(self.told(self.with_kernel(|wanted, datapath| wanted.use_cache(datapath))));
        drop(self.sync(None));
    }

    pub(super) fn poll(&self, every: Duration) {
        while !self.stop.wait(every) {
            drop(self.sync(None));
        }
    }

    /// Asks for changes all the time; the answer comes when there is one.
    pub(super) fn push(&self, poll: Duration) {
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

    pub(super) fn report(&self, every: Duration) {
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
    pub(super) fn keys(&self) {
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
    pub(super) fn host(&self, every: Duration) {
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
    pub(super) fn look(&self) {
        let proc = Path::new(discover::PROC);
        let Ok(listeners) = discover::listeners(proc) else { return };
        let wishes = lock(&self.wanted).wishes();
        let Some(prober) = lock(&self.datapath).as_ref().map(Datapath::prober) else { return };
        let services = wishes.judge(listeners, discover::own_netns(proc), |addr, pid| {
            prober.controls(addr, pid).map_err(|error| error.to_string())
        });
        *lock(&self.services) = services;
        // What cannot be counted now is counted the next time.
        if let Ok(unseen) = prober.unseen() {
            self.unseen.store(unseen as u64, Ordering::Relaxed);
        }
    }

    pub(super) fn metrics(&self) -> Option<String> {
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
    pub(super) fn refresh_issuers(&self, unknown_kid: bool) -> bool {
        let questions = lock(&self.wanted).questions(unknown_kid);
        let ask = |question: Question| {
            let answer = question.ask(&self.plane);
            lock(&self.wanted).answered(&question, answer)
        };
        questions.into_iter().fold(false, |changed, question| ask(question) | changed)
    }

    /// Lets keys go that are too old.
    pub(super) fn age(&self) -> Result<(), AgentError> {
        self.with_kernel(|wanted, datapath| wanted.age(datapath))
    }

    /// Asks the control plane; `wait`: the answer may come this much later. Whether it was something new.
    pub(super) fn sync(&self, wait: Option<Duration>) -> Result<bool, AgentError> {
        let done = self.plane.fetch(wait).map_err(AgentError::from).and_then(|fetched| {
            self.with_kernel(|wanted, datapath| wanted.take(fetched, &self.plane, datapath))
        });
        self.told(done)
    }

    /// Runs `work` on the configuration and the kernel's part, one thread at a time; not when the agent ends.
    pub(super) fn with_kernel<T: Default>(
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
    pub(super) fn told<T>(&self, done: Result<T, AgentError>) -> Result<T, AgentError> {
        *lock(&self.error) = done.as_ref().err().map(ToString::to_string);
        done
    }

    pub(super) fn count_kernel_loss(&self) {
        let stats = lock(&self.datapath).as_ref().map(Datapath::stats);
        // Counters that cannot be read now can be read later: they only grow.
        if let Some(Ok(stats)) = stats {
            self.logs.kernel_lost(stats.events_lost);
        }
    }

    pub(super) fn status(&self) -> Status {
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
        status.connections_unseen = self.unseen.load(Ordering::Relaxed);
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
