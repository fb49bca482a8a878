//! Policy files as validated sets, for the commands that decide.

use std::path::Path;

use portcullis_policy::PolicySet;
use portcullis_scenarios::FileProblem;
use portcullis_scenarios::spec::{Kind, kind_of, load, load_policies};
use portcullis_wire::Policy;
use serde::{Deserialize, Serialize};

/// The policies of a file. A scenario's have no port of their own: they get `port`.
pub fn read(file: &Path, port: u16) -> Result<PolicySet, Vec<FileProblem>> {
    let policies: Vec<Policy> = match kind_of(file)? {
        Kind::Policies => load_policies(file)?.policies,
        Kind::Scenario => load(file)?.scenario.policies.iter().map(|policy| policy.to_wire(port)).collect(),
    };
    PolicySet::new(policies).map_err(|errors| {
        let problem = |error: &dyn std::fmt::Display| FileProblem::new(file, (0, 0), error.to_string(), "");
        errors.iter().map(|error| problem(error)).collect()
    })
}

/// What a token says, as in its payload; members that no policy asks for are left aside.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Claims {
    /// Subject, for the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// Roles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// Permissions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permissions: Vec<String>,
    /// Groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org_id: Option<String>,
    /// Whether MFA was done.
    #[serde(default)]
    pub mfa_verified: bool,
    /// When, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<u64>,
}

// === impl Claims ===

impl Claims {
    /// As policies see them.
    pub fn view(&self) -> portcullis_policy::Claims<'_> {
        let Claims { sub: _, roles, permissions, groups, org_id, mfa_verified, auth_time } = self;
        portcullis_policy::Claims {
            roles,
            permissions,
            groups,
            org_id: org_id.as_deref(),
            mfa_verified: *mfa_verified,
            auth_time: *auth_time,
        }
    }

    /// Who it is, for people.
    pub fn who(&self) -> String {
        match (&self.sub, self.roles.as_slice()) {
            (Some(sub), _) => sub.clone(),
            (None, []) => "a token without sub".to_owned(),
            (None, roles) => roles.join("+"),
        }
    }
}
