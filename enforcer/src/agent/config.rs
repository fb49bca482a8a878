//! How an agent is run.

use std::net::SocketAddr;
use std::time::Duration;

use portcullis_follower::{FollowConfig, PlaneConfig};

use crate::kernel;

/// How an agent is run.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// The control plane, and who the agent is to it.
    pub plane: PlaneConfig,
    /// How it is followed, and what is kept on disk.
    pub follow: FollowConfig,
    /// The kernel's part.
    pub kernel: kernel::Config,
    /// How often the host is looked at: services, and whether they are protected.
    pub host_every: Duration,
    /// Where Prometheus gets figures; absent: nowhere.
    pub metrics: Option<SocketAddr>,
}

// === impl AgentConfig ===

impl AgentConfig {
    /// Looks at the host every 30 seconds, and shows no figures.
    pub fn new(plane: PlaneConfig, follow: FollowConfig, kernel: kernel::Config) -> AgentConfig {
        AgentConfig { plane, follow, kernel, host_every: Duration::from_secs(30), metrics: None }
    }
}
