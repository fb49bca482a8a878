//! Heartbeats, services and endpoints: reported by agents, read by people.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::extract::{Agent, Body, Manager};
use crate::inventory::{Endpoint, Service};
use crate::server::Shared;
use crate::store::{AgentReport, AgentRow, Tenant};
use crate::{FieldError, Problem};

/// A sign of life.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Heartbeat {
    /// State of the enforcer, in the agent's words.
    #[serde(default)]
    status: Option<String>,
    /// Bundle version that is enforced.
    #[serde(default)]
    config_version: Option<u64>,
}

/// Discovered services; they replace those reported before.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Services {
    services: Vec<Service>,
}

/// Learnt endpoints; they replace those reported before.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Endpoints {
    endpoints: Vec<Endpoint>,
}

/// The version that agents should have.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct HeartbeatAnswer {
    config_version: u64,
}

/// Something of an agent's.
#[derive(Serialize, schemars::JsonSchema)]
pub(super) struct OfAgent<T> {
    agent_id: String,
    #[serde(flatten)]
    row: T,
}

/// Services of all agents.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct ServiceList {
    services: Vec<OfAgent<Service>>,
}

/// Endpoints of all agents.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct EndpointList {
    endpoints: Vec<OfAgent<Endpoint>>,
}

const SERVICES_MAX: usize = 10_000;
const ENDPOINTS_MAX: usize = 10_000;
const STATUS_BYTES_MAX: usize = 240;

/// `POST …/agents/{agent}/heartbeat`
pub(super) async fn heartbeat(
    State(shared): State<Shared>,
    Path((_, id)): Path<(String, String)>,
    agent: Agent,
    Body(Heartbeat { status, config_version }): Body<Heartbeat>,
) -> Result<Json<HeartbeatAnswer>, Problem> {
    if status.as_ref().is_some_and(|status| status.len() > STATUS_BYTES_MAX) {
        return too_long("/status", STATUS_BYTES_MAX, "bytes");
    }
    let now = shared.clock.now();
    let mut store = shared.store();
    let tenant = store.tenant_mut(&agent.tenant)?;
    let current = tenant.version.get();
    if config_version.is_some_and(|version| version > current) {
        let detail = format!("is newer than the newest, {current}");
        return Err(Problem::invalid(vec![FieldError::new("/config_version", detail)]));
    }
    report(tenant, &agent, &id)?.status = status;
    tenant.agent_has(&id, config_version.unwrap_or(0), now);
    Ok(Json(HeartbeatAnswer { config_version: current }))
}

/// `POST …/agents/{agent}/services`
pub(super) async fn put_services(
    State(shared): State<Shared>,
    Path((_, id)): Path<(String, String)>,
    agent: Agent,
    Body(Services { services }): Body<Services>,
) -> Result<StatusCode, Problem> {
    if services.len() > SERVICES_MAX {
        return too_long("/services", SERVICES_MAX, "entries");
    }
    let mut store = shared.store();
    report(store.tenant_mut(&agent.tenant)?, &agent, &id)?.services = services;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST …/agents/{agent}/endpoints`
pub(super) async fn put_endpoints(
    State(shared): State<Shared>,
    Path((_, id)): Path<(String, String)>,
    agent: Agent,
    Body(Endpoints { endpoints }): Body<Endpoints>,
) -> Result<StatusCode, Problem> {
    if endpoints.len() > ENDPOINTS_MAX {
        return too_long("/endpoints", ENDPOINTS_MAX, "entries");
    }
    let mut store = shared.store();
    report(store.tenant_mut(&agent.tenant)?, &agent, &id)?.endpoints = endpoints;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET …/services`: of all agents.
pub(super) async fn services(
    State(shared): State<Shared>,
    manager: Manager,
) -> Result<Json<ServiceList>, Problem> {
    let store = shared.store();
    let services = rows(store.tenant(&manager.tenant)?, |report| &report.services);
    Ok(Json(ServiceList { services }))
}

/// `GET …/endpoints`: of all agents.
pub(super) async fn endpoints(
    State(shared): State<Shared>,
    manager: Manager,
) -> Result<Json<EndpointList>, Problem> {
    let store = shared.store();
    let endpoints = rows(store.tenant(&manager.tenant)?, |report| &report.endpoints);
    Ok(Json(EndpointList { endpoints }))
}

fn report<'a>(tenant: &'a mut Tenant, agent: &Agent, id: &str) -> Result<&'a mut AgentReport, Problem> {
    let own = tenant.agents.get_mut(id).filter(|_| agent.agent_id == id);
    own.map(|row| &mut row.report).ok_or_else(|| Problem::not_found("the secret belongs to another agent"))
}

fn rows<T: Clone>(tenant: &Tenant, part: impl Fn(&AgentReport) -> &Vec<T>) -> Vec<OfAgent<T>> {
    let of_agent = |agent: &AgentRow| {
        let row = |row: &T| OfAgent { agent_id: agent.id.clone(), row: row.clone() };
        part(&agent.report).iter().map(row).collect::<Vec<_>>()
    };
    tenant.agents.values().flat_map(of_agent).collect()
}

fn too_long<T>(pointer: &str, max: usize, unit: &str) -> Result<T, Problem> {
    Err(Problem::invalid(vec![FieldError::new(pointer, format!("has more than {max} {unit}"))]))
}
