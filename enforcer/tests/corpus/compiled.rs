//! Policies of the corpus as images of maps.

use std::sync::Arc;

use portcullis_enforcer::compile::{Compiled, compile};

use crate::corpus::Drawn;

/// With the candidates, which must not be left out.
pub fn compiled(drawn: &Drawn) -> Arc<Compiled> {
    let compiled = compile(&drawn.bundle).expect("a valid bundle");
    assert_eq!(compiled.tables.candidate.as_deref(), Some("tried"), "{:?}", compiled.candidate_problem);
    Arc::new(compiled)
}
