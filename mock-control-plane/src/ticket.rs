//! Tickets: short-lived permissions for the one next step of a login.

use crate::Problem;
use crate::secret::{SecretHash, random};

/// A tenant's tickets.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    rows: Vec<Ticket>,
}

#[derive(Debug)]
struct Ticket {
    hash: SecretHash,
    user: String,
    purpose: Purpose,
    expires_s: u64,
}

/// The step that a ticket is good for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
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
            self.rows.remove(0);
        }
        let token = random(match purpose {
            Purpose::Enroll => "enroll_",
            Purpose::Mfa => "mfa_",
        })?;
        let hash = SecretHash::of(token.as_bytes());
        self.rows.push(Ticket {
            hash,
            user: user.to_owned(),
            purpose,
            expires_s: now_s.saturating_add(TTL_S),
        });
        Ok(token)
    }

    /// Whose ticket it is.
    pub(crate) fn user(&self, presented: &[u8], purpose: Purpose, now_s: u64) -> Option<&str> {
        let hash = SecretHash::of(presented);
        let mut rows = self.rows.iter();
        let row = rows.find(|row| row.hash == hash && row.purpose == purpose && now_s < row.expires_s)?;
        Some(&row.user)
    }

    /// Ends all tickets of a user for that step: it is taken.
    pub(crate) fn spend(&mut self, user: &str, purpose: Purpose) {
        self.rows.retain(|row| row.user != user || row.purpose != purpose);
    }
}
