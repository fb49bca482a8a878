//! Why a control plane could not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a control plane could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address is in use, or not ours.
    #[error("cannot listen on {addr}: {source}")]
    Bind {
        /// The address asked for.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// No signing key could be made.
    #[error("cannot make a signing key for tenant `{tenant}`: {reason}")]
    Key {
        /// The tenant.
        tenant: String,
        /// What the mint said.
        reason: String,
    },
    /// The state file cannot be used.
    #[error("state file {}: {reason}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and the remedy.
        reason: String,
    },
    /// What there is at the start cannot be written.
    #[error("{reason}")]
    Write {
        /// What was said.
        reason: String,
    },
    /// The certificate or its key cannot be used.
    #[error("{reason}")]
    Tls {
        /// The file, what is wrong with it, and the remedy.
        reason: String,
    },
    /// A tenant that cannot be served.
    #[error("tenant `{tenant}`: {reason}")]
    Tenant {
        /// The tenant's name.
        tenant: String,
        /// What is wrong.
        reason: &'static str,
    },
}
