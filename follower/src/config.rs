//! How a control plane is followed.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use portcullis_wire::Jwk;

use crate::identity::Identity;
use crate::issuers::IssuerConfig;
use crate::logs::SpoolConfig;
use crate::trust::Trust;

/// A control plane, and who this is to it.
#[derive(Clone)]
pub struct PlaneConfig {
    /// Base URL: `https://host:port`, or `http://` on this host.
    pub url: String,
    /// Tenant.
    pub tenant: String,
    /// Who this is.
    pub identity: Identity,
    /// File that keeps who this is, after a registration, and the key that bundles are signed with; absent: only memory
    /// does.
    pub identity_file: Option<PathBuf>,
    /// The key that bundles are signed with, when it is known beforehand; absent: that of the identity file, else the
    /// one that the control plane names first.
    pub bundle_key: Option<Jwk>,
    /// Whom to believe.
    pub trust: Trust,
}

/// How a control plane is followed.
#[derive(Clone, Debug)]
pub struct FollowConfig {
    /// How often the configuration is asked for; also the longest wait after failures.
    pub poll: Duration,
    /// Whether it is also waited for: a change then comes at once.
    pub push: bool,
    /// How often access records are sent.
    pub report: Duration,
    /// File that keeps the last good configuration over restarts; beside it are the keys of `issuers`.
    pub cache: Option<PathBuf>,
    /// Where access records wait; absent: in memory.
    pub spool: Option<SpoolConfig>,
    /// Issuers that this host trusts besides the control plane's.
    pub issuers: Vec<IssuerConfig>,
    /// How often their keys are fetched.
    pub issuers_every: Duration,
    /// Keys that nobody confirmed for this long are not used any more; absent: for ever.
    pub key_age_max: Option<Duration>,
}

// === impl PlaneConfig ===

impl PlaneConfig {
    /// Without anything on disk, and with the system's certificate authorities.
    pub fn new(url: impl Into<String>, tenant: impl Into<String>, identity: Identity) -> PlaneConfig {
        PlaneConfig {
            url: url.into(),
            tenant: tenant.into(),
            identity,
            identity_file: None,
            bundle_key: None,
            trust: Trust::default(),
        }
    }
}

impl fmt::Debug for PlaneConfig {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlaneConfig")
            .field("url", &self.url)
            .field("tenant", &self.tenant)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

// === impl FollowConfig ===

impl Default for FollowConfig {
    /// Asks every 30 seconds and waits for changes besides, reports every second, keeps nothing on disk, and uses keys
    /// for a day without the control plane.
    fn default() -> FollowConfig {
        FollowConfig {
            poll: Duration::from_secs(30),
            push: true,
            report: Duration::from_secs(1),
            cache: None,
            spool: None,
            issuers: Vec::new(),
            issuers_every: Duration::from_secs(300),
            key_age_max: Some(Duration::from_secs(86_400)),
        }
    }
}
