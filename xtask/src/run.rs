//! `cargo xtask run`: set-up, then every scenario on every engine.

use std::process::Command;

use anyhow::{Context, Result};

use crate::Exit;
use crate::setup::{Need, ensure};
use crate::sh::{self, step};

/// Runs `portcullis run`, with `args` or the default ones, and ends with its exit status.
pub fn run(args: &[String]) -> Result<()> {
    ensure(&[Need::Build, Need::Serve, Need::Outside, Need::BpfFs])?;
    let build = step("building portcullis");
    build.run(
        &mut sh::cargo([
            "build",
            "--package",
            "portcullis-cli",
            "--package",
            "portcullis-scenarios",
            "--bins",
        ]),
        "read the compiler's message above; `cargo xtask setup` checks the machine",
    )?;
    build.done();
    let report = sh::results();
    std::fs::create_dir_all(&report).with_context(|| format!("making {}", report.display()))?;
    let mut command = Command::new(sh::target().join("debug/portcullis"));
    command.arg("run").current_dir(sh::root());
    if args.iter().all(|a| a.starts_with('-')) {
        command.arg("scenarios");
    }
    if !args.iter().any(|a| a.starts_with("--engine")) {
        command.args(["--engine", "all"]);
    }
    if !args.iter().any(|a| a.starts_with("--report")) {
        command.arg("--report").arg(&report);
    }
    let scenarios = step(&format!("{} {}", sh::shown(&command), args.join(" ")));
    let status = command.args(args).status().with_context(|| format!("starting {}", sh::shown(&command)))?;
    scenarios.done();
    match status.code() {
        Some(0) => Ok(()),
        Some(1) => Err(Exit(1, format!("an expectation failed; report: {}", report.display())).into()),
        Some(code) => {
            let text = "the scenarios could not be run; the reason is above".to_owned();
            Err(Exit(u8::try_from(code).unwrap_or(1), text).into())
        }
        None => Err(Exit(1, format!("portcullis was ended: {status}")).into()),
    }
}
