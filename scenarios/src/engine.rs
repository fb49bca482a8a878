//! Enforcement engines: what stands between client and application in a scenario.
//!
//! Every engine is given its configuration by the control plane, like an agent in the field, and reports its decisions
//! to it: a scenario's expectations are about what the control plane then knows, not about the engine's own variables.

mod kernel;
mod model;
mod process;
mod proxy;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;
use portcullis_wire::Reason;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::cgroup::Cgroup;
use crate::plane::{AgentCredentials, Plane};
use crate::spec::AgentAction;
use crate::world::SyncWay;

/// An enforcement engine.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// The BPF programs, installed by an agent in a process of its own.
    Kernel,
    /// The reverse proxy for hosts without BPF.
    Proxy,
    /// The pure decision code, applied to the bytes of real connections in user space.
    Model,
}

/// Why an engine cannot run on this machine: one line, with the remedy where there is one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NotRun(pub String);

/// A running engine.
pub(crate) enum Engine {
    /// BPF programs and the agent's process.
    Kernel(Box<kernel::Kernel>),
    /// The proxy's process.
    Proxy(Box<proxy::Proxy>),
    /// The front in user space.
    Model(model::Model),
}

/// What an engine is started with.
pub(crate) struct Setup<'a> {
    /// The control plane.
    pub plane: &'a Plane,
    /// The application behind it.
    pub app: &'a App,
    /// The group that the application is in; the kernel engine covers it.
    pub cgroup: Option<&'a Cgroup>,
    /// The command that becomes an agent.
    pub agent: &'a [std::ffi::OsString],
    /// How that agent learns of changes.
    pub sync: SyncWay,
    /// The command that becomes a proxy.
    pub proxy: &'a [std::ffi::OsString],
    /// Credentials for the control plane.
    pub credentials: AgentCredentials,
}

// === impl EngineKind ===

impl EngineKind {
    /// Those that `all` stands for: every engine that this version has.
    pub const ALL: [EngineKind; 3] = [EngineKind::Kernel, EngineKind::Proxy, EngineKind::Model];

    /// Name on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            EngineKind::Kernel => "kernel",
            EngineKind::Proxy => "proxy",
            EngineKind::Model => "model",
        }
    }

    /// The engine of a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<EngineKind> {
        EngineKind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether it can run on this machine, tried now.
    pub fn probe(self) -> Result<(), NotRun> {
        match self {
            EngineKind::Kernel => kernel::probe(),
            EngineKind::Proxy | EngineKind::Model => Ok(()),
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

// === impl Engine ===

impl Engine {
    /// Makes the engine ready to take connections; it enforces nothing yet.
    pub(crate) async fn prepare(kind: EngineKind, setup: Setup<'_>) -> Result<Engine> {
        match kind {
            EngineKind::Kernel => {
                kernel::Kernel::prepare(setup).map(|engine| Engine::Kernel(Box::new(engine)))
            }
            EngineKind::Model => model::Model::prepare(setup).await.map(Engine::Model),
            EngineKind::Proxy => {
                proxy::Proxy::prepare(setup).await.map(|engine| Engine::Proxy(Box::new(engine)))
            }
        }
    }

    /// Which it is.
    pub(crate) fn kind(&self) -> EngineKind {
        match self {
            Engine::Kernel(_) => EngineKind::Kernel,
            Engine::Proxy(_) => EngineKind::Proxy,
            Engine::Model(_) => EngineKind::Model,
        }
    }

    /// Where clients connect.
    pub(crate) fn addr(&self) -> SocketAddr {
        match self {
            Engine::Kernel(engine) => engine.addr(),
            Engine::Proxy(engine) => engine.addr(),
            Engine::Model(engine) => engine.addr(),
        }
    }

    /// The protected port, as policies name it.
    pub(crate) fn port(&self) -> u16 {
        match self {
            Engine::Kernel(_) | Engine::Model(_) => self.addr().port(),
            Engine::Proxy(engine) => engine.port(),
        }
    }

    /// Returns when the engine enforces the control plane's bundle of this version.
    pub(crate) async fn enforce(&mut self, version: u64) -> Result<()> {
        match self {
            Engine::Kernel(engine) => engine.enforce(version).await,
            Engine::Proxy(engine) => engine.enforce(version).await,
            Engine::Model(engine) => engine.enforce(version).await,
        }
    }

    /// Returns when the decisions that were made before this call are with the control plane, if the engine can tell.
    pub(crate) async fn flush(&mut self) -> Result<()> {
        match self {
            // They report by themselves every few milliseconds: whoever needs a record waits for it.
            Engine::Kernel(_) | Engine::Proxy(_) => Ok(()),
            Engine::Model(engine) => engine.flush().await,
        }
    }

    /// Ends or starts the agent's process.
    pub(crate) async fn agent(&mut self, action: AgentAction) -> Result<()> {
        match self {
            Engine::Kernel(engine) => engine.agent(action).await,
            Engine::Proxy(_) | Engine::Model(_) => anyhow::bail!("only the kernel engine has an agent"),
        }
    }

    /// Moves the time that decisions are made at, seconds relative to the machine's clock.
    pub(crate) async fn set_clock(&mut self, ahead_s: i64) -> Result<()> {
        match self {
            Engine::Kernel(engine) => engine.set_clock(ahead_s).await,
            Engine::Proxy(engine) => engine.set_clock(ahead_s).await,
            Engine::Model(engine) => {
                engine.set_clock(ahead_s);
                Ok(())
            }
        }
    }

    /// What the engine printed, for a report about a failure.
    pub(crate) fn output(&self) -> Vec<String> {
        match self {
            Engine::Kernel(engine) => engine.output(),
            Engine::Proxy(engine) => engine.output(),
            Engine::Model(_) => Vec::new(),
        }
    }

    /// Stops it and removes every trace of it.
    pub(crate) async fn stop(self) -> Result<()> {
        match self {
            Engine::Kernel(engine) => engine.stop().await,
            Engine::Proxy(engine) => engine.stop().await,
            Engine::Model(engine) => engine.stop().await,
        }
    }
}

/// Slugs that expectations can name.
pub(crate) fn reason_slugs() -> Vec<&'static str> {
    Reason::ALL.iter().map(|reason| reason.slug()).collect()
}

/// The directory on the BPF file system for an instance of this process.
pub(crate) fn pins(name: &str) -> PathBuf {
    PathBuf::from("/sys/fs/bpf/portcullis").join(name)
}
