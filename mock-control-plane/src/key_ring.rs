//! A tenant's signing keys, and the ways between their states.
//!
//! A key is *published* (verifiers learn it), then *active* (it signs), then *retiring* (tokens that it signed are
//! still accepted), then gone. **Invariant:** exactly one key is active.

use portcullis_token::mint::SigningKey;
use portcullis_wire::JwkSet;

use crate::Problem;

/// Signing keys, oldest first.
pub(crate) struct KeyRing {
    rows: Vec<KeyRow>,
    /// How many keys there ever were: identifiers of past keys are not given again, caches may still hold them.
    made: u64,
}

/// One signing key.
pub(crate) struct KeyRow {
    /// Identifier.
    pub kid: String,
    /// The key pair.
    pub key: SigningKey,
    /// Where it is on its way.
    pub state: KeyState,
}

/// Where a key is on its way.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KeyState {
    /// Known to verifiers, not yet used.
    Published,
    /// Signs.
    Active,
    /// No longer used, still known to verifiers.
    Retiring,
}

/// Most keys of a tenant at a time.
const KEYS_MAX: usize = 64;

// === impl KeyRing ===

impl KeyRing {
    /// A ring whose only key is active.
    pub(crate) fn new(kid: String, key: SigningKey) -> KeyRing {
        KeyRing { rows: vec![KeyRow { kid, key, state: KeyState::Active }], made: 1 }
    }

    /// Every key, oldest first.
    pub(crate) fn rows(&self) -> &[KeyRow] {
        &self.rows
    }

    /// The key of that identifier.
    pub(crate) fn get(&self, kid: &str) -> Option<&KeyRow> {
        self.rows.iter().find(|row| row.kid == kid)
    }

    /// The key that signs.
    pub(crate) fn active(&self) -> Result<&KeyRow, Problem> {
        self.rows
            .iter()
            .find(|row| row.state == KeyState::Active)
            .ok_or_else(|| Problem::internal("no key is active"))
    }

    /// The public keys.
    pub(crate) fn jwks(&self) -> JwkSet {
        JwkSet { keys: self.rows.iter().map(|row| row.key.public_jwk(&row.kid)).collect() }
    }

    /// Adds a key that does not sign yet.
    pub(crate) fn publish(&mut self, kid: String, key: SigningKey) -> Result<(), Problem> {
        if self.get(&kid).is_some() {
            return Err(Problem::conflict(format!("key `{kid}` exists")));
        }
        if self.rows.len() >= KEYS_MAX {
            return Err(Problem::conflict(format!("{KEYS_MAX} keys exist; delete one first")));
        }
        self.rows.push(KeyRow { kid, key, state: KeyState::Published });
        self.made += 1;
        Ok(())
    }

    /// Lets `kid` sign from now on; the one before it is retiring.
    pub(crate) fn activate(&mut self, kid: &str) -> Result<(), Problem> {
        if self.get(kid).is_none() {
            return Err(no_key(kid));
        }
        for row in &mut self.rows {
            if row.kid == kid {
                row.state = KeyState::Active;
            } else if row.state == KeyState::Active {
                row.state = KeyState::Retiring;
            }
        }
        Ok(())
    }

    /// Takes a key away: whatever it signed is refused from the next bundle on.
    pub(crate) fn retire(&mut self, kid: &str) -> Result<(), Problem> {
        let at = self.rows.iter().position(|row| row.kid == kid).ok_or_else(|| no_key(kid))?;
        if self.rows[at].state == KeyState::Active {
            return Err(Problem::conflict(format!(
                "key `{kid}` signs; activate another one first, or revoke it with `POST …/keys/{kid}/revoke`"
            )));
        }
        self.rows.remove(at);
        Ok(())
    }

    /// A `kid` that no key has.
    pub(crate) fn free_kid(&self, tenant: &str) -> String {
        let kids = (self.made + 1..).map(|n| format!("{tenant}-{n}"));
        kids.into_iter().find(|kid| self.get(kid).is_none()).unwrap_or_default()
    }
}

fn no_key(kid: &str) -> Problem {
    Problem::not_found(format!("no key `{kid}`"))
}
