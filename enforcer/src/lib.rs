//! The agent: compiles policies, loads the programs, answers denials, reports decisions
#![warn(clippy::print_stderr)]

pub mod agent;
pub mod compile;
pub mod discover;
pub mod draft;
mod generation;
pub mod kernel;
pub mod learn;
pub mod record;
