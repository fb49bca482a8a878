//! What the agent does besides following the control plane: it looks at its host, and says how it is.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portcullis_follower::Follower;
use serde_json::Value;

use super::clock::Clock;
use super::engine::Kernel;
use super::host::{self, Service, Wishes};
use super::{Status, lock, metrics};
use crate::discover;
use crate::generation::version_of;
use crate::kernel;
use crate::learn::Learner;

/// What its threads share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) follower: Arc<Follower<Kernel>>,
    pub(super) clock: Clock,
    pub(super) learner: Arc<Mutex<Learner>>,
    pub(super) services: Mutex<Vec<Service>>,
    /// Connections to monitored ports of which nothing is read.
    pub(super) unseen: AtomicU64,
}

/// When a host is first looked at.
const HOST_FIRST: Duration = Duration::from_secs(2);
/// Endpoints that are told, the busiest.
const ENDPOINTS_MAX: usize = 5_000;

// === impl Shared ===

impl Shared {
    /// Looks at the host, and tells the control plane.
    pub(super) fn host(&self, every: Duration) {
        let mut told: [Vec<Value>; 2] = Default::default();
        // The first look waits for the services of a host that starts.
        let mut wait = every.min(HOST_FIRST);
        while !self.follower.stopping().wait(wait) {
            wait = every;
            self.look();
            let status = self.status();
            // What cannot be told now is told the next time.
            drop(self.follower.plane().heartbeat(status.protection.name(), status.generation));
            let services = host::services_wire(&status.services);
            let endpoints = host::endpoints_wire(lock(&self.learner).endpoints(), ENDPOINTS_MAX);
            for ((what, rows), told) in
                [("services", services), ("endpoints", endpoints)].into_iter().zip(&mut told)
            {
                if rows != *told && self.follower.plane().inventory(what, &rows).is_ok() {
                    *told = rows;
                }
            }
        }
    }

    /// Finds the services and tries those that policies are about.
    pub(super) fn look(&self) {
        let proc = Path::new(discover::PROC);
        let Ok(listeners) = discover::listeners(proc) else { return };
        let wishes = self.wishes();
        let Some(prober) = self.follower.with_engine(|kernel| kernel.datapath.prober()) else { return };
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
        if self.follower.stopping().is_set() {
            return None;
        }
        self.follower.count_lost();
        let stats = self.follower.with_engine(|kernel| kernel.datapath.stats()).and_then(Result::ok);
        let kernel = stats.map(|stats| kernel::named_stats(&stats)).unwrap_or_default();
        let endpoints = lock(&self.learner).endpoints().len();
        Some(metrics::page(&self.status(), endpoints, &kernel))
    }

    /// What the bundle in force wants protected.
    fn wishes(&self) -> Wishes {
        self.follower.with_bundle(Wishes::of).unwrap_or_default()
    }

    pub(super) fn status(&self) -> Status {
        let portcullis_follower::State {
            error,
            problems,
            config_age_s,
            refused_signature,
            refused_version,
            records,
        } = self.follower.state();
        let mut status = Status {
            error,
            problems,
            config_age_s,
            refused_signature,
            refused_version,
            records_sent: records.sent,
            records_waiting: records.waiting,
            records_lost: records.lost,
            records_lost_in_kernel: records.kernel_lost,
            services: lock(&self.services).clone(),
            ..Status::default()
        };
        match self.follower.with_engine(|kernel| kernel.datapath.health()) {
            Some(Ok(health)) => {
                status.detached = health.missing;
                status.generation = version_of(health.generation);
            }
            Some(Err(error)) => status.detached.push(error.to_string()),
            None => {}
        }
        status.connections_unseen = self.unseen.load(Ordering::Relaxed);
        if status.generation > 0 && status.detached.is_empty() {
            status.protection = self.wishes().overall(&status.services);
        }
        status
    }
}
