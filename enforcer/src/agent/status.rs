//! How an agent is, in values.

use super::host::{Protection, Service};

/// How an agent is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Status {
    /// Version in force; 0: none yet.
    pub generation: u64,
    /// What went wrong at the last attempt to get a configuration; `None` when it went well.
    pub error: Option<String>,
    /// Parts of the configuration that are left out, such as unusable keys.
    pub problems: Vec<String>,
    /// Attachments that somebody else removed or replaced.
    pub detached: Vec<String>,
    /// Seconds since the control plane last said that the configuration is the right one; `None`: never.
    pub config_age_s: Option<u64>,
    /// Bundles that were refused because their signature is missing or wrong.
    pub refused_signature: u64,
    /// Bundles that were refused because they are older than the one in force.
    pub refused_version: u64,
    /// How the host is, by what a connection to each service showed.
    pub protection: Protection,
    /// Services on this host, as they were found last.
    pub services: Vec<Service>,
    /// Connections to monitored services of which nothing is read, because they are older than the monitoring, when they
    /// were last counted.
    pub connections_unseen: u64,
    /// Access records that the control plane took.
    pub records_sent: u64,
    /// Access records that wait.
    pub records_waiting: u64,
    /// Access records that were lost here: too many waited, or the disk failed, or the control plane refuses them.
    pub records_lost: u64,
    /// Access records that were lost in the kernel, because the agent did not collect them in time.
    pub records_lost_in_kernel: u64,
}
