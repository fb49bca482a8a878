//! Control-plane JSON as serde types, one resource a module.
//!
//! **Invariant:** no I/O, no clock, no decision logic. Both sides of the judge/judged wall use these types.
//! Unknown fields are refused: a misspelt `requird_roles` must not silently widen a rule.

mod bundle;
mod jwk;
mod log;
mod method;
mod policy;
mod reason;
pub mod time;

pub use bundle::{Bundle, Candidate, Issuer, Revocation, RevokedClaim};
pub use jwk::{Jwk, JwkSet};
pub use log::{AccessLog, CandidateVerdict, Verdict};
pub use method::Method;
pub use policy::{Action, Auth, Mode, Policy, Requirements, Rule};
pub use reason::Reason;
