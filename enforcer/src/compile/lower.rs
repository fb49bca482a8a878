//! Policies as map values: rules with their masks, ports with their hosts, paths as automata.

use std::collections::BTreeMap;

use portcullis_bpf::{
    abi::{self, rule_flag},
    limits,
};
use portcullis_policy as policy;
use portcullis_policy::HostPattern;
use portcullis_wire::{Action, Auth, Mode, Requirements};

use super::automata::{Automata, RankedRule, Table};
use super::classes::{Census, Classes};
use super::error::{CompileError, within};
use super::image::{Policy, Port};
use super::nfa::Nfa;
use super::principals::Principals;
use super::tables::{PolicyEntry, PrincipalKind, RuleEntry};
use super::{hosts, paths};

/// The policies' part of an image and of the tables.
pub(super) struct Lowered {
    pub(super) classes: Classes,
    pub(super) table: Table,
    pub(super) policies: Vec<Policy>,
    pub(super) rules: Vec<abi::Rule>,
    pub(super) ports: BTreeMap<u16, Port>,
    pub(super) policy_entries: Vec<PolicyEntry>,
    pub(super) rule_entries: Vec<RuleEntry>,
    pub(super) principals: Principals,
}

/// Lowers the policies that are in force, and those of the candidate.
pub(super) fn lower(
    live: &[&policy::Policy],
    candidate: &[&policy::Policy],
) -> Result<Lowered, CompileError> {
    let covered = &[live, candidate].concat();
    check_bounds(covered)?;
    let classes = classes(covered)?;
    let mut automata = Automata::new(&classes);
    let mut principals = Principals::default();
    let (mut rules, mut policies) = (Vec::new(), Vec::new());
    let (mut rule_entries, mut policy_entries) = (Vec::new(), Vec::new());
    for (id, policy) in covered.iter().enumerate() {
        let mut nfa = Nfa::default();
        let mut ranked = Vec::new();
        for rule in in_force(policy) {
            let index = rules.len() as u32;
            paths::add(&mut nfa, rule.glob(), rule.methods());
            ranked.push(RankedRule { index, methods: rule.methods() });
            rules.push(lower_rule(index, rule, &mut principals)?);
            rule_entries.push(RuleEntry { id: rule.id().to_owned(), text: rule.in_words() });
        }
        automata.add_paths(policy.id(), &nfa, &ranked)?;
        policies.push(Policy {
            id: id as u32,
            mode: mode(policy.mode()),
            default_action: action(policy.default_action()),
            path_row: 0,
        });
        policy_entries.push(PolicyEntry { id: policy.id().to_owned(), name: policy.name().to_owned() });
    }
    let mut ports = lower_ports(live, 0, &mut automata)?;
    let mut tried = lower_ports(candidate, live.len() as u32, &mut automata)?;
    let table = automata.finish()?;
    // Rows are known last: first those of the policies, then those of the ports that name hosts.
    let (path_rows, host_rows) = table.rows.split_at(policies.len());
    for (policy, row) in policies.iter_mut().zip(path_rows) {
        policy.path_row = *row;
    }
    let with_hosts = ports.values_mut().chain(tried.values_mut()).filter(|(_, names_hosts)| *names_hosts);
    for (port, row) in with_hosts.zip(host_rows) {
        port.0.host_row = *row;
    }
    let ports = ports
        .into_iter()
        .map(|(port, (value, _))| {
            let candidate = tried.get(&port).map(|(tried, _)| (tried.host_row, tried.policy));
            (port, Port { candidate, ..value })
        })
        .collect();
    Ok(Lowered { classes, table, policies, rules, ports, policy_entries, rule_entries, principals })
}

/// Rules that take part in decisions, in evaluation order.
fn in_force(policy: &policy::Policy) -> impl Iterator<Item = &policy::Rule> {
    policy.rules().iter().filter(|rule| rule.mode() != Mode::Disabled)
}

fn check_bounds(covered: &[&policy::Policy]) -> Result<(), CompileError> {
    let remedy = "split the policies over agents";
    within("PC_POLICIES_MAX", "policies", covered.len(), limits::POLICIES_MAX, remedy)?;
    let rules = covered.iter().map(|policy| in_force(policy).count()).sum();
    within("PC_RULES_MAX", "rules", rules, limits::RULES_MAX, remedy)?;
    let ports: std::collections::BTreeSet<u16> = covered.iter().map(|policy| policy.port()).collect();
    // While generations change, the map holds the ports of both.
    within("PC_PORTS_MAX / 2", "ports", ports.len(), limits::PORTS_MAX / limits::HALVES, remedy)
}

fn classes(covered: &[&policy::Policy]) -> Result<Classes, CompileError> {
    let mut census = Census::new();
    for policy in covered {
        in_force(policy).for_each(|rule| paths::count(&mut census, rule.glob()));
        policy.host().into_iter().for_each(|host| hosts::count(&mut census, host));
    }
    census.classes().ok_or(CompileError::Limit {
        bound: "byte classes",
        what: "different bytes in patterns",
        count: 256,
        max: 255,
        remedy: "write patterns in ASCII",
    })
}

/// Hosts that policies name, with the policies' indices.
type Named<'a> = Vec<(&'a HostPattern, u32)>;

/// Ports in ascending order, each with whether it has an automaton over hosts, which are added in this order. `first`:
/// index of the first of these policies among all.
fn lower_ports(
    covered: &[&policy::Policy],
    first: u32,
    automata: &mut Automata<'_>,
) -> Result<BTreeMap<u16, (Port, bool)>, CompileError> {
    let mut by_port: BTreeMap<u16, (Port, Named<'_>)> = BTreeMap::new();
    for (index, policy) in (first..).zip(covered) {
        let (port, named) = by_port.entry(policy.port()).or_default();
        port.enforce |= policy.mode() == Mode::Enforce;
        port.upgrade |= in_force(policy).any(|rule| !rule.wire().upgrade.is_empty());
        match policy.host() {
            Some(host) => named.push((host, index)),
            None => port.policy = Some(index),
        }
    }
    let mut ports = BTreeMap::new();
    for (number, (port, mut named)) in by_port {
        if !named.is_empty() {
            hosts::rank(&mut named);
            let policies: Vec<u32> = named.iter().map(|(_, policy)| *policy).collect();
            automata.add_hosts(&hosts::nfa(named.iter().map(|(host, _)| *host)), &policies)?;
        }
        ports.insert(number, (port, !named.is_empty()));
    }
    Ok(ports)
}

fn lower_rule(
    index: u32,
    rule: &policy::Rule,
    principals: &mut Principals,
) -> Result<abi::Rule, CompileError> {
    let wire = rule.wire();
    let mut value = abi::Rule {
        id: index,
        auth: auth(rule.auth()),
        mode: mode(rule.mode()),
        mfa_max_age_s: wire.mfa_max_age_s.unwrap_or(0),
        ..abi::Rule::zeroed()
    };
    let mut flags = 0;
    let mut flag = |flag, set| flags |= if set { flag } else { 0 };
    flag(rule_flag::MFA, wire.require_mfa);
    flag(rule_flag::UPGRADE, !wire.upgrade.is_empty());
    flag(rule_flag::ORG, wire.required_org.is_some());
    flag(rule_flag::ANY_ROLE, !wire.required_roles.is_empty());
    flag(rule_flag::ANY_PERMISSION, !wire.required_permissions.is_empty());
    flag(rule_flag::ANY_GROUP, !wire.required_groups.is_empty());
    flag(rule_flag::ALL_OF, wire.all_of.is_some());
    flag(rule_flag::NONE_OF, wire.none_of.is_some());
    value.flags = flags;
    if let Some(org) = &wire.required_org {
        value.org = principals.bit(PrincipalKind::Org, org)?;
    }
    principals.set(&mut value.any_roles, PrincipalKind::Role, &wire.required_roles)?;
    principals.set(&mut value.any_permissions, PrincipalKind::Permission, &wire.required_permissions)?;
    principals.set(&mut value.any_groups, PrincipalKind::Group, &wire.required_groups)?;
    set_lists(&mut value.all_of, wire.all_of.as_ref(), principals)?;
    set_lists(&mut value.none_of, wire.none_of.as_ref(), principals)?;
    Ok(value)
}

fn set_lists(
    mask: &mut abi::Bits,
    lists: Option<&Requirements>,
    principals: &mut Principals,
) -> Result<(), CompileError> {
    let Some(Requirements { roles, permissions, groups }) = lists else { return Ok(()) };
    principals.set(mask, PrincipalKind::Role, roles)?;
    principals.set(mask, PrincipalKind::Permission, permissions)?;
    principals.set(mask, PrincipalKind::Group, groups)
}

fn mode(mode: Mode) -> u8 {
    match mode {
        Mode::Disabled => abi::mode::DISABLED,
        Mode::Monitor => abi::mode::MONITOR,
        Mode::Enforce => abi::mode::ENFORCE,
    }
}

fn action(action: Action) -> u8 {
    match action {
        Action::Deny => abi::action::DENY,
        Action::Allow => abi::action::ALLOW,
    }
}

fn auth(auth: Auth) -> u8 {
    match auth {
        Auth::None => abi::auth::NONE,
        Auth::Optional => abi::auth::OPTIONAL,
        Auth::Required => abi::auth::REQUIRED,
    }
}
