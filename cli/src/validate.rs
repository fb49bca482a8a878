//! `portcullis validate`: what a policy would do to recorded traffic.

mod report;
mod traffic;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use portcullis_mock_control_plane::Clock;
use portcullis_policy::analysis::{FindingKind, analyse};
use portcullis_policy::{Decision, PolicySet, Request, Token};
use portcullis_wire::{Method, Mode, Reason, Verdict};

use crate::Exit;
use crate::output::{self, Format};
use crate::policies;
use report::{Change, Report, RuleNote};
use traffic::Row;

/// Say who loses and who gains access before a policy is rolled out
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The traffic is JSON Lines, one request a line:
  {\"port\":8080,\"host\":\"api.example.com\",\"method\":\"GET\",\"path\":\"/orders/7\",
   \"claims\":{\"sub\":\"alice\",\"roles\":[\"reader\"]},\"count\":120}
`port`, `method` and `path` are needed. Without `claims` the request had no token; `token_refused` names the reason for
which it had a bad one; `time_s` is when, Unix seconds; `decision` is what happened then (allow, deny, would_deny).

Examples:
  portcullis validate --policy new.yaml --traffic traffic.jsonl
  portcullis validate --policy new.yaml --baseline old.yaml --traffic traffic.jsonl --format json

Monitor mode counts like enforce mode: the question is who would lose. Without --baseline the recorded `decision` is
what the new policy is compared with, and an allow where there is none.

Exit status: 0 nobody loses access, 1 somebody does, 2 bad usage or a bad file.")]
pub struct Args {
    /// Policy file to be rolled out
    #[arg(long, value_name = "NEW")]
    policy: PathBuf,
    /// Policy file in force
    #[arg(long, value_name = "OLD")]
    baseline: Option<PathBuf>,
    /// Recorded traffic
    #[arg(long, value_name = "FILE")]
    traffic: PathBuf,
    /// How the result is printed
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// What becomes of a request.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Fate {
    Passes,
    Denied { reason: Reason, policy: Option<String>, rule: Option<String> },
}

pub fn validate(args: Args) -> Exit {
    let Args { policy, baseline, traffic, format } = args;
    let new = policies::read(&policy, 80);
    let old = baseline.as_deref().map(|file| policies::read(file, 80)).transpose();
    let rows = traffic::read(&traffic);
    let (new, old, rows) = match (new, old, rows) {
        (Ok(new), Ok(old), Ok(rows)) => (new, old, rows),
        (new, old, rows) => {
            let all = [new.err(), old.err(), rows.err()].into_iter().flatten().flatten();
            return Ok(output::refuse(&all.collect::<Vec<_>>()));
        }
    };
    let report = compare(&new, old.as_ref(), &rows, Clock::system().now_s());
    match format {
        Format::Json => output::print_json(&report)?,
        Format::Table => output::print(&report.to_text())?,
    }
    Ok(u8::from(!report.loses.is_empty()))
}

fn compare(new: &PolicySet, old: Option<&PolicySet>, rows: &[Row], now_s: u64) -> Report {
    let (mut loses, mut gains) = (BTreeMap::<Change, u64>::new(), BTreeMap::<Change, u64>::new());
    let mut used = BTreeSet::new();
    let (mut requests, mut unprotected) = (0, 0);
    for row in rows {
        requests += row.count;
        let (fate, decision) = decide(new, row, now_s);
        match decision {
            Some(Decision { policy: Some(policy), rule: Some(rule), .. }) => {
                used.insert((policy, rule));
            }
            Some(_) => {}
            None => unprotected += row.count,
        }
        let before = match (old, row.decision) {
            (Some(old), _) => decide(old, row, now_s).0,
            (None, None | Some(Verdict::Allow | Verdict::WouldDeny)) => Fate::Passes,
            (None, Some(Verdict::Deny)) => Fate::Denied { reason: Reason::None, policy: None, rule: None },
        };
        match (before, fate) {
            (Fate::Passes, Fate::Denied { reason, policy, rule }) => {
                *loses.entry(Change::new(row, Some(reason), policy, rule)).or_default() += row.count;
            }
            (Fate::Denied { .. }, Fate::Passes) => {
                let (policy, rule) = decision.map_or((None, None), |d| names(new, &d));
                *gains.entry(Change::new(row, None, policy, rule)).or_default() += row.count;
            }
            (Fate::Passes, Fate::Passes) | (Fate::Denied { .. }, Fate::Denied { .. }) => {}
        }
    }
    Report {
        requests,
        unprotected,
        loses: report::ranked(loses),
        gains: report::ranked(gains),
        unused: unused(new, &used),
        shadowed: shadowed(new),
    }
}

fn decide(set: &PolicySet, row: &Row, now_s: u64) -> (Fate, Option<Decision>) {
    if set.port_enforces(row.port).is_none() {
        return (Fate::Passes, None);
    }
    let token = match (&row.claims, row.token_refused) {
        (Some(claims), _) => Token::Valid(claims.view()),
        (None, Some(reason)) => Token::Invalid(reason),
        (None, None) => Token::None,
    };
    let request = Request {
        port: row.port,
        host: row.host.as_deref(),
        method: Method::parse(row.method.as_bytes()),
        path: &row.path,
    };
    let decision = set.decide(&request, &token, row.time_s.unwrap_or(now_s));
    if decision.reason.is_allow() {
        return (Fate::Passes, Some(decision));
    }
    let (policy, rule) = names(set, &decision);
    (Fate::Denied { reason: decision.reason, policy, rule }, Some(decision))
}

fn names(set: &PolicySet, decision: &Decision) -> (Option<String>, Option<String>) {
    (decision.policy_id(set).map(str::to_owned), decision.rule_id(set).map(str::to_owned))
}

/// Rules that decided none of the traffic.
fn unused(set: &PolicySet, used: &BTreeSet<(usize, usize)>) -> Vec<RuleNote> {
    let mut notes = Vec::new();
    for (p, policy) in set.policies().iter().enumerate() {
        for (r, rule) in policy.rules().iter().enumerate() {
            if rule.mode() != Mode::Disabled && !used.contains(&(p, r)) {
                notes.push(RuleNote {
                    policy: policy.id().to_owned(),
                    rule: rule.id().to_owned(),
                    text: format!("{} {}", rule.wire().method, rule.glob()),
                });
            }
        }
    }
    notes
}

/// Rules that cannot decide anything, whatever the traffic is.
fn shadowed(set: &PolicySet) -> Vec<RuleNote> {
    let findings = analyse(set).into_iter().filter(|finding| finding.kind == FindingKind::Shadowed);
    findings
        .map(|finding| RuleNote {
            policy: finding.policy,
            rule: finding.rule.unwrap_or_default(),
            text: finding.message,
        })
        .collect()
}
