//! The agent's configuration bundle: keys and policies of one generation.

use serde::{Deserialize, Serialize};

use crate::{JwkSet, Policy};

/// Everything that decides, as one unit: policies never arrive before their keys.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// Monotonic version; an older one is refused.
    pub version: u64,
    /// Trusted issuers with their keys.
    #[serde(default)]
    pub issuers: Vec<Issuer>,
    /// Policies.
    #[serde(default)]
    pub policies: Vec<Policy>,
    /// Tokens that are refused although they would verify.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revocations: Vec<Revocation>,
    /// Policies that are tried beside the live ones, on the same requests, and change nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Candidate>,
}

/// Policies on trial. Their modes do not matter, except that what is disabled takes no part.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// Name for people and records.
    pub name: String,
    /// The policies.
    pub policies: Vec<Policy>,
}

/// A trusted issuer: tokens of this `iss` are verified with these keys only.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// Exact value of `iss`.
    pub issuer: String,
    /// Accepted values of `aud`; a token must carry at least one of them.
    pub audiences: Vec<String>,
    /// Clock leeway for `exp`, `nbf` and `iat`, seconds.
    #[serde(default)]
    pub leeway_s: u32,
    /// Public keys.
    pub jwks: JwkSet,
}

/// Tokens that are refused although they would verify: those of one issuer whose `claim` is `value`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// Exact value of `iss`.
    pub issuer: String,
    /// The claim that is compared.
    pub claim: RevokedClaim,
    /// Its exact value.
    pub value: String,
    /// Refused are tokens with an `iat` earlier than this, seconds since the epoch, and tokens without one. Absent:
    /// refused is every token with that claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<u64>,
    /// From this second on (since the epoch) such a token has expired by itself: the entry can be forgotten.
    pub expires_at: u64,
}

/// A claim by which tokens are revoked.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RevokedClaim {
    /// `sub`: everything of one user.
    Sub,
    /// `sid`: one session.
    Sid,
    /// `jti`: one token.
    Jti,
    /// `org_id`: everything of one organisation.
    OrgId,
}
