//! The control plane over real HTTP: every endpoint, what it accepts and what it refuses.

#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

mod agents;
mod auth;
mod bundle;
mod cloud;
mod conform;
mod directory;
mod faults;
mod input;
mod keys;
mod lifecycle;
mod logs;
mod mfa;
mod mint;
mod offboarding;
mod openapi;
mod orgs;
mod plane;
mod plans;
mod policies;
mod rights;
mod rotation;
mod scim;
mod scim_protocol;
mod state;
mod tls;
mod totp;
