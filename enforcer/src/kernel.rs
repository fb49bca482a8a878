//! The kernel engine: loads, attaches, pins, feeds, watches and removes the datapath.
//!
//! An instance is a directory on the BPF file system and an attachment to one cgroup2 directory. It goes on deciding
//! when this process ends, in whatever way, and the next one takes it over without letting go.
//!
//! **Invariant:** no byte of a protected port's connection reaches an application unless the programs passed it, from
//! the moment that [`Datapath::apply`] returns until [`Datapath::detach`]; restarts and upgrades in between included.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use portcullis_bpf::{abi, limits};
use portcullis_wire::AccessLog;

use crate::compile::Compiled;

mod adopt;
mod apply;
mod around;
mod attach;
mod clock;
mod deferring;
mod descriptors;
mod diag;
mod error;
mod events;
mod heads;
mod live;
mod loopback;
mod map;
mod object;
mod pins;
mod probe;
mod reply;
mod responder;
mod stats;
mod sweep;
mod sys;

pub use error::{KernelError, NotPermitted};
pub use probe::{cgroup2_mount, probe};
pub use responder::DenyMode;
pub use stats::named as named_stats;

use apply::Active;
use attach::Attached;
use diag::Diag;
use events::{Keeper, Shared};
use map::Maps;
use object::Loaded;
use pins::{Found, Marker, Pins};
use responder::Responder;
use sweep::Covered;

/// How an instance is run.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directory on the BPF file system, one for each instance. Made when absent.
    pub pins: PathBuf,
    /// cgroup2 directory: sockets made by processes in it, or below it, are covered.
    pub cgroup: PathBuf,
    /// Name of the agent in access records.
    pub agent_id: String,
    /// Bounds of the maps, when they are made.
    pub limits: Limits,
    /// Who answers denials; `None`: whoever passes the self-test.
    pub deny_mode: Option<DenyMode>,
    /// How often events are collected.
    pub poll: Duration,
    /// A request's head that is not complete within this is given up, with its connection. Servers have limits of the same
    /// order; those whose reads block and that have none would wait for ever.
    pub head_within: Duration,
    /// Whether the instance, if it is made now, is a harness's, which may move its time. It stays one.
    pub virtual_time: bool,
    /// Added to the machine's clock, ns. Other than 0, it is refused for an instance that is no harness's.
    pub clock_offset_ns: i64,
    /// Configurations that may be in force when the instance is taken over: what the numbers in events mean that were
    /// written while no agent was there.
    pub known: Vec<Arc<Compiled>>,
}

/// Bounds that are chosen when an instance is made.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections under control at a time. What is beyond is refused by the guard.
    pub connections: u32,
    /// Connections with a request head in several segments, at a time.
    pub split_heads: u32,
    /// Verified tokens that are kept; the least recently used make room.
    pub tokens: u32,
    /// Connections that speak websocket by a token, at a time. What is beyond does not switch.
    pub tunnels: u32,
}

/// What becomes of the decisions.
pub type Records = Box<dyn FnMut(Vec<AccessLog>) + Send>;

/// A running instance. Dropping it stops this process's part; enforcement goes on.
#[derive(Debug)]
pub struct Datapath {
    config: Config,
    pins: Pins,
    maps: Arc<Maps>,
    attached: Attached,
    responder: Responder,
    keeper: Keeper,
    adopted: bool,
}

/// Tries whether ports are under control.
#[derive(Debug)]
pub struct Prober {
    maps: Arc<Maps>,
    cgroup: PathBuf,
}

/// How an instance is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Health {
    /// What somebody else detached or replaced, in words.
    pub missing: Vec<String>,
    /// Who answers denials.
    pub deny_mode: DenyMode,
    /// Generation in force; 0 before the first.
    pub generation: u64,
}

// === impl Config ===

impl Config {
    /// The instance `name` below `/sys/fs/bpf/portcullis`, on `cgroup`, with the defaults of limits.h.
    pub fn new(name: &str, cgroup: impl Into<PathBuf>) -> Config {
        Config {
            pins: PathBuf::from("/sys/fs/bpf/portcullis").join(name),
            cgroup: cgroup.into(),
            agent_id: name.to_owned(),
            limits: Limits::default(),
            deny_mode: None,
            poll: Duration::from_millis(5),
            head_within: Duration::from_secs(30),
            virtual_time: false,
            clock_offset_ns: 0,
            known: Vec::new(),
        }
    }
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: limits::CONNS_MAX as u32,
            split_heads: limits::PENDING_HEADS_MAX as u32,
            tokens: limits::TOKEN_CACHE_MAX as u32,
            tunnels: limits::TUNNELS_MAX as u32,
        }
    }
}

// === impl Datapath ===

impl Datapath {
    /// Makes the instance, or takes over the one that is pinned.
    ///
    /// Same programs: they are left alone. Other programs that keep the same state: each is replaced in one atomic
    /// step, under live connections. Other state: the instance is made anew, and until the first [`Datapath::apply`] the
    /// old one's guard drops everything that is sent to ports that it enforced; connections of before end. A fragment is
    /// removed first.
    pub fn start(config: Config, records: Records) -> Result<Datapath, KernelError> {
        probe()?;
        descriptors::raise_limit();
        let mut pins = Pins::lock(&config.pins)?;
        // Before anything is touched.
        may_move_to(&pins, config.clock_offset_ns, config.virtual_time)?;
        let mut loaded = None;
        let found = match pins.found()? {
            Found::Fragment => {
                attach::detach(&pins)?;
                pins.remove()?;
                pins = Pins::lock(&config.pins)?;
                Found::Nothing
            }
            Found::Complete(marker) if marker.state != Marker::ours().state => {
                // What cannot be loaded leaves the old instance as it is.
                loaded = Some(Loaded::load(&config.limits, None)?);
                if !attach::hold(&pins)? {
                    return Err(KernelError::Incompatible {
                        path: pins.dir().to_owned(),
                        found: marker.name(),
                        wanted: Marker::ours().name(),
                    });
                }
                pins.remove()?;
                pins = Pins::lock(&config.pins)?;
                Found::Nothing
            }
            found => found,
        };
        let adopted = found != Found::Nothing;
        if adopted {
            may_move_to(&pins, config.clock_offset_ns, pins.has_virtual_time())?;
        }
        match found {
            Found::Complete(marker) => adopt(&config, &pins, &marker)?,
            _ => {
                let loaded = loaded.map_or_else(|| Loaded::load(&config.limits, None), Ok);
                if let Err(error) = loaded.and_then(|loaded| create(loaded, &config, &pins)) {
                    // Half an instance is worse than none; that the end fails too adds nothing to the reason.
                    drop(attach::detach(&pins).and_then(|()| pins.remove()));
                    return Err(error);
                }
            }
        }
        let maps = Arc::new(Maps::open(&pins.maps())?);
        let attached = Attached::open(&pins)?;
        around::tell(&maps);
        let responder = Responder::start(&maps, pins.dir(), config.deny_mode)?;
        let keeper = Keeper::start(&config, &maps, pins.dir(), records)?;
        Ok(Datapath { config, pins, maps, attached, responder, keeper, adopted })
    }

    /// Puts a generation into force, whole. Connections that are older than the protection of their port are destroyed
    /// where it enforces, and observed from now on where it monitors and that is possible; websockets whose token it
    /// refuses are destroyed. Listeners at ports that enforce defer no accept any more.
    ///
    /// # Errors
    /// The first failure, also one after which it is in force: see [`Datapath::install`].
    pub fn apply(&mut self, compiled: Arc<Compiled>) -> Result<(), KernelError> {
        self.install(compiled)?.into_iter().next().map_or(Ok(()), Err)
    }

    /// As [`Datapath::apply`]; what went wrong although the generation is in force. A connection that cannot be destroyed
    /// keeps no other from it, or from being observed, and the guard of an instance before from being released: the new
    /// generation guards its ports itself.
    ///
    /// # Errors
    /// When it is not in force: it could not be written.
    pub fn install(&mut self, compiled: Arc<Compiled>) -> Result<Vec<KernelError>, KernelError> {
        self.shared().remember(&compiled);
        // Before the first request that may switch, and until none may. Where that fails no connection switches, and the
        // rest of the generation (revocations, for one) does not wait for it.
        let switches = compiled.image.switches();
        let mut see_answers = || self.attached.see_answers(&self.pins, &self.config.cgroup, switches);
        let before = if switches { see_answers() } else { Ok(()) };
        apply::apply(&self.maps, &compiled)?;
        let answers = if switches { before } else { see_answers() };
        let covered = Covered::below(&self.config.cgroup);
        let older = sweep::uncontrolled(&self.maps, &covered, compiled.image.ports()).map(drop);
        let released = attach::release(&self.pins);
        let listeners = self.shared().deferring().look(&self.maps, &self.config.cgroup).map(drop);
        let now_s = self.shared().now_s();
        let good = |tunnel: &abi::Tunnel| {
            portcullis_token::verify(sweep::token(tunnel), &compiled.keys, now_s).is_ok()
        };
        let refused = sweep::tunnels(&self.maps, &mut Diag::default(), good).map(drop);
        let observed = adopt::adopt(&self.maps, &covered, compiled.image.ports())
            .map(|cookies| self.shared().adopted(cookies));
        let done = [older, released, refused, observed, listeners, answers];
        Ok(done.into_iter().filter_map(Result::err).collect())
    }

    /// Whether the instance was there already.
    pub fn adopted(&self) -> bool {
        self.adopted
    }

    /// Counters, summed over the CPUs, since the instance was made.
    pub fn stats(&self) -> Result<abi::Stats, KernelError> {
        stats::read(&self.maps)
    }

    /// Whether all is as it was attached.
    pub fn health(&self) -> Result<Health, KernelError> {
        Ok(Health {
            missing: self.attached.missing(&self.maps, &self.config.cgroup)?,
            deny_mode: self.responder.mode(),
            generation: Active::read(&self.maps)?.generation(),
        })
    }

    /// What tells whether ports are under control. Trying takes time, and does not need the instance for that long.
    pub fn prober(&self) -> Prober {
        Prober { maps: self.maps.clone(), cgroup: self.config.cgroup.clone() }
    }

    /// Denials answered, answers that could not be sent, connections destroyed: by this process.
    pub fn responder_counts(&self) -> (u64, u64, u64) {
        use std::sync::atomic::Ordering::Relaxed;
        let counters = self.responder.counters();
        (counters.answered.load(Relaxed), counters.failed.load(Relaxed), counters.destroyed.load(Relaxed))
    }

    /// Returns when every event that the kernel had written is with the records' receiver.
    pub fn flush(&self) {
        self.keeper.flush();
    }

    /// Moves the time that the programs see, ns relative to the machine's clock.
    ///
    /// # Errors
    /// When the instance is no harness's ([`Config::virtual_time`] at its making), and when the clock cannot be written.
    pub fn set_clock_offset(&self, offset_ns: i64) -> Result<(), KernelError> {
        may_move_to(&self.pins, offset_ns, self.pins.has_virtual_time())?;
        self.shared().set_offset(&self.maps, offset_ns)
    }

    /// Ends enforcement: programs detached in the safe order, pins removed.
    pub fn detach(self) -> Result<(), KernelError> {
        let Datapath { pins, maps, responder, keeper, attached, .. } = self;
        attach::detach(&pins)?;
        attach::release(&pins)?;
        drop((responder, keeper, attached, maps));
        pins.remove()
    }

    /// Ends the enforcement of an instance that no process runs. `false`: there is none.
    pub fn remove(pins: &std::path::Path) -> Result<bool, KernelError> {
        // An upgrade that failed leaves the guard that it held, and nothing else.
        if !pins.exists() && !pins::held(pins).exists() {
            return Ok(false);
        }
        let pins = Pins::lock(pins)?;
        attach::detach(&pins)?;
        attach::release(&pins)?;
        pins.remove()?;
        Ok(true)
    }

    /// How it is run.
    pub fn config(&self) -> &Config {
        &self.config
    }

    fn shared(&self) -> &Shared {
        self.keeper.shared()
    }
}

// === impl Prober ===

impl Prober {
    /// Whether a connection to `addr` comes under control, tried with one that carries nothing; in the network namespace
    /// of process `pid`, if given. `None`: nobody listens there.
    pub fn controls(&self, addr: SocketAddr, pid: Option<u32>) -> Result<Option<bool>, KernelError> {
        live::controls(&self.maps, addr, pid)
    }

    /// Connections to ports that only monitor of which nothing is read: they are older than the monitoring.
    pub fn unseen(&self) -> Result<usize, KernelError> {
        let ports = self.maps.get("pc_ports")?.keys::<u32>().map_err(KernelError::system("list pc_ports"))?;
        let ports = ports.into_iter().filter_map(|port| u16::try_from(port).ok());
        Ok(adopt::unseen(&self.maps, &Covered::below(&self.cgroup), ports)?.len())
    }

    /// Connections that are observed although they are older than the monitoring of their port.
    pub fn adopted(&self) -> Result<usize, KernelError> {
        Ok(adopt::adopted(&self.maps)?.len())
    }
}

/// Tokens that have expired would be good again for whoever could move a service's clock.
fn may_move_to(pins: &Pins, offset_ns: i64, virtual_time: bool) -> Result<(), KernelError> {
    if offset_ns == 0 || virtual_time {
        return Ok(());
    }
    Err(KernelError::RealTime { path: pins.dir().to_owned() })
}

fn create(mut loaded: Loaded, config: &Config, pins: &Pins) -> Result<(), KernelError> {
    loaded.pin(pins.dir())?;
    if config.virtual_time {
        pins.mark_virtual_time()?;
    }
    let maps = Maps::open(&pins.maps())?;
    clock::publish(&maps, clock::boot_to_unix_ns(config.clock_offset_ns))?;
    secret(&maps)?;
    attach::attach(&mut loaded, pins, &config.cgroup)?;
    pins.mark(&Marker::ours())
}

/// Gives the programs the key of the hash under which refused tokens are remembered: without it an attacker could
/// choose tokens that collide with a good one.
fn secret(maps: &Maps) -> Result<(), KernelError> {
    let mut key = [0_u8; size_of::<abi::Secret>()];
    sys::random(&mut key).map_err(KernelError::system("draw a random key"))?;
    let done = maps.get("pc_secret")?.set(&0_u32, &key);
    done.map_err(KernelError::system("set the key of refused tokens"))
}

fn adopt(config: &Config, pins: &Pins, found: &Marker) -> Result<(), KernelError> {
    let ours = Marker::ours();
    if *found != ours {
        let loaded = Loaded::load(&config.limits, Some(&pins.maps()))?;
        attach::replace(&loaded, pins)?;
        pins.mark(&ours)?;
    }
    attach::repair(pins, &config.cgroup)
}
