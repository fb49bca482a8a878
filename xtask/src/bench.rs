//! `cargo xtask bench`: builds the benchmarks optimised and runs them.
//!
//! **Invariant:** nothing is asserted about time here: a slow machine is no failure, a missing figure is.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::setup::{self, Need};
use crate::sh::{self, step};
use crate::{Exit, Usage};

/// The benchmarks that there are.
const NAMES: &[&str] = &["kernel", OFFBOARDING];
/// This one is a command of the product's: it needs a control plane, which the benchmarks of the datapath do not.
const OFFBOARDING: &str = "offboarding";

/// Runs the benchmarks that `args` name, or all.
pub fn bench(args: &[String]) -> Result<()> {
    let (mut names, mut extra) = (Vec::new(), Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--scale" => {
                let scale = args.next().ok_or_else(|| Usage("--scale takes a factor".to_owned()))?;
                extra = vec!["--scale".to_owned(), scale.clone()];
            }
            name if NAMES.contains(&name) => names.push(name),
            other => {
                return Err(Usage(format!("no benchmark `{other}`; there are: {}", NAMES.join(", "))).into());
            }
        }
    }
    if names.is_empty() {
        names = NAMES.to_vec();
    }
    setup::ensure(&[Need::Build, Need::BpfFs, Need::Peers])?;
    let build = step("building the benchmarks");
    build.run(
        sh::cargo(["build", "--release"]).args(packages(&names)),
        "read the compiler's message above; `cargo xtask setup` checks the machine",
    )?;
    build.done();
    let dir = sh::results().join("bench");
    fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    for name in names {
        let out = dir.join(format!("{name}.json"));
        let step = step(&format!("bench {name}"));
        if name == OFFBOARDING {
            let found =
                [offboarding(&[])?, offboarding(&["--no-push", "--poll-ms", "1000", "--runs", "50"])?];
            fs::write(&out, format!("[{}]\n", found.join(",")))
                .with_context(|| format!("writing {}", out.display()))?;
            step.done();
            println!("{}", out.display());
            continue;
        }
        let mut command = Command::new(sh::target().join("release/portcullis-bench"));
        let status =
            command.arg(name).arg(&out).args(&extra).status().context("starting portcullis-bench")?;
        if !status.success() {
            return Err(Exit(1, format!("bench {name} ended with {status}")).into());
        }
        step.done();
        println!("{}", out.display());
    }
    Ok(())
}

fn packages(names: &[&str]) -> Vec<&'static str> {
    let mut packages = Vec::new();
    if names.contains(&OFFBOARDING) {
        packages.extend(["--package", "portcullis-cli"]);
    }
    if names.iter().any(|name| *name != OFFBOARDING) {
        packages.extend(["--package", "portcullis-bench"]);
    }
    packages
}

/// Runs `portcullis offboarding`, shows its figures, and returns them.
fn offboarding(args: &[&str]) -> Result<String> {
    let mut command = Command::new(sh::target().join("release/portcullis"));
    command.args(["offboarding", "--format", "json"]).args(args).stderr(Stdio::inherit());
    let output = command.output().context("starting portcullis")?;
    if !output.status.success() {
        return Err(Exit(1, format!("bench {OFFBOARDING} ended with {}", output.status)).into());
    }
    let figures = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    println!("{figures}");
    Ok(figures)
}
