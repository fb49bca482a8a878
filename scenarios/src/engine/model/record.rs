//! Decisions of the model as access-log records.

use std::net::SocketAddr;
use std::time::Duration;

use portcullis_verdict::Record;
use portcullis_wire::AccessLog;

use super::Rules;
use crate::report::rfc3339;

/// The record of one decision. `took`: for the whole segment.
pub(super) fn access_log(
    decided: &Record,
    rules: &Rules,
    peer: SocketAddr,
    port: u16,
    now_s: u64,
    took: Duration,
) -> AccessLog {
    let Record { decision_id, decision, head } = decided;
    let resource = decision.resource();
    let identity = decision.identity();
    let claims = identity.map(|token| token.claims());
    let named = |role: &&String| rules.roles.contains(role);
    AccessLog {
        // The control plane writes who reported it.
        agent_id: String::new(),
        decision_id: format!("{decision_id:016x}"),
        source_ip: peer.ip().to_string(),
        source_port: peer.port(),
        destination_port: port,
        method: head.as_ref().map_or_else(String::new, |h| h.method_token().escape_ascii().to_string()),
        host: resource.and_then(|resource| resource.host.clone()),
        path: resource.map_or_else(String::new, |resource| resource.path.clone()),
        user_id: claims.and_then(|claims| claims.sub.clone()),
        user_email: claims.and_then(|claims| claims.email.clone()),
        roles: claims.map_or_else(Vec::new, |claims| claims.roles.iter().filter(named).cloned().collect()),
        decision: decision.verdict(),
        reason: decision.reason().slug().to_owned(),
        decision_reason: decision.reason().text().to_owned(),
        status: decision.status(),
        mode: Some(decision.mode()),
        policy_id: decision.policy_id(&rules.policies).map(str::to_owned),
        rule_id: decision.rule_id(&rules.policies).map(str::to_owned),
        policy_generation: rules.version,
        kid: identity.map(|token| token.kid().to_owned()),
        latency_us: took.as_secs_f64() * 1e6,
        verify_ns: 0,
        token_cache_hit: false,
        mfa_verified: claims.is_some_and(|claims| claims.mfa_verified),
        candidate: rules.candidate.as_ref().and_then(|(name, candidate)| {
            portcullis_verdict::tried(name, head.as_deref()?, port, candidate, &rules.keys, now_s)
        }),
        timestamp: rfc3339(now_s),
    }
}
