//! The directory: organisations, users, groups, roles, and who may do what by them.
//!
//! Users belong to groups, groups carry roles, roles grant permissions. **Invariant:** what belongs to one
//! organisation is neither shown to another nor linked with it: a [`Scope`] goes into every look-up, and what it does
//! not see does not exist.

mod effective;
mod group;
mod org;
mod role;
mod user;

use serde::{Deserialize, Serialize};

pub(crate) use effective::{Effective, Source};
pub(crate) use group::{Group, GroupDraft};
pub(crate) use org::{Org, OrgDraft};
pub(crate) use role::{Role, RoleDraft};
pub(crate) use user::{User, UserDraft};

use crate::store::{Changes, Stored, Table, Unreadable};
use crate::{FieldError, Problem};

/// A tenant's directory.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    orgs: Table<Org>,
    users: Table<User>,
    groups: Table<Group>,
    roles: Table<Role>,
}

/// What whoever asks may see.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Scope {
    /// Everything of the tenant.
    Tenant,
    /// One organisation.
    Org(String),
}

/// Why the directory did nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Refusal {
    /// At odds with what exists.
    Conflict(String),
    /// A member of the request is wrong.
    Invalid {
        /// JSON Pointer to it.
        pointer: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// There is such a thing, of another organisation: the answer is that of [`Refusal::NotFound`], and the audit log
    /// has it.
    Foreign(&'static str),
    /// No such thing.
    NotFound(&'static str),
}

/// Longest name, bytes.
pub(crate) const NAME_BYTES_MAX: usize = 240;

// === impl Directory ===

impl Directory {
    /// Hands over what changed since the last time.
    pub(crate) fn drain(&mut self, changes: &mut Changes) {
        let Directory { orgs, users, groups, roles } = self;
        orgs.drain("org", changes);
        users.drain("user", changes);
        groups.drain("group", changes);
        roles.drain("role", changes);
    }

    /// The directory as it was written.
    pub(crate) fn load(stored: &mut Stored) -> Result<Directory, Unreadable> {
        Ok(Directory {
            orgs: Table::load("org", stored)?,
            users: Table::load("user", stored)?,
            groups: Table::load("group", stored)?,
            roles: Table::load("role", stored)?,
        })
    }
}

// === impl Scope ===

impl Scope {
    /// Whether something of that organisation, or of none, is seen.
    pub(crate) fn sees(&self, org: Option<&str>) -> bool {
        match self {
            Scope::Tenant => true,
            Scope::Org(own) => org == Some(own),
        }
    }

    /// The organisation that something new belongs to, when `wanted` was asked for.
    pub(crate) fn place(&self, wanted: Option<String>) -> Result<Option<String>, Refusal> {
        match self {
            Scope::Tenant => Ok(wanted),
            Scope::Org(own) if wanted.as_ref().is_none_or(|wanted| wanted == own) => Ok(Some(own.clone())),
            Scope::Org(_) => Err(Refusal::Foreign("organisation")),
        }
    }
}

// === impl Refusal ===

impl Refusal {
    /// A member of the request is wrong.
    pub(crate) fn invalid(pointer: &'static str, detail: impl Into<String>) -> Refusal {
        Refusal::Invalid { pointer, detail: detail.into() }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        match refusal {
            Refusal::Conflict(detail) => Problem::conflict(detail),
            Refusal::Invalid { pointer, detail } => Problem::invalid(vec![FieldError::new(pointer, detail)]),
            Refusal::Foreign(what) => {
                Problem { foreign: true, ..Problem::not_found(format!("no such {what}")) }
            }
            Refusal::NotFound(what) => Problem::not_found(format!("no such {what}")),
        }
    }
}

/// A row that the scope sees.
fn seen<'a, T>(
    row: Option<&'a T>,
    scope: &Scope,
    org: impl Fn(&T) -> Option<&str>,
    what: &'static str,
) -> Result<&'a T, Refusal> {
    match row {
        Some(row) if scope.sees(org(row)) => Ok(row),
        Some(_) => Err(Refusal::Foreign(what)),
        None => Err(Refusal::NotFound(what)),
    }
}

/// A name as it is kept: not empty, not too long, no control characters.
fn name(pointer: &'static str, text: &str) -> Result<String, Refusal> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Refusal::invalid(pointer, "is empty"));
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(Refusal::invalid(pointer, format!("is longer than {NAME_BYTES_MAX} bytes")));
    }
    if text.chars().any(char::is_control) {
        return Err(Refusal::invalid(pointer, "contains a control character"));
    }
    Ok(text.to_owned())
}

/// Whether two names are the same to people.
fn same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}
