//! The agent's configuration bundle: keys and policies of one generation.

use serde::{Deserialize, Serialize};

use crate::{JwkSet, Policy};

/// Everything that decides, as one unit: policies never arrive before their keys.
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
}

/// A trusted issuer: tokens of this `iss` are verified with these keys only.
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
