//! Expectations against what was seen. Each violation is one line that says what, how often, and where first.

use portcullis_wire::{AccessLog, Verdict};

use super::send::{Seen, Sent};
use crate::http::{Answer, Reply};
use crate::spec::{Expect, LogExpect, Step};

/// Responses that the whole step expects.
pub(super) fn responses_wanted(step: &Step, requests: usize) -> u64 {
    let each = step.expect.statuses.as_ref().map_or(1, Vec::len);
    u64::from(step.repeat) * requests as u64 * each as u64
}

/// Records that the whole step expects; 0 if it says nothing about the log.
pub(super) fn records_wanted(step: &Step, responses: u64) -> u64 {
    step.expect.log.iter().map(|entry| entry.count.unwrap_or(responses)).sum()
}

/// Status, fields, body and end of every response.
pub(super) fn responses(step: &Step, sent: &Sent, out: &mut Vec<String>) {
    let Expect { status, statuses, closed, headers, body_contains, .. } = &step.expect;
    let replies = &sent.replies;
    every(out, replies, "no whole response", |reply| reply.error.clone());
    if let Some(wanted) = statuses {
        every(out, replies, "responses", |reply| {
            let got: Vec<u16> = reply.answers.iter().map(|answer| answer.status).collect();
            (got != *wanted).then(|| format!("statuses {got:?}, expected {wanted:?}"))
        });
    }
    if let Some(wanted) = closed {
        every(out, replies, "end of the connection", |reply| match (reply.closed, wanted) {
            _ if !reply.extra.is_empty() => {
                Some(format!("{} bytes behind the last response", reply.extra.len()))
            }
            (Some(true), false) => Some("closed by the server, expected open".to_owned()),
            (Some(false) | None, true) => Some("left open, expected closed by the server".to_owned()),
            (Some(true), true) | (Some(false) | None, false) => None,
        });
    }
    if let Some(wanted) = status {
        each_answer(out, replies, "status", |answer| {
            (answer.status != *wanted).then(|| format!("{}, expected {wanted}", answer.status))
        });
    }
    for (name, wanted) in headers {
        each_answer(out, replies, &format!("field {name}"), |answer| match answer.field(name) {
            None => Some(format!("absent, expected to contain `{wanted}`")),
            Some(value) if !value.contains(wanted.as_str()) => {
                Some(format!("`{value}`, expected to contain `{wanted}`"))
            }
            Some(_) => None,
        });
    }
    if let Some(wanted) = body_contains {
        each_answer(out, replies, "body", |answer| {
            let body = String::from_utf8_lossy(&answer.body);
            (!body.contains(wanted.as_str())).then(|| format!("`{}` lacks `{wanted}`", beginning(&body)))
        });
    }
}

/// What the application counted.
pub(super) fn app(step: &Step, requests: u64, bytes: u64, out: &mut Vec<String>) {
    let Expect { app_requests, app_bytes, .. } = &step.expect;
    for (what, got, wanted) in [("requests", requests, app_requests), ("bytes", bytes, app_bytes)] {
        if let Some(wanted) = wanted.filter(|wanted| *wanted != got) {
            out.push(format!("the application saw {got} {what}, expected {wanted}"));
        }
    }
}

/// What the application read, in any case of letters.
pub(super) fn app_text(step: &Step, streams: &[Vec<u8>], out: &mut Vec<String>) {
    let Expect { app_saw, app_never_saw, .. } = &step.expect;
    let seen = streams.concat().to_ascii_lowercase();
    let holds = |text: &String| {
        let text = text.to_ascii_lowercase();
        seen.windows(text.len().max(1)).any(|window| window == text.as_bytes())
    };
    for text in app_saw.iter().filter(|text| !holds(text)) {
        out.push(format!("the application did not see `{text}`"));
    }
    for text in app_never_saw.iter().filter(|text| holds(text)) {
        out.push(format!("the application saw `{text}`"));
    }
}

/// The step's records: each one counts for the first entry that it fits, and each has to fit one.
pub(super) fn log(step: &Step, responses: u64, records: &[AccessLog], out: &mut Vec<String>) {
    let entries = &step.expect.log;
    if entries.is_empty() {
        return;
    }
    let mut counts = vec![0_u64; entries.len()];
    let mut strangers = Vec::new();
    for record in records {
        match entries.iter().position(|entry| entry.fits(record)) {
            Some(n) => counts[n] += 1,
            None => strangers.push(record),
        }
    }
    for (entry, got) in entries.iter().zip(counts) {
        let wanted = entry.count.unwrap_or(responses);
        if got != wanted {
            out.push(format!("the log has {got} records {}, expected {wanted}", entry.describe()));
        }
    }
    if let Some(first) = strangers.first() {
        let AccessLog { decision, reason, method, path, .. } = first;
        let decision = name(*decision);
        out.push(format!(
            "the log has {} records that no entry describes; the first: {decision}, {reason}, {method} {path}",
            strangers.len()
        ));
    }
}

/// Whether client and application saw the same bytes with and without the engine.
pub(super) fn same(without: &Seen, with: &Seen, out: &mut Vec<String>) {
    let answers = |seen: &Seen| -> Vec<Vec<u8>> {
        let replies = &seen.sent.replies;
        replies.iter().flat_map(|reply| &reply.answers).map(|answer| without_date(&answer.raw)).collect()
    };
    differ("the client", &answers(without), &answers(with), out);
    differ("the application", &without.app, &with.app, out);
}

fn differ(who: &str, without: &[Vec<u8>], with: &[Vec<u8>], out: &mut Vec<String>) {
    if without.len() != with.len() {
        out.push(format!("{who} saw {} exchanges, {} without the engine", with.len(), without.len()));
        return;
    }
    for (n, (a, b)) in without.iter().zip(with).enumerate() {
        if a != b {
            let at = a.iter().zip(b).position(|(a, b)| a != b).unwrap_or(a.len().min(b.len()));
            let part = |bytes: &[u8]| {
                let end = bytes.len().min(at + 24);
                bytes[at.min(end)..end].escape_ascii().to_string()
            };
            out.push(format!(
                "{who} saw other bytes in exchange {}, from byte {at}: `{}`, without the engine `{}`",
                n + 1,
                part(b),
                part(a)
            ));
            return;
        }
    }
}

/// The value of a `Date` field tells the time, not what was decided.
fn without_date(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    let head = raw.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or(raw.len());
    for line in raw[..head].split_inclusive(|byte| *byte == b'\n') {
        let is_date = line.get(..5).is_some_and(|name| name.eq_ignore_ascii_case(b"date:"));
        out.extend_from_slice(if is_date { &line[..5] } else { line });
    }
    out.extend_from_slice(&raw[head..]);
    out
}

fn each_answer(
    out: &mut Vec<String>,
    replies: &[Reply],
    what: &str,
    check: impl Fn(&Answer) -> Option<String>,
) {
    let answers: Vec<&Answer> = replies.iter().flat_map(|reply| &reply.answers).collect();
    every(out, &answers, what, |answer| check(answer));
}

/// One line for all items that fail the check.
fn every<T>(out: &mut Vec<String>, items: &[T], what: &str, check: impl Fn(&T) -> Option<String>) {
    let wrong: Vec<(usize, String)> =
        items.iter().enumerate().filter_map(|(n, item)| Some((n + 1, check(item)?))).collect();
    let Some((first, why)) = wrong.first() else { return };
    if items.len() == 1 {
        out.push(format!("{what}: {why}"));
    } else {
        out.push(format!("{what}: {} of {} wrong; number {first}: {why}", wrong.len(), items.len()));
    }
}

fn beginning(text: &str) -> String {
    let short: String = text.chars().take(80).collect();
    if short.len() < text.len() { format!("{}…", short.trim_end()) } else { text.trim_end().to_owned() }
}

fn name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
        Verdict::WouldDeny => "would_deny",
    }
}

// === impl LogExpect ===

impl LogExpect {
    fn fits(&self, record: &AccessLog) -> bool {
        let LogExpect { decision, reason, rule, policy, count: _ } = self;
        *decision == record.decision
            && reason.as_ref().is_none_or(|reason| *reason == record.reason)
            && rule.as_ref().is_none_or(|rule| record.rule_id.as_ref() == Some(rule))
            && policy.as_ref().is_none_or(|policy| record.policy_id.as_ref() == Some(policy))
    }

    fn describe(&self) -> String {
        let LogExpect { decision, reason, rule, policy, count: _ } = self;
        let mut text = format!("`{}`", name(*decision));
        for (what, value) in [("reason", reason), ("rule", rule), ("policy", policy)] {
            if let Some(value) = value {
                text.push_str(&format!(" with {what} `{value}`"));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests;
