//! Passwords and other secrets of low entropy, kept as salted PBKDF2-HMAC-SHA256 (RFC 8018 section 5.2).

use std::num::NonZeroU32;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::pbkdf2::{self, PBKDF2_HMAC_SHA256};
use serde::{Deserialize, Serialize};

use crate::secret::Hexadecimal;
use crate::{Problem, secret};

/// What turns a secret into what is kept of it. Costs what its rounds cost: use it off the threads that serve.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Derivation {
    #[serde(with = "Hexadecimal")]
    salt: [u8; 16],
    rounds: NonZeroU32,
}

/// A derived secret.
#[derive(Clone, Copy, Deserialize, Serialize)]
pub(crate) struct Derived(#[serde(with = "Hexadecimal")] [u8; 32]);

/// What is kept of a password.
#[derive(Clone, Copy, Deserialize, Serialize)]
pub(crate) struct PasswordHash {
    derivation: Derivation,
    derived: Derived,
}

/// Shortest and longest password, bytes (NIST SP 800-63B section 3.1.1.2: at least eight; the bound keeps a request
/// from costing more than a password).
pub(crate) const PASSWORD_BYTES: std::ops::RangeInclusive<usize> = 8..=256;

// === impl Derivation ===

impl Derivation {
    /// With a new salt.
    pub(crate) fn new(rounds: NonZeroU32) -> Result<Derivation, Problem> {
        Ok(Derivation { salt: secret::random_bytes()?, rounds })
    }

    /// What becomes of `secret`.
    pub(crate) fn apply(&self, secret: &str) -> Derived {
        let mut derived = [0; 32];
        pbkdf2::derive(PBKDF2_HMAC_SHA256, self.rounds, &self.salt, secret.as_bytes(), &mut derived);
        Derived(derived)
    }
}

// === impl Derived ===

impl Derived {
    /// Whether both come from the same secret, in constant time.
    pub(crate) fn is(&self, other: &Derived) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

// === impl PasswordHash ===

impl PasswordHash {
    /// Hash of `password`.
    pub(crate) fn of(password: &str, rounds: NonZeroU32) -> Result<PasswordHash, Problem> {
        let derivation = Derivation::new(rounds)?;
        Ok(PasswordHash { derivation, derived: derivation.apply(password) })
    }

    /// A hash that no password has, to compare with when there is no user: the answer takes as long.
    pub(crate) fn of_nobody(rounds: NonZeroU32) -> Result<PasswordHash, Problem> {
        Ok(PasswordHash { derivation: Derivation::new(rounds)?, derived: Derived(secret::random_bytes()?) })
    }

    /// Whether `presented` is the password.
    pub(crate) fn matches(&self, presented: &str) -> bool {
        self.derivation.apply(presented).is(&self.derived)
    }
}

impl std::fmt::Debug for Derived {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Derived").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PasswordHash").finish_non_exhaustive()
    }
}

/// Runs `work` where it holds up no other request.
pub(crate) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Problem::internal(format!("a worker failed: {e}")))
}
