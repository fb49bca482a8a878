//! Static analysis: rules that cannot do what whoever wrote them meant.
//!
//! **Invariant:** a finding is certain: shadowing is proved, and what is open is shown with a request that passes.
//! Silence proves nothing.

use std::collections::HashMap;
use std::fmt;

use portcullis_wire::{Mode, Requirements};
use serde::Serialize;

use crate::order;
use crate::policy::{Policy, Rule};
use crate::set::PolicySet;

mod open;
#[cfg(test)]
mod tests;

/// Something that is valid, but hardly meant.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// Id of the policy.
    pub policy: String,
    /// Position of the policy in the list, from 0.
    pub policy_index: usize,
    /// Position of the rule in the policy as it was written, from 0; absent when it is about the policy.
    pub rule_index: Option<usize>,
    /// Id of the rule.
    pub rule: Option<String>,
    /// Field of the policy or the rule.
    pub field: String,
    /// What kind.
    pub kind: FindingKind,
    /// What is the case.
    pub message: String,
    /// What to write instead.
    pub remedy: String,
}

/// Kinds of findings.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// The policy takes no part in any decision.
    DisabledPolicy,
    /// The rule takes no part in any decision.
    DisabledRule,
    /// The rule's mode is stronger than its policy's, which holds.
    ModeWithoutEffect,
    /// The rule protects some methods of a path, and the others pass by the default action.
    OpenMethods,
    /// The rule protects a path, and the path with a slash more or less, which many applications take for it, passes.
    OpenSpelling,
    /// Only their ids say which of two rules is evaluated first.
    OrderById,
    /// Rules before it decide every request that it is about.
    Shadowed,
    /// No token can meet what the rule asks.
    Unsatisfiable,
}

// === impl FindingKind ===

impl FindingKind {
    /// Whether it needs attention; the others say what somebody may well have chosen.
    #[must_use]
    pub fn is_warning(self) -> bool {
        match self {
            FindingKind::ModeWithoutEffect
            | FindingKind::OpenMethods
            | FindingKind::OpenSpelling
            | FindingKind::OrderById
            | FindingKind::Shadowed
            | FindingKind::Unsatisfiable => true,
            FindingKind::DisabledPolicy | FindingKind::DisabledRule => false,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { policy, rule, message, remedy, .. } = self;
        match rule {
            Some(rule) => write!(f, "policy `{policy}`, rule `{rule}`: {message}; {remedy}"),
            None => write!(f, "policy `{policy}`: {message}; {remedy}"),
        }
    }
}

/// Everything that can be said with certainty, ordered by place.
#[must_use]
pub fn analyse(set: &PolicySet) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, policy) in set.policies().iter().enumerate() {
        let mut report = Report { findings: &mut findings, policy, index };
        if policy.mode() == Mode::Disabled {
            let message = "the policy is disabled and takes no part in any decision".to_owned();
            report.add(
                None,
                "mode",
                FindingKind::DisabledPolicy,
                message,
                "set `mode` to monitor or enforce, or remove it",
            );
            continue;
        }
        for (number, rule) in policy.rules().iter().enumerate() {
            if rule.mode() == Mode::Disabled {
                let message = "the rule is disabled and takes no part in any decision".to_owned();
                report.add(
                    Some(rule),
                    "mode",
                    FindingKind::DisabledRule,
                    message,
                    "remove the rule or its `mode`",
                );
                continue;
            }
            mode_without_effect(rule, &mut report);
            unsatisfiable(rule, &mut report);
            if !shadowed(number, rule, &mut report) {
                open::beside(number, rule, &mut report);
            }
        }
        order_by_id(&mut report);
    }
    findings.sort_by_key(|finding| {
        (finding.policy_index, finding.rule_index.map_or(0, |rule| rule + 1), finding.kind)
    });
    findings
}

/// Findings so far, and the policy in hand.
struct Report<'a> {
    findings: &'a mut Vec<Finding>,
    policy: &'a Policy,
    index: usize,
}

// === impl Report ===

impl Report<'_> {
    fn add(&mut self, rule: Option<&Rule>, field: &str, kind: FindingKind, message: String, remedy: &str) {
        self.findings.push(Finding {
            policy: self.policy.id().to_owned(),
            policy_index: self.index,
            rule_index: rule.map(Rule::position),
            rule: rule.map(|rule| rule.id().to_owned()),
            field: field.to_owned(),
            kind,
            message,
            remedy: remedy.to_owned(),
        });
    }
}

fn mode_without_effect(rule: &Rule, report: &mut Report<'_>) {
    let Some(mode) = rule.wire().mode.filter(|mode| *mode > report.policy.mode()) else { return };
    let message = format!(
        "mode `{}` has no effect: the policy is in mode `{}`",
        text(mode),
        text(report.policy.mode())
    );
    let remedy = "a rule can only weaken its policy: strengthen the policy, and weaken its other rules";
    report.add(Some(rule), "mode", FindingKind::ModeWithoutEffect, message, remedy);
}

fn text(mode: Mode) -> &'static str {
    match mode {
        Mode::Disabled => "disabled",
        Mode::Monitor => "monitor",
        Mode::Enforce => "enforce",
    }
}

/// Requirements that contradict each other.
fn unsatisfiable(rule: &Rule, report: &mut Report<'_>) {
    let Some(none_of) = &rule.wire().none_of else { return };
    let Requirements { roles, permissions, groups } = none_of;
    let wire = rule.wire();
    let empty = Requirements::default();
    let all_of = wire.all_of.as_ref().unwrap_or(&empty);
    for (noun, banned, all, any) in [
        ("role", roles, &all_of.roles, &wire.required_roles),
        ("permission", permissions, &all_of.permissions, &wire.required_permissions),
        ("group", groups, &all_of.groups, &wire.required_groups),
    ] {
        let message = match all.iter().find(|name| banned.contains(name)) {
            Some(name) => {
                format!("no token can meet it: {noun} `{name}` is both in `all_of` and in `none_of`")
            }
            None if !any.is_empty() && any.iter().all(|name| banned.contains(name)) => {
                format!("no token can meet it: every required {noun} is in `none_of`")
            }
            None => continue,
        };
        let remedy = "take the name out of one of the lists; a rule that denies everybody needs no names";
        report.add(Some(rule), "none_of", FindingKind::Unsatisfiable, message, remedy);
        return;
    }
}

/// Whether rules before it decide all that it is about; reported when so.
fn shadowed(number: usize, rule: &Rule, report: &mut Report<'_>) -> bool {
    let policy = report.policy;
    let earlier = policy.index.candidates(rule.glob()).into_iter().take_while(|earlier| *earlier < number);
    let mut before: Vec<&Rule> = earlier
        .map(|earlier| &policy.rules()[earlier])
        .filter(|earlier| earlier.methods() & rule.methods() != 0 && earlier.glob().contains(rule.glob()))
        .collect();
    if let Some(alone) = before.iter().position(|earlier| rule.methods() & !earlier.methods() == 0) {
        before = vec![before[alone]];
    }
    let covered = before.iter().fold(0, |covered, earlier| covered | earlier.methods());
    if rule.methods() & !covered != 0 {
        return false;
    }
    let names: Vec<String> = before
        .iter()
        .map(|rule| {
            format!(
                "`{}` ({} {}, priority {})",
                rule.id(),
                rule.wire().method,
                rule.glob(),
                rule.wire().priority
            )
        })
        .collect();
    let message = format!(
        "it never decides: rule {} comes first and is about every request that this one is about",
        names.join(" and rule ")
    );
    report.add(
        Some(rule),
        "path_pattern",
        FindingKind::Shadowed,
        message,
        "raise its `priority`, or remove it",
    );
    true
}

/// Pairs of rules that are compared at most, one policy: beyond that, order by id is not looked for any further.
const PAIRS_MAX: usize = 1_000_000;

/// Rules that both match some request, and of which only the ids say who decides.
fn order_by_id(report: &mut Report<'_>) {
    let policy = report.policy;
    let mut pairs = 0;
    let mut demands = HashMap::new();
    let mut peers: HashMap<_, Vec<(usize, &Rule)>> = HashMap::new();
    for rule in policy.rules().iter().filter(|rule| rule.mode() != Mode::Disabled) {
        let next = demands.len();
        let demand = *demands.entry(demand(rule)).or_insert(next);
        // Patterns that overlap and begin with as much text begin with the same text.
        let prefix_len = rule.glob().literal_prefix_len();
        let prefix: String = rule.glob().as_str().chars().take(prefix_len).collect();
        let earlier = peers.entry((order::weight(rule), prefix)).or_default();
        let others = earlier.iter().filter(|(other, _)| *other != demand).map(|(_, other)| *other);
        let mut compared = 0;
        let tie = others.take(PAIRS_MAX - pairs).find(|other| {
            compared += 1;
            other.methods() & rule.methods() != 0
                && other.glob().overlaps(rule.glob())
                && !other.glob().contains(rule.glob())
        });
        pairs += compared;
        if let Some(other) = tie {
            let message = format!(
                "only their ids say that rule `{}` ({} {}) is evaluated before this one, and both match some requests",
                other.id(),
                other.wire().method,
                other.glob()
            );
            let remedy = "give the two rules different priorities";
            report.add(Some(rule), "priority", FindingKind::OrderById, message, remedy);
        }
        earlier.push((demand, rule));
    }
}

/// Everything that a rule says about the requests that it decides: it makes no difference which of two rules decides
/// that say the same.
fn demand(rule: &Rule) -> String {
    let mut wire = rule.wire().clone();
    (wire.id, wire.method, wire.path_pattern, wire.priority) = Default::default();
    (wire.auth, wire.mode) = (Some(rule.auth()), Some(rule.mode()));
    format!("{wire:?}")
}
