//! `portcullis app`: the test application that scenarios start. Not for people.

use anyhow::Context as _;

use crate::Exit;

/// Serve as the test application of a scenario, driven over standard input
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn app(args: Args) -> Exit {
    let Args {} = args;
    portcullis_scenarios::app::server::main().context("serving")?;
    Ok(0)
}
