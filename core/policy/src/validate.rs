//! Validation: every way in which policies can be wrong, all of them reported at once.
//!
//! **Invariant:** whatever is accepted means something: no pattern that no path can match, no requirement that is
//! empty, no two policies that claim the same requests.

use std::collections::HashMap;

use portcullis_wire as wire;
use portcullis_wire::{Auth, Method, Mode, Requirements};

use crate::error::{PatternError, PolicyError};
use crate::glob::Glob;
use crate::host::HostPattern;
use crate::index::RuleIndex;
use crate::limits::NAME_MAX;
use crate::order;
use crate::policy::{Policy, Rule};
use crate::requirement::Requirement;

#[cfg(test)]
mod tests;

/// Validated policies, in the order given.
pub(crate) fn policies(policies: Vec<wire::Policy>) -> Result<Vec<Policy>, Vec<PolicyError>> {
    let mut problems = Problems::default();
    let drafts: Vec<Draft> =
        policies.into_iter().enumerate().map(|(index, policy)| draft(index, policy, &mut problems)).collect();
    check_ids(&drafts, &mut problems);
    check_ties(&drafts, &mut problems);
    let Problems { mut errors, .. } = problems;
    if errors.is_empty() {
        return Ok(drafts.into_iter().map(|draft| draft.policy).collect());
    }
    errors.sort_by_key(|error| (error.policy_index, error.rule_index.map_or(0, |rule| rule + 1)));
    Err(errors)
}

/// A policy without whatever is wrong with it.
struct Draft {
    policy: Policy,
    /// How errors name it.
    label: String,
    /// Which field its id comes from.
    id_field: &'static str,
    /// Port and host can be read.
    covers: bool,
}

/// Errors so far, and the place that is being checked.
#[derive(Default)]
struct Problems {
    errors: Vec<PolicyError>,
    policy: String,
    policy_index: usize,
    rule_index: Option<usize>,
}

// === impl Problems ===

impl Problems {
    fn enter(&mut self, label: &str, policy_index: usize) {
        (self.policy, self.policy_index, self.rule_index) = (label.to_owned(), policy_index, None);
    }

    fn add(&mut self, field: &str, error: PatternError) {
        let PatternError { message, remedy } = error;
        self.errors.push(PolicyError {
            policy: self.policy.clone(),
            policy_index: self.policy_index,
            rule_index: self.rule_index,
            field: field.to_owned(),
            message,
            remedy,
        });
    }

    fn take<T>(&mut self, field: &str, result: Result<T, PatternError>) -> Option<T> {
        result.map_err(|error| self.add(field, error)).ok()
    }
}

fn draft(index: usize, wire: wire::Policy, problems: &mut Problems) -> Draft {
    let (id, id_field) = if wire.id.is_empty() { (&wire.name, "name") } else { (&wire.id, "id") };
    let id = id.clone();
    let label = if id.is_empty() { format!("#{}", index + 1) } else { id.clone() };
    problems.enter(&label, index);
    problems.take("name", check_name("the name", &wire.name));
    if !wire.id.is_empty() {
        problems.take("id", check_name("the id", &wire.id));
    }
    let before = problems.errors.len();
    if wire.port_match == 0 {
        let error =
            PatternError::new("no request comes to port 0", "name the port that the application listens on");
        problems.add("port_match", error);
    }
    let host =
        wire.host_match.as_deref().and_then(|host| problems.take("host_match", HostPattern::parse(host)));
    let covers = problems.errors.len() == before;
    let mut rules: Vec<Rule> = wire
        .rules
        .iter()
        .enumerate()
        .filter_map(|(position, rule)| self::rule(position, rule, wire.mode, problems))
        .collect();
    check_rule_ids(&wire.rules, problems);
    rules.sort_by(order::compare);
    let index = RuleIndex::new(&rules);
    Draft { policy: Policy { id, host, rules, index, wire }, label, id_field, covers }
}

fn rule(position: usize, wire: &wire::Rule, policy_mode: Mode, problems: &mut Problems) -> Option<Rule> {
    problems.rule_index = Some(position);
    if !wire.id.is_empty() {
        problems.take("id", check_name("the id", &wire.id));
    }
    let methods = problems.take("method", methods(&wire.method));
    let glob = problems.take("path_pattern", Glob::parse(&wire.path_pattern));
    check_lists(wire, problems);
    if let Some(org) = &wire.required_org {
        problems.take("required_org", check_name("the organisation", org));
    }
    problems.take("mfa_max_age_s", check_mfa(wire));
    problems.take("upgrade", check_upgrade(&wire.upgrade));
    let auth = problems.take("auth", auth(wire));
    Some(Rule {
        id: rule_id(position, wire),
        position,
        glob: glob?,
        methods: methods?,
        auth: auth?,
        mode: wire.mode.map_or(policy_mode, |mode| mode.min(policy_mode)),
        wire: wire.clone(),
    })
}

fn rule_id(position: usize, rule: &wire::Rule) -> String {
    if rule.id.is_empty() { format!("rule-{}", position + 1) } else { rule.id.clone() }
}

/// Names become map keys, log fields and command-line arguments.
fn check_name(what: &str, name: &str) -> Result<(), PatternError> {
    if name.trim().is_empty() {
        return Err(PatternError::new(format!("{what} is empty"), "write a name, or leave the field out"));
    }
    if name.len() > NAME_MAX {
        let message = format!("{what} has {} bytes, and names have {NAME_MAX} at most", name.len());
        return Err(PatternError::new(message, "write a shorter one"));
    }
    if let Some(found) = name.chars().find(|c| c.is_control()) {
        return Err(PatternError::new(
            format!("{what} holds the control character {found:?}"),
            "leave it out",
        ));
    }
    Ok(())
}

/// Bit mask of the methods that a rule names.
fn methods(text: &str) -> Result<u8, PatternError> {
    if text == "*" {
        return Ok(u8::MAX);
    }
    let wrong = |remedy: String| {
        Err(PatternError::new(format!("`{text}` is no method that a rule can name"), remedy))
    };
    match Method::parse(text.as_bytes()) {
        Method::Other => {}
        method => return Ok(1 << method.number()),
    }
    let upper = text.trim().to_ascii_uppercase();
    match Method::parse(upper.as_bytes()) {
        Method::Other if matches!(upper.as_str(), "" | "ANY" | "ALL" | "*") => {
            wrong("write `*` for every method".to_owned())
        }
        Method::Other => wrong("write GET, POST, PUT, DELETE, PATCH, HEAD, OPTIONS or `*`".to_owned()),
        method => wrong(format!("write `{method}`: methods are case-sensitive (RFC 9110 section 9.1)")),
    }
}

fn check_lists(rule: &wire::Rule, problems: &mut Problems) {
    check_list("required_roles", "role", &rule.required_roles, problems);
    check_list("required_permissions", "permission", &rule.required_permissions, problems);
    check_list("required_groups", "group", &rule.required_groups, problems);
    for (field, lists) in [("all_of", &rule.all_of), ("none_of", &rule.none_of)] {
        let Some(lists) = lists else { continue };
        let Requirements { roles, permissions, groups } = lists;
        if roles.is_empty() && permissions.is_empty() && groups.is_empty() {
            let error = PatternError::new(
                format!("`{field}` lists nothing"),
                "list roles, permissions or groups, or leave the field out",
            );
            problems.add(field, error);
        }
        check_list(field, "role", roles, problems);
        check_list(field, "permission", permissions, problems);
        check_list(field, "group", groups, problems);
    }
}

fn check_list(field: &str, noun: &str, names: &[String], problems: &mut Problems) {
    for (number, name) in names.iter().enumerate() {
        problems.take(field, check_name(&format!("{noun} {} of the list", number + 1), name));
    }
}

fn check_mfa(rule: &wire::Rule) -> Result<(), PatternError> {
    match (rule.mfa_max_age_s, rule.require_mfa) {
        (Some(_), false) => Err(PatternError::new(
            "`mfa_max_age_s` does nothing without `require_mfa`",
            "write `require_mfa: true`, or leave the field out",
        )),
        (Some(0), true) => Err(PatternError::new(
            "no authentication is 0 seconds old by the time it is used",
            "write how many seconds old it may be, or leave the field out for any age",
        )),
        (Some(_), true) | (None, _) => Ok(()),
    }
}

fn check_upgrade(protocols: &[String]) -> Result<(), PatternError> {
    match protocols.iter().find(|protocol| protocol.as_str() != "websocket") {
        Some(other) => Err(PatternError::new(
            format!("connections cannot be switched to `{other}`: its requests would not be seen"),
            "write `websocket`, or leave the field out",
        )),
        None => Ok(()),
    }
}

/// Whether a token is needed, resolved.
fn auth(rule: &wire::Rule) -> Result<Auth, PatternError> {
    let asked: Vec<&str> = Requirement::ORDER
        .into_iter()
        .filter(|requirement| requirement.asked_by(rule))
        .map(Requirement::field)
        .collect();
    match rule.auth {
        None if asked.is_empty() => Ok(Auth::None),
        None => Ok(Auth::Required),
        Some(Auth::Required) => Ok(Auth::Required),
        Some(auth) if asked.is_empty() => Ok(auth),
        Some(Auth::None | Auth::Optional) => Err(PatternError::new(
            format!("a rule that can do without a token asks something of it ({})", asked.join(", ")),
            "write `auth: required` or leave `auth` out, or ask for nothing",
        )),
    }
}

fn check_rule_ids(rules: &[wire::Rule], problems: &mut Problems) {
    let mut first: HashMap<String, usize> = HashMap::new();
    for (position, rule) in rules.iter().enumerate() {
        let id = rule_id(position, rule);
        if let Some(&other) = first.get(&id) {
            problems.rule_index = Some(position);
            let message =
                format!("rules {} and {} of the policy have the id `{id}`", other + 1, position + 1);
            problems.add(
                "id",
                PatternError::new(
                    message,
                    "give each rule an id of its own (a rule without one is `rule-N`)",
                ),
            );
        }
        first.entry(id).or_insert(position);
    }
}

fn check_ids(drafts: &[Draft], problems: &mut Problems) {
    let mut first: HashMap<&str, usize> = HashMap::new();
    for (index, Draft { policy, label, id_field, .. }) in drafts.iter().enumerate() {
        if policy.id.is_empty() {
            continue;
        }
        if let Some(&other) = first.get(policy.id.as_str()) {
            problems.enter(label, index);
            let message = format!("policies {} and {} have the id `{}`", other + 1, index + 1, policy.id);
            problems.add(id_field, PatternError::new(message, "give each policy an id of its own"));
        }
        first.entry(&policy.id).or_insert(index);
    }
}

/// Two policies in force that cover the same port and host: neither could be said to decide.
fn check_ties(drafts: &[Draft], problems: &mut Problems) {
    let mut first: HashMap<(u16, Option<&HostPattern>), &Draft> = HashMap::new();
    for (index, draft) in drafts.iter().enumerate() {
        let Draft { policy, label, covers, .. } = draft;
        if !covers || policy.mode() == Mode::Disabled {
            continue;
        }
        let key = (policy.port(), policy.host());
        if let Some(other) = first.get(&key) {
            problems.enter(label, index);
            let what = match policy.host() {
                Some(host) => format!("{host} on port {}", policy.port()),
                None => format!("port {} without a host", policy.port()),
            };
            let message = format!("policies `{}` and `{label}` both cover {what}", other.label);
            let remedy = "merge them, give them different hosts, or disable one";
            let field = if policy.host().is_some() { "host_match" } else { "port_match" };
            problems.add(field, PatternError::new(message, remedy));
        }
        first.entry(key).or_insert(draft);
    }
}
