//! What agents report about their hosts: services that listen, and endpoints seen in traffic.

use serde::{Deserialize, Serialize};

/// A listening service.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Service {
    /// TCP port.
    pub port: u16,
    /// `tcp`.
    pub protocol: String,
    /// Name of the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process_name: Option<String>,
    /// Its command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process_cmdline: Option<String>,
    /// Namespace in Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub k8s_namespace: Option<String>,
    /// Service in Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub k8s_service_name: Option<String>,
    /// Pod in Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub k8s_pod_name: Option<String>,
    /// Whether requests to it are decided.
    #[serde(default)]
    pub status: Protection,
}

/// Whether requests to a service are decided.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Protection {
    /// Not at all.
    #[default]
    Unprotected,
    /// Decided and logged, not enforced.
    Monitoring,
    /// Enforced.
    Protected,
}

/// An endpoint seen in traffic.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Endpoint {
    /// Request method.
    pub method: String,
    /// Path with `{id}` where it varies.
    pub pattern: String,
    /// TCP port.
    pub port: u16,
    /// How often it was seen.
    pub hit_count: u64,
}
