//! Users.
//!
//! What a user is made of besides identifiers is the profile: the attributes of SCIM's core and enterprise user
//! (RFC 7643 section 4), by their names there. So nothing that a directory sends is lost, and nothing is kept twice.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Directory, Refusal, Scope, name, same, seen};
use crate::mfa::Mfa;
use crate::password::PasswordHash;

/// A user.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct User {
    /// Identifier, `sub`.
    pub id: String,
    /// Organisation, or none.
    pub org: Option<String>,
    /// Unique name in the tenant; often the e-mail address.
    pub user_name: String,
    /// Identifier in the directory that provisions it.
    pub external_id: Option<String>,
    /// Whether the user may do anything at all.
    pub active: bool,
    /// SCIM attributes by name.
    pub profile: Map<String, Value>,
    /// Whether the address was shown to be the user's.
    pub email_verified: bool,
    /// Roles, direct ones only.
    pub roles: BTreeSet<String>,
    /// The password, if there is one.
    pub password: Option<PasswordHash>,
    /// The second factor.
    pub mfa: Mfa,
    /// When it was made, seconds since the epoch.
    pub created_s: u64,
    /// When it was last changed.
    pub updated_s: u64,
    /// Number of the change.
    pub revision: u64,
}

/// What a user is made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct UserDraft {
    /// Organisation, or none.
    pub org: Option<String>,
    /// Unique name.
    pub user_name: String,
    /// Identifier in the directory that provisions it.
    pub external_id: Option<String>,
    /// Whether the user may do anything at all.
    pub active: bool,
    /// SCIM attributes by name.
    pub profile: Map<String, Value>,
    /// Whether the address was shown to be the user's.
    pub email_verified: bool,
    /// The password; absent: as it is.
    pub password: Option<PasswordHash>,
}

// === impl User ===

impl User {
    /// The address: the primary one, or the first, or the user name if it looks like one.
    pub(crate) fn email(&self) -> Option<&str> {
        email_of(&self.profile).or_else(|| Some(self.user_name.as_str()).filter(|name| name.contains('@')))
    }

    /// The name for people.
    pub(crate) fn name(&self) -> String {
        let part =
            |path: &str| self.profile.get("name").and_then(|name| name.get(path)).and_then(Value::as_str);
        let shown = self.profile.get("displayName").and_then(Value::as_str).or_else(|| part("formatted"));
        match (shown, part("givenName"), part("familyName")) {
            (Some(shown), _, _) => shown.to_owned(),
            (None, Some(given), Some(family)) => format!("{given} {family}"),
            (None, Some(one), None) | (None, None, Some(one)) => one.to_owned(),
            (None, None, None) => self.user_name.clone(),
        }
    }

    /// What makes the same user again.
    pub(crate) fn draft(&self) -> UserDraft {
        UserDraft {
            org: self.org.clone(),
            user_name: self.user_name.clone(),
            external_id: self.external_id.clone(),
            active: self.active,
            profile: self.profile.clone(),
            email_verified: self.email_verified,
            password: None,
        }
    }
}

// === impl Directory ===

impl Directory {
    /// The users that the scope sees.
    pub(crate) fn users(&self, scope: &Scope) -> impl Iterator<Item = &User> {
        self.users.values().filter(|user| scope.sees(user.org.as_deref()))
    }

    /// One user.
    pub(crate) fn user(&self, scope: &Scope, id: &str) -> Result<&User, Refusal> {
        seen(self.users.get(id), scope, |user| user.org.as_deref(), "user")
    }

    /// One user's second factor, to change it.
    pub(crate) fn mfa_mut(&mut self, id: &str) -> Result<&mut Mfa, Refusal> {
        self.users.get_mut(id).map(|user| &mut user.mfa).ok_or(Refusal::NotFound("user"))
    }

    /// The user who logs in with that address or name.
    pub(crate) fn user_by_login(&self, login: &str) -> Option<&User> {
        let login = login.trim();
        let by_name = self.users.values().find(|user| same(&user.user_name, login));
        by_name
            .or_else(|| self.users.values().find(|user| user.email().is_some_and(|email| same(email, login))))
    }

    /// Adds a user.
    pub(crate) fn add_user(
        &mut self,
        scope: &Scope,
        id: String,
        draft: UserDraft,
        now_s: u64,
    ) -> Result<&User, Refusal> {
        let UserDraft { org, user_name, external_id, active, profile, email_verified, password } = draft;
        let org = scope.place(org)?;
        self.need_org(org.as_deref())?;
        let user_name = name("/userName", &user_name)?;
        self.need_free_user(&user_name, email_of(&profile), None)?;
        let user = User {
            id: id.clone(),
            org,
            user_name,
            external_id,
            active,
            profile,
            email_verified,
            roles: BTreeSet::new(),
            password,
            mfa: Mfa::default(),
            created_s: now_s,
            updated_s: now_s,
            revision: 1,
        };
        Ok(self.users.insert(id, user))
    }

    /// Replaces what a user is made of; organisation, roles and second factor stay.
    pub(crate) fn change_user(
        &mut self,
        scope: &Scope,
        id: &str,
        draft: UserDraft,
        now_s: u64,
    ) -> Result<&User, Refusal> {
        let UserDraft { org: _, user_name, external_id, active, profile, email_verified, password } = draft;
        self.user(scope, id)?;
        let user_name = name("/userName", &user_name)?;
        self.need_free_user(&user_name, email_of(&profile), Some(id))?;
        let user = self.users.get_mut(id).ok_or(Refusal::NotFound("user"))?;
        let unchanged = (&user.user_name, &user.external_id, user.active, &user.profile, user.email_verified)
            == (&user_name, &external_id, active, &profile, email_verified);
        if !unchanged || password.is_some() {
            user.revision += 1;
            user.updated_s = now_s;
        }
        user.user_name = user_name;
        user.external_id = external_id;
        user.active = active;
        user.profile = profile;
        user.email_verified = email_verified;
        user.password = password.or(user.password);
        Ok(user)
    }

    /// Takes a user away, from groups and offices too.
    pub(crate) fn remove_user(&mut self, scope: &Scope, id: &str, now_s: u64) -> Result<(), Refusal> {
        self.user(scope, id)?;
        self.users.remove(id);
        self.forget_member(id, now_s);
        self.forget_admin(id);
        Ok(())
    }

    /// Names and addresses are looked up by login, so each belongs to one user of the tenant.
    fn need_free_user(&self, user_name: &str, email: Option<&str>, own: Option<&str>) -> Result<(), Refusal> {
        let others = self.users.values().filter(|user| Some(user.id.as_str()) != own);
        for other in others {
            let theirs = [Some(other.user_name.as_str()), other.email()];
            for mine in [Some(user_name), email].into_iter().flatten() {
                if theirs.iter().flatten().any(|theirs| same(theirs, mine)) {
                    return Err(Refusal::Conflict(format!("a user `{mine}` exists")));
                }
            }
        }
        Ok(())
    }
}

/// The primary address of a profile, or the first.
fn email_of(profile: &Map<String, Value>) -> Option<&str> {
    let emails = profile.get("emails")?.as_array()?;
    let primary = emails.iter().find(|email| email.get("primary") == Some(&Value::Bool(true)));
    primary.or_else(|| emails.first())?.get("value")?.as_str()
}
