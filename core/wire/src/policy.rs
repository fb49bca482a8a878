//! Access policies as the control plane serves them and as policy files hold them.

use serde::{Deserialize, Serialize};

/// One policy: what it covers, and the rules for what it covers.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Identifier; when empty or absent the name serves as one.
    #[serde(default)]
    pub id: String,
    /// Name for people.
    pub name: String,
    /// TCP port that the policy covers.
    pub port_match: u16,
    /// Host that the policy covers: exact, or `*.suffix`. Absent: every host of the port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_match: Option<String>,
    /// What is done with a denial.
    pub mode: Mode,
    /// What happens when no rule matches.
    pub default_action: Action,
    /// The rules, in any order.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// One rule. The first rule (by priority) whose method and path match decides.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Identifier, unique within the policy; when empty, `rule-N` by position (from 1).
    #[serde(default)]
    pub id: String,
    /// `GET`, `POST`, `PUT`, `DELETE`, `PATCH`, `HEAD`, `OPTIONS` or `*`.
    pub method: String,
    /// Path glob: `/api/*`, `/users/{id}`, `/a/**/b`.
    pub path_pattern: String,
    /// Any of these roles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required_roles: Vec<String>,
    /// Any of these permissions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required_permissions: Vec<String>,
    /// Any of these groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required_groups: Vec<String>,
    /// All of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_of: Option<Requirements>,
    /// None of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub none_of: Option<Requirements>,
    /// Organisation (`org_id` claim) that the token must belong to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required_org: Option<String>,
    /// The token must say `"mfa_verified": true`.
    #[serde(default)]
    pub require_mfa: bool,
    /// With `require_mfa`: greatest age of `auth_time`, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mfa_max_age_s: Option<u32>,
    /// Whether a token is needed; absent: `required` if the rule asks for anything, else `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Protocols that a request may switch its connection to (RFC 9110 section 7.8); only `websocket` can be named. Once
    /// the application has answered 101, nothing on the connection is looked at any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upgrade: Vec<String>,
    /// Narrows the policy's mode (enforce > monitor > disabled; the weaker holds).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Higher is evaluated first.
    #[serde(default)]
    pub priority: i32,
}

/// Names that `all_of` and `none_of` list.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Requirements {
    /// Roles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// Permissions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permissions: Vec<String>,
    /// Groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
}

/// What is done with a denial.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Not attached.
    Disabled,
    /// Logged as `would_deny`, passed unchanged.
    Monitor,
    /// Answered instead of the application.
    Enforce,
}

/// What happens when no rule matches.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Whitelist.
    Deny,
    /// Blacklist.
    Allow,
}

/// Whether a rule needs a token.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// Public: a token is ignored, never treated as identity.
    None,
    /// Without a token allowed; a token that is sent must be valid.
    Optional,
    /// A valid token is needed.
    Required,
}
