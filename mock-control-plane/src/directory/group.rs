//! Groups: users who get roles together.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Directory, Refusal, Scope, name, same, seen};

/// A group.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Group {
    /// Identifier.
    pub id: String,
    /// Organisation, or the tenant's own.
    pub org: Option<String>,
    /// Name, as in tokens.
    pub name: String,
    /// For people.
    pub description: String,
    /// Identifier in the directory that provisions it.
    pub external_id: Option<String>,
    /// Users in it.
    pub members: BTreeSet<String>,
    /// Roles that its members have.
    pub roles: BTreeSet<String>,
    /// When it was made, seconds since the epoch.
    pub created_s: u64,
    /// When it was last changed.
    pub updated_s: u64,
    /// Number of the change.
    pub revision: u64,
}

/// What a group is made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupDraft {
    /// Organisation, or the tenant's own.
    pub org: Option<String>,
    /// Name, as in tokens.
    pub name: String,
    /// For people; absent: as it is.
    pub description: Option<String>,
    /// Identifier in the directory that provisions it.
    pub external_id: Option<String>,
    /// Users in it; absent: as they are.
    pub members: Option<BTreeSet<String>>,
}

// === impl Directory ===

impl Directory {
    /// The groups that the scope sees.
    pub(crate) fn groups(&self, scope: &Scope) -> impl Iterator<Item = &Group> {
        self.groups.values().filter(|group| scope.sees(group.org.as_deref()))
    }

    /// One group.
    pub(crate) fn group(&self, scope: &Scope, id: &str) -> Result<&Group, Refusal> {
        seen(self.groups.get(id), scope, |group| group.org.as_deref(), "group")
    }

    /// The groups that a user is in.
    pub(crate) fn groups_of(&self, user: &str) -> impl Iterator<Item = &Group> {
        self.groups.values().filter(move |group| group.members.contains(user))
    }

    /// Adds a group.
    pub(crate) fn add_group(
        &mut self,
        scope: &Scope,
        id: String,
        draft: GroupDraft,
        now_s: u64,
    ) -> Result<&Group, Refusal> {
        let GroupDraft { org, name: text, description, external_id, members } = draft;
        let org = scope.place(org)?;
        self.need_org(org.as_deref())?;
        let text = name("/name", &text)?;
        let members = members.unwrap_or_default();
        self.need_free_group(org.as_deref(), &text, None)?;
        self.need_members(org.as_deref(), &members)?;
        let group = Group {
            id: id.clone(),
            org,
            name: text,
            description: description.unwrap_or_default(),
            external_id,
            members,
            roles: BTreeSet::new(),
            created_s: now_s,
            updated_s: now_s,
            revision: 1,
        };
        Ok(self.groups.insert(id, group))
    }

    /// Replaces what a group is made of; its organisation and roles stay.
    pub(crate) fn change_group(
        &mut self,
        scope: &Scope,
        id: &str,
        draft: GroupDraft,
        now_s: u64,
    ) -> Result<&Group, Refusal> {
        let GroupDraft { org: _, name: text, description, external_id, members } = draft;
        let org = self.group(scope, id)?.org.clone();
        let text = name("/name", &text)?;
        self.need_free_group(org.as_deref(), &text, Some(id))?;
        if let Some(members) = &members {
            self.need_members(org.as_deref(), members)?;
        }
        let group = self.groups.get_mut(id).ok_or(Refusal::NotFound("group"))?;
        let description = description.unwrap_or_else(|| group.description.clone());
        let members = members.unwrap_or_else(|| group.members.clone());
        let unchanged = (&group.name, &group.description, &group.external_id, &group.members)
            == (&text, &description, &external_id, &members);
        if !unchanged {
            group.revision += 1;
            group.updated_s = now_s;
        }
        group.name = text;
        group.description = description;
        group.external_id = external_id;
        group.members = members;
        Ok(group)
    }

    /// Takes a group away.
    pub(crate) fn remove_group(&mut self, scope: &Scope, id: &str) -> Result<(), Refusal> {
        self.group(scope, id)?;
        self.groups.remove(id);
        Ok(())
    }

    /// Puts a user into a group, or takes one out.
    pub(crate) fn set_member(
        &mut self,
        scope: &Scope,
        group: &str,
        user: &str,
        member: bool,
        now_s: u64,
    ) -> Result<&Group, Refusal> {
        let org = self.group(scope, group)?.org.clone();
        self.need_members(org.as_deref(), &BTreeSet::from([user.to_owned()]))?;
        let row = self.groups.get_mut(group).ok_or(Refusal::NotFound("group"))?;
        let changed = if member { row.members.insert(user.to_owned()) } else { row.members.remove(user) };
        if changed {
            row.revision += 1;
            row.updated_s = now_s;
        } else if !member {
            return Err(Refusal::NotFound("member"));
        }
        Ok(row)
    }

    pub(super) fn forget_member(&mut self, user: &str, now_s: u64) {
        self.groups.change_each(|group| {
            let member = group.members.remove(user);
            if member {
                group.revision += 1;
                group.updated_s = now_s;
            }
            member
        });
    }

    /// A group holds users of its own organisation only.
    fn need_members(&self, org: Option<&str>, members: &BTreeSet<String>) -> Result<(), Refusal> {
        let fits = |id: &&String| self.users.get(id).is_none_or(|user| user.org.as_deref() != org);
        match members.iter().find(fits) {
            Some(id) if self.users.contains(id) => Err(Refusal::Foreign("user")),
            Some(_) => Err(Refusal::NotFound("user")),
            None => Ok(()),
        }
    }

    fn need_free_group(&self, org: Option<&str>, name: &str, own: Option<&str>) -> Result<(), Refusal> {
        let taken = self.groups.values().any(|group| {
            // Tokens and policies know groups by name: an organisation's cannot be named as the tenant's.
            let overlaps = group.org.as_deref() == org || group.org.is_none() || org.is_none();
            overlaps && same(&group.name, name) && Some(group.id.as_str()) != own
        });
        if taken { Err(Refusal::Conflict(format!("a group named `{name}` exists"))) } else { Ok(()) }
    }
}
