//! Roles: named sets of permissions, of one organisation or of the whole tenant.
//!
//! Tokens and policies know roles by name. So an organisation cannot have a role that is named as one of the tenant's:
//! whoever manages the organisation would grant what the tenant's role grants.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Directory, NAME_BYTES_MAX, Refusal, Scope, name, same, seen};

/// A role.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Role {
    /// Identifier.
    pub id: String,
    /// Organisation, or the whole tenant.
    pub org: Option<String>,
    /// Name, as in tokens.
    pub name: String,
    /// For people.
    pub description: String,
    /// What it grants.
    pub permissions: BTreeSet<String>,
}

/// What a role is made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct RoleDraft {
    /// Organisation, or the whole tenant.
    pub org: Option<String>,
    /// Name, as in tokens.
    pub name: String,
    /// For people.
    pub description: String,
    /// What it grants.
    pub permissions: BTreeSet<String>,
}

/// Most permissions of a role.
const PERMISSIONS_MAX: usize = 1_000;

// === impl Directory ===

impl Directory {
    /// The roles that the scope sees.
    pub(crate) fn roles(&self, scope: &Scope) -> impl Iterator<Item = &Role> {
        self.roles.values().filter(|role| scope.sees(role.org.as_deref()))
    }

    /// One role.
    pub(crate) fn role(&self, scope: &Scope, id: &str) -> Result<&Role, Refusal> {
        seen(self.roles.get(id), scope, |role| role.org.as_deref(), "role")
    }

    /// The role of that name in that organisation.
    pub(crate) fn role_by_name(&self, org: Option<&str>, name: &str) -> Option<&Role> {
        self.roles.values().find(|role| role.org.as_deref() == org && same(&role.name, name))
    }

    /// Adds a role.
    pub(crate) fn add_role(&mut self, scope: &Scope, id: String, draft: RoleDraft) -> Result<&Role, Refusal> {
        let RoleDraft { org, name: text, description, permissions } = draft;
        let org = scope.place(org)?;
        self.need_org(org.as_deref())?;
        let text = name("/name", &text)?;
        check_permissions(&permissions)?;
        self.need_free_role(org.as_deref(), &text, None)?;
        let role = Role { id: id.clone(), org, name: text, description, permissions };
        Ok(self.roles.insert(id, role))
    }

    /// Replaces what a role is made of; its organisation stays.
    pub(crate) fn change_role(
        &mut self,
        scope: &Scope,
        id: &str,
        draft: RoleDraft,
    ) -> Result<&Role, Refusal> {
        let RoleDraft { org: _, name: text, description, permissions } = draft;
        let org = self.role(scope, id)?.org.clone();
        let text = name("/name", &text)?;
        check_permissions(&permissions)?;
        self.need_free_role(org.as_deref(), &text, Some(id))?;
        let role = Role { id: id.to_owned(), org, name: text, description, permissions };
        let row = self.roles.get_mut(id).ok_or(Refusal::NotFound("role"))?;
        *row = role;
        Ok(row)
    }

    /// Takes a role away, from whoever has it too.
    pub(crate) fn remove_role(&mut self, scope: &Scope, id: &str) -> Result<(), Refusal> {
        self.role(scope, id)?;
        self.roles.remove(id);
        self.users.change_each(|user| user.roles.remove(id));
        self.groups.change_each(|group| group.roles.remove(id));
        Ok(())
    }

    /// Gives a role to a user, or takes it.
    pub(crate) fn set_user_role(
        &mut self,
        scope: &Scope,
        user: &str,
        role: &str,
        has: bool,
    ) -> Result<(), Refusal> {
        let org = self.user(scope, user)?.org.clone();
        self.need_fitting_role(scope, org.as_deref(), role)?;
        let row = self.users.get_mut(user).ok_or(Refusal::NotFound("user"))?;
        let changed = if has { row.roles.insert(role.to_owned()) } else { row.roles.remove(role) };
        if !has && !changed {
            return Err(Refusal::NotFound("role of the user"));
        }
        Ok(())
    }

    /// Gives a role to a group, or takes it.
    pub(crate) fn set_group_role(
        &mut self,
        scope: &Scope,
        group: &str,
        role: &str,
        has: bool,
    ) -> Result<(), Refusal> {
        let org = self.group(scope, group)?.org.clone();
        self.need_fitting_role(scope, org.as_deref(), role)?;
        let row = self.groups.get_mut(group).ok_or(Refusal::NotFound("group"))?;
        let changed = if has { row.roles.insert(role.to_owned()) } else { row.roles.remove(role) };
        if !has && !changed {
            return Err(Refusal::NotFound("role of the group"));
        }
        Ok(())
    }

    /// A role of the same organisation, or of the whole tenant for those who manage that.
    fn need_fitting_role(&self, scope: &Scope, org: Option<&str>, role: &str) -> Result<(), Refusal> {
        let role = self.role(scope, role)?;
        if role.org.is_none() || role.org.as_deref() == org { Ok(()) } else { Err(Refusal::Foreign("role")) }
    }

    fn need_free_role(&self, org: Option<&str>, name: &str, own: Option<&str>) -> Result<(), Refusal> {
        let taken = self.roles.values().any(|role| {
            let overlaps = role.org.as_deref() == org || role.org.is_none() || org.is_none();
            overlaps && same(&role.name, name) && Some(role.id.as_str()) != own
        });
        if taken { Err(Refusal::Conflict(format!("a role named `{name}` exists"))) } else { Ok(()) }
    }
}

fn check_permissions(permissions: &BTreeSet<String>) -> Result<(), Refusal> {
    if permissions.len() > PERMISSIONS_MAX {
        return Err(Refusal::invalid("/permissions", format!("more than {PERMISSIONS_MAX}")));
    }
    let odd = |text: &&String| {
        text.is_empty() || text.len() > NAME_BYTES_MAX || text.contains(|c: char| c.is_control() || c == ' ')
    };
    match permissions.iter().find(odd) {
        Some(text) => Err(Refusal::invalid(
            "/permissions",
            format!("{text:?} must have 1 to {NAME_BYTES_MAX} bytes, no spaces and no control characters"),
        )),
        None => Ok(()),
    }
}
