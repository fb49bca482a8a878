//! The kernel as an engine: what a bundle is put into.

use std::sync::Arc;

use portcullis_follower::{Engine, EngineError};
use portcullis_wire::Bundle;

use crate::compile;
use crate::generation::{Generation, version_of};
use crate::kernel::Datapath;

impl Engine for Datapath {
    fn version(&self) -> Result<u64, EngineError> {
        Ok(version_of(self.health()?.generation))
    }

    fn install(&mut self, bundle: &Bundle) -> Result<Vec<String>, EngineError> {
        let mut compiled = compile::compile(bundle)?;
        let before = Generation::from_number(self.health()?.generation);
        compiled.tables.version = before.next(bundle.version).number();
        let unsound = compiled.problems.iter().map(ToString::to_string);
        let left_out = unsound.chain(compiled.candidate_problem.clone()).collect();
        self.apply(Arc::new(compiled))?;
        Ok(left_out)
    }

    fn lost(&self) -> Option<u64> {
        self.stats().ok().map(|stats| stats.events_lost)
    }
}
