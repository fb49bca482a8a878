//! What access policies mean: the reference that the kernel programs and the proxy are compared with.
//!
//! [`PolicySet::new`] validates policies and reports everything that is wrong with them at once;
//! [`PolicySet::decide`] decides one request. `docs/SEMANTICS.md` is the specification, line by line, and
//! `bpf/lib/policy.h` the implementation in the kernel.
//!
//! **Invariant:** pure: no I/O, no clock, no randomness; time is a parameter.
//! **Invariant:** no input makes it panic, and what cannot be decided is denied.
//! **Invariant:** a decision costs no more than the rules whose literal beginning fits the path.
#![forbid(unsafe_code)]

pub mod analysis;
mod decide;
mod error;
mod explain;
mod glob;
mod host;
mod index;
pub mod limits;
mod order;
mod policy;
mod requirement;
mod set;
#[cfg(test)]
mod testing;
mod validate;
mod words;

pub use decide::{Claims, Decision, Match, Request, Token};
pub use error::{PatternError, PolicyError};
pub use explain::{PolicyOutcome, PolicyStep, RequirementStep, RuleOutcome, RuleStep, Trace};
pub use glob::{Glob, Part, Segment};
pub use host::HostPattern;
pub use policy::{Policy, Rule};
pub use requirement::Requirement;
pub use set::PolicySet;
