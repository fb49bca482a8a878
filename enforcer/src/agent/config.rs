//! How an agent is run.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::issuers::IssuerConfig;
use super::logs::SpoolConfig;
use super::plane::Identity;
use crate::kernel;

/// How an agent is run.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Base URL of the control plane (`AUTHFI_API_URL`), without a trailing slash.
    pub api_url: String,
    /// Tenant (`AUTHFI_TENANT`).
    pub tenant: String,
    /// Who the agent is (`AUTHFI_AGENT_TOKEN`).
    pub identity: Identity,
    /// The kernel's part.
    pub kernel: kernel::Config,
    /// How often the configuration is asked for; also the longest wait after failures.
    pub poll: Duration,
    /// Whether it is also waited for: a change then comes at once.
    pub push: bool,
    /// How often access records are sent.
    pub report: Duration,
    /// File that keeps the last good configuration over restarts.
    pub cache: Option<PathBuf>,
    /// Where access records wait; absent: in memory.
    pub spool: Option<SpoolConfig>,
    /// Issuers that this host trusts besides the control plane's.
    pub issuers: Vec<IssuerConfig>,
    /// How often their keys are fetched.
    pub issuers_every: Duration,
    /// Keys that nobody confirmed for this long are not used any more; absent: for ever.
    pub key_age_max: Option<Duration>,
    /// How often the host is looked at: services, and whether they are protected.
    pub host_every: Duration,
    /// Where Prometheus gets figures; absent: nowhere.
    pub metrics: Option<SocketAddr>,
}

// === impl AgentConfig ===

impl AgentConfig {
    /// With the documented defaults: asks every 30 seconds and waits for changes besides, reports every second, keeps
    /// nothing on disk, and uses keys for a day without the control plane.
    pub fn new(
        api_url: impl Into<String>,
        tenant: impl Into<String>,
        identity: Identity,
        kernel: kernel::Config,
    ) -> AgentConfig {
        AgentConfig {
            api_url: api_url.into(),
            tenant: tenant.into(),
            identity,
            kernel,
            poll: Duration::from_secs(30),
            push: true,
            report: Duration::from_secs(1),
            cache: None,
            spool: None,
            issuers: Vec::new(),
            issuers_every: Duration::from_secs(300),
            key_age_max: Some(Duration::from_secs(86_400)),
            host_every: Duration::from_secs(30),
            metrics: None,
        }
    }
}
