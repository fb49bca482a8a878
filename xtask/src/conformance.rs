//! `cargo xtask conformance`: other people's suites against the mock control plane, in a Python environment of their own.

use std::process::Command;

use anyhow::{Context, Result};

use crate::Exit;
use crate::setup::{Need, ensure};
use crate::sh::{self, step};

/// Runs ci/conformance/run.py; `args` go to schemathesis.
pub fn conformance(args: &[String]) -> Result<()> {
    ensure(&[Need::Build, Need::Python])?;
    let here = sh::root().join("ci/conformance");
    let venv = sh::results().join("conformance");
    let python = venv.join("bin/python");
    if !python.is_file() {
        let step = step(&format!("python3 -m venv {}", venv.display()));
        step.run_quiet(
            Command::new("python3").args(["-m", "venv"]).arg(&venv),
            "install python3 and python3-venv",
        )?;
        step.done();
    }
    let install = step("pip install -r ci/conformance/requirements.txt");
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]);
    install.run_quiet(pip.arg(here.join("requirements.txt")), "check that pip reaches an index (PyPI)")?;
    install.done();
    let build = step("building portcullis");
    build.run(
        &mut sh::cargo(["build", "--package", "portcullis-cli", "--bins"]),
        "read the compiler's message above; `cargo xtask setup` checks the machine",
    )?;
    build.done();
    let mut command = Command::new(&python);
    command.arg(here.join("run.py")).arg(sh::target().join("debug/portcullis")).current_dir(&venv);
    if args.iter().all(|arg| !arg.starts_with("--max-examples")) {
        command.arg("--max-examples=30");
    }
    let suites = step(&sh::shown(&command));
    let status = command.args(args).status().with_context(|| format!("starting {}", sh::shown(&command)))?;
    suites.done();
    match status.code() {
        Some(0) => Ok(()),
        Some(2) => Err(Exit(2, "the control plane did not start; the reason is above".to_owned()).into()),
        Some(_) | None => Err(Exit(1, "a suite found something; it is above".to_owned()).into()),
    }
}
