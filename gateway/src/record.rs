//! Decisions as access-log records: the same that the kernel's agent reports.

use std::net::SocketAddr;
use std::time::Duration;

use portcullis_wire::{AccessLog, Verdict as Outcome, time};

use crate::judge::Verdict;
use crate::rules::Rules;

/// The record of one decision. `took`: for what was judged with it.
pub(crate) fn access_log(
    verdict: &Verdict,
    rules: &Rules,
    peer: SocketAddr,
    port: u16,
    now: Duration,
    took: Duration,
) -> AccessLog {
    let Verdict { decision_id, decision, head, refused } = verdict;
    let resource = decision.resource();
    let identity = decision.identity();
    let claims = identity.map(|token| token.claims());
    let policy_id = decision.policy_id(&rules.policies);
    let rule_id = decision.rule_id(&rules.policies);
    let words = policy_id.zip(rule_id).and_then(|(policy, rule)| rules.words(policy, rule));
    AccessLog {
        // Whoever sends or prints it fills in who reports.
        agent_id: String::new(),
        decision_id: format!("{decision_id:016x}"),
        source_ip: peer.ip().to_canonical().to_string(),
        source_port: peer.port(),
        destination_port: port,
        method: head.as_ref().map_or_else(String::new, |head| head.method_token().escape_ascii().to_string()),
        host: resource.and_then(|resource| resource.host.clone()),
        path: resource.map_or_else(String::new, |resource| resource.path.clone()),
        user_id: claims.and_then(|claims| claims.sub.clone()),
        user_email: claims.and_then(|claims| claims.email.clone()),
        roles: claims.map_or_else(Vec::new, |claims| {
            claims.roles.iter().filter(|role| rules.roles.contains(*role)).cloned().collect()
        }),
        decision: if *refused { Outcome::Deny } else { decision.verdict() },
        reason: decision.reason().slug().to_owned(),
        decision_reason: match (words, decision.status()) {
            (None, _) => decision.reason().text().to_owned(),
            (Some(words), None) => format!("matched rule: {words}"),
            (Some(words), Some(_)) => format!("{}; matched rule: {words}", decision.reason().text()),
        },
        status: decision.status(),
        mode: Some(decision.mode()),
        policy_id: policy_id.map(str::to_owned),
        rule_id: rule_id.map(str::to_owned),
        policy_generation: rules.version,
        kid: identity.map(|token| token.kid().to_owned()),
        latency_us: took.as_secs_f64() * 1e6,
        verify_ns: 0,
        token_cache_hit: false,
        mfa_verified: claims.is_some_and(|claims| claims.mfa_verified),
        candidate: rules.candidate.as_ref().and_then(|(name, candidate)| {
            portcullis_verdict::tried(name, head.as_deref()?, port, candidate, &rules.keys, now.as_secs())
        }),
        timestamp: time::rfc3339(now.as_nanos().cast_signed()),
    }
}
