//! Set-up: what the other tasks need of the machine, installed when this may be done, else named with the command.
//!
//! **Invariant:** nothing is installed that is already there, no service is started or enabled, and a user who is not
//! root gets one line to run, never a half-done set-up.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::Exit;
use crate::sh::{self, Step, step};

mod qemu;

/// One thing that the machine may lack.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Need {
    /// Builds the kernel programs and the C parts of dependencies.
    Build,
    /// clang-format.
    Format,
    /// A real web server to stand in front of.
    Serve,
    /// Other people's programs that tests have as clients: an authenticator.
    Outside,
    /// Python, for conformance suites.
    Python,
    /// A mounted bpffs; only a hint when this is not root.
    BpfFs,
    /// The test runner.
    Nextest,
    /// Boots other kernels.
    Vm,
    /// libFuzzer and the address sanitizer, for the clang of [`Need::Build`].
    Fuzz,
    /// What benchmarks compare with.
    Peers,
    /// Servers of other kinds, to which denials are delivered in tests.
    Delivery,
}

/// Everything.
pub const ALL: &[Need] = &[Need::Build, Need::Format, Need::Serve, Need::Outside, Need::BpfFs, Need::Nextest];

/// The set-up alone; `--delivery` adds what the tests of delivery can do without.
pub fn setup(args: &[String]) -> Result<()> {
    match args {
        [] => ensure(ALL),
        [arg] if arg == "--delivery" => ensure(&[ALL, &[Need::Delivery]].concat()),
        [arg, ..] => Err(crate::Usage(format!("unexpected argument `{arg}`")).into()),
    }
}

/// Makes sure of every need, in order.
pub fn ensure(needs: &[Need]) -> Result<()> {
    let missing: Vec<Item> =
        ITEMS.iter().filter(|i| needs.contains(&i.need) && !i.present()).copied().collect();
    if !missing.is_empty() {
        install(&missing)?;
    }
    if needs.contains(&Need::BpfFs) {
        mount_bpffs();
    }
    if needs.contains(&Need::Nextest) {
        nextest();
    }
    if needs.contains(&Need::Vm) {
        qemu::ensure()?;
    }
    Ok(())
}

/// Makes sure of rustfmt and clippy, which rustup's minimal profile leaves out.
pub fn components() -> Result<()> {
    let lacks = |sub: &str| sh::cargo([sub, "--version"]).output().map_or(true, |out| !out.status.success());
    let missing: Vec<&str> = [("fmt", "rustfmt"), ("clippy", "clippy")]
        .iter()
        .filter(|(sub, _)| lacks(sub))
        .map(|(_, c)| *c)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let step = step(&format!("set-up: rustup component add {}", missing.join(" ")));
    step.run_quiet(
        Command::new("rustup").args(["component", "add"]).args(&missing),
        "install these components of the toolchain",
    )?;
    step.done();
    Ok(())
}

/// Whether `cargo nextest` is there.
pub fn has_nextest() -> bool {
    sh::which("cargo-nextest").is_some() || cargo_home_bin().join("cargo-nextest").is_file()
}

/// How a need is recognised and which Debian package fills it.
#[derive(Clone, Copy)]
struct Item {
    need: Need,
    probe: Probe,
    package: &'static str,
}

#[derive(Clone, Copy)]
enum Probe {
    /// A program on PATH or in an sbin directory.
    Program(&'static str),
    /// A file below /usr/include.
    Header(&'static str),
    /// A module that python3 finds.
    PythonModule(&'static str),
    /// A file below the runtimes of clang 19.
    Runtime(&'static str),
}

// === impl Item ===

impl Item {
    fn present(&self) -> bool {
        match self.probe {
            // bpf/build.rs takes another clang, and the tools beside it, from the environment.
            Probe::Program("clang-19" | "llvm-strip-19")
                if std::env::var_os("PORTCULLIS_CLANG").is_some() =>
            {
                true
            }
            Probe::Program(name) => sh::which(name).is_some(),
            Probe::Header(name) => Path::new("/usr/include").join(name).is_file(),
            Probe::PythonModule(name) => {
                let found = Command::new("python3").args(["-c", &format!("import {name}")]).output();
                found.is_ok_and(|output| output.status.success())
            }
            Probe::Runtime(name) => Path::new("/usr/lib/llvm-19/lib/clang/19/lib/linux").join(name).is_file(),
        }
    }
}

fn install(missing: &[Item]) -> Result<()> {
    let mut packages: Vec<&str> = missing.iter().map(|i| i.package).collect();
    packages.dedup();
    let list = packages.join(" ");
    let command = format!("apt-get update && apt-get install -y --no-install-recommends {list}");
    let Some(apt) = sh::which("apt-get") else {
        let text = format!(
            "this machine lacks {list} (names of Debian packages) and has no apt-get; install them with its \
             package manager"
        );
        return Err(Exit(2, text).into());
    };
    if !is_root()? {
        let text = format!("this machine lacks {list}; run this once:\n  sudo sh -c '{command}'");
        return Err(Exit(2, text).into());
    }
    let step = step(&format!("set-up: apt-get install {list}"));
    let remedy = format!("run `{command}` by hand and look at what it says");
    apt_get(&step, &apt, &["update"], &remedy)?;
    let _no_services = NoServices::begin()?;
    apt_get(
        &step,
        &apt,
        &[&["install", "-y", "--no-install-recommends"], packages.as_slice()].concat(),
        &remedy,
    )?;
    if packages.contains(&"nginx-light") {
        // The scenarios start their own; this machine's port 80 is left alone, also after the next boot.
        let _ = Command::new("update-rc.d").args(["nginx", "disable"]).output();
    }
    step.done();
    match missing.iter().find(|i| !i.present()) {
        None => Ok(()),
        Some(item) => {
            bail!("set-up: apt-get installed {} but what it is for is still not there", item.package)
        }
    }
}

fn apt_get(step: &Step, apt: &Path, args: &[&str], remedy: &str) -> Result<()> {
    let mut command = Command::new(apt);
    // Another apt (unattended upgrades on a fresh machine) may hold the lock for a while.
    command.args(["-q", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3"]).args(args);
    step.run_quiet(command.env("DEBIAN_FRONTEND", "noninteractive"), remedy)
}

/// While it lives, packages that are installed start no service (Debian's policy-rc.d).
struct NoServices {
    made: Option<PathBuf>,
}

// === impl NoServices ===

impl NoServices {
    fn begin() -> Result<NoServices> {
        let path = PathBuf::from("/usr/sbin/policy-rc.d");
        if path.exists() {
            return Ok(NoServices { made: None }); // The machine has its own policy.
        }
        fs::write(&path, "#!/bin/sh\nexit 101\n").with_context(|| format!("writing {}", path.display()))?;
        let guard = NoServices { made: Some(path.clone()) };
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .with_context(|| format!("making {} executable", path.display()))?;
        Ok(guard)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(path) = &self.made
            && let Err(error) = fs::remove_file(path)
        {
            eprintln!("warning: remove {} by hand: {error}", path.display());
        }
    }
}

/// Without a bpffs the kernel engine cannot pin; it says so itself, so that here this is only a note.
fn mount_bpffs() {
    const DIR: &str = "/sys/fs/bpf";
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    if mounts.lines().any(|l| l.split(' ').nth(1) == Some(DIR) && l.split(' ').nth(2) == Some("bpf")) {
        return;
    }
    if !is_root().unwrap_or(false) {
        eprintln!(
            "note: no bpffs at {DIR}; what needs it is skipped by name. As root: mount -t bpf bpf {DIR}"
        );
        return;
    }
    match Command::new("mount").args(["-t", "bpf", "bpf", DIR]).output() {
        Ok(out) if out.status.success() => eprintln!("==> set-up: mounted bpffs at {DIR}"),
        Ok(out) => eprintln!("note: no bpffs at {DIR}: {}", String::from_utf8_lossy(&out.stderr).trim()),
        Err(error) => eprintln!("note: no bpffs at {DIR}: mount: {error}"),
    }
}

/// The test runner, from source. `cargo test` does its work when it cannot be had.
fn nextest() {
    if has_nextest() {
        return;
    }
    let step = step("set-up: cargo install cargo-nextest (once, some minutes)");
    // Unoptimised: it builds in half the time and only starts processes.
    let features = ["--no-default-features", "--features", "default-no-update"];
    let mut command = sh::cargo(["install", "cargo-nextest", "--locked", "--debug", "--quiet"]);
    match step
        .run_quiet(command.args(features).env_remove("CARGO_TARGET_DIR"), "`cargo test` is used instead")
    {
        Ok(()) => step.done(),
        Err(error) => eprintln!("note: {error:#}"),
    }
}

fn cargo_home_bin() -> PathBuf {
    let home = std::env::var_os("HOME").map_or_else(PathBuf::new, PathBuf::from);
    std::env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from).join("bin")
}

fn is_root() -> Result<bool> {
    let status = fs::read_to_string("/proc/self/status").context("reading /proc/self/status")?;
    let uids = status.lines().find_map(|l| l.strip_prefix("Uid:")).context("no Uid in /proc/self/status")?;
    Ok(uids.split_whitespace().nth(1) == Some("0"))
}

const ITEMS: &[Item] = &[
    Item { need: Need::Build, probe: Probe::Program("cc"), package: "gcc" },
    Item { need: Need::Build, probe: Probe::Header("stdio.h"), package: "libc6-dev" },
    Item { need: Need::Build, probe: Probe::Program("make"), package: "make" },
    Item { need: Need::Build, probe: Probe::Program("pkg-config"), package: "pkg-config" },
    Item { need: Need::Build, probe: Probe::Program("clang-19"), package: "clang-19" },
    Item { need: Need::Build, probe: Probe::Program("llvm-strip-19"), package: "llvm-19" },
    Item { need: Need::Build, probe: Probe::Header("bpf/bpf_helpers.h"), package: "libbpf-dev" },
    Item { need: Need::Build, probe: Probe::Header("libelf.h"), package: "libelf-dev" },
    Item { need: Need::Build, probe: Probe::Header("zlib.h"), package: "zlib1g-dev" },
    Item { need: Need::Format, probe: Probe::Program("clang-format-19"), package: "clang-format-19" },
    Item { need: Need::Serve, probe: Probe::Program("nginx"), package: "nginx-light" },
    Item { need: Need::Outside, probe: Probe::Program("oathtool"), package: "oathtool" },
    Item { need: Need::Python, probe: Probe::Program("python3"), package: "python3" },
    Item { need: Need::Python, probe: Probe::PythonModule("ensurepip"), package: "python3-venv" },
    Item { need: Need::Delivery, probe: Probe::Program("node"), package: "nodejs" },
    Item { need: Need::Delivery, probe: Probe::Program("go"), package: "golang-go" },
    Item { need: Need::Delivery, probe: Probe::Program("javac"), package: "default-jdk-headless" },
    Item { need: Need::Delivery, probe: Probe::Program("python3"), package: "python3" },
    Item { need: Need::Delivery, probe: Probe::Program("apache2"), package: "apache2-bin" },
    Item { need: Need::Delivery, probe: Probe::Program("gunicorn"), package: "gunicorn" },
    Item {
        need: Need::Fuzz,
        probe: Probe::Runtime("libclang_rt.fuzzer-x86_64.a"),
        package: "libclang-rt-19-dev",
    },
    Item { need: Need::Fuzz, probe: Probe::Program("g++"), package: "g++" },
    Item { need: Need::Peers, probe: Probe::Program("haproxy"), package: "haproxy" },
    Item { need: Need::Peers, probe: Probe::Program("openssl"), package: "openssl" },
    Item { need: Need::Peers, probe: Probe::Program("taskset"), package: "util-linux" },
    Item { need: Need::Vm, probe: Probe::Program("modprobe"), package: "kmod" },
    Item { need: Need::Vm, probe: Probe::Program("xz"), package: "xz-utils" },
    Item { need: Need::Vm, probe: Probe::Program("busybox"), package: "busybox-static" },
    Item { need: Need::Vm, probe: Probe::Program("setpriv"), package: "util-linux" },
];
