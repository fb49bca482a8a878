//! Policy files: one policy, a list of them, or a mapping with `policies`, in YAML or JSON.

use std::path::{Path, PathBuf};

use portcullis_policy::PolicySet;
use portcullis_policy::analysis::analyse;
use portcullis_wire::Policy;
use serde::Deserialize;

use super::locate::{At, Located, Node, has_key, place};
use super::{Kind, PolicySpec, load, yaml};
use crate::FileProblem;

/// Stands for the application's port, which is known when it runs.
const PORT_ANY: u16 = 1;

/// Policies that passed every check.
#[derive(Clone, Debug)]
pub struct LoadedPolicies {
    /// Where they came from.
    pub file: PathBuf,
    /// The policies.
    pub policies: Vec<Policy>,
}

/// What can be said about a file that can be used.
#[derive(Clone, Debug)]
pub struct Lint {
    /// What the file is.
    pub kind: Kind,
    /// What is hardly meant.
    pub warnings: Vec<FileProblem>,
    /// What somebody may well have chosen.
    pub notes: Vec<FileProblem>,
}

/// A mapping with policies and nothing else.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyList {
    policies: Vec<Policy>,
}

/// Reads and checks a policy file.
pub fn load_policies(file: &Path) -> Result<LoadedPolicies, Vec<FileProblem>> {
    let text = load::read(file)?;
    let root: Located = yaml::parse(file, &text).map_err(|p| vec![p])?;
    let (policies, _) = parse(file, &text, &root)?;
    Ok(LoadedPolicies { file: file.to_owned(), policies })
}

/// Reads and checks a file of either kind, and says what its policies can hardly be meant to do.
pub fn lint(file: &Path) -> Result<Lint, Vec<FileProblem>> {
    let kind = load::kind_of(file)?;
    let text = load::read(file)?;
    let root: Located = yaml::parse(file, &text).map_err(|p| vec![p])?;
    let (policies, way) = match kind {
        Kind::Policies => parse(file, &text, &root)?,
        Kind::Scenario => {
            let scenario = load::load(file)?.scenario;
            let policies = scenario.policies.iter().map(|policy| policy.to_wire(PORT_ANY)).collect();
            (policies, vec![At::Key("policies")])
        }
    };
    let mut lint = Lint { kind, warnings: Vec::new(), notes: Vec::new() };
    // What would be refused has been refused above.
    let Ok(set) = PolicySet::new(policies) else { return Ok(lint) };
    for finding in analyse(&set) {
        let at = way_to(&root, &way, finding.policy_index, finding.rule_index, &finding.field);
        let subject = match &finding.rule {
            Some(rule) => format!("rule `{rule}`: "),
            None => format!("policy `{}`: ", finding.policy),
        };
        let problem =
            FileProblem::new(file, place(&root, &at), subject + &finding.message, finding.remedy.as_str());
        if finding.kind.is_warning() { lint.warnings.push(problem) } else { lint.notes.push(problem) }
    }
    Ok(lint)
}

/// The policies of the document, checked, and the way to them.
fn parse<'a>(
    file: &Path,
    text: &str,
    root: &Located,
) -> Result<(Vec<Policy>, Vec<At<'a>>), Vec<FileProblem>> {
    // The form is chosen by the top level, not by trial: a trial's error would be about the wrong form.
    let (policies, way): (Vec<Policy>, Vec<At<'_>>) = match &root.value {
        Node::Seq(_) => (yaml::parse(file, text).map_err(|p| vec![p])?, vec![]),
        Node::Map(_) if has_key(root, "policies") => {
            let list: PolicyList = yaml::parse(file, text).map_err(|p| vec![p])?;
            (list.policies, vec![At::Key("policies")])
        }
        Node::Map(_) => (vec![yaml::parse(file, text).map_err(|p| vec![p])?], vec![]),
        Node::Scalar => {
            let remedy = "write a policy, a list of policies, or `policies:` with a list";
            return Err(vec![FileProblem::new(file, place(root, &[]), "the file holds no policy", remedy)]);
        }
    };
    let problems = policy_problems(file, &policies, root, &way);
    if problems.is_empty() { Ok((policies, way)) } else { Err(problems) }
}

/// What the policy compiler refuses, with places; `way` leads to the list (or, if that is no list, to the policy).
pub(super) fn policy_problems(
    file: &Path,
    policies: &[Policy],
    root: &Located,
    way: &[At<'_>],
) -> Vec<FileProblem> {
    let Err(errors) = PolicySet::new(policies.to_vec()) else { return Vec::new() };
    let problem = |error: &portcullis_policy::PolicyError| {
        let at = way_to(root, way, error.policy_index, error.rule_index, &error.field);
        FileProblem::new(file, place(root, &at), error.message.as_str(), error.remedy.as_str())
    };
    errors.iter().map(problem).collect()
}

/// The way to a field of a policy or rule. The file may hold one policy without a list around it.
fn way_to<'a>(
    root: &Located,
    way: &[At<'a>],
    policy: usize,
    rule: Option<usize>,
    field: &'a str,
) -> Vec<At<'a>> {
    let mut way = way.to_vec();
    if !way.is_empty() || matches!(root.value, Node::Seq(_)) {
        way.push(At::Index(policy));
    }
    if let Some(rule) = rule {
        way.extend([At::Key("rules"), At::Index(rule)]);
    }
    // `all_of.roles` is a field in a field.
    way.extend(field.split('.').map(At::Key));
    way
}

// === impl PolicySpec ===

impl PolicySpec {
    /// The policy for an application on `port`.
    #[must_use]
    pub fn to_wire(&self, port: u16) -> Policy {
        let PolicySpec { name, host_match, mode, default_action, rules } = self;
        Policy {
            id: name.clone(),
            name: name.clone(),
            port_match: port,
            host_match: host_match.clone(),
            mode: *mode,
            default_action: *default_action,
            rules: rules.clone(),
        }
    }

    /// Identifiers of the rules, given ones and those by position.
    pub(super) fn rule_ids(&self) -> Vec<String> {
        let name = |(n, rule): (usize, &portcullis_wire::Rule)| {
            if rule.id.is_empty() { format!("rule-{}", n + 1) } else { rule.id.clone() }
        };
        self.rules.iter().enumerate().map(name).collect()
    }
}
