//! Agents: registration, listing, removal.
//!
//! **Invariant:** a secret is shown once, in the answer to the registration; only its hash is kept.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use portcullis_wire::Jwk;
use serde::{Deserialize, Serialize};

use crate::extract::{Body, Manager};
use crate::secret::{SecretHash, random};
use crate::server::Shared;
use crate::store::{AgentReport, AgentRow};
use crate::{FieldError, Problem};

/// What an agent says about itself.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Registration {
    hostname: String,
    #[serde(default)]
    agent_version: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    kernel_version: String,
    #[serde(default)]
    arch: String,
    #[serde(default)]
    labels: std::collections::BTreeMap<String, String>,
}

/// The answer to a registration.
#[derive(Serialize, schemars::JsonSchema)]
pub(super) struct Registered {
    agent_id: String,
    agent_secret: String,
    hostname: String,
    note: &'static str,
    /// Signs every bundle: to be kept, and no other to be believed.
    bundle_key: Jwk,
}

/// An agent, without its secret.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct AgentAnswer {
    agent_id: String,
    hostname: String,
    /// Seconds since the epoch, like the next.
    registered_at: u64,
    /// 0: never.
    last_seen_at: u64,
    /// In the agent's words.
    status: Option<String>,
    /// The last one that it has confirmed; 0: none.
    config_version: u64,
    up_to_date: bool,
}

/// All agents.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Agents {
    agents: Vec<AgentAnswer>,
    /// Version that agents should have.
    config_version: u64,
}

/// Longest accepted text of a registration, bytes.
const TEXT_MAX: usize = 253;

/// `POST …/agents/register`
pub(super) async fn register(
    State(shared): State<Shared>,
    Manager { tenant }: Manager,
    Body(registration): Body<Registration>,
) -> Result<(StatusCode, Json<Registered>), Problem> {
    let Registration { hostname, agent_version, os, kernel_version, arch, labels } = registration;
    let texts = [
        ("/hostname", &hostname),
        ("/agent_version", &agent_version),
        ("/os", &os),
        ("/kernel_version", &kernel_version),
        ("/arch", &arch),
    ];
    let mut errors: Vec<FieldError> = texts
        .into_iter()
        .filter(|(_, text)| text.len() > TEXT_MAX)
        .map(|(pointer, _)| FieldError::new(pointer, format!("is longer than {TEXT_MAX} bytes")))
        .collect();
    if hostname.trim().is_empty() {
        errors.push(FieldError::new("/hostname", "is empty; write the host's name"));
    }
    if labels.len() > 64 {
        errors.push(FieldError::new("/labels", "more than 64 labels"));
    }
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }

    let id = random("agent-")?;
    let agent_secret = random("as_")?;
    let row = AgentRow {
        id: id.clone(),
        hostname: hostname.clone(),
        secret: SecretHash::of(agent_secret.as_bytes()),
        registered_s: shared.clock.now_s(),
        seen_version: 0,
        seen_s: 0,
        report: AgentReport::default(),
    };
    let mut store = shared.store();
    let tenant = store.tenant_mut(&tenant)?;
    tenant.plan.need_room("agents", tenant.agents.len() + 1, tenant.plan.agents_max())?;
    let bundle_key = tenant.bundle_jwk();
    tenant.agents.insert(id.clone(), row);
    let note = "Save this secret; it will not be shown again";
    Ok((StatusCode::CREATED, Json(Registered { agent_id: id, agent_secret, hostname, note, bundle_key })))
}

/// `GET …/agents`
pub(super) async fn list(State(shared): State<Shared>, manager: Manager) -> Result<Json<Agents>, Problem> {
    let store = shared.store();
    let tenant = store.tenant(&manager.tenant)?;
    let agents: Vec<AgentAnswer> = tenant
        .agents
        .values()
        .map(|AgentRow { id, hostname, secret: _, registered_s, seen_version, seen_s, report }| AgentAnswer {
            agent_id: id.clone(),
            hostname: hostname.clone(),
            registered_at: *registered_s,
            last_seen_at: *seen_s,
            status: report.status.clone(),
            config_version: *seen_version,
            up_to_date: *seen_version == tenant.version.get(),
        })
        .collect();
    Ok(Json(Agents { agents, config_version: tenant.version.get() }))
}

/// `DELETE …/agents/{agent}`: its secret is no good any more.
pub(super) async fn remove(
    State(shared): State<Shared>,
    Path((_, id)): Path<(String, String)>,
    manager: Manager,
) -> Result<StatusCode, Problem> {
    let mut store = shared.store();
    let removed = store.tenant_mut(&manager.tenant)?.agents.remove(&id);
    removed.map(|_| StatusCode::NO_CONTENT).ok_or_else(|| Problem::not_found(format!("no agent `{id}`")))
}
