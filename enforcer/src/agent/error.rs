//! Why an agent cannot be started, or a configuration not be used.

use std::net::SocketAddr;

use super::cache::CacheError;
use super::logs::SpoolError;
use super::plane::PlaneError;
use crate::compile::CompileError;
use crate::kernel::KernelError;

/// An agent cannot be started, or a configuration not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// The last good configuration on disk.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The configuration cannot be compiled.
    #[error("configuration version {version}: {source}")]
    Compile {
        /// Version of the bundle.
        version: u64,
        /// Why.
        source: CompileError,
    },
    /// The kernel's part.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The control plane sent an older version than the one in force.
    #[error("configuration version {offered} is older than {current}, which was in force: refused")]
    Older {
        /// What was sent.
        offered: u64,
        /// What is, or was, in force.
        current: u64,
    },
    /// The address for the metrics.
    #[error("metrics at {addr}: {source}")]
    Metrics {
        /// The address.
        addr: SocketAddr,
        /// Why it cannot be used.
        source: std::io::Error,
    },
    /// The control plane.
    #[error(transparent)]
    Plane(#[from] PlaneError),
    /// The records' place on disk.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// A thread could not be started.
    #[error("starting a thread: {0}")]
    Thread(std::io::Error),
}
