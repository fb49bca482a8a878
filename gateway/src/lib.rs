//! The proxy for hosts without BPF: the kernel's verdicts, in user space, in front of the application.
//!
//! What a client sends is read by `portcullis_verdict` byte by byte before an HTTP stack sees any of it (`guard.rs`), so
//! a request that the kernel refuses is refused here, for the same reason and with the same answer. The HTTP stack
//! (hyper) is given heads that were understood, in our own writing, and its reading of them must agree with ours.
//!
//! **Invariant:** a request is forwarded with a permit only, and only a decision makes permits (`permit.rs`).
//! **Invariant:** no identity field that a client sent reaches the application, in a head or in a trailer (`fields.rs`).
//! **Invariant:** without a configuration nothing is forwarded.
//! **Invariant:** no body is held in memory: what is not taken by one side is not read from the other.
#![forbid(unsafe_code)]

mod body;
mod clock;
mod config;
mod engine;
mod fields;
mod forward;
mod gateway;
mod guard;
mod http2;
mod identity;
mod judge;
mod lane;
mod lease;
mod pace;
mod permit;
mod prefix;
mod problem;
mod record;
mod report;
mod rules;
mod serve;
mod sync;
mod target;
mod tls;
mod tunnel;
mod upstream;

pub use clock::Clock;
pub use config::{
    Config, ConfigError, Following, Forwarded, Limits, Load, Local, Source, Timeouts, TlsFiles, Upstream,
};
pub use gateway::{Gateway, StartError, Status};
pub use portcullis_follower::{
    BundleKey, FollowConfig, FollowError, Identity, IssuerConfig, PlaneConfig, SpoolConfig, Trust,
};
