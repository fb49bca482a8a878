//! What follows the control plane: threads that ask, wait and tell, for an engine that decides.
//!
//! **Invariant:** locks are taken in the order configuration, engine, anything else; nothing is asked over the network
//! while one is held, but for those that keep batches of records in order and registrations single.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use portcullis_wire::{AccessLog, Bundle, Reason};

use crate::backoff::Backoff;
use crate::config::{FollowConfig, PlaneConfig};
use crate::issuers::{Question, UNKNOWN_KID_EVERY};
use crate::keep::Keep;
use crate::logs::{Counts, Logs};
use crate::plane::Plane;
use crate::signal::Signal;
use crate::wanted::Wanted;
use crate::{FollowError, PlaneError, lock};

/// Why an engine does not take a bundle.
pub type EngineError = Box<dyn std::error::Error + Send + Sync>;

/// Reads the time, Unix seconds.
pub type NowS = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What a configuration is put into.
pub trait Engine: Send {
    /// Version in force; 0: none yet.
    ///
    /// # Errors
    /// When that cannot be told.
    fn version(&self) -> Result<u64, EngineError>;

    /// Puts a bundle into force, whole; what of it is left out, such as unusable keys, in words.
    ///
    /// # Errors
    /// When it cannot be put into force. What was in force stays.
    fn install(&mut self, bundle: &Bundle) -> Result<Vec<String>, EngineError>;

    /// A counter of decisions that the engine could not tell; `None`: it loses none, or cannot say now.
    fn lost(&self) -> Option<u64> {
        None
    }
}

/// Follows a control plane.
pub struct Follower<E> {
    plane: Plane,
    wanted: Mutex<Wanted>,
    engine: Mutex<Option<E>>,
    /// What is on disk.
    kept: Option<Arc<Keep>>,
    logs: Arc<Logs>,
    unknown_kid: Arc<Signal>,
    error: Mutex<Option<String>>,
    refused: Refused,
    stop: Signal,
    every: Every,
}

/// Where decisions are told.
#[derive(Clone, Debug)]
pub struct Records {
    logs: Arc<Logs>,
    unknown_kid: Arc<Signal>,
}

/// How the following goes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct State {
    /// What went wrong at the last attempt to get a configuration; `None` when it went well.
    pub error: Option<String>,
    /// Parts of the configuration that are left out, such as unusable keys.
    pub problems: Vec<String>,
    /// Seconds since the control plane last said that the configuration is the right one; `None`: never.
    pub config_age_s: Option<u64>,
    /// Bundles that were refused because their signature is missing or wrong.
    pub refused_signature: u64,
    /// Bundles that were refused because they are older than the one in force.
    pub refused_version: u64,
    /// Access records.
    pub records: Counts,
}

#[derive(Debug, Default)]
struct Refused {
    signature: AtomicU64,
    version: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
struct Every {
    poll: Duration,
    push: bool,
    report: Duration,
}

/// Longest wait in one question for changes: below the idle timeouts of common proxies.
const PUSH_WAIT: Duration = Duration::from_secs(45);
/// First wait after a failure.
const RETRY_FIRST: Duration = Duration::from_millis(250);
/// How often the age of keys is looked at.
const AGE_EVERY: Duration = Duration::from_millis(500);

// === impl Follower ===

impl<E: Engine + 'static> Follower<E> {
    /// Reads what is on disk; asks nothing, and follows nothing yet.
    ///
    /// # Errors
    /// When a setting or a file of it cannot be used.
    pub fn new(plane: PlaneConfig, config: FollowConfig, now_s: NowS) -> Result<Follower<E>, FollowError> {
        let FollowConfig { poll, push, report, cache, spool, issuers, issuers_every, key_age_max } = config;
        let plane = Plane::new(plane)?;
        for issuer in &issuers {
            // What will be asked must be a place that may be asked.
            let url = issuer.jwks_uri.as_ref().unwrap_or(&issuer.issuer);
            plane.trust().address(url).map_err(PlaneError::from)?;
        }
        let logs = Arc::new(Logs::new(spool.as_ref())?);
        let kept = cache.map(|path| Arc::new(Keep::new(path)));
        let wanted = Wanted::new(kept.clone(), issuers, issuers_every, key_age_max, now_s);
        Ok(Follower {
            plane,
            wanted: Mutex::new(wanted),
            kept,
            engine: Mutex::new(None),
            logs,
            unknown_kid: Arc::default(),
            error: Mutex::default(),
            refused: Refused::default(),
            stop: Signal::default(),
            every: Every { poll, push, report },
        })
    }

    /// The control plane.
    pub fn plane(&self) -> &Plane {
        &self.plane
    }

    /// Where decisions are told.
    pub fn records(&self) -> Records {
        Records { logs: self.logs.clone(), unknown_kid: self.unknown_kid.clone() }
    }

    /// The last good bundle of the disk, if there is one.
    pub fn cached(&self) -> Option<Bundle> {
        // Whatever is wrong with it is told when it is put into force.
        lock(&self.wanted).cached(&self.plane).ok().flatten().map(|cached| cached.read.bundle)
    }

    /// Puts the disk's configuration into `engine` at once, so that a control plane that is slow or gone costs nothing,
    /// and then the control plane's. Failures are in the state.
    pub fn begin(&self, engine: E) {
        *lock(&self.engine) = Some(engine);
        // Where the engine's counter stands now is where its losses are counted from, if it began anew.
        self.count_lost();
        let in_force =
            lock(&self.engine).as_ref().is_some_and(|engine| engine.version().is_ok_and(|v| v > 0));
        // Without the keys of this host's issuers the kernel would forget those that it has. Where nothing is in force yet,
        // it has none, and everything would pass while issuers are waited for.
        if in_force && !lock(&self.wanted).has_issuers_keys() {
            self.refresh_issuers(false);
        }
        drop(self.told(self.with_both(|wanted, engine| wanted.use_cache(&self.plane, engine))));
        if self.refresh_issuers(false) {
            drop(self.told(self.with_both(|wanted, engine| wanted.reinstall(engine))));
        }
        drop(self.sync(None));
    }

    /// Goes on following. The threads end after [`Follower::stop`]; that which waits for changes is not among them: its
    /// question may be open for a long time, and its answer is not used then.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn spawn(self: &Arc<Self>) -> Result<Vec<JoinHandle<()>>, FollowError> {
        let threads = vec![
            self.thread("pc-poll", Self::poll)?,
            self.thread("pc-report", Self::report)?,
            self.thread("pc-keys", Self::keys)?,
            self.thread("pc-keep", Self::keep)?,
        ];
        if self.every.push {
            drop(self.thread("pc-push", Self::push)?);
        }
        Ok(threads)
    }

    fn thread(self: &Arc<Self>, name: &str, work: fn(&Self)) -> Result<JoinHandle<()>, FollowError> {
        let this = self.clone();
        let run = move || work(&this);
        thread::Builder::new().name(name.to_owned()).spawn(run).map_err(FollowError::Thread)
    }

    /// Tells the threads to end; nothing is put into force from now on.
    pub fn stop(&self) {
        self.stop.set();
        self.unknown_kid.set();
        if let Some(kept) = &self.kept {
            // A configuration that is coming into force is kept too; there is none after it.
            drop(lock(&self.wanted));
            kept.end();
        }
    }

    /// Set when it was told to end.
    pub fn stopping(&self) -> &Signal {
        &self.stop
    }

    /// Takes the engine out.
    pub fn take_engine(&self) -> Option<E> {
        lock(&self.engine).take()
    }

    /// Runs `look` on the engine; `None` when it was taken out.
    pub fn with_engine<T>(&self, look: impl FnOnce(&E) -> T) -> Option<T> {
        lock(&self.engine).as_ref().map(look)
    }

    /// Runs `look` on the bundle in force; `None`: there is none.
    pub fn with_bundle<T>(&self, look: impl FnOnce(&Bundle) -> T) -> Option<T> {
        lock(&self.wanted).bundle().map(look)
    }

    /// Asks the control plane; `wait`: the answer may come this much later. Whether it was something new.
    ///
    /// # Errors
    /// When it cannot be fetched, verified, read or installed. What was in force stays.
    pub fn sync(&self, wait: Option<Duration>) -> Result<bool, FollowError> {
        let done =
            self.plane.fetch(wait).map_err(FollowError::from).and_then(|fetched| {
                self.with_both(|wanted, engine| wanted.take(fetched, &self.plane, engine))
            });
        let counter = match &done {
            Err(FollowError::Plane(PlaneError::Signature(_))) => Some(&self.refused.signature),
            Err(FollowError::Older { .. }) => Some(&self.refused.version),
            _ => None,
        };
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        self.told(done)
    }

    /// Lets keys go that are too old.
    ///
    /// # Errors
    /// When the engine does not take what is left.
    pub fn age(&self) -> Result<(), FollowError> {
        self.with_both(|wanted, engine| wanted.age(engine))
    }

    /// Sends the records that wait.
    ///
    /// # Errors
    /// When the control plane does not take them; they wait on.
    pub fn send(&self) -> Result<(), FollowError> {
        self.count_lost();
        self.logs.send_all(&self.plane)?;
        Ok(())
    }

    /// Notes what the engine lost.
    pub fn count_lost(&self) {
        // A counter that cannot be read now can be read later: it only grows.
        if let Some(lost) = lock(&self.engine).as_ref().and_then(Engine::lost) {
            self.logs.kernel_lost(lost);
        }
    }

    /// How it goes.
    pub fn state(&self) -> State {
        let mut state = State { error: lock(&self.error).clone(), ..State::default() };
        lock(&self.wanted).describe(&mut state);
        state.refused_signature = self.refused.signature.load(Ordering::Relaxed);
        state.refused_version = self.refused.version.load(Ordering::Relaxed);
        state.records = self.logs.counts();
        state
    }

    fn keep(&self) {
        if let Some(kept) = &self.kept {
            kept.run();
        }
    }

    fn poll(&self) {
        while !self.stop.wait(self.every.poll) {
            drop(self.sync(None));
        }
    }

    /// Asks for changes all the time; the answer comes when there is one.
    fn push(&self) {
        let poll = self.every.poll;
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

    fn report(&self) {
        let every = self.every.report;
        let mut backoff = Backoff::new(every.max(RETRY_FIRST), Duration::from_secs(30));
        let mut wait = every;
        while !self.stop.wait(wait) {
            wait = match self.send() {
                Ok(()) => {
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
                drop(self.told(self.with_both(|wanted, engine| wanted.reinstall(engine))));
            }
            if let Err(error) = self.age() {
                drop(self.told::<()>(Err(error)));
            }
        }
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

    /// Runs `work` on the configuration and the engine, one thread at a time; not when the following ends.
    fn with_both<T: Default>(
        &self,
        work: impl FnOnce(&mut Wanted, &mut E) -> Result<T, FollowError>,
    ) -> Result<T, FollowError> {
        let mut wanted = lock(&self.wanted);
        let mut engine = lock(&self.engine);
        match engine.as_mut() {
            Some(engine) if !self.stop.is_set() => work(&mut wanted, engine),
            Some(_) | None => Ok(T::default()),
        }
    }

    /// Keeps for the state how it went.
    fn told<T>(&self, done: Result<T, FollowError>) -> Result<T, FollowError> {
        *lock(&self.error) = done.as_ref().err().map(ToString::to_string);
        done
    }
}

impl<E> fmt::Debug for Follower<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("plane", &self.plane).finish_non_exhaustive()
    }
}

// === impl Records ===

impl Records {
    /// Tells decisions. A token whose kid nobody knows makes the follower ask for keys.
    pub fn push(&self, batch: &[AccessLog]) {
        self.logs.push(batch);
        if batch.iter().any(|record| record.reason == Reason::TokenKey.slug()) {
            self.unknown_kid.set();
        }
    }
}
