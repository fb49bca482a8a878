//! Random tokens, valid and hostile, for comparing implementations of the verification.
//!
//! A [`Generator`] makes an endless sequence of [`Case`]s for the [`Party`]s that sign. A case is a valid token, or one
//! that differs from a valid one in a way that matters: structure, encoding, header, claims, times, limits, signature.
//! Most of the hostile ones are signed, so that nothing but the check in question can refuse them.
//!
//! **Invariant:** what is done is a function of the seed. The keys are fresh, so the octets of signatures are not: a
//! case that is to be kept must be kept with its token and its key set.

use std::collections::HashMap;

use portcullis_wire::{Issuer, Reason};

mod claims;
mod draft;
mod form;
mod header;
mod json;
mod limits;
mod party;
mod rng;
mod signature;

pub use party::Party;

use draft::Draft;
use rng::Rng;

/// A token and when it is to be judged.
#[derive(Clone, Debug)]
pub struct Case {
    /// What is sent.
    pub token: Vec<u8>,
    /// The time of the judgement, Unix seconds.
    pub now_s: u64,
    /// The right judgement, when it is known by construction.
    pub expected: Option<Result<(), Reason>>,
    /// What was done to it.
    pub note: String,
}

/// An endless sequence of cases.
#[derive(Debug)]
pub struct Generator {
    rng: Rng,
    parties: Vec<Party>,
    /// Signed valid tokens of the slow keys, by party and key.
    signed: HashMap<(usize, usize), Vec<Draft>>,
}

/// What can be done to a valid token.
enum Recipe {
    /// To what it says, before it is signed.
    Says(fn(&mut Draft, &mut Rng, &[Party])),
    /// To the signed token.
    Sent(fn(&mut Draft, &mut Rng, &[Party])),
}

// === impl Generator ===

impl Generator {
    /// Starts the sequence of `seed` for `parties`, of which there must be one at least, with one key each at least.
    ///
    /// # Panics
    /// When there is no party or one has no key.
    #[must_use]
    pub fn new(seed: u64, parties: Vec<Party>) -> Generator {
        assert!(!parties.is_empty() && parties.iter().all(|party| !party.keys.is_empty()), "nobody can sign");
        Generator { rng: Rng::new(seed), parties, signed: HashMap::new() }
    }

    /// The configuration that the cases are meant for.
    #[must_use]
    pub fn issuers(&self) -> Vec<Issuer> {
        self.parties.iter().map(Party::wire).collect()
    }

    /// The next case.
    pub fn case(&mut self) -> Case {
        let total: usize = RECIPES.iter().map(|(weight, _)| weight).sum();
        let mut at = self.rng.below(total);
        let (_, recipe) = RECIPES
            .iter()
            .find(|(weight, _)| {
                let found = at < *weight;
                at = at.wrapping_sub(*weight);
                found
            })
            .expect("at is below the sum of the weights");
        match recipe {
            Recipe::Says(change) => {
                let mut draft = self.draft();
                change(&mut draft, &mut self.rng, &self.parties);
                draft.sign(&mut self.rng, &self.parties);
                draft.case()
            }
            Recipe::Sent(change) => {
                let mut draft = self.valid();
                change(&mut draft, &mut self.rng, &self.parties);
                draft.case()
            }
        }
    }

    /// A valid token that is not signed yet, mostly of a key that signs fast.
    fn draft(&mut self) -> Draft {
        let slow = self.rng.one_in(64);
        let mut at = self.key();
        for _ in 0..8 {
            if slow == self.is_slow(at) {
                break;
            }
            at = self.key();
        }
        Draft::new(&mut self.rng, &self.parties, at)
    }

    /// A valid signed token of any key. RSA takes a millisecond or more to sign, so some of its tokens come again.
    fn valid(&mut self) -> Draft {
        let at = self.key();
        let pool = self.signed.entry(at).or_default();
        if pool.len() == POOL {
            return pool[self.rng.below(POOL)].clone();
        }
        let mut draft = Draft::new(&mut self.rng, &self.parties, at);
        draft.sign(&mut self.rng, &self.parties);
        if self.is_slow(at) {
            self.signed.entry(at).or_default().push(draft.clone());
        }
        draft
    }

    fn key(&mut self) -> (usize, usize) {
        let party = self.rng.below(self.parties.len());
        (party, self.rng.below(self.parties[party].keys.len()))
    }

    fn is_slow(&self, (party, key): (usize, usize)) -> bool {
        self.parties[party].keys[key].1.alg() == "RS256"
    }
}

impl Iterator for Generator {
    type Item = Case;

    fn next(&mut self) -> Option<Case> {
        Some(self.case())
    }
}

/// Signed tokens that are kept of each slow key.
const POOL: usize = 64;

/// How often, and what.
const RECIPES: &[(usize, Recipe)] = &[
    (10, Recipe::Says(|_, _, _| {})),
    (6, Recipe::Sent(|_, _, _| {})),
    (6, Recipe::Sent(claims::now)),
    (6, Recipe::Says(claims::times)),
    (5, Recipe::Says(claims::issuer)),
    (5, Recipe::Says(claims::audience)),
    (8, Recipe::Says(claims::wrong_type)),
    (4, Recipe::Says(claims::missing)),
    (6, Recipe::Says(claims::duplicate)),
    (4, Recipe::Says(claims::misplaced)),
    (6, Recipe::Says(header::alg)),
    (4, Recipe::Says(header::typ)),
    (6, Recipe::Says(header::kid)),
    (4, Recipe::Says(header::extension)),
    (4, Recipe::Says(header::wrong_type)),
    (4, Recipe::Says(header::duplicate)),
    (5, Recipe::Says(json::number)),
    (5, Recipe::Says(json::escape)),
    (5, Recipe::Says(json::octets)),
    (4, Recipe::Says(json::around)),
    (8, Recipe::Says(json::damage)),
    (8, Recipe::Says(limits::bound)),
    (8, Recipe::Sent(form::parts)),
    (6, Recipe::Sent(form::encoding)),
    (8, Recipe::Sent(form::damage)),
    (10, Recipe::Sent(signature::octets)),
    (4, Recipe::Sent(signature::other)),
    (4, Recipe::Sent(signature::confused)),
];
