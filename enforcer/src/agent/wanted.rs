//! What the kernel is to enforce: the control plane's last good bundle, with the keys of this host's own issuers, less
//! the keys that are too old.

use std::sync::Arc;
use std::time::Duration;

use portcullis_wire::{Bundle, JwkSet};

use super::bundle::Read;
use super::clock::Clock;
use super::host::Wishes;
use super::issuers::{IssuerConfig, Issuers, Keys, Question};
use super::keep::Keep;
use super::plane::{Fetched, Plane, PlaneError};
use super::{AgentError, Status};
use crate::compile::{self, CompileError};
use crate::generation::{Generation, version_of};
use crate::kernel::Datapath;

/// The configuration as it is kept.
#[derive(Debug)]
pub(super) struct Wanted {
    kept: Option<Arc<Keep>>,
    issuers: Issuers,
    key_age_max: Option<Duration>,
    clock: Clock,
    /// The last good bundle.
    read: Option<Read>,
    /// The greatest version that was ever in force, as far as is known here.
    floor: u64,
    /// When the control plane last said that the bundle is the configuration, Unix seconds.
    confirmed_s: Option<u64>,
    /// Whose keys the kernel was not given because they are too old.
    too_old: Vec<String>,
    problems: Vec<String>,
}

/// The control plane's name in the list of those whose keys are too old.
const PLANE: &str = "the control plane";

// === impl Wanted ===

impl Wanted {
    pub(super) fn new(
        kept: Option<Arc<Keep>>,
        issuers: Vec<IssuerConfig>,
        issuers_every: Duration,
        key_age_max: Option<Duration>,
        clock: Clock,
    ) -> Wanted {
        Wanted {
            kept,
            issuers: Issuers::new(issuers, issuers_every),
            key_age_max,
            clock,
            read: None,
            floor: 0,
            confirmed_s: None,
            too_old: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// Puts the last good bundle of the disk into force, unless the kernel has a newer one.
    pub(super) fn use_cache(&mut self, datapath: &mut Datapath) -> Result<(), AgentError> {
        let Some(kept) = &self.kept else { return Ok(()) };
        let Some((read, confirmed_s)) = kept.read()? else { return Ok(()) };
        self.confirmed_s = Some(confirmed_s);
        self.install(read, datapath)
    }

    /// Takes the control plane's answer; whether it was something new.
    pub(super) fn take(
        &mut self,
        fetched: Fetched,
        plane: &Plane,
        datapath: &mut Datapath,
    ) -> Result<bool, AgentError> {
        let now_s = self.clock.now_s();
        match fetched {
            Fetched::Same => {
                self.confirmed_s = Some(now_s);
                self.age(datapath)?;
                if let Some(kept) = &self.kept {
                    kept.confirm();
                }
                Ok(false)
            }
            Fetched::New { read, text, tag } => {
                let before = self.confirmed_s.replace(now_s);
                let known = self.read.as_ref().is_some_and(|known| known.bundle == read.bundle);
                if known {
                    // Two questions were open at a time, or the tag changed and nothing else.
                    self.age(datapath)?;
                } else if let Err(error) = self.install(*read, datapath) {
                    self.confirmed_s = before;
                    return Err(error);
                }
                // Only what is in force is answered with "not modified" from now on.
                plane.accepted(tag);
                if let Some(kept) = &self.kept {
                    kept.write(text);
                }
                Ok(!known)
            }
        }
    }

    /// Questions for keys that are due.
    pub(super) fn questions(&mut self, unknown_kid: bool) -> Vec<Question> {
        self.issuers.due(unknown_kid)
    }

    /// Takes the answer to one; whether keys changed.
    pub(super) fn answered(&mut self, question: &Question, answer: Result<Keys, PlaneError>) -> bool {
        self.issuers.took(question, answer, self.clock.now_s())
    }

    /// Puts the same bundle into force with other keys.
    pub(super) fn reinstall(&mut self, datapath: &mut Datapath) -> Result<(), AgentError> {
        match self.read.clone() {
            Some(read) => self.put(&read, datapath),
            None => Ok(()),
        }
    }

    /// Puts the same bundle into force without keys that have become too old, or with keys that are young again.
    pub(super) fn age(&mut self, datapath: &mut Datapath) -> Result<(), AgentError> {
        if self.now_too_old() == self.too_old { Ok(()) } else { self.reinstall(datapath) }
    }

    pub(super) fn describe(&self, status: &mut Status) {
        status.problems = self.problems.iter().cloned().chain(self.issuers.problems()).collect();
        status.problems.extend(
            self.too_old.iter().map(|of| {
                format!("keys of {of}: nobody confirmed them for too long, their tokens are refused")
            }),
        );
        status.problems.extend(self.kept.as_ref().and_then(|kept| kept.failed()));
        status.config_age_s = self.confirmed_s.map(|at| self.clock.now_s().saturating_sub(at));
    }

    /// What the bundle in force wants protected.
    pub(super) fn wishes(&self) -> Wishes {
        self.read.as_ref().map(|read| Wishes::of(&read.bundle)).unwrap_or_default()
    }

    fn install(&mut self, read: Read, datapath: &mut Datapath) -> Result<(), AgentError> {
        let current = version_of(datapath.health()?.generation).max(self.floor);
        if read.bundle.version < current {
            return Err(AgentError::Older { offered: read.bundle.version, current });
        }
        self.put(&read, datapath)?;
        self.floor = read.bundle.version;
        self.read = Some(read);
        Ok(())
    }

    fn put(&mut self, read: &Read, datapath: &mut Datapath) -> Result<(), AgentError> {
        let Read { bundle, problems } = read;
        let too_old = self.now_too_old();
        let bundle = self.whole(bundle, &too_old);
        let fail = |source: CompileError| AgentError::Compile { version: bundle.version, source };
        let mut compiled = compile::compile(&bundle).map_err(fail)?;
        let before = Generation::from_number(datapath.health()?.generation);
        compiled.tables.version = before.next(bundle.version).number();
        let unsound = compiled.problems.iter().map(ToString::to_string);
        let tried = compiled.candidate_problem.clone();
        self.problems = problems.iter().cloned().chain(unsound).chain(tried).collect();
        datapath.apply(Arc::new(compiled))?;
        self.too_old = too_old;
        Ok(())
    }

    /// The bundle as the kernel gets it.
    fn whole(&self, bundle: &Bundle, too_old: &[String]) -> Bundle {
        let mut bundle = bundle.clone();
        if too_old.iter().any(|of| of == PLANE) {
            for issuer in &mut bundle.issuers {
                issuer.jwks = JwkSet::default();
            }
        }
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
        self.key_age_max.map_or(0, |most| self.clock.now_s().saturating_sub(most.as_secs()))
    }
}
