//! Policies and keys as contents of the kernel's configuration maps.
//!
//! [`compile`] validates a bundle with `portcullis-policy` and `portcullis-token` and makes an [`Image`] of it: byte
//! automata for paths and hosts, rules as bit masks, keys as limbs and tables of points. An image knows nothing of the
//! half of the maps that it will be written to. [`Tables`] say what the numbers in events mean.
//!
//! **Invariant:** no I/O, no clock; the same bundle gives the same image.
//! **Invariant:** what does not fit is an error with the bound and the remedy, never left out.

use portcullis_bpf::limits;
use portcullis_policy::{Policy, PolicySet};
use portcullis_token::{KeyProblem, KeyStore};
use portcullis_wire::{Bundle, Mode};

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
    /// Keys that are left out; tokens signed with them are refused.
    pub problems: Vec<KeyProblem>,
}

/// Compiles a bundle.
///
/// # Errors
/// When policies are wrong, or when something does not fit the kernel side: the generation before stays in force. Keys
/// that are not acceptable are no error but left out, with a [`KeyProblem`] each: others of the set must go on working.
pub fn compile(bundle: &Bundle) -> Result<Compiled, CompileError> {
    let Bundle { version, issuers, policies, revocations } = bundle;
    let policies = PolicySet::new(policies.clone()).map_err(CompileError::Policies)?;
    let (store, problems) = KeyStore::new(issuers);
    let in_force: Vec<&Policy> = policies.policies().iter().filter(|p| p.mode() != Mode::Disabled).collect();
    let lower::Lowered { classes, table, policies, rules, ports, policy_entries, rule_entries, principals } =
        lower::lower(&in_force)?;
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
    Ok(Compiled { image, tables, problems })
}

#[cfg(test)]
mod tests;
