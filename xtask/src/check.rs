//! `cargo xtask check` and `fmt`: formatting and lints of Rust and C.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::setup::{self, Need};
use crate::sh::{self, step};
use crate::{Exit, tidy};

/// Every check, all of them even when one fails, so that one run shows all there is to do.
pub fn check() -> Result<()> {
    setup::ensure(&[Need::Build, Need::Format])?;
    setup::components()?;
    type Check = fn() -> Result<()>;
    let checks: [(&str, Check); 5] = [
        ("tidy", tidy::tidy),
        ("rustfmt", rustfmt),
        ("clang-format", || clang_format(&["--dry-run", "-Werror"])),
        ("clippy", clippy),
        ("cargo-deny", deny),
    ];
    let mut failed = Vec::new();
    for (name, check) in checks {
        if let Err(error) = check() {
            eprintln!("error: {error:#}");
            failed.push(name);
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(Exit(1, format!("failed: {}", failed.join(", "))).into()) }
}

/// Formats everything.
pub fn fmt() -> Result<()> {
    setup::ensure(&[Need::Format])?;
    setup::components()?;
    let step = step("formatting");
    step.run(&mut sh::cargo(["fmt", "--all"]), "read the message above")?;
    clang_format(&["-i"])?;
    step.done();
    Ok(())
}

fn rustfmt() -> Result<()> {
    let step = step("rustfmt");
    step.run(&mut sh::cargo(["fmt", "--all", "--", "--check"]), "run `cargo xtask fmt`")?;
    step.done();
    Ok(())
}

fn clippy() -> Result<()> {
    // The kernel programs are compiled on the way, by bpf/build.rs, with -Wall -Wextra -Werror.
    let step = step("clippy, and clang on the kernel programs");
    let args = ["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"];
    step.run(&mut sh::cargo(args), "fix what it names; an exception is #[expect(lint, reason = \"…\")]")?;
    step.done();
    Ok(())
}

fn clang_format(mode: &[&str]) -> Result<()> {
    let step = step("clang-format");
    let mut files = Vec::new();
    c_files(&sh::root().join("bpf"), &mut files)?;
    files.sort();
    let tool =
        sh::which("clang-format-19").context("clang-format-19 is not installed; `cargo xtask setup`")?;
    step.run(Command::new(tool).args(mode).args(&files), "run `cargo xtask fmt`")?;
    step.done();
    Ok(())
}

fn deny() -> Result<()> {
    if sh::which("cargo-deny").is_none() {
        eprintln!("==> cargo-deny: not installed, left out (cargo install cargo-deny --locked)");
        return Ok(());
    }
    let step = step("cargo-deny");
    step.run(&mut sh::cargo(["deny", "--all-features", "check"]), "deny.toml says what is accepted")?;
    step.done();
    Ok(())
}

fn c_files(dir: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    for entry in dir.read_dir().with_context(|| format!("reading {}", dir.display()))? {
        let path = entry.with_context(|| format!("reading {}", dir.display()))?.path();
        if path.is_dir() {
            c_files(&path, into)?;
        } else if path.extension().is_some_and(|e| e == "c" || e == "h") && !is_generated(&path) {
            into.push(path);
        }
    }
    Ok(())
}

/// Generated C says so in its first lines and is not formatted.
fn is_generated(path: &Path) -> bool {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().take(5).any(|l| l.contains("@generated"))
}
