//! The gateway as an engine: what a bundle of the control plane is put into.

use std::sync::Arc;

use portcullis_follower::{Engine, EngineError};
use portcullis_wire::Bundle;

use crate::gateway::Shared;
use crate::rules::Rules;

/// The gateway's rules.
pub(crate) struct Deciding(pub(crate) Arc<Shared>);

impl Engine for Deciding {
    fn version(&self) -> Result<u64, EngineError> {
        Ok(self.0.version())
    }

    fn install(&mut self, bundle: &Bundle) -> Result<Vec<String>, EngineError> {
        let (rules, left_out) = Rules::new(bundle.clone())?;
        // The follower keeps what was left out, with its own.
        self.0.install(rules, Vec::new());
        Ok(left_out)
    }

    fn lost(&self) -> Option<u64> {
        self.0.records_pushed_out()
    }
}
