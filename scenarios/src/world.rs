//! The world of one scenario with one application: control plane, application, engine, tokens.

use std::collections::BTreeMap;
use std::ffi::OsString;

use anyhow::{Context, Result};
use portcullis_mock_control_plane::{Config, ControlPlane, Handle, TenantConfig};
use portcullis_wire::Mode;

use crate::app::{App, AppError};
use crate::cgroup::Cgroup;
use crate::engine::{Engine, EngineKind, Setup};
use crate::plane::Plane;
use crate::spec::{AppKind, Scenario};

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
    /// Becomes a proxy; arguments follow.
    pub proxy: Vec<OsString>,
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
        };
        let server = ControlPlane::start(Config::for_tests(tenant_config)).await;
        let server = server.context("starting the control plane").map_err(WorldError::Failed)?;
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
        Ok(World { plane, app, engine: None, tokens, server, cgroup, published: false })
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
            plane: &self.plane,
            app: &self.app,
            cgroup: self.cgroup.as_ref(),
            agent: &commands.agent,
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
        let version = self.plane.version().await?;
        engine.enforce(version).await.with_context(|| format!("waiting for version {version} to be enforced"))
    }

    /// Stops everything.
    pub(crate) async fn stop(self) -> Result<()> {
        let World { plane: _, app, engine, tokens: _, server, cgroup, published: _ } = self;
        let stopped = match engine {
            Some(engine) => engine.stop().await.context("stopping the engine"),
            None => Ok(()),
        };
        app.stop().await;
        server.shutdown().await;
        drop(cgroup);
        stopped
    }
}
