//! Key rotation by schedule: publish ahead, activate, retire.
//!
//! **Invariant:** a key signs only after it was published for `publish_ahead_s`, however late the clock is looked at; and
//! a key that signed stays published for `retire_after_s`. So no verifier that polls within the one, and no token that
//! lives shorter than the other, ever meets a key that is not there.

use portcullis_token::mint::SigningKey;
use serde::{Deserialize, Serialize};

use crate::Problem;
use crate::key_ring::{KeyRow, KeyState};
use crate::password::off_thread;
use crate::server::Shared;

/// When keys come and go.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Schedule {
    /// How long a key signs, seconds.
    pub every_s: u64,
    /// How long the next key is published before it signs, seconds.
    pub publish_ahead_s: u64,
    /// How long a key stays published after it signed last, seconds.
    pub retire_after_s: u64,
    /// `RS256` or `ES256`.
    #[serde(default = "rs256")]
    pub alg: String,
    /// Size of RSA keys: 2048, 3072 or 4096.
    #[serde(default = "bits")]
    pub bits: usize,
}

/// One step of a rotation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// A key is to be made and published.
    Publish {
        /// `RS256` or `ES256`.
        alg: String,
        /// Size of RSA keys.
        bits: usize,
    },
    /// That key signs from now on.
    Activate(String),
    /// That key goes.
    Retire(String),
}

/// Most steps that are taken at once, after a clock was moved far.
const STEPS_MAX: usize = 200;

// === impl Schedule ===

impl Schedule {
    /// What is to be done at `now_s`: of several steps the first.
    pub(crate) fn due<'a>(
        &self,
        active: &KeyRow,
        next: Option<&KeyRow>,
        mut rows: impl Iterator<Item = &'a KeyRow>,
        now_s: u64,
    ) -> Option<Step> {
        let Schedule { every_s, publish_ahead_s, retire_after_s, alg, bits } = self;
        let over = |row: &&KeyRow| {
            row.state == KeyState::Retiring && now_s >= row.since_s.saturating_add(*retire_after_s)
        };
        if let Some(row) = rows.find(over) {
            return Some(Step::Retire(row.kid.clone()));
        }
        let turn_s = active.since_s.saturating_add(*every_s);
        match next {
            None if now_s >= turn_s.saturating_sub(*publish_ahead_s) => {
                Some(Step::Publish { alg: alg.clone(), bits: *bits })
            }
            Some(next) if now_s >= turn_s.max(next.published_s.saturating_add(*publish_ahead_s)) => {
                Some(Step::Activate(next.kid.clone()))
            }
            Some(_) | None => None,
        }
    }
}

/// Does what the schedules want done by now.
pub(crate) async fn rotate_due(shared: &Shared) -> Result<(), Problem> {
    for _ in 0..STEPS_MAX {
        let now_s = shared.clock.now_s();
        let due = shared.store().tenants().find_map(|tenant| {
            let step = tenant.keys.due(now_s)?;
            Some((tenant.name.clone(), step))
        });
        let Some((name, step)) = due else { return Ok(()) };
        let spare = match &step {
            Step::Publish { alg, bits } => Some(make(alg, *bits).await?),
            Step::Activate(_) | Step::Retire(_) => None,
        };
        let mut store = shared.store();
        let tenant = store.tenant_mut(&name)?;
        // Another request may have come first.
        if tenant.keys.due(now_s).as_ref() != Some(&step) {
            continue;
        }
        match (step, spare) {
            (Step::Publish { .. }, Some(key)) => {
                let kid = tenant.keys.free_kid(&name);
                if tenant.keys.publish(kid, key, now_s).is_err() {
                    // Every place for a key is taken: by hand, so by hand one has to go.
                    return Ok(());
                }
                tenant.version.bump();
            }
            (Step::Activate(kid), _) => tenant.keys.activate(&kid, now_s)?,
            (Step::Retire(kid), _) => {
                tenant.keys.retire(&kid)?;
                tenant.version.bump();
            }
            (Step::Publish { .. }, None) => {}
        }
    }
    Ok(())
}

/// Making an RSA key takes tens of milliseconds: not on a thread that serves requests.
pub(crate) async fn make(alg: &str, bits: usize) -> Result<SigningKey, Problem> {
    let made = match alg {
        "ES256" => SigningKey::generate_es256(),
        _ => off_thread(move || SigningKey::generate_rs256(bits)).await?,
    };
    made.map_err(|e| Problem::internal(e.to_string()))
}

fn rs256() -> String {
    "RS256".to_owned()
}

fn bits() -> usize {
    2048
}
