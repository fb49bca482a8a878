//! Access-log records: the seed's record, plus what explains a decision. Never a token.

use serde::{Deserialize, Serialize};

/// One decision.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct AccessLog {
    /// Agent that reports.
    pub agent_id: String,
    /// Decision identifier, 16 hexadecimal digits; also in the body of a denial.
    pub decision_id: String,
    /// Peer address.
    pub source_ip: String,
    /// Peer port.
    pub source_port: u16,
    /// Protected port.
    pub destination_port: u16,
    /// Request method.
    pub method: String,
    /// Host of the request, without port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Canonical path, without query.
    pub path: String,
    /// `sub` of a verified token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// `email` of a verified token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_email: Option<String>,
    /// Roles of a verified token that some policy names.
    #[serde(default)]
    pub roles: Vec<String>,
    /// The decision.
    pub decision: Verdict,
    /// Reason slug, stable for programs.
    pub reason: String,
    /// Reason in words.
    pub decision_reason: String,
    /// HTTP status sent (or, in monitor mode, that would have been sent); absent for an allow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Mode that applied.
    pub mode: Option<crate::Mode>,
    /// Policy that applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_id: Option<String>,
    /// Rule that applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule_id: Option<String>,
    /// Bundle generation that decided.
    pub policy_generation: u64,
    /// Key identifier of a verified token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// Time in the kernel up to the decision, microseconds.
    pub latency_us: f64,
    /// Of which token verification, nanoseconds.
    pub verify_ns: u64,
    /// Whether the token came from the verified-token cache.
    pub token_cache_hit: bool,
    /// Whether the token carries a verified MFA.
    pub mfa_verified: bool,
    /// What the candidate policies say of the same request; absent when there are none for the port, and when the request
    /// is refused for its form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<CandidateVerdict>,
    /// RFC 3339, UTC.
    pub timestamp: String,
}

/// A verdict that had no effect.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct CandidateVerdict {
    /// Name of the candidate.
    pub name: String,
    /// `allow` or `deny`.
    pub decision: Verdict,
    /// Reason slug.
    pub reason: String,
    /// Policy that would apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_id: Option<String>,
    /// Rule that would apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule_id: Option<String>,
}

/// Outcome of a decision.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Passed.
    Allow,
    /// Answered instead of the application.
    #[default]
    Deny,
    /// Passed in monitor mode; enforce mode would have denied it.
    WouldDeny,
}
