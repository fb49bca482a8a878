//! The world of one scenario with one application: control plane, application, engine, tokens.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use portcullis_mock_control_plane::{Config, ControlPlane, Handle, TenantConfig};
use portcullis_wire::Mode;

use crate::app::{App, AppError};
use crate::cgroup::Cgroup;
use crate::engine::{Engine, EngineKind, Setup};
use crate::http::Connection;
use crate::plane::Plane;
use crate::relay::Relay;
use crate::run::traffic::Running;
use crate::spec::{AppKind, Scenario};
use crate::totp::Authenticator;

/// Everything that a step acts on.
pub(crate) struct World {
    /// The control plane.
    pub plane: Plane,
    /// The application.
    pub app: App,
    /// The engine; absent before [`World::protect`].
    pub engine: Option<Engine>,
    /// Tokens by actor.
    pub tokens: BTreeMap<String, String>,
    /// Values that steps saved, by name.
    pub values: BTreeMap<String, String>,
    /// Authenticator apps by actor.
    pub apps: BTreeMap<String, Authenticator>,
    /// Connections that are kept from step to step.
    pub kept: BTreeMap<String, Connection>,
    /// Requests in the background.
    pub traffic: BTreeMap<String, Running>,
    /// The last call to the control plane: its step, and when it began.
    pub called: Option<(String, Instant)>,
    /// Where the log stood when each step began.
    pub marks: BTreeMap<String, u64>,
    /// How far the clock was moved, seconds.
    pub ahead_s: i64,
    /// The engine's way to the control plane.
    pub relay: Relay,
    server: Handle,
    cgroup: Option<Cgroup>,
    published: bool,
}

/// The commands that become our own processes.
#[derive(Clone, Debug, Default)]
pub struct Commands {
    /// Becomes the test application.
    pub app: Vec<OsString>,
    /// Becomes an agent; arguments follow.
    pub agent: Vec<OsString>,
    /// How the agent learns of changes.
    pub sync: SyncWay,
    /// Becomes a proxy; arguments follow.
    pub proxy: Vec<OsString>,
}

/// How an agent learns of changes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SyncWay {
    /// How often it asks.
    pub poll: Duration,
    /// Whether it waits for changes besides.
    pub push: bool,
}

/// Why there is no world.
pub(crate) enum WorldError {
    /// The machine lacks the application.
    Missing(String),
    /// Something did not start.
    Failed(anyhow::Error),
}

/// Authority over the scenario's tenant; the control plane lives and dies with the scenario.
const API_KEY: &str = "scenario";

// === impl SyncWay ===

impl Default for SyncWay {
    /// Changes are pushed; asking besides makes up for a push that gets lost.
    fn default() -> SyncWay {
        SyncWay { poll: Duration::from_secs(1), push: true }
    }
}

// === impl World ===

impl World {
    /// Starts control plane and application, and mints the tokens. Nothing is protected yet.
    pub(crate) async fn start(
        scenario: &Scenario,
        engine: EngineKind,
        app: AppKind,
        commands: &Commands,
    ) -> Result<World, WorldError> {
        let Scenario { tenant, audiences, leeway_s, .. } = scenario;
        let tenant_config = TenantConfig {
            name: tenant.clone(),
            api_key: API_KEY.to_owned(),
            audiences: audiences.clone(),
            leeway_s: *leeway_s,
            ..TenantConfig::default()
        };
        let mut relay = Relay::new().await.map_err(WorldError::Failed)?;
        let issuer_base = Some(format!("http://{}", relay.addr()));
        let config = Config { issuer_base, ..Config::for_tests(tenant_config) };
        let server = ControlPlane::start(config).await;
        let server = server.context("starting the control plane").map_err(WorldError::Failed)?;
        relay.lead_to(server.addr());
        let plane = Plane::new(server.addr(), tenant, API_KEY);
        let tokens = plane.mint_all(scenario).await.map_err(WorldError::Failed)?;
        let cgroup = match engine {
            EngineKind::Kernel => Some(Cgroup::new().map_err(WorldError::Failed)?),
            EngineKind::Proxy | EngineKind::Model => None,
        };
        let app = App::start(app, cgroup.as_ref().map(Cgroup::path), &commands.app).await;
        let app = app.map_err(|error| match error {
            AppError::Missing(what) => WorldError::Missing(what),
            AppError::Failed(error) => WorldError::Failed(error.context("starting the application")),
        })?;
        Ok(World {
            plane,
            app,
            engine: None,
            tokens,
            values: BTreeMap::from([("tenant".to_owned(), tenant.clone())]),
            apps: BTreeMap::new(),
            kept: BTreeMap::new(),
            traffic: BTreeMap::new(),
            called: None,
            marks: BTreeMap::new(),
            ahead_s: 0,
            relay,
            server,
            cgroup,
            published: false,
        })
    }

    /// Starts the engine with the scenario's policies, and returns when it enforces them.
    pub(crate) async fn protect(
        &mut self,
        scenario: &Scenario,
        kind: EngineKind,
        commands: &Commands,
    ) -> Result<()> {
        let credentials = self.plane.register().await.context("registering an agent")?;
        let setup = Setup {
            plane: &self.plane.at(self.relay.addr()),
            app: &self.app,
            cgroup: self.cgroup.as_ref(),
            agent: &commands.agent,
            sync: commands.sync,
            proxy: &commands.proxy,
            credentials,
        };
        let engine =
            Engine::prepare(kind, setup).await.with_context(|| format!("starting the {kind} engine"))?;
        self.engine = Some(engine);
        self.publish(scenario, None).await
    }

    /// Gives the policies to the control plane, in `mode` if given, and returns when the engine enforces them.
    pub(crate) async fn publish(&mut self, scenario: &Scenario, mode: Option<Mode>) -> Result<()> {
        let engine = self.engine.as_mut().context("no engine is started")?;
        let port = engine.port();
        for policy in &scenario.policies {
            let mut wire = policy.to_wire(port);
            wire.mode = mode.unwrap_or(wire.mode);
            self.plane.put_policy(&wire, self.published).await?;
        }
        self.published = true;
        self.settle().await
    }

    /// Returns when the engine enforces what the control plane has now.
    pub(crate) async fn settle(&mut self) -> Result<()> {
        let version = self.plane.version().await?;
        let engine = self.engine.as_mut().context("no engine is started")?;
        engine.enforce(version).await.with_context(|| format!("waiting for version {version} to be enforced"))
    }

    /// The text with saved values and tokens in the place of `{{name}}`.
    pub(crate) fn filled(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, value) in self.values.iter().chain(&self.tokens) {
            text = text.replace(&format!("{{{{{name}}}}}"), value);
        }
        text
    }

    /// Stops everything.
    pub(crate) async fn stop(self) -> Result<()> {
        let World { app, engine, traffic, kept, relay, server, cgroup, .. } = self;
        drop((traffic, kept));
        let stopped = match engine {
            Some(engine) => engine.stop().await.context("stopping the engine"),
            None => Ok(()),
        };
        app.stop().await;
        drop(relay);
        server.shutdown().await;
        drop(cgroup);
        stopped
    }
}
