//! The kernel as an engine: what a bundle is put into.

use portcullis_follower::{Engine, EngineError};
use portcullis_wire::Bundle;

use crate::compile::Compiler;
use crate::generation::{Generation, version_of};
use crate::kernel::Datapath;

/// The datapath, and what the last bundle compiled to.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) datapath: Datapath,
    compiler: Compiler,
}

// === impl Kernel ===

impl Kernel {
    pub(super) fn new(datapath: Datapath) -> Kernel {
        Kernel { datapath, compiler: Compiler::default() }
    }
}

impl Engine for Kernel {
    fn version(&self) -> Result<u64, EngineError> {
        Ok(version_of(self.datapath.health()?.generation))
    }

    fn install(&mut self, bundle: &Bundle) -> Result<Vec<String>, EngineError> {
        let before = Generation::from_number(self.datapath.health()?.generation);
        let compiled = self.compiler.compile(bundle, before.next(bundle.version).number())?;
        let unsound = compiled.problems.iter().map(ToString::to_string);
        let mut left_out: Vec<String> = unsound.chain(compiled.candidate_problem.clone()).collect();
        // It is in force: an error would have the follower go on with the version before.
        let failed = self.datapath.install(compiled)?;
        left_out.extend(failed.iter().map(|error| format!("the configuration is in force, but: {error}")));
        Ok(left_out)
    }

    fn lost(&self) -> Option<u64> {
        self.datapath.stats().ok().map(|stats| stats.events_lost)
    }
}
