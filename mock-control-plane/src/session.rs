//! Sessions: who is logged in, how strongly, and the refresh token that goes on with it.
//!
//! **Invariant:** a refresh token is used once. One that comes again was stolen, or its successor was: the session
//! ends (RFC 9700 section 4.14.2).

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::Problem;
use crate::secret::{SecretHash, random};
use crate::store::{Changes, Stored, Table, Unreadable};

/// All sessions of a tenant.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    rows: Table<Session>,
}

/// One session.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Session {
    /// Identifier, `sid`.
    pub id: String,
    /// The user.
    pub user: String,
    /// When it began, seconds since the epoch.
    pub created_s: u64,
    /// When a token was last made for it.
    pub used_s: u64,
    /// When it ends.
    pub expires_s: u64,
    /// How strongly the user is known.
    pub strength: Strength,
    refresh: SecretHash,
    spent: VecDeque<SecretHash>,
}

/// How strongly, and when, a user was authenticated.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Strength {
    /// `auth_time`, seconds since the epoch.
    pub auth_time_s: u64,
    /// Whether a second factor was shown.
    pub mfa: bool,
}

/// What became of a refresh token.
#[derive(Debug)]
pub(crate) enum Refresh {
    /// It was good; this is the next one.
    Rotated {
        /// The session.
        sid: String,
        /// The next refresh token.
        refresh_token: String,
    },
    /// It had been used: the session is ended.
    Reused {
        /// The session.
        sid: String,
    },
    /// There is none such.
    Unknown,
}

/// Spent refresh tokens remembered a session.
const SPENT_MAX: usize = 32;
/// Most sessions of one user; the oldest goes first.
const PER_USER_MAX: usize = 50;

// === impl Sessions ===

impl Sessions {
    /// Begins a session: its identifier, its first refresh token, and the session that had to go for it, if any.
    pub(crate) fn begin(
        &mut self,
        user: &str,
        strength: Strength,
        now_s: u64,
        ttl_s: u64,
    ) -> Result<(String, String, Option<String>), Problem> {
        self.rows.retain(|row| now_s < row.expires_s);
        let of_user = self.rows.values().filter(|row| row.user == user);
        let oldest = of_user.clone().min_by_key(|row| row.created_s).map(|row| row.id.clone());
        let ended = if of_user.count() >= PER_USER_MAX { oldest } else { None };
        ended.as_ref().map(|sid| self.rows.remove(sid));
        let id = random("ses-")?;
        let (refresh_token, refresh) = refresh_token(&id)?;
        let session = Session {
            id: id.clone(),
            user: user.to_owned(),
            created_s: now_s,
            used_s: now_s,
            expires_s: now_s.saturating_add(ttl_s),
            strength,
            refresh,
            spent: VecDeque::new(),
        };
        self.rows.insert(id.clone(), session);
        Ok((id, refresh_token, ended))
    }

    /// The session of that identifier, if it has not ended.
    pub(crate) fn get(&self, sid: &str, now_s: u64) -> Option<&Session> {
        self.rows.get(sid).filter(|row| now_s < row.expires_s)
    }

    /// The session of that identifier, to change it.
    pub(crate) fn get_mut(&mut self, sid: &str, now_s: u64) -> Option<&mut Session> {
        self.rows.get_mut(sid).filter(|row| now_s < row.expires_s)
    }

    /// The sessions of a user.
    pub(crate) fn of_user(&self, user: &str, now_s: u64) -> impl Iterator<Item = &Session> {
        self.rows.values().filter(move |row| row.user == user && now_s < row.expires_s)
    }

    /// Uses a refresh token.
    pub(crate) fn refresh(&mut self, presented: &str, now_s: u64) -> Result<Refresh, Problem> {
        let sid = presented.strip_prefix("rt_").and_then(|rest| rest.rsplit_once('_')).map(|(sid, _)| sid);
        let Some(row) = sid.and_then(|sid| self.get(sid, now_s)) else { return Ok(Refresh::Unknown) };
        let sid = row.id.clone();
        let Some(row) = self.get_mut(&sid, now_s) else { return Ok(Refresh::Unknown) };
        if row.refresh.matches(presented.as_bytes()) {
            let (refresh_token, hash) = refresh_token(&sid)?;
            row.spent.push_back(std::mem::replace(&mut row.refresh, hash));
            if row.spent.len() > SPENT_MAX {
                row.spent.pop_front();
            }
            row.used_s = now_s;
            return Ok(Refresh::Rotated { sid, refresh_token });
        }
        if row.spent.iter().any(|spent| spent.matches(presented.as_bytes())) {
            self.rows.remove(&sid);
            return Ok(Refresh::Reused { sid });
        }
        Ok(Refresh::Unknown)
    }

    /// Ends a session; whether there was one.
    pub(crate) fn end(&mut self, sid: &str) -> bool {
        self.rows.remove(sid).is_some()
    }

    /// Ends all sessions of a user; how many.
    pub(crate) fn end_all(&mut self, user: &str) -> usize {
        self.rows.retain(|row| row.user != user)
    }

    /// Hands over what changed since the last time.
    pub(crate) fn drain(&mut self, changes: &mut Changes) {
        self.rows.drain("session", changes);
    }

    /// The sessions as they were written.
    pub(crate) fn load(stored: &mut Stored) -> Result<Sessions, Unreadable> {
        Ok(Sessions { rows: Table::load("session", stored)? })
    }
}

// === impl Strength ===

impl Strength {
    /// Authentication methods, RFC 8176 section 2.
    pub(crate) fn amr(&self) -> &'static [&'static str] {
        if self.mfa { &["pwd", "otp", "mfa"] } else { &["pwd"] }
    }
}

fn refresh_token(sid: &str) -> Result<(String, SecretHash), Problem> {
    let token = random(&format!("rt_{sid}_"))?;
    let hash = SecretHash::of(token.as_bytes());
    Ok((token, hash))
}
