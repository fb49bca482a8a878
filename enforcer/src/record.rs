//! Events of the kernel programs as access-log records.
//!
//! **Invariant:** no I/O, no clock: the caller says how boot time relates to Unix time.
//! **Invariant:** a record never holds a token, and its texts hold no control characters: what came from the network
//! is escaped without loss (`record/text.rs`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use portcullis_bpf::{
    abi::{Event, Text64, event_flag, mode},
    limits,
    reason::{REASONS, ReasonRow},
};
use portcullis_wire::{AccessLog, CandidateVerdict, Mode, Verdict, time};
use zerocopy::FromBytes;

use crate::compile::{PrincipalKind, Tables};
use crate::generation::version_of;

mod text;

/// Why bytes of the event ring are no record.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The reason is not in reason.h: programs and agent are of different versions.
    #[error("event carries reason {0}, which this agent does not know")]
    Reason(u16),
    /// The size is not that of `pc_event`.
    #[error("event has {0} bytes, expected {expected}", expected = size_of::<Event>())]
    Size(usize),
}

/// The record of one event.
///
/// `tables` are those of the generation that the event names (see [`version`]); `None` when the agent no longer
/// has them: numbers then stand for ids. `boot_to_unix_ns` is Unix time minus boot time.
pub fn to_access_log(
    event: &[u8],
    tables: Option<&Tables>,
    agent_id: &str,
    boot_to_unix_ns: i64,
) -> Result<AccessLog, RecordError> {
    let event = read(event)?;
    let reason = reason(event.reason)?;
    let flag = |flag: u16| event.flags & flag != 0;
    let verified = flag(event_flag::TOKEN_VERIFIED);
    let identity = |text: &Text64| (verified && text.len > 0).then(|| name(&text.s, usize::from(text.len)));
    let rule_entry =
        tables.zip(number(event.rule, limits::RULES_MAX)).and_then(|(tables, rule)| tables.rules.get(rule));
    Ok(AccessLog {
        agent_id: agent_id.to_owned(),
        decision_id: format!("{:016x}", event.decision),
        source_ip: address(&event).to_string(),
        source_port: event.sport,
        destination_port: event.dport,
        method: text::escape(first_word(&event.method_text)),
        host: (event.host_len > 0).then(|| name(&event.host, usize::from(event.host_len))),
        path: name(&event.path, usize::from(event.path_len)),
        user_id: identity(&event.sub),
        user_email: identity(&event.email),
        roles: match tables {
            Some(tables) if verified => tables.names(&event.bits, PrincipalKind::Role),
            _ => Vec::new(),
        },
        decision: verdict(&event, reason),
        reason: reason.slug.to_owned(),
        decision_reason: explain(reason, rule_entry.map(|entry| entry.text.as_str())),
        status: (reason.status > 0).then_some(reason.status),
        mode: wire_mode(event.mode),
        policy_id: policy_id(event.policy, tables),
        rule_id: rule_id(event.rule, tables),
        policy_generation: version_of(event.generation),
        kid: (verified && event.kid_len > 0).then(|| name(&event.kid, usize::from(event.kid_len))),
        latency_us: f64::from(event.kernel_ns) / 1000.0,
        verify_ns: u64::from(event.verify_ns),
        token_cache_hit: flag(event_flag::CACHE_HIT),
        mfa_verified: flag(event_flag::MFA),
        candidate: candidate(&event, tables)?,
        timestamp: time::rfc3339(i128::from(event.boot_ns) + i128::from(boot_to_unix_ns)),
    })
}

/// Version of the bundle that decided: whose tables [`to_access_log`] needs.
pub fn version(event: &[u8]) -> Result<u64, RecordError> {
    Ok(version_of(read(event)?.generation))
}

fn read(bytes: &[u8]) -> Result<Event, RecordError> {
    Event::read_from_bytes(bytes).map_err(|_| RecordError::Size(bytes.len()))
}

fn reason(code: u16) -> Result<&'static ReasonRow, RecordError> {
    REASONS.iter().find(|row| row.code == code).ok_or(RecordError::Reason(code))
}

/// Zero is "none", else the index is one less. It may be the index within the map, where half 1 starts at `max`.
fn number(index_plus_one: u32, max: usize) -> Option<usize> {
    index_plus_one.checked_sub(1).map(|index| index as usize % max)
}

fn policy_id(index_plus_one: u32, tables: Option<&Tables>) -> Option<String> {
    let id = number(index_plus_one, limits::POLICIES_MAX)?;
    let entry = tables.and_then(|tables| tables.policies.get(id));
    Some(entry.map_or_else(|| format!("#{id}"), |entry| entry.id.clone()))
}

fn rule_id(index_plus_one: u32, tables: Option<&Tables>) -> Option<String> {
    let id = number(index_plus_one, limits::RULES_MAX)?;
    let entry = tables.and_then(|tables| tables.rules.get(id));
    Some(entry.map_or_else(|| format!("#{id}"), |entry| entry.id.clone()))
}

fn candidate(event: &Event, tables: Option<&Tables>) -> Result<Option<CandidateVerdict>, RecordError> {
    if event.candidate_reason == 0 {
        return Ok(None);
    }
    let reason = reason(event.candidate_reason)?;
    Ok(Some(CandidateVerdict {
        name: tables.and_then(|tables| tables.candidate.clone()).unwrap_or_default(),
        decision: if reason.status == 0 { Verdict::Allow } else { Verdict::Deny },
        reason: reason.slug.to_owned(),
        policy_id: policy_id(event.candidate_policy, tables),
        rule_id: rule_id(event.candidate_rule, tables),
    }))
}

fn verdict(event: &Event, reason: &ReasonRow) -> Verdict {
    if reason.status == 0 {
        Verdict::Allow
    } else if event.flags & event_flag::WOULD_DENY != 0 {
        Verdict::WouldDeny
    } else {
        Verdict::Deny
    }
}

fn explain(reason: &ReasonRow, rule: Option<&str>) -> String {
    match rule {
        Some(rule) if reason.status == 0 => format!("matched rule: {rule}"),
        Some(rule) => format!("{}; matched rule: {rule}", reason.text),
        None => reason.text.to_owned(),
    }
}

fn wire_mode(number: u8) -> Option<Mode> {
    match number {
        mode::ENFORCE => Some(Mode::Enforce),
        mode::MONITOR => Some(Mode::Monitor),
        mode::DISABLED => Some(Mode::Disabled),
        _ => None,
    }
}

fn address(event: &Event) -> IpAddr {
    let [a, b, c, d, ..] = event.saddr;
    if event.flags & event_flag::IPV6 == 0 {
        return IpAddr::V4(Ipv4Addr::new(a, b, c, d));
    }
    // A dual-stack listener sees IPv4 peers as mapped addresses; logs name a peer in one way.
    IpAddr::V6(Ipv6Addr::from(event.saddr)).to_canonical()
}

/// Text of which the event holds the beginning: an ellipsis says that there was more.
fn name(bytes: &[u8], full_len: usize) -> String {
    let held = full_len.min(bytes.len());
    let mut text = text::escape(&bytes[..held]);
    if full_len > held {
        text.push('…');
    }
    text
}

/// The kernel copies the beginning of the request line.
fn first_word(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| matches!(byte, 0 | b' ' | b'\r' | b'\n')).next().unwrap_or_default()
}

#[cfg(test)]
mod tests;
