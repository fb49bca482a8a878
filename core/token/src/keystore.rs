//! Trusted issuers and their vetted keys.
//!
//! **Invariant:** a key belongs to one issuer; no kid of another issuer reaches it (RFC 8725 section 3.8).
//! **Invariant:** there are no built-in keys, and a refused key is reported, never replaced.

use std::collections::HashMap;
use std::fmt;

use portcullis_wire::{Issuer, Jwk, Revocation};

use crate::claims::Claims;
use crate::jwk::{KeyDefect, VettedKey};
use crate::limits;
use crate::revocation::Revoked;

/// The keys that tokens are verified with.
#[derive(Clone, Debug, Default)]
pub struct KeyStore {
    issuers: Vec<TrustedIssuer>,
}

/// An issuer: which audiences it may speak to, and with which keys.
#[derive(Clone, Debug)]
pub struct TrustedIssuer {
    issuer: String,
    audiences: Vec<String>,
    leeway_s: u32,
    keys: Vec<VettedKey>,
    revoked: Revoked,
}

/// A key (or an entry of the configuration) that is left out, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyProblem {
    /// The issuer.
    pub issuer: String,
    /// Position of the key in its set, from 1; `None` when it is not about one key.
    pub position: Option<usize>,
    /// The key's kid, if it has one.
    pub kid: Option<String>,
    /// What is wrong.
    pub problem: KeyDefect,
}

// === impl KeyStore ===

impl KeyStore {
    /// Vets the key sets of issuers. What is not acceptable is left out and reported; the rest counts.
    #[must_use]
    pub fn new(issuers: &[Issuer]) -> (KeyStore, Vec<KeyProblem>) {
        let mut store = KeyStore::default();
        let mut problems = Vec::new();
        for issuer in issuers {
            let name = &issuer.issuer;
            let defect = if name.is_empty() || name.len() > limits::NAME_MAX {
                Some(KeyDefect::Issuer)
            } else if store.issuer(name).is_some() {
                Some(KeyDefect::IssuerTwice)
            } else {
                None
            };
            match defect {
                Some(defect) => problems.push(KeyProblem::of_issuer(name, defect)),
                None => store.issuers.push(TrustedIssuer::new(issuer, &mut problems)),
            }
        }
        (store, problems)
    }

    /// The same keys, and these tokens are refused although they would verify. Revocations of issuers that are not
    /// trusted mean nothing: none of their tokens is accepted anyway.
    #[must_use]
    pub fn with_revocations(mut self, revocations: &[Revocation]) -> KeyStore {
        for revocation in revocations {
            let issuer = self.issuers.iter_mut().find(|issuer| issuer.issuer == revocation.issuer);
            if let Some(issuer) = issuer {
                issuer.revoked.add(revocation);
            }
        }
        self
    }

    /// Lets keys go that `refuse` has a reason against, asked once for each, in the configuration's order: for engines
    /// with bounds of their own.
    pub fn leave_out(
        &mut self,
        mut refuse: impl FnMut(&VettedKey) -> Option<KeyDefect>,
        problems: &mut Vec<KeyProblem>,
    ) {
        for TrustedIssuer { issuer, keys, .. } in &mut self.issuers {
            keys.retain(|key| {
                let problem = refuse(key).map(|problem| KeyProblem {
                    issuer: issuer.clone(),
                    position: None,
                    kid: Some(key.kid().to_owned()),
                    problem,
                });
                let stays = problem.is_none();
                problems.extend(problem);
                stays
            });
        }
    }

    /// The trusted issuers, in the configuration's order.
    #[must_use]
    pub fn issuers(&self) -> &[TrustedIssuer] {
        &self.issuers
    }

    /// The issuer of exactly this name (RFC 7519 section 4.1.1: case-sensitive).
    #[must_use]
    pub fn issuer(&self, name: &str) -> Option<&TrustedIssuer> {
        self.issuers.iter().find(|issuer| issuer.issuer == name)
    }
}

// === impl TrustedIssuer ===

impl TrustedIssuer {
    fn new(wire: &Issuer, problems: &mut Vec<KeyProblem>) -> TrustedIssuer {
        let Issuer { issuer, audiences, leeway_s, jwks } = wire;
        let mut accepted: Vec<String> = Vec::new();
        for audience in audiences {
            if audience.is_empty() || audience.len() > limits::NAME_MAX {
                problems.push(KeyProblem::of_issuer(issuer, KeyDefect::Audience(audience.clone())));
            } else if !accepted.contains(audience) {
                accepted.push(audience.clone());
            }
        }
        if accepted.is_empty() {
            problems.push(KeyProblem::of_issuer(issuer, KeyDefect::AudienceNone));
        }
        if *leeway_s > limits::LEEWAY_MAX_S {
            problems.push(KeyProblem::of_issuer(issuer, KeyDefect::Leeway(*leeway_s)));
        }
        let keys = vet(issuer, &jwks.keys, problems);
        TrustedIssuer {
            issuer: issuer.clone(),
            audiences: accepted,
            leeway_s: (*leeway_s).min(limits::LEEWAY_MAX_S),
            keys,
            revoked: Revoked::default(),
        }
    }

    /// Exact value of `iss`.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Accepted values of `aud`, each once.
    #[must_use]
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// Clock leeway for `exp`, `nbf` and `iat`, seconds.
    #[must_use]
    pub fn leeway_s(&self) -> u32 {
        self.leeway_s
    }

    /// The vetted keys, in the set's order.
    #[must_use]
    pub fn keys(&self) -> &[VettedKey] {
        &self.keys
    }

    /// Whether a token of this issuer that says this is revoked.
    pub(crate) fn revokes(&self, claims: &Claims) -> bool {
        self.revoked.covers(claims)
    }

    /// The key of exactly this kid.
    #[must_use]
    pub fn key(&self, kid: &str) -> Option<&VettedKey> {
        self.keys.iter().find(|key| key.kid() == kid)
    }
}

/// The sound keys of a set. Among these a kid must be unique; a refused key takes no other with it, and a key that
/// stands there twice is one key.
fn vet(issuer: &str, set: &[Jwk], problems: &mut Vec<KeyProblem>) -> Vec<VettedKey> {
    let mut problem = |at: usize, problem: KeyDefect| {
        let kid = set[at].kid.clone();
        problems.push(KeyProblem { issuer: issuer.to_owned(), position: Some(at + 1), kid, problem });
    };
    let mut sound: Vec<(usize, VettedKey)> = Vec::new();
    for (at, jwk) in set.iter().enumerate() {
        match VettedKey::new(jwk) {
            Ok(key) if sound.iter().any(|(_, known)| known.kid() == key.kid() && known.is(&key)) => {
                problem(at, KeyDefect::Repeated);
            }
            Ok(key) => sound.push((at, key)),
            Err(defect) => problem(at, defect),
        }
    }
    let mut keys_of: HashMap<String, usize> = HashMap::new();
    for (_, key) in &sound {
        *keys_of.entry(key.kid().to_owned()).or_default() += 1;
    }
    sound.retain(|(at, key)| match keys_of[key.kid()] {
        1 => true,
        several => {
            problem(*at, KeyDefect::Duplicate(several));
            false
        }
    });
    sound.into_iter().map(|(_, key)| key).collect()
}

// === impl KeyProblem ===

impl KeyProblem {
    fn of_issuer(issuer: &str, problem: KeyDefect) -> KeyProblem {
        KeyProblem { issuer: issuer.to_owned(), position: None, kid: None, problem }
    }
}

impl fmt::Display for KeyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The names come from a remote party: control characters must not reach a log.
        write!(f, "issuer {:?}", self.issuer)?;
        match (self.position, &self.kid) {
            (_, Some(kid)) => write!(f, ", key {kid:?}")?,
            (Some(position), None) => write!(f, ", key number {position}")?,
            (None, None) => {}
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for KeyProblem {}
