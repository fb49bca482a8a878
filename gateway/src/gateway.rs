//! The gateway: its listener, its connections, and what they share.

use std::collections::hash_map::RandomState;
use std::future::Future;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use portcullis_follower::{FollowError, Follower};
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};
use tokio_rustls::rustls::ServerConfig;

use crate::clock::Clock;
use crate::config::{Config, ConfigError, Following, Forwarded, Limits, Source, Timeouts};
use crate::engine::Deciding;
use crate::judge::{DECISIONS_PER_CONNECTION, Verdict};
use crate::record::access_log;
use crate::report::Carrier;
use crate::rules::Rules;
use crate::serve::{self, Peer};
use crate::sync::{self, Origin};
use crate::tls::Certificate;
use crate::upstream::Pool;

/// A running gateway. Dropping it ends it at once.
#[derive(Debug)]
pub struct Gateway {
    addr: SocketAddr,
    shared: Arc<Shared>,
    follower: Option<Arc<Follower<Deciding>>>,
    /// Of the follower.
    threads: Vec<thread::JoinHandle<()>>,
    stop: watch::Sender<bool>,
    accept: JoinHandle<()>,
    tasks: JoinSet<()>,
}

/// How a gateway is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Status {
    /// Version in force; 0: none yet, and nothing is let through.
    pub version: u64,
    /// Whether a policy protects the port; without one everything passes.
    pub protected: bool,
    /// What went wrong last; `None` since the last success.
    pub error: Option<String>,
    /// Parts of the configuration that are left out, such as unusable keys.
    pub problems: Vec<String>,
    /// How often the certificate was read again.
    pub certificates: u64,
    /// Seconds since the control plane last said that the configuration is the right one; `None`: never, or there is none.
    pub config_age_s: Option<u64>,
    /// Bundles of the control plane that were refused because their signature is missing or wrong.
    pub refused_signature: u64,
    /// Bundles of the control plane that were refused because they are older than the one in force.
    pub refused_version: u64,
    /// Access records that the control plane took.
    pub records_sent: u64,
    /// Access records that wait for it.
    pub records_waiting: u64,
    /// Access records that were lost, because too many waited or could not be written.
    pub records_lost: u64,
    /// Requests that our reader and the HTTP stack understood differently; each one was refused.
    pub disagreements: u64,
}

/// A gateway cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The control plane's settings, or what is kept of it on disk.
    #[error(transparent)]
    Follow(#[from] FollowError),
    /// Policies, keys or certificates: text with place and remedy.
    #[error("{0}")]
    Files(String),
    /// The address.
    #[error("listening on {addr}: {error}; choose another address, or end what listens there")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// A thread could not be started.
    #[error("starting a thread: {0}")]
    Thread(io::Error),
}

/// What the connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    port: u16,
    rules: watch::Sender<Option<Arc<Rules>>>,
    pool: Pool,
    clock: Clock,
    timeouts: Timeouts,
    limits: Limits,
    forwarded: Forwarded,
    h2c: bool,
    tls: Option<Arc<ServerConfig>>,
    next_decision: AtomicU64,
    lines: Option<Carrier>,
    for_plane: Option<Carrier>,
    status: Mutex<Status>,
    reload: Notify,
    tunnels: Mutex<JoinSet<()>>,
}

/// After an accept that failed, as it does when file descriptors are used up.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

// === impl Gateway ===

impl Gateway {
    /// Reads the configuration, listens, and serves.
    ///
    /// # Errors
    /// When settings or files cannot be used, or the address cannot be listened on. A control plane that cannot be
    /// reached is no error: see [`Gateway::status`].
    pub async fn start(mut config: Config) -> Result<Gateway, StartError> {
        let certificate = config.tls.take().map(Certificate::read).transpose().map_err(StartError::Files)?;
        let tls =
            certificate.as_ref().map(Certificate::server_config).transpose().map_err(StartError::Files)?;
        let pool = Pool::new(&config)?;
        let Config { listen, upstream, port, source, poll, log, clock, .. } = config;
        let origin = match source {
            Source::Local(local) => Origin::Local(local),
            Source::Plane(following) => {
                let Following { plane, follow } = *following;
                let clock = clock.clone();
                let now_s = Arc::new(move || clock.now().as_secs());
                Origin::Plane(Arc::new(Follower::new(plane, follow, now_s)?))
            }
        };
        let follower = match &origin {
            Origin::Plane(follower) => Some(Arc::clone(follower)),
            Origin::Local(_) => None,
        };
        let for_plane = follower.as_ref().map(|follower| Carrier::to_plane(follower.records()));
        let shared = Arc::new(Shared {
            port: port.unwrap_or_else(|| upstream.port()),
            rules: watch::Sender::default(),
            pool,
            clock,
            timeouts: config.timeouts,
            limits: config.limits,
            forwarded: config.forwarded,
            h2c: config.h2c,
            tls,
            // Numbers of different runs differ, so that a log of several can be searched.
            next_decision: AtomicU64::new(RandomState::new().build_hasher().finish()),
            lines: log.map(Carrier::to_lines).transpose().map_err(StartError::Thread)?,
            for_plane: for_plane.transpose().map_err(StartError::Thread)?,
            status: Mutex::default(),
            reload: Notify::new(),
            tunnels: Mutex::default(),
        });
        sync::begin(&shared, &origin).await.map_err(StartError::Files)?;
        let refuse = |error| StartError::Listen { addr: listen, error };
        let listener = TcpListener::bind(listen).await.map_err(refuse)?;
        let addr = listener.local_addr().map_err(refuse)?;
        let (stop, stopping) = watch::channel(false);
        let accept = tokio::spawn(accept(listener, Arc::clone(&shared), stopping));
        let mut tasks = JoinSet::new();
        tasks.spawn(sync::follow(Arc::clone(&shared), origin, certificate, poll));
        let threads = follower.as_ref().map(Follower::spawn).transpose()?.unwrap_or_default();
        Ok(Gateway { addr, shared, follower, threads, stop, accept, tasks })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How it is.
    #[must_use]
    pub fn status(&self) -> Status {
        let mut status = self.shared.status();
        let Some(follower) = &self.follower else { return status };
        let portcullis_follower::State {
            error,
            problems,
            config_age_s,
            refused_signature,
            refused_version,
            records,
        } = follower.state();
        status.error = status.error.or(error);
        status.problems.extend(problems);
        (status.config_age_s, status.refused_signature) = (config_age_s, refused_signature);
        status.refused_version = refused_version;
        status.records_sent = records.sent;
        status.records_waiting += records.waiting;
        // What the connections' queue pushed out is with the follower's losses when it has counted it.
        let pushed_out = self.shared.records_pushed_out().unwrap_or_default().max(records.kernel_lost);
        status.records_lost += records.lost + pushed_out;
        status
    }

    /// Reads policies, keys and certificate again now.
    pub fn reload(&self) {
        self.shared.reload.notify_one();
    }

    /// Takes no more connections, ends those that wait for a request, gives requests under way their time, and sends
    /// the last records.
    pub async fn stop(mut self) {
        // Nobody listens any more when every connection has ended by itself.
        self.stop.send_replace(true);
        let patience = self.shared.timeouts.stop;
        if timeout(patience, &mut self.accept).await.is_err() {
            self.accept.abort();
        }
        self.shared.tunnels().abort_all();
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
        let Some(follower) = self.follower.clone() else { return };
        follower.stop();
        let (shared, threads) = (Arc::clone(&self.shared), std::mem::take(&mut self.threads));
        let last = spawn_blocking(move || {
            for thread in threads {
                drop(thread.join());
            }
            if let Some(carrier) = &shared.for_plane {
                carrier.finish();
            }
            // The last records get one chance; with a spool they wait for the next start.
            if let Err(error) = follower.send() {
                shared.failed(error.to_string());
            }
            drop(follower.take_engine());
        });
        drop(last.await);
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.accept.abort();
        self.shared.tunnels().abort_all();
        if let Some(follower) = &self.follower {
            follower.stop();
        }
    }
}

/// Takes connections until the gateway stops, then waits for them to end.
async fn accept(listener: TcpListener, shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(shared.limits.connections));
    let mut connections = JoinSet::new();
    let stopping = stop.clone();
    loop {
        let taken = async {
            let slot = Arc::clone(&room).acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            taken = taken => taken,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        // Never closed: it is ours.
        let Ok(slot) = slot else { break };
        match accepted {
            Ok((stream, addr)) => {
                let peer = Peer { shared: Arc::clone(&shared), addr, tls: false, slot: Arc::new(slot) };
                connections.spawn(serve::connection(stream, peer, stopping.clone()));
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

// === impl Shared ===

impl Shared {
    /// The protected port, as policies name it.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// What decides now.
    pub(crate) fn rules(&self) -> Option<Arc<Rules>> {
        self.rules.borrow().clone()
    }

    /// Tells when that changes.
    pub(crate) fn watch_rules(&self) -> watch::Receiver<Option<Arc<Rules>>> {
        self.rules.subscribe()
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(crate) fn now(&self) -> Duration {
        self.clock.now()
    }

    pub(crate) fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn forwarded(&self) -> Forwarded {
        self.forwarded
    }

    pub(crate) fn h2c(&self) -> bool {
        self.h2c
    }

    pub(crate) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.clone()
    }

    /// The first number of a connection's decisions.
    pub(crate) fn decision_ids(&self) -> u64 {
        self.next_decision.fetch_add(DECISIONS_PER_CONNECTION, Ordering::Relaxed)
    }

    /// The number of one decision.
    pub(crate) fn decision_id(&self) -> u64 {
        self.next_decision.fetch_add(1, Ordering::Relaxed)
    }

    /// Reports decisions.
    pub(crate) fn record(
        &self,
        verdicts: &[Verdict],
        rules: &Rules,
        peer: SocketAddr,
        now: Duration,
        took: Duration,
    ) {
        if verdicts.is_empty() || (self.lines.is_none() && self.for_plane.is_none()) {
            return;
        }
        let records: Vec<_> =
            verdicts.iter().map(|verdict| access_log(verdict, rules, peer, self.port, now, took)).collect();
        if let Some(lines) = &self.lines {
            lines.queue.push(records.iter().cloned());
        }
        if let Some(carrier) = &self.for_plane {
            carrier.queue.push(records);
        }
    }

    /// Records for the control plane that were lost before anybody could number them.
    pub(crate) fn records_pushed_out(&self) -> Option<u64> {
        self.for_plane.as_ref().map(|carrier| carrier.queue.counts().1)
    }

    /// A tunnel outlives its connection's task.
    pub(crate) fn spawn(&self, tunnel: impl Future<Output = ()> + Send + 'static) {
        let mut tunnels = self.tunnels();
        while tunnels.try_join_next().is_some() {}
        tunnels.spawn(tunnel);
    }

    fn tunnels(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tunnels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn reload_asked(&self) {
        self.reload.notified().await;
    }

    /// Version in force; 0: none.
    pub(crate) fn version(&self) -> u64 {
        self.rules().map_or(0, |rules| rules.version)
    }

    /// Puts a generation into force: the next decision is made by it.
    pub(crate) fn install(&self, rules: Rules, problems: Vec<String>) {
        let mut status = self.lock_status();
        status.version = rules.version;
        status.protected = rules.policies.port_enforces(self.port).is_some();
        status.problems = problems;
        status.error = None;
        self.rules.send_replace(Some(Arc::new(rules)));
    }

    /// The certificate was read again.
    pub(crate) fn certificate_read(&self) {
        let mut status = self.lock_status();
        status.certificates += 1;
        status.error = None;
    }

    /// Something went wrong that changes nothing of what is in force.
    pub(crate) fn failed(&self, error: String) {
        self.lock_status().error = Some(error);
    }

    /// A request was read in two ways.
    pub(crate) fn disagreed(&self) {
        self.lock_status().disagreements += 1;
    }

    fn status(&self) -> Status {
        let mut status = self.lock_status().clone();
        let counts =
            |carrier: &Option<Carrier>| carrier.as_ref().map_or((0, 0), |carrier| carrier.queue.counts());
        (_, status.records_lost) = counts(&self.lines);
        (status.records_waiting, _) = counts(&self.for_plane);
        status
    }

    fn lock_status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
