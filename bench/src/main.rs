//! Benchmarks. `cargo xtask bench NAME` builds this optimised and runs it.
//!
//! **Invariant:** every ratio comes from one run in which both sides were measured in turns on the same CPU.

mod client;
mod cpu;
mod haproxy;
mod hold;
mod kernel;
mod measure;
mod openssl;
mod server;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<()> {
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        // what this program starts of itself
        ["serve", cpu, rest @ ..] => {
            server::serve(cpu.parse().context("the CPU's number")?, rest.first().copied())
        }
        ["hold", cgroup, address, count] => hold::hold(cgroup, address, count),
        ["kernel", out] => kernel::run(&PathBuf::from(out), 1.0),
        ["kernel", out, "--scale", scale] => {
            kernel::run(&PathBuf::from(out), scale.parse().context("--scale")?)
        }
        _ => bail!("usage: portcullis-bench kernel OUT.json [--scale FACTOR]"),
    }
}
