//! Policies: create, read, replace, delete.
//!
//! The control plane checks the form of a policy. What a policy means is checked by the agent's compiler: a
//! control plane that shared that code could not be used to test it.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderName, StatusCode, header};
use portcullis_wire::{Candidate, Mode, Policy, Rule};
use serde::Serialize;

use crate::extract::{Body, Manager};
use crate::server::Shared;
use crate::store::{CANDIDATE, Tenant};
use crate::{FieldError, Problem, secret};

/// Policies.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct PolicyList {
    policies: Vec<Policy>,
}

const METHODS: [&str; 8] = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "*"];
const RULES_MAX: usize = 10_000;
const POLICIES_MAX: usize = 1_000;

/// `GET …/policies`
pub(super) async fn list(
    State(shared): State<Shared>,
    manager: Manager,
) -> Result<Json<PolicyList>, Problem> {
    let store = shared.store();
    let tenant = store.tenant(&manager.tenant)?;
    Ok(Json(PolicyList { policies: tenant.policies.values().cloned().collect() }))
}

/// `POST …/policies`
pub(super) async fn create(
    State(shared): State<Shared>,
    manager: Manager,
    Body(mut policy): Body<Policy>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Policy>), Problem> {
    check(&policy)?;
    if policy.id.is_empty() {
        policy.id = secret::random("policy-")?;
    }
    let mut store = shared.store();
    let tenant = store.tenant_mut(&manager.tenant)?;
    if tenant.policies.contains(&policy.id) {
        return Err(Problem::conflict(format!("policy `{}` exists; replace it with PUT", policy.id)));
    }
    let location = format!("/manage/v1/{}/access/policies/{}", manager.tenant, policy.id);
    let policy = put(tenant, policy)?;
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(policy)))
}

/// `GET …/policies/{policy}`
pub(super) async fn get(
    State(shared): State<Shared>,
    Path((_, id)): Path<(String, String)>,
    manager: Manager,
) -> Result<Json<Policy>, Problem> {
    let store = shared.store();
    let tenant = store.tenant(&manager.tenant)?;
    tenant.policies.get(&id).cloned().map(Json).ok_or_else(|| gone("policy"))
}

/// `PUT …/policies/{policy}`
pub(super) async fn replace(
    State(shared): State<Shared>,
    Path((_, id)): Path<(String, String)>,
    manager: Manager,
    Body(mut policy): Body<Policy>,
) -> Result<Json<Policy>, Problem> {
    check(&policy)?;
    if policy.id.is_empty() {
        policy.id = id.clone();
    }
    if policy.id != id {
        return Err(Problem::invalid(vec![FieldError::new("/id", format!("differs from the URL's `{id}`"))]));
    }
    let mut store = shared.store();
    let tenant = store.tenant_mut(&manager.tenant)?;
    if !tenant.policies.contains(&id) {
        return Err(gone("policy"));
    }
    put(tenant, policy).map(Json)
}

/// `DELETE …/policies/{policy}`
pub(super) async fn delete(
    State(shared): State<Shared>,
    Path((_, id)): Path<(String, String)>,
    manager: Manager,
) -> Result<StatusCode, Problem> {
    let mut store = shared.store();
    let tenant = store.tenant_mut(&manager.tenant)?;
    tenant.policies.remove(&id).ok_or_else(|| gone("policy"))?;
    tenant.version.bump();
    Ok(StatusCode::NO_CONTENT)
}

/// `GET …/candidate`
pub(super) async fn candidate(
    State(shared): State<Shared>,
    manager: Manager,
) -> Result<Json<Candidate>, Problem> {
    let store = shared.store();
    let tenant = store.tenant(&manager.tenant)?;
    tenant.candidate.get(CANDIDATE).cloned().map(Json).ok_or_else(|| gone("candidate"))
}

/// `PUT …/candidate`
pub(super) async fn try_candidate(
    State(shared): State<Shared>,
    manager: Manager,
    Body(mut candidate): Body<Candidate>,
) -> Result<Json<Candidate>, Problem> {
    let mut errors = Vec::new();
    if candidate.name.trim().is_empty() || candidate.name.len() > 240 {
        errors.push(FieldError::new("/name", "give the candidate a name of at most 240 bytes"));
    }
    if candidate.policies.len() > POLICIES_MAX {
        errors.push(FieldError::new("/policies", format!("more than {POLICIES_MAX} policies")));
    }
    let (mut ids, mut places) = (BTreeSet::new(), BTreeSet::new());
    for (n, policy) in candidate.policies.iter_mut().enumerate() {
        let at = format!("/policies/{n}");
        errors.extend(
            field_errors(policy).into_iter().map(|FieldError { pointer, detail }| FieldError {
                pointer: format!("{at}{pointer}"),
                detail,
            }),
        );
        if policy.id.is_empty() {
            policy.id.clone_from(&policy.name);
        }
        if !ids.insert(policy.id.clone()) {
            errors
                .push(FieldError::new(format!("/policies/{n}/id"), format!("`{}` is used twice", policy.id)));
        }
        let host = policy.host_match.as_ref().map(|host| host.to_ascii_lowercase());
        if !places.insert((policy.port_match, host)) {
            let detail = "another policy of the candidate has the same port and host";
            errors.push(FieldError::new(format!("/policies/{n}/host_match"), detail));
        }
    }
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let mut store = shared.store();
    let tenant = store.tenant_mut(&manager.tenant)?;
    if tenant.candidate.get(CANDIDATE) != Some(&candidate) {
        tenant.candidate.insert(CANDIDATE.to_owned(), candidate.clone());
        tenant.version.bump();
    }
    Ok(Json(candidate))
}

/// `DELETE …/candidate`
pub(super) async fn end_trial(State(shared): State<Shared>, manager: Manager) -> Result<StatusCode, Problem> {
    let mut store = shared.store();
    let tenant = store.tenant_mut(&manager.tenant)?;
    tenant.candidate.remove(CANDIDATE).ok_or_else(|| gone("candidate"))?;
    tenant.version.bump();
    Ok(StatusCode::NO_CONTENT)
}

/// Creates a policy, or replaces the one with its identifier, or without one with its name.
pub(crate) fn publish(tenant: &mut Tenant, mut policy: Policy) -> Result<Policy, Problem> {
    check(&policy)?;
    if policy.id.is_empty() {
        let known = tenant.policies.values().find(|known| known.name == policy.name);
        policy.id = known.map_or_else(|| secret::random("policy-"), |known| Ok(known.id.clone()))?;
    }
    put(tenant, policy)
}

fn put(tenant: &mut Tenant, policy: Policy) -> Result<Policy, Problem> {
    if tenant.policies.len() >= POLICIES_MAX && !tenant.policies.contains(&policy.id) {
        return Err(Problem::conflict(format!("{POLICIES_MAX} policies exist; delete one first")));
    }
    check_overlap(tenant, &policy)?;
    check_ports(tenant, &policy)?;
    // An unchanged policy is not a new generation: agents would reload for nothing.
    if tenant.policies.get(&policy.id) != Some(&policy) {
        tenant.policies.insert(policy.id.clone(), policy.clone());
        tenant.version.bump();
    }
    Ok(policy)
}

fn check(policy: &Policy) -> Result<(), Problem> {
    let errors = field_errors(policy);
    if errors.is_empty() { Ok(()) } else { Err(Problem::invalid(errors)) }
}

fn field_errors(policy: &Policy) -> Vec<FieldError> {
    let Policy { id, name, port_match, host_match, mode: _, default_action: _, rules } = policy;
    let mut errors = Vec::new();
    if name.trim().is_empty() {
        errors.push(FieldError::new("/name", "is empty; give the policy a name"));
    }
    if name.len() > 240 || id.len() > 240 {
        errors.push(FieldError::new("/name", "name and id may have 240 bytes"));
    }
    if id.contains('/') {
        errors.push(FieldError::new("/id", "must not contain `/`: it stands in URLs"));
    }
    if *port_match == 0 {
        errors.push(FieldError::new("/port_match", "must be 1 to 65535"));
    }
    if host_match.as_ref().is_some_and(|host| host.is_empty() || host.contains(['/', ' '])) {
        errors.push(FieldError::new(
            "/host_match",
            "must be a host name or `*.suffix`; leave it out for any host",
        ));
    }
    if rules.len() > RULES_MAX {
        errors.push(FieldError::new("/rules", format!("more than {RULES_MAX} rules")));
    }
    let mut ids = BTreeSet::new();
    for (n, rule) in rules.iter().enumerate() {
        check_rule(rule, &format!("/rules/{n}"), &mut errors);
        if !rule.id.is_empty() && !ids.insert(&rule.id) {
            errors.push(FieldError::new(format!("/rules/{n}/id"), format!("`{}` is used twice", rule.id)));
        }
    }
    errors
}

fn check_rule(rule: &Rule, at: &str, errors: &mut Vec<FieldError>) {
    if !METHODS.contains(&rule.method.as_str()) {
        let detail = format!("`{}` is none of {}", rule.method, METHODS.join(", "));
        errors.push(FieldError::new(format!("{at}/method"), detail));
    }
    if !rule.path_pattern.starts_with('/') {
        errors.push(FieldError::new(format!("{at}/path_pattern"), "must start with `/`"));
    }
    if let Some(other) = rule.upgrade.iter().find(|protocol| *protocol != "websocket") {
        let detail = format!("`{other}` cannot be allowed; write `websocket`, or leave the field out");
        errors.push(FieldError::new(format!("{at}/upgrade"), detail));
    }
    if rule.mfa_max_age_s.is_some() && !rule.require_mfa {
        errors.push(FieldError::new(
            format!("{at}/mfa_max_age_s"),
            "has no effect without `require_mfa: true`",
        ));
    }
}

fn check_overlap(tenant: &Tenant, policy: &Policy) -> Result<(), Problem> {
    let key = |p: &Policy| (p.port_match, p.host_match.as_ref().map(|h| h.to_ascii_lowercase()));
    let other = tenant.policies.values().find(|other| {
        other.id != policy.id
            && policy.mode != Mode::Disabled
            && other.mode != Mode::Disabled
            && key(other) == key(policy)
    });
    match other {
        None => Ok(()),
        Some(other) => Err(Problem::conflict(format!(
            "policies `{}` and `{}` cover the same port and host; change one of them, or disable it",
            other.name, policy.name
        ))),
    }
}

/// As many protected ports as the plan allows: those of the other policies, and this one's.
fn check_ports(tenant: &Tenant, policy: &Policy) -> Result<(), Problem> {
    let others = tenant.policies.values().filter(|other| other.id != policy.id);
    let ports = |policies: &[&Policy]| {
        let live = policies.iter().filter(|policy| policy.mode != Mode::Disabled);
        live.map(|policy| policy.port_match).collect::<BTreeSet<u16>>()
    };
    let before = ports(&others.collect::<Vec<_>>());
    let mut after = before.clone();
    after.extend(ports(&[policy]));
    if after.len() == before.len() {
        return Ok(());
    }
    tenant.plan.need_room("protected ports", after.len(), tenant.plan.ports_max())
}

fn gone(what: &str) -> Problem {
    Problem::not_found(format!("no such {what}"))
}
