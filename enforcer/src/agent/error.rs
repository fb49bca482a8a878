//! Why an agent cannot be started, or a configuration not be used.

use std::net::SocketAddr;

use portcullis_follower::FollowError;

use crate::kernel::KernelError;

/// An agent cannot be started, or a configuration not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// The control plane, its configuration, or what is kept of them on disk.
    #[error(transparent)]
    Follow(#[from] FollowError),
    /// The kernel's part.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The address for the metrics.
    #[error("metrics at {addr}: {source}")]
    Metrics {
        /// The address.
        addr: SocketAddr,
        /// Why it cannot be used.
        source: std::io::Error,
    },
    /// A thread could not be started.
    #[error("starting a thread: {0}")]
    Thread(std::io::Error),
}
