//! A control plane for tests, scenarios and demonstrations: the HTTP interface of the real one with a store in memory,
//! or in a file. It serves agents (registration, bundles, logs), people (policies, keys, the directory), users (login, second
//! factor, sessions) and other directories (SCIM); and it has what tests need: a mint that also makes broken tokens,
//! faults on demand, a movable clock.
//!
//! **Invariant:** it uses only the wire types and the token mint, never the decision code that it is used to
//! test. **Invariant:** bad input is answered with a 4xx problem document (RFC 9457); nothing panics on input.
//! **Invariant:** time is the [`Clock`] it was started with.

#![forbid(unsafe_code)]

mod access;
mod api;
mod audit;
mod clock;
mod cloud;
mod config;
mod defect;
mod directory;
mod error;
mod extract;
mod faults;
mod identity;
mod inventory;
mod key_ring;
mod log;
mod mfa;
mod openapi;
mod password;
mod plan;
mod problem;
mod qr;
mod revocation;
mod rotation;
mod scim;
mod secret;
mod server;
mod session;
mod store;
mod sync_log;
mod throttle;
mod ticket;
mod timestamp;
mod tls;
mod totp;

pub use api::openapi;
pub use clock::Clock;
pub use config::{Config, TenantConfig, TlsFiles};
pub use error::StartError;
pub use plan::Plan;
pub use problem::{FieldError, Problem};
pub use server::{ControlPlane, Handle};
