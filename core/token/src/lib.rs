//! Tokens: a compact JWS (RFC 7515 section 3.1) that carries a JWT claims set (RFC 7519), and the keys that verify it.
//!
//! [`KeyStore::new`] vets the keys of trusted issuers, [`verify`] judges one token with them. This is the model of the
//! kernel's token stages (`bpf/lib/jwt.h`): the same checks in the same order, so that both name the same
//! [`Reason`](portcullis_wire::Reason) for every token. It shares no code with them, and tests compare the two.
//!
//! **Invariant:** pure: no I/O, no clock (time is a parameter), no panic whatever the token or the key set.
//! **Invariant:** a [`VerifiedToken`] is made by [`verify`] alone.
//! **Invariant:** what a key may do is decided by the key set, never by the token (RFC 8725 section 3.1).

#![forbid(unsafe_code)]

mod base64url;
mod claims;
mod compact;
#[cfg(feature = "mint")]
pub mod corpus;
mod header;
mod json;
mod jwk;
mod keystore;
pub mod limits;
#[cfg(feature = "mint")]
pub mod mint;
mod revocation;
mod verify;

pub use claims::Claims;
pub use jwk::{Alg, KeyDefect, KeyMaterial, VettedKey};
pub use keystore::{KeyProblem, KeyStore, TrustedIssuer};
pub use verify::{VerifiedToken, verify};
