//! What is to be enforced: the control plane's last good bundle, with the keys of this host's own issuers, less the keys
//! that are too old.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use portcullis_wire::{Bundle, JwkSet};

use crate::bundle::Read;
use crate::cache::Cached;
use crate::follower::{Engine, NowS, State};
use crate::issuers::{IssuerConfig, Issuers, Keys, Question, Took};
use crate::keep::Keep;
use crate::plane::{Fetched, Plane};
use crate::{CacheError, FollowError, PlaneError};

/// The configuration as it is kept.
pub(crate) struct Wanted {
    kept: Option<Arc<Keep>>,
    issuers: Issuers,
    key_age_max: Option<Duration>,
    now_s: NowS,
    /// The last good bundle.
    read: Option<Read>,
    /// The greatest version that was ever in force, as far as is known here.
    floor: u64,
    /// When the control plane last said that the bundle is the configuration, Unix seconds.
    confirmed_s: Option<u64>,
    /// Whose keys the engine was not given because they are too old.
    too_old: Vec<String>,
    problems: Vec<String>,
}

/// The control plane's name in the list of those whose keys are too old.
const PLANE: &str = "the control plane";

// === impl Wanted ===

impl Wanted {
    pub(crate) fn new(
        kept: Option<Arc<Keep>>,
        issuers: Vec<IssuerConfig>,
        issuers_every: Duration,
        key_age_max: Option<Duration>,
        now_s: NowS,
    ) -> Wanted {
        let keys = kept.as_ref().filter(|_| !issuers.is_empty()).map(|kept| kept.read_keys());
        Wanted {
            issuers: Issuers::new(issuers, issuers_every, keys.unwrap_or_default(), now_s()),
            kept,
            key_age_max,
            now_s,
            read: None,
            floor: 0,
            confirmed_s: None,
            too_old: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// The last good bundle of the disk. Without a pinned key, because the control plane was not asked for it yet, its
    /// checksum has to do: the file is its owner's only.
    pub(crate) fn cached(&self, plane: &Plane) -> Result<Option<Cached>, CacheError> {
        let Some(kept) = &self.kept else { return Ok(None) };
        let known = plane.known();
        kept.read(known.as_ref().and_then(|(agent, key)| Some((&**key.as_ref()?, agent.as_str()))))
    }

    /// Puts the last good bundle of the disk into force, unless the engine has a newer one.
    pub(crate) fn use_cache(&mut self, plane: &Plane, engine: &mut impl Engine) -> Result<(), FollowError> {
        let Some(Cached { read, confirmed_s }) = self.cached(plane)? else { return Ok(()) };
        // A clock that was ahead makes it no younger than now.
        self.confirmed_s = Some(confirmed_s.min((self.now_s)()));
        self.install(read, engine)
    }

    /// Whether there are keys of all of this host's issuers.
    pub(crate) fn has_issuers_keys(&self) -> bool {
        self.issuers.have_keys()
    }

    /// The bundle in force.
    pub(crate) fn bundle(&self) -> Option<&Bundle> {
        self.read.as_ref().map(|read| &read.bundle)
    }

    /// Takes the control plane's answer; whether it was something new.
    pub(crate) fn take(
        &mut self,
        fetched: Fetched,
        plane: &Plane,
        engine: &mut impl Engine,
    ) -> Result<bool, FollowError> {
        let now_s = (self.now_s)();
        match fetched {
            Fetched::Same => {
                self.confirmed_s = Some(now_s);
                self.age(engine)?;
                if let Some(kept) = &self.kept {
                    kept.confirm();
                }
                Ok(false)
            }
            Fetched::New { read, text, signature, tag } => {
                let before = self.confirmed_s.replace(now_s);
                let known = self.read.as_ref().is_some_and(|known| known.bundle == read.bundle);
                if known {
                    // Two questions were open at a time, or the tag changed and nothing else.
                    self.age(engine)?;
                } else if let Err(error) = self.install(*read, engine) {
                    self.confirmed_s = before;
                    return Err(error);
                }
                // Only what is in force is answered with "not modified" from now on.
                plane.accepted(tag);
                if let Some(kept) = &self.kept {
                    kept.write(signature, text);
                }
                Ok(!known)
            }
        }
    }

    /// Questions for keys that are due.
    pub(crate) fn questions(&mut self, unknown_kid: bool) -> Vec<Question> {
        self.issuers.due(unknown_kid)
    }

    /// Takes the answer to one; whether keys changed.
    pub(crate) fn answered(&mut self, question: &Question, answer: Result<Keys, PlaneError>) -> bool {
        let Took { changed, fetched } = self.issuers.took(question, answer, (self.now_s)());
        if let Some(kept) = self.kept.as_ref().filter(|_| fetched) {
            kept.write_keys(self.issuers.to_keep());
        }
        changed
    }

    /// Puts the same bundle into force with other keys.
    pub(crate) fn reinstall(&mut self, engine: &mut impl Engine) -> Result<(), FollowError> {
        match self.read.clone() {
            Some(read) => self.put(&read, engine),
            None => Ok(()),
        }
    }

    /// Puts the same bundle into force without keys that have become too old, or with keys that are young again.
    pub(crate) fn age(&mut self, engine: &mut impl Engine) -> Result<(), FollowError> {
        if self.now_too_old() == self.too_old { Ok(()) } else { self.reinstall(engine) }
    }

    pub(crate) fn describe(&self, state: &mut State) {
        state.problems = self.problems.iter().cloned().chain(self.issuers.problems()).collect();
        state.problems.extend(
            self.too_old.iter().map(|of| {
                format!("keys of {of}: nobody confirmed them for too long, their tokens are refused")
            }),
        );
        state.problems.extend(self.kept.iter().flat_map(|kept| kept.failed()));
        state.config_age_s = self.confirmed_s.map(|at| (self.now_s)().saturating_sub(at));
    }

    fn install(&mut self, read: Read, engine: &mut impl Engine) -> Result<(), FollowError> {
        self.put(&read, engine)?;
        self.floor = read.bundle.version;
        self.read = Some(read);
        Ok(())
    }

    fn put(&mut self, read: &Read, engine: &mut impl Engine) -> Result<(), FollowError> {
        let Read { bundle, problems } = read;
        // Also what was good once: the engine may have got further than its last answer said.
        let current = engine.version().map_err(FollowError::Health)?.max(self.floor);
        if bundle.version < current {
            return Err(FollowError::Older { offered: bundle.version, current });
        }
        let too_old = self.now_too_old();
        let bundle = self.whole(bundle, &too_old);
        let version = bundle.version;
        let installed = engine.install(&bundle);
        let left_out = installed.map_err(|source| FollowError::Engine { version, source })?;
        self.problems = problems.iter().cloned().chain(left_out).collect();
        self.too_old = too_old;
        Ok(())
    }

    /// The bundle as the engine gets it.
    fn whole(&self, bundle: &Bundle, too_old: &[String]) -> Bundle {
        let mut bundle = bundle.clone();
        if too_old.iter().any(|of| of == PLANE) {
            for issuer in &mut bundle.issuers {
                issuer.jwks = JwkSet::default();
            }
        }
        // Behind the control plane's: where room for keys is short, those that come first have it.
        bundle.issuers.extend(self.issuers.wire(self.oldest_s()));
        bundle
    }

    fn now_too_old(&self) -> Vec<String> {
        let mut too_old = self.issuers.too_old(self.oldest_s());
        if self.confirmed_s.is_some_and(|at| at < self.oldest_s()) {
            too_old.push(PLANE.to_owned());
        }
        too_old
    }

    /// Keys that were last confirmed before this second are too old.
    fn oldest_s(&self) -> u64 {
        self.key_age_max.map_or(0, |most| (self.now_s)().saturating_sub(most.as_secs()))
    }
}

impl fmt::Debug for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wanted").field("floor", &self.floor).field("kept", &self.kept).finish_non_exhaustive()
    }
}
