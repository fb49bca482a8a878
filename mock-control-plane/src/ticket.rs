//! Tickets: short-lived permissions for the one next step of a login.

use serde::{Deserialize, Serialize};

use crate::Problem;
use crate::secret::{SecretHash, random};
use crate::store::{Changes, Stored, Table, Unreadable};

/// A tenant's tickets, by hash.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    rows: Table<Ticket>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Ticket {
    user: String,
    purpose: Purpose,
    expires_s: u64,
}

/// The step that a ticket is good for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Purpose {
    /// To enrol a second factor, where one is required before there is a session.
    Enroll,
    /// To show the second factor, after the password.
    Mfa,
}

/// Lifetime, seconds.
const TTL_S: u64 = 300;
/// Most tickets at a time; the oldest go first.
const TICKETS_MAX: usize = 10_000;

// === impl Tickets ===

impl Tickets {
    /// A new ticket for `user`.
    pub(crate) fn issue(&mut self, user: &str, purpose: Purpose, now_s: u64) -> Result<String, Problem> {
        self.rows.retain(|row| now_s < row.expires_s);
        if self.rows.len() >= TICKETS_MAX {
            let oldest = self.rows.iter().min_by_key(|(_, row)| row.expires_s).map(|(id, _)| id.clone());
            oldest.map(|id| self.rows.remove(&id));
        }
        let token = random(match purpose {
            Purpose::Enroll => "enroll_",
            Purpose::Mfa => "mfa_",
        })?;
        let ticket = Ticket { user: user.to_owned(), purpose, expires_s: now_s.saturating_add(TTL_S) };
        self.rows.insert(SecretHash::of(token.as_bytes()).id(), ticket);
        Ok(token)
    }

    /// Whose ticket it is.
    pub(crate) fn user(&self, presented: &[u8], purpose: Purpose, now_s: u64) -> Option<&str> {
        // Looked up by hash: how long that takes tells nothing that helps to find a ticket.
        let row = self.rows.get(&SecretHash::of(presented).id())?;
        (row.purpose == purpose && now_s < row.expires_s).then_some(row.user.as_str())
    }

    /// Ends all tickets of a user for that step: it is taken.
    pub(crate) fn spend(&mut self, user: &str, purpose: Purpose) {
        self.rows.retain(|row| row.user != user || row.purpose != purpose);
    }

    /// Hands over what changed since the last time.
    pub(crate) fn drain(&mut self, changes: &mut Changes) {
        self.rows.drain("ticket", changes);
    }

    /// The tickets as they were written.
    pub(crate) fn load(stored: &mut Stored) -> Result<Tickets, Unreadable> {
        Ok(Tickets { rows: Table::load("ticket", stored)? })
    }
}
