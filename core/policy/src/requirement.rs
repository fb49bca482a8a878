//! What a rule asks of a verified token.

use portcullis_wire as wire;
use portcullis_wire::Reason;
use serde::Serialize;

use crate::decide::Claims;

/// One kind of requirement.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Requirement {
    /// `required_org`
    Org,
    /// `required_roles`
    Roles,
    /// `required_permissions`
    Permissions,
    /// `required_groups`
    Groups,
    /// `all_of`
    AllOf,
    /// `none_of`
    NoneOf,
    /// `require_mfa`, with `mfa_max_age_s`
    Mfa,
}

// === impl Requirement ===

impl Requirement {
    /// Every kind, in the order of evaluation; the first one unmet gives the reason (`pc_rule_check`).
    pub const ORDER: [Requirement; 7] = [
        Requirement::Org,
        Requirement::Roles,
        Requirement::Permissions,
        Requirement::Groups,
        Requirement::AllOf,
        Requirement::NoneOf,
        Requirement::Mfa,
    ];

    /// Field of the rule.
    #[must_use]
    pub fn field(self) -> &'static str {
        match self {
            Requirement::Org => "required_org",
            Requirement::Roles => "required_roles",
            Requirement::Permissions => "required_permissions",
            Requirement::Groups => "required_groups",
            Requirement::AllOf => "all_of",
            Requirement::NoneOf => "none_of",
            Requirement::Mfa => "require_mfa",
        }
    }

    /// Whether a rule asks for it.
    #[must_use]
    pub fn asked_by(self, rule: &wire::Rule) -> bool {
        match self {
            Requirement::Org => rule.required_org.is_some(),
            Requirement::Roles => !rule.required_roles.is_empty(),
            Requirement::Permissions => !rule.required_permissions.is_empty(),
            Requirement::Groups => !rule.required_groups.is_empty(),
            Requirement::AllOf => rule.all_of.is_some(),
            Requirement::NoneOf => rule.none_of.is_some(),
            Requirement::Mfa => rule.require_mfa,
        }
    }

    /// Why the claims do not meet it, where a rule asks for it; `None` when they do.
    pub(crate) fn failure(self, rule: &wire::Rule, claims: &Claims<'_>, now_s: u64) -> Option<Reason> {
        match self {
            Requirement::Org => unless(rule.required_org.as_deref() == claims.org_id, Reason::OrgMismatch),
            Requirement::Roles => unless(any(&rule.required_roles, claims.roles), Reason::RoleMissing),
            Requirement::Permissions => {
                unless(any(&rule.required_permissions, claims.permissions), Reason::PermissionMissing)
            }
            Requirement::Groups => unless(any(&rule.required_groups, claims.groups), Reason::GroupMissing),
            Requirement::AllOf => {
                let met = rule.all_of.as_ref().is_none_or(|lists| {
                    pairs(lists, claims)
                        .iter()
                        .all(|(asked, held)| asked.iter().all(|name| held.contains(name)))
                });
                unless(met, Reason::AllOfMissing)
            }
            Requirement::NoneOf => {
                let present = rule
                    .none_of
                    .as_ref()
                    .is_some_and(|lists| pairs(lists, claims).iter().any(|(asked, held)| any(asked, held)));
                unless(!present, Reason::NoneOfPresent)
            }
            Requirement::Mfa if !claims.mfa_verified => Some(Reason::MfaRequired),
            Requirement::Mfa => {
                let max_age_s = u64::from(rule.mfa_max_age_s?);
                // An auth_time in the future is young, not old.
                let fresh = claims.auth_time.is_some_and(|at_s| now_s.saturating_sub(at_s) <= max_age_s);
                unless(fresh, Reason::MfaStale)
            }
        }
    }
}

/// The decision of a rule about a verified token.
pub(crate) fn check(rule: &wire::Rule, claims: &Claims<'_>, now_s: u64) -> Reason {
    Requirement::ORDER
        .into_iter()
        .filter(|requirement| requirement.asked_by(rule))
        .find_map(|requirement| requirement.failure(rule, claims, now_s))
        .unwrap_or(Reason::RuleAllow)
}

fn unless(met: bool, reason: Reason) -> Option<Reason> {
    if met { None } else { Some(reason) }
}

fn any(asked: &[String], held: &[String]) -> bool {
    asked.iter().any(|name| held.contains(name))
}

/// The lists of a rule beside those of the token, kind by kind.
fn pairs<'a>(lists: &'a wire::Requirements, claims: &Claims<'a>) -> [(&'a [String], &'a [String]); 3] {
    let wire::Requirements { roles, permissions, groups } = lists;
    [(roles, claims.roles), (permissions, claims.permissions), (groups, claims.groups)]
}
