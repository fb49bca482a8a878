//! The guest's contents: test programs, modules of the kernel, the first process. Servers: `servers.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::fetch::Fetched;
use super::tree::{self, Tree};
use crate::sh::{self, step};

/// Modules that the tests use and stock kernels do not have built in.
const MODULES: &[&str] = &["veth", "inet_diag", "tcp_diag", "mptcp_diag", "sch_ingress", "cls_bpf"];

/// Test programs that touch no kernel: what they say on this machine they would say in every guest.
const NO_KERNEL: &[&str] = &["head", "layout", "sha256_rounds"];
/// Loads the programs and prints what the verifier counted (an example of bpf/).
const STATS: &str = "verifier_stats";

/// What is asked of a system's users and names; nginx looks for the user that it would become.
const FILES: &[(&str, &str)] = &[
    (
        "etc/passwd",
        "root:x:0:0::/:/bin/sh\nwww-data:x:33:33::/:/bin/false\nnobody:x:65534:65534::/:/bin/false\n",
    ),
    ("etc/group", "root:x:0:\nwww-data:x:33:\nnobody:x:65533:\nnogroup:x:65534:\n"),
    ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n"),
];

/// Builds the integration tests of `packages` and the guest's first process; the programs, stripped, in `dir`.
pub(super) fn build_programs(packages: &[&str], dir: &Path, filter: &[String]) -> Result<Vec<PathBuf>> {
    let into = dir.join("programs");
    if into.exists() {
        fs::remove_dir_all(&into).with_context(|| format!("emptying {}", into.display()))?;
    }
    fs::create_dir_all(&into).with_context(|| format!("making {}", into.display()))?;
    let step = step("building the test programs");
    let remedy = "read the compiler's message above; `cargo xtask setup` checks the machine";
    let mut build = sh::cargo(["build", "--package", "portcullis-vm-tests"]);
    step.run(&mut build, remedy)?;
    strip(&sh::target().join("debug/portcullis-vm-init"), &into.join("init"))?;
    let mut stats = sh::cargo(["build", "--package", "portcullis-bpf", "--all-features", "--example", STATS]);
    step.run(&mut stats, remedy)?;
    strip(&sh::target().join("debug/examples").join(STATS), &into.join(STATS))?;
    let mut tests = sh::cargo(["test", "--no-run", "--all-features", "--tests"]);
    packages.iter().for_each(|package| {
        tests.args(["--package", package]);
    });
    let watched = step.run_watched(&mut tests, remedy)?;
    if !watched.status.success() {
        bail!("building the test programs: cargo ended with {}; {remedy}", watched.status);
    }
    let mut programs = vec![into.join("init"), into.join(STATS)];
    if filter == ["none"] {
        return Ok(programs);
    }
    for (source, program) in watched.lines.iter().filter_map(|line| executable(line)) {
        let name = name_of(&source);
        if !source.starts_with("tests/")
            || NO_KERNEL.contains(&name.as_str())
            || !(filter.is_empty() || filter.iter().any(|f| name.contains(f)))
        {
            continue;
        }
        strip(&sh::root().join(program), &into.join(&name))?;
        programs.push(into.join(&name));
    }
    if programs.len() == 2 {
        bail!("no test program is left; --program names a part of one's name");
    }
    step.done();
    Ok(programs)
}

/// Writes the initramfs for one kernel: `common` is what it has with the others.
pub(super) fn initramfs(kernel: &Fetched, common: &Tree, to: &Path) -> Result<()> {
    let mut tree = common.clone();
    let mut order = String::new();
    for module in modules(kernel)? {
        let name = module.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let plain = name.trim_end_matches(".xz").to_owned();
        let bytes = if plain == name { tree::read(&module)? } else { unpacked(&module)? };
        order += &format!("{plain}\n");
        tree.put(&format!("mods/{plain}"), bytes);
    }
    tree.put("mods/order", order.into_bytes());
    tree.write(to)
}

/// The test programs, and what every guest needs around them.
pub(super) fn tree(programs: &[PathBuf]) -> Result<Tree> {
    let mut tree = Tree::default();
    for program in programs {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let path = if name == "init" || name == STATS { name } else { format!("tests/{name}") };
        tree.program(&path, program)?;
    }
    // Tests start ordinary commands (sh, sleep, cat …).
    let busybox = sh::which("busybox").context("busybox is not installed; `cargo xtask setup`")?;
    tree.program("bin/busybox", &busybox)?;
    FILES.iter().for_each(|(path, text)| tree.put(path, text.as_bytes().to_vec()));
    let cache = Path::new("/etc/ld.so.cache");
    if cache.is_file() {
        // Libraries are where they are here: the guest's loader must look there, too.
        tree.copy(cache);
    }
    Ok(tree)
}

/// `  Executable tests/live.rs (target/debug/deps/live-0123)`.
fn executable(line: &str) -> Option<(String, String)> {
    let rest = line.trim_start().strip_prefix("Executable ")?;
    let (source, program) = rest.split_once(" (")?;
    Some((source.trim_start_matches("unittests ").to_owned(), program.trim_end_matches(')').to_owned()))
}

fn name_of(source: &str) -> String {
    let stem = source.trim_start_matches("tests/").trim_end_matches(".rs").trim_end_matches("/main");
    stem.replace('/', "_")
}

/// Copies without debug information, which is most of a test program.
fn strip(from: &Path, to: &Path) -> Result<()> {
    let tool = sh::which("llvm-strip-19")
        .or_else(|| sh::which("strip"))
        .context("no strip tool; `cargo xtask setup`")?;
    let out = Command::new(tool).arg("-o").arg(to).arg(from).output().context("starting strip")?;
    if !out.status.success() {
        bail!("stripping {}: {}", from.display(), String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(())
}

/// Files of the modules and what they need, in load order.
fn modules(kernel: &Fetched) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = Vec::new();
    for module in MODULES {
        let out = Command::new("modprobe")
            .arg("-d")
            .arg(&kernel.root)
            .args(["-S", &kernel.release, "--show-depends", "--ignore-install", module])
            .output()
            .context("starting modprobe")?;
        if !out.status.success() {
            bail!(
                "kernel {} has no module {module}: {}",
                kernel.release,
                String::from_utf8_lossy(&out.stderr).trim()
            );
        }
        for line in String::from_utf8_lossy(&out.stdout).lines() {
            // "builtin NAME" needs no file
            let Some(file) = line.strip_prefix("insmod ").map(|l| PathBuf::from(l.trim())) else { continue };
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }
    Ok(files)
}

fn unpacked(module: &Path) -> Result<Vec<u8>> {
    let out = Command::new("xz").arg("-dc").arg(module).output().context("starting xz")?;
    if !out.status.success() {
        bail!("unpacking {}: {}", module.display(), String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(out.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_lines_are_read() {
        let line = "  Executable tests/live_deny.rs (target/debug/deps/live_deny-1a2b)";
        let (source, program) = executable(line).expect("a program");
        assert_eq!(
            (name_of(&source).as_str(), program.as_str()),
            ("live_deny", "target/debug/deps/live_deny-1a2b")
        );
        assert_eq!(executable("   Compiling x v0.1.0"), None);
        assert_eq!(name_of("tests/policy_parity/main.rs"), "policy_parity");
    }
}
