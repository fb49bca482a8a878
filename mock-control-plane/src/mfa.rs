//! A user's second factor: one TOTP secret, and backup codes for the day the phone is lost.
//!
//! **Invariant:** a code is accepted once. **Invariant:** of backup codes only derivations are kept.

use serde::{Deserialize, Serialize};

use crate::directory::Refusal;
use crate::password::{Derivation, Derived};
use crate::totp::{Step, TotpSecret};
use crate::{Problem, secret};

/// Who must have a second factor.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MfaPolicy {
    /// Who likes.
    #[default]
    Optional,
    /// Who likes, and everyone is asked to.
    Encouraged,
    /// Everyone: without one there is no login but to enrol.
    Required,
}

/// A user's second factor, if any.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Mfa {
    factor: Option<Factor>,
    backup: Option<BackupCodes>,
}

/// A TOTP secret.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Factor {
    /// Identifier.
    pub id: String,
    /// The secret.
    pub secret: TotpSecret,
    /// Whether the user has shown to have it.
    pub verified: bool,
    /// When it was made, seconds since the epoch.
    pub created_s: u64,
    /// Latest step whose code was accepted.
    last_step: Option<Step>,
}

/// Codes for the day the phone is lost, all with one salt: a presented code costs one derivation.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct BackupCodes {
    derivation: Derivation,
    left: Vec<Derived>,
}

/// How many backup codes there are at first.
const BACKUP_CODES: usize = 10;
const BACKUP_CODE_LENGTH: usize = 8;
const BACKUP_ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";

// === impl Mfa ===

impl Mfa {
    /// Makes a secret, to be verified; one that was never verified is replaced.
    pub(crate) fn enroll(&mut self, now_s: u64) -> Result<&Factor, Problem> {
        if self.verified().is_some() {
            return Err(Problem::conflict("a factor is enrolled; unenroll it first"));
        }
        let factor = Factor {
            id: secret::random("factor-")?,
            secret: TotpSecret::generate()?,
            verified: false,
            created_s: now_s,
            last_step: None,
        };
        Ok(self.factor.insert(factor))
    }

    /// The factor, verified or not.
    pub(crate) fn factor(&self) -> Option<&Factor> {
        self.factor.as_ref()
    }

    /// The factor, if it is verified.
    pub(crate) fn verified(&self) -> Option<&Factor> {
        self.factor.as_ref().filter(|factor| factor.verified)
    }

    /// Whether `code` is the unverified factor's; then it is verified, and `backup` are its backup codes.
    pub(crate) fn verify(&mut self, code: &str, now_s: u64, backup: BackupCodes) -> bool {
        let Some(factor) = self.factor.as_mut().filter(|factor| !factor.verified) else { return false };
        factor.verified = factor.accept(code, now_s);
        if factor.verified {
            self.backup = Some(backup);
        }
        factor.verified
    }

    /// Whether `code` is the verified factor's, and was not used.
    pub(crate) fn accept_code(&mut self, code: &str, now_s: u64) -> bool {
        self.factor.as_mut().filter(|factor| factor.verified).is_some_and(|factor| factor.accept(code, now_s))
    }

    /// Whether `code` is one of the backup codes; it is not from then on.
    pub(crate) fn accept_backup(&mut self, code: &Derived) -> bool {
        if self.verified().is_none() {
            return false;
        }
        let Some(backup) = &mut self.backup else { return false };
        let before = backup.left.len();
        backup.left.retain(|left| !left.is(code));
        backup.left.len() < before
    }

    /// How a presented backup code is derived; absent when there is none left.
    pub(crate) fn backup_derivation(&self) -> Option<Derivation> {
        self.backup.as_ref().filter(|codes| !codes.left.is_empty()).map(|codes| codes.derivation)
    }

    /// How many backup codes are left.
    pub(crate) fn backup_left(&self) -> usize {
        self.backup.as_ref().map_or(0, |codes| codes.left.len())
    }

    /// Takes the factor away, if `code` is its code. An unverified factor protects nothing and needs no code.
    pub(crate) fn unenroll(&mut self, id: &str, code: &str, now_s: u64) -> Result<bool, Refusal> {
        let factor = self.factor.as_mut().filter(|factor| factor.id == id);
        let factor = factor.ok_or(Refusal::NotFound("factor"))?;
        if factor.verified && !factor.accept(code, now_s) {
            return Ok(false);
        }
        *self = Mfa::default();
        Ok(true)
    }
}

// === impl Factor ===

impl Factor {
    fn accept(&mut self, code: &str, now_s: u64) -> bool {
        let step = self.secret.step_of(code, now_s, self.last_step);
        self.last_step = step.or(self.last_step);
        step.is_some()
    }
}

// === impl BackupCodes ===

impl BackupCodes {
    /// New codes: what is kept of them, and the codes, to be shown once. Costs a derivation each.
    pub(crate) fn generate(derivation: Derivation) -> Result<(BackupCodes, Vec<String>), Problem> {
        let codes = (0..BACKUP_CODES)
            .map(|_| secret::random_text(BACKUP_ALPHABET, BACKUP_CODE_LENGTH))
            .collect::<Result<Vec<String>, Problem>>()?;
        let left = codes.iter().map(|code| derivation.apply(code)).collect();
        Ok((BackupCodes { derivation, left }, codes))
    }
}
