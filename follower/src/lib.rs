//! Following a control plane: its configuration comes in, is verified, kept on disk and put into force; access records go
//! out, numbered, and wait on disk while it does not take them. For the agent and for the proxy, which differ in what
//! they put a configuration into: an [`Engine`].
//!
//! **Invariant:** what cannot be fetched, verified, read or installed changes nothing: what was in force stays, until
//! its keys are too old; then tokens are refused.
//! **Invariant:** an older version than any that was ever in force is refused.
//! **Invariant:** once the key that bundles are signed with is known, no bundle counts without its signature, whether it
//! comes over the network or from the disk.
#![forbid(unsafe_code)]
#![warn(clippy::print_stderr)]

use std::sync::{Mutex, MutexGuard, PoisonError};

mod backoff;
mod bundle;
mod cache;
mod config;
mod error;
mod file;
mod follower;
mod identity;
mod issuers;
mod keep;
mod kept_keys;
mod logs;
mod plane;
mod signal;
mod signature;
mod tell;
mod trust;
mod wanted;

pub use bundle::VERSION_MAX;
pub use config::{FollowConfig, PlaneConfig};
pub use error::{CacheError, FollowError, IdentityError, PlaneError, SpoolError, TrustError};
pub use follower::{Engine, EngineError, Follower, NowS, Records, State};
pub use identity::Identity;
pub use issuers::IssuerConfig;
pub use logs::{Counts, SpoolConfig};
pub use plane::{Plane, probe};
pub use signal::Signal;
pub use signature::{BundleKey, SIGNATURE_FIELD, SignatureError};
pub use tell::tell_line;
pub use trust::{Address, Trust};

/// A thread that panicked while it held a lock left whole values behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
