//! QEMU that emulates reliably.
//!
//! Debian 12's own QEMU (7.2) corrupts emulated guests at random: of 15 boots of Linux 6.12, 12 failed. Version 10, from
//! the distribution's backports, does not. It is installed from there without touching this system's apt sources.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::Exit;
use crate::sh::{self, step};

/// Oldest major version that is known to be good.
const MAJOR_MIN: u32 = 9;
const SUITE: &str = "bookworm-backports";

/// Makes sure of it.
pub(super) fn ensure() -> Result<()> {
    if version().is_some_and(|major| major >= MAJOR_MIN) {
        return Ok(());
    }
    if !super::is_root()? || sh::which("apt-get").is_none() {
        let text = format!(
            "this machine lacks qemu-system-x86_64 of version {MAJOR_MIN} or newer; as root, with {SUITE} among apt's \
             sources: apt-get install -t {SUITE} qemu-system-x86"
        );
        return Err(Exit(2, text).into());
    }
    install()?;
    match version() {
        Some(major) if major >= MAJOR_MIN => Ok(()),
        _ => {
            bail!("set-up: QEMU was installed but `qemu-system-x86_64 --version` is not {MAJOR_MIN} or newer")
        }
    }
}

fn install() -> Result<()> {
    let step = step(&format!("set-up: QEMU from {SUITE}"));
    let dir = sh::results().join("vm/apt-qemu");
    let (parts, lists) = (dir.join("sources"), dir.join("lists/partial"));
    for made in [&parts, &lists] {
        fs::create_dir_all(made).with_context(|| format!("making {}", made.display()))?;
    }
    let base = codename();
    let backports = if base == "bookworm" { format!("{base} {SUITE}") } else { base.clone() };
    let source = format!(
        "Types: deb\nURIs: {}\nSuites: {backports}\nComponents: main\n\
         Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n",
        crate::vm_test::mirror(false)?
    );
    fs::write(parts.join("debian.sources"), source).context("writing debian.sources")?;
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(["-q", "-o", "Dir::Etc::SourceList=/dev/null", "-o"]);
        command.arg(format!("Dir::Etc::SourceParts={}", parts.display())).arg("-o");
        command.arg(format!("Dir::State::Lists={}", dir.join("lists").display()));
        command.args(["-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3"]).args(args);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    let remedy = "install qemu-system-x86 of version 9 or newer by hand";
    step.run_quiet(&mut apt(&["update"]), remedy)?;
    let target: &[&str] = if base == "bookworm" { &["-t", SUITE] } else { &[] };
    let args = [&["install", "-y", "--no-install-recommends"], target, &["qemu-system-x86"]].concat();
    let _no_services = super::NoServices::begin()?;
    step.run_quiet(&mut apt(&args), remedy)?;
    step.done();
    Ok(())
}

/// Major version of the QEMU on PATH.
fn version() -> Option<u32> {
    let qemu = sh::which("qemu-system-x86_64")?;
    let out = Command::new(qemu).arg("--version").output().ok()?;
    major(&String::from_utf8_lossy(&out.stdout))
}

/// `QEMU emulator version 10.0.2 (Debian …)`.
fn major(text: &str) -> Option<u32> {
    text.split("version ").nth(1)?.split('.').next()?.parse().ok()
}

fn codename() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    name.map_or_else(|| "bookworm".to_owned(), |name| name.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read() {
        assert_eq!(major("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)"), Some(10));
        assert_eq!(major("QEMU emulator version 7.2.17 (Debian)"), Some(7));
        assert_eq!(major("no such thing"), None);
    }
}
