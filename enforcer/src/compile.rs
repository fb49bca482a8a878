//! Policies and keys as contents of the kernel's configuration maps.
//!
//! [`compile`] validates a bundle with `portcullis-policy` and `portcullis-token` and makes an [`Image`] of it: byte
//! automata for paths and hosts, rules as bit masks, keys as limbs and tables of points. An image knows nothing of the
//! half of the maps that it will be written to. [`Tables`] say what the numbers in events mean.
//!
//! **Invariant:** no I/O, no clock; the same bundle gives the same image.
//! **Invariant:** what does not fit is an error with the bound and the remedy, never left out; but for keys, which are
//! left out and reported.

use std::collections::BTreeSet;

use portcullis_bpf::limits;
use portcullis_policy::{Policy, PolicySet};
use portcullis_token::{KeyProblem, KeyStore};
use portcullis_wire::{Bundle, Mode};

mod again;
mod automata;
mod classes;
mod dfa;
mod error;
mod hosts;
mod image;
mod install;
mod keys;
mod lower;
mod nfa;
mod pack;
mod paths;
mod principals;
mod revocations;
mod sink;
mod tables;

pub use again::Compiler;
pub use error::CompileError;
pub use image::{Image, Sizes};
pub use sink::{MapSink, SinkError};
pub use tables::{PolicyEntry, Principal, PrincipalKind, RuleEntry, Tables};

use image::{Meaning, Name};

/// A bundle, ready for the kernel.
#[derive(Debug)]
pub struct Compiled {
    /// Map contents.
    pub image: Image,
    /// What the numbers in events mean.
    pub tables: Tables,
    /// The issuers with their keys and what they revoked, as the image has them.
    pub(crate) keys: KeyStore,
    /// Keys that are left out; tokens signed with them are refused.
    pub problems: Vec<KeyProblem>,
    /// Why the candidate, or a part of it, is not tried. The live policies do not depend on it.
    pub candidate_problem: Option<String>,
}

/// Compiles a bundle.
///
/// # Errors
/// When policies are wrong, or when something does not fit the kernel side: the generation before stays in force. Keys
/// that are not acceptable, or too many, are no error but left out, with a [`KeyProblem`] each: the others must go on
/// working, and what is revoked must come into force.
pub fn compile(bundle: &Bundle) -> Result<Compiled, CompileError> {
    let Some(candidate) = &bundle.candidate else { return compile_with(bundle, None) };
    let without = |problem: String| {
        compile_with(bundle, None).map(|compiled| Compiled { candidate_problem: Some(problem), ..compiled })
    };
    let tried = match PolicySet::new(candidate.policies.clone()) {
        Ok(tried) => tried,
        Err(errors) => {
            return without(format!("candidate `{}`: {}", candidate.name, CompileError::Policies(errors)));
        }
    };
    match compile_with(bundle, Some((candidate.name.as_str(), &tried))) {
        Ok(compiled) => Ok(compiled),
        // The candidate may be what does not fit.
        Err(error) => without(format!("candidate `{}`: {error}", candidate.name)),
    }
}

fn compile_with(bundle: &Bundle, candidate: Option<(&str, &PolicySet)>) -> Result<Compiled, CompileError> {
    let Bundle { version, issuers, policies, revocations, candidate: _ } = bundle;
    let policies = PolicySet::new(policies.clone()).map_err(CompileError::Policies)?;
    let (store, problems) = keys::trusted(issuers);
    let store = store.with_revocations(revocations);
    let in_force = active(&policies);
    let mut tried = candidate.map_or_else(Vec::new, |(_, set)| active(set));
    // A port without a live policy is not protected: nothing there is read.
    let untried: BTreeSet<u16> =
        tried.iter().map(|p| p.port()).filter(|port| in_force.iter().all(|p| p.port() != *port)).collect();
    tried.retain(|policy| !untried.contains(&policy.port()));
    let candidate_problem = (!untried.is_empty()).then(|| {
        format!("the candidate's policies for ports {untried:?} are not tried: no live policy protects these ports")
    });
    let lower::Lowered { classes, table, policies, rules, ports, policy_entries, rule_entries, principals } =
        lower::lower(&in_force, &tried)?;
    let keys::Lowered { issuers, keys, mut names, issuer_names } = keys::lower(store.issuers())?;
    let revocations = revocations::lower(revocations, store.issuers())?;
    let principals = principals.into_names();
    names.extend(principals.iter().zip(0..).map(|(principal, bit)| Name {
        meaning: Meaning::Principal { kind: principal.kind.number(), bit },
        text: principal.name.clone(),
    }));
    error::within(
        "PC_NAMES_MAX",
        "names (issuers, audiences, key ids, and what policies ask for)",
        names.len(),
        limits::NAMES_MAX,
        "accept fewer audiences, or split the policies over agents",
    )?;
    let tables = Tables {
        version: *version,
        policies: policy_entries,
        rules: rule_entries,
        issuers: issuer_names,
        principals,
        candidate: candidate.map(|(name, _)| name.to_owned()),
    };
    let image = Image {
        classes: classes.value(),
        cells: table.cells,
        policies,
        sets: table.sets,
        rules,
        names,
        revocations,
        issuers,
        keys,
        ports,
        states: table.states,
    };
    Ok(Compiled { image, tables, keys: store, problems, candidate_problem })
}

/// Policies that decide.
fn active(set: &PolicySet) -> Vec<&Policy> {
    set.policies().iter().filter(|policy| policy.mode() != Mode::Disabled).collect()
}

#[cfg(test)]
mod tests;
