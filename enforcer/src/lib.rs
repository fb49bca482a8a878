//! The agent: compiles policies, loads the programs, answers denials, reports decisions

pub mod agent;
pub mod compile;
mod generation;
pub mod kernel;
pub mod record;
