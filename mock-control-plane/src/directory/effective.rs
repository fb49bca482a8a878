//! What a user may do: the union over all roles, and where each permission comes from.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Directory, Role};

/// What a user may do.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Effective {
    /// Names of all roles, direct and by groups.
    pub roles: BTreeSet<String>,
    /// Names of groups.
    pub groups: BTreeSet<String>,
    /// Each permission with the roles that grant it.
    pub permissions: BTreeMap<String, Vec<Source>>,
}

/// Where a permission comes from.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, schemars::JsonSchema)]
pub(crate) struct Source {
    /// `direct` or `group`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The role.
    pub role_id: String,
    /// Its name.
    pub role_name: String,
    /// The group that carries it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_id: Option<String>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_name: Option<String>,
}

/// What a change may have taken from a user.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Rights {
    org: Option<String>,
    admin: bool,
    names: BTreeSet<(char, String)>,
}

// === impl Directory ===

impl Directory {
    /// What a user may do; nothing if there is no such user.
    pub(crate) fn effective(&self, user: &str) -> Effective {
        let mut all = Effective::default();
        let Some(row) = self.users.get(user) else { return all };
        for role in row.roles.iter().filter_map(|id| self.roles.get(id)) {
            all.grant(role, None);
        }
        for group in self.groups_of(user) {
            all.groups.insert(group.name.clone());
            for role in group.roles.iter().filter_map(|id| self.roles.get(id)) {
                all.grant(role, Some((&group.id, &group.name)));
            }
        }
        all
    }

    /// What an active user has; `None` if there is no such user, or an inactive one.
    pub(crate) fn rights(&self, user: &str) -> Option<Rights> {
        let row = self.users.get(user).filter(|row| row.active)?;
        let Effective { roles, groups, permissions } = self.effective(user);
        let names = roles.into_iter().map(|name| ('r', name));
        let names = names.chain(groups.into_iter().map(|name| ('g', name)));
        let names = names.chain(permissions.into_keys().map(|name| ('p', name))).collect();
        Some(Rights { org: row.org.clone(), admin: self.managed_by(user).is_some(), names })
    }

    /// Users who have a role, directly or by a group.
    pub(crate) fn holders(&self, role: &str) -> Vec<String> {
        let direct = self.users.values().filter(|user| user.roles.contains(role)).map(|user| user.id.clone());
        let groups = self.groups.values().filter(|group| group.roles.contains(role));
        let all: BTreeSet<String> = direct.chain(groups.flat_map(|group| group.members.clone())).collect();
        all.into_iter().collect()
    }
}

// === impl Effective ===

impl Effective {
    fn grant(&mut self, role: &Role, group: Option<(&String, &String)>) {
        self.roles.insert(role.name.clone());
        for permission in &role.permissions {
            self.permissions.entry(permission.clone()).or_default().push(Source {
                kind: if group.is_some() { "group" } else { "direct" },
                role_id: role.id.clone(),
                role_name: role.name.clone(),
                group_id: group.map(|(id, _)| id.clone()),
                group_name: group.map(|(_, name)| name.clone()),
            });
        }
    }
}

// === impl Rights ===

impl Rights {
    /// Whether nothing of `before` is missing here.
    pub(crate) fn keep(&self, before: &Rights) -> bool {
        let Rights { org, admin, names } = before;
        self.org == *org && (self.admin || !admin) && self.names.is_superset(names)
    }
}
