//! A tenant's signing keys, and the ways between their states.
//!
//! A key is *published* (verifiers learn it), then *active* (it signs), then *retiring* (tokens that it signed are
//! still accepted), then gone; by hand, or by a [`Schedule`]. **Invariant:** exactly one key is active.

use portcullis_token::mint::SigningKey;
use portcullis_wire::JwkSet;
use serde::{Deserialize, Serialize};

use crate::Problem;
use crate::rotation::{Schedule, Step};
use crate::secret::Kept;
use crate::store::{Changes, Stored, Table, Unreadable};

/// Signing keys.
pub(crate) struct KeyRing {
    rows: Table<KeyRow>,
    /// How many keys there ever were: identifiers of past keys are not given again, caches may still hold them.
    made: u64,
    schedule: Option<Schedule>,
}

/// One signing key.
#[derive(Deserialize, Serialize)]
pub(crate) struct KeyRow {
    /// Identifier.
    pub kid: String,
    /// How many keys there were before it.
    number: u64,
    /// The key pair.
    #[serde(with = "Kept")]
    pub key: SigningKey,
    /// Where it is on its way.
    pub state: KeyState,
    /// Since when verifiers can know it, seconds since the epoch.
    pub published_s: u64,
    /// Since when it is in that state.
    pub since_s: u64,
}

/// Where a key is on its way.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KeyState {
    /// Known to verifiers, not yet used.
    Published,
    /// Signs.
    Active,
    /// No longer used, still known to verifiers.
    Retiring,
}

/// What of a ring is not in its rows.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct RingSettings {
    made: u64,
    schedule: Option<Schedule>,
}

/// Most keys of a tenant at a time.
const KEYS_MAX: usize = 64;

// === impl KeyRing ===

impl KeyRing {
    /// A ring whose only key is active.
    pub(crate) fn new(kid: String, key: SigningKey, now_s: u64) -> KeyRing {
        let mut rows = Table::default();
        let row = KeyRow { kid, number: 0, key, state: KeyState::Active, published_s: now_s, since_s: now_s };
        rows.insert(row.kid.clone(), row);
        KeyRing { rows, made: 1, schedule: None }
    }

    /// Every key, oldest first.
    pub(crate) fn rows(&self) -> Vec<&KeyRow> {
        let mut rows: Vec<&KeyRow> = self.rows.values().collect();
        rows.sort_by_key(|row| row.number);
        rows
    }

    /// The key of that identifier.
    pub(crate) fn get(&self, kid: &str) -> Option<&KeyRow> {
        self.rows.get(kid)
    }

    /// The key that signs.
    pub(crate) fn active(&self) -> Result<&KeyRow, Problem> {
        let active = self.rows.values().find(|row| row.state == KeyState::Active);
        active.ok_or_else(|| Problem::internal("no key is active"))
    }

    /// The key that signs next: of those that are published, the oldest.
    pub(crate) fn next(&self) -> Option<&KeyRow> {
        let published = self.rows.values().filter(|row| row.state == KeyState::Published);
        published.min_by_key(|row| row.number)
    }

    /// The public keys.
    pub(crate) fn jwks(&self) -> JwkSet {
        JwkSet { keys: self.rows().into_iter().map(|row| row.key.public_jwk(&row.kid)).collect() }
    }

    /// Adds a key that does not sign yet.
    pub(crate) fn publish(&mut self, kid: String, key: SigningKey, now_s: u64) -> Result<(), Problem> {
        if self.rows.contains(&kid) {
            return Err(Problem::conflict(format!("key `{kid}` exists")));
        }
        if self.rows.len() >= KEYS_MAX {
            return Err(Problem::conflict(format!("{KEYS_MAX} keys exist; delete one first")));
        }
        let (state, number) = (KeyState::Published, self.made);
        let row = KeyRow { kid: kid.clone(), number, key, state, published_s: now_s, since_s: now_s };
        self.rows.insert(kid, row);
        self.made += 1;
        Ok(())
    }

    /// Lets `kid` sign from now on; the one before it is retiring.
    pub(crate) fn activate(&mut self, kid: &str, now_s: u64) -> Result<(), Problem> {
        if !self.rows.contains(kid) {
            return Err(no_key(kid));
        }
        self.rows.change_each(|row| {
            let state = match (row.kid == kid, row.state) {
                (true, _) => KeyState::Active,
                (false, KeyState::Active) => KeyState::Retiring,
                (false, other) => other,
            };
            let changed = state != row.state;
            if changed {
                row.state = state;
                row.since_s = now_s;
            }
            changed
        });
        Ok(())
    }

    /// Takes a key away: whatever it signed is refused from the next bundle on.
    pub(crate) fn retire(&mut self, kid: &str) -> Result<(), Problem> {
        let row = self.rows.get(kid).ok_or_else(|| no_key(kid))?;
        if row.state == KeyState::Active {
            return Err(Problem::conflict(format!(
                "key `{kid}` signs; activate another one first, or revoke it with `POST …/keys/{kid}/revoke`"
            )));
        }
        self.rows.remove(kid);
        Ok(())
    }

    /// A `kid` that no key has.
    pub(crate) fn free_kid(&self, tenant: &str) -> String {
        let kids = (self.made + 1..).map(|n| format!("{tenant}-{n}"));
        kids.into_iter().find(|kid| !self.rows.contains(kid)).unwrap_or_default()
    }

    /// The schedule, if there is one.
    pub(crate) fn schedule(&self) -> Option<&Schedule> {
        self.schedule.as_ref()
    }

    /// Sets or ends the schedule.
    pub(crate) fn set_schedule(&mut self, schedule: Option<Schedule>) {
        self.schedule = schedule;
    }

    /// What the schedule wants done now.
    pub(crate) fn due(&self, now_s: u64) -> Option<Step> {
        let active = self.active().ok()?;
        self.schedule.as_ref()?.due(active, self.next(), self.rows.values(), now_s)
    }

    /// What is not in rows.
    pub(crate) fn settings(&self) -> RingSettings {
        RingSettings { made: self.made, schedule: self.schedule.clone() }
    }

    /// Hands over what changed since the last time.
    pub(crate) fn drain(&mut self, changes: &mut Changes) {
        self.rows.drain("key", changes);
    }

    /// The keys as they were written.
    pub(crate) fn load(stored: &mut Stored, settings: RingSettings) -> Result<KeyRing, Unreadable> {
        let RingSettings { made, schedule } = settings;
        let rows: Table<KeyRow> = Table::load("key", stored)?;
        match rows.values().filter(|row| row.state == KeyState::Active).count() {
            1 => Ok(KeyRing { rows, made, schedule }),
            other => Err(Unreadable::new("key", "", format_args!("{other} keys are active, not one"))),
        }
    }
}

fn no_key(kid: &str) -> Problem {
    Problem::not_found(format!("no key `{kid}`"))
}
