//! Decisions as access-log records: the same that the kernel's agent reports.

use std::net::SocketAddr;
use std::time::Duration;

use portcullis_wire::{AccessLog, Verdict as Outcome};

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
        timestamp: rfc3339(now),
    }
}

/// `2026-03-22T10:30:05.123Z` of a time since the Unix epoch.
fn rfc3339(now: Duration) -> String {
    let (days, in_day) = (now.as_secs() / 86_400, now.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (in_day / 3600, in_day / 60 % 60, in_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", now.subsec_millis())
}

/// Date of a day since 1970-01-01 in the proleptic Gregorian calendar (H. Hinnant, "chrono-compatible low-level date
/// algorithms", civil_from_days, for days that are not negative).
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (unix_s, expected) in [
            (0, "1970-01-01T00:00:00.007Z"),
            (951_782_399, "2000-02-28T23:59:59.007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.007Z"),
        ] {
            assert_eq!(rfc3339(Duration::from_millis(unix_s * 1000 + 7)), expected);
        }
    }
}
