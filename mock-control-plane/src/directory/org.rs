//! Organisations: each one a directory of its own, with its own administrators.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Directory, Refusal, Scope, name, same, seen};
use crate::mfa::MfaPolicy;

/// An organisation.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Org {
    /// Identifier.
    pub id: String,
    /// Short name, unique in the tenant.
    pub slug: String,
    /// Name for people.
    pub name: String,
    /// Stricter than the tenant's, or absent.
    pub mfa_policy: Option<MfaPolicy>,
    /// Users who manage it.
    pub admins: BTreeSet<String>,
}

/// What an organisation is made of.
#[derive(Clone, Debug)]
pub(crate) struct OrgDraft {
    /// Short name.
    pub slug: String,
    /// Name for people.
    pub name: String,
    /// Stricter than the tenant's, or absent.
    pub mfa_policy: Option<MfaPolicy>,
}

// === impl Directory ===

impl Directory {
    /// The organisations that the scope sees.
    pub(crate) fn orgs(&self, scope: &Scope) -> impl Iterator<Item = &Org> {
        self.orgs.values().filter(|org| scope.sees(Some(&org.id)))
    }

    /// One organisation.
    pub(crate) fn org(&self, scope: &Scope, id: &str) -> Result<&Org, Refusal> {
        seen(self.orgs.get(id), scope, |org| Some(&org.id), "organisation")
    }

    /// Adds an organisation; only who manages the tenant can.
    pub(crate) fn add_org(&mut self, id: String, draft: OrgDraft) -> Result<&Org, Refusal> {
        let OrgDraft { slug, name: text, mfa_policy } = draft;
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if slug.is_empty() || slug.len() > 63 || !slug.bytes().all(legal) {
            return Err(Refusal::invalid("/slug", "must be 1 to 63 of `a-z`, `0-9` and `-`"));
        }
        let text = name("/name", &text)?;
        if self.orgs.values().any(|org| same(&org.slug, &slug)) {
            return Err(Refusal::Conflict(format!("organisation `{slug}` exists")));
        }
        let org = Org { id: id.clone(), slug, name: text, mfa_policy, admins: BTreeSet::new() };
        Ok(self.orgs.insert(id, org))
    }

    /// Changes the name or the MFA policy of an organisation.
    pub(crate) fn change_org(
        &mut self,
        scope: &Scope,
        id: &str,
        new_name: Option<String>,
        mfa_policy: Option<Option<MfaPolicy>>,
    ) -> Result<&Org, Refusal> {
        self.org(scope, id)?;
        let new_name = new_name.map(|text| name("/name", &text)).transpose()?;
        let org = self.orgs.get_mut(id).ok_or(Refusal::NotFound("organisation"))?;
        org.name = new_name.unwrap_or_else(|| org.name.clone());
        org.mfa_policy = mfa_policy.unwrap_or(org.mfa_policy);
        Ok(org)
    }

    /// Makes a user of the organisation one of its administrators, or no longer one.
    pub(crate) fn set_org_admin(
        &mut self,
        scope: &Scope,
        id: &str,
        user: &str,
        admin: bool,
    ) -> Result<&Org, Refusal> {
        self.org(scope, id)?;
        self.user(&Scope::Org(id.to_owned()), user)?;
        let org = self.orgs.get_mut(id).ok_or(Refusal::NotFound("organisation"))?;
        if admin {
            org.admins.insert(user.to_owned());
        } else if !org.admins.remove(user) {
            return Err(Refusal::NotFound("administrator"));
        }
        Ok(org)
    }

    /// The organisation that an active user may manage.
    pub(crate) fn managed_by(&self, user: &str) -> Option<&Org> {
        let org = self.users.get(user).filter(|user| user.active)?.org.as_ref()?;
        self.orgs.get(org).filter(|org| org.admins.contains(user))
    }

    pub(super) fn need_org(&self, org: Option<&str>) -> Result<(), Refusal> {
        match org {
            Some(id) if !self.orgs.contains(id) => Err(Refusal::NotFound("organisation")),
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn forget_admin(&mut self, user: &str) {
        self.orgs.change_each(|org| org.admins.remove(user));
    }
}
