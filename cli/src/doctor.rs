//! `portcullis doctor`: whether this machine can enforce in the kernel, and what is missing.
//!
//! **Invariant:** each finding is made by trying or reading, and each one that is bad has a remedy.

mod agent;

use std::fs;
use std::path::{Path, PathBuf};

use portcullis_enforcer::kernel;
use serde::Serialize;

use crate::Exit;
use crate::agent::settings;
use crate::output::{self, Format};

/// Say what this machine offers, what is missing, and what to do about it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  portcullis doctor
  portcullis doctor --format json
  portcullis doctor --config /etc/portcullis/agent.toml

With --config, or with AUTHFI_API_URL set, what an agent of these settings would meet is looked at too: the control
plane, the files.

Exit status: 0 nothing is missing, 1 something is.")]
pub struct Args {
    /// TOML file with settings of an agent
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How the result is printed
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    state: State,
    found: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    remedy: String,
}

/// How it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Good,
    /// It works, but not as well.
    Slow,
    Missing,
}

/// Oldest kernel that is tested.
const KERNEL_MIN: (u32, u32) = (6, 1);
const BPFFS: &str = "/sys/fs/bpf";
/// Names of the security modules in use, in order.
const LSMS: &str = "/sys/kernel/security/lsm";

pub fn doctor(args: Args) -> Exit {
    let Args { config, format } = args;
    let settings = match settings::read(settings::Flags::default(), config.as_deref()) {
        Ok(settings) => settings,
        Err(problem) => return Ok(output::refuse(&[problem])),
    };
    let mut findings = examine();
    if config.is_some() || settings.api_url.is_some() {
        findings.extend(agent::findings(&settings));
    }
    match format {
        Format::Json => output::print_json(&findings)?,
        Format::Table => output::print(&findings.iter().map(Finding::text).collect::<String>())?,
    }
    Ok(u8::from(findings.iter().any(|finding| finding.state == State::Missing)))
}

fn examine() -> Vec<Finding> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let mounts = read("/proc/self/mounts");
    vec![
        kernel_version(read("/proc/sys/kernel/osrelease").trim()),
        cgroup2(&mounts),
        bpffs(&mounts),
        privilege(&read("/proc/self/status")),
        programs(),
        jit(read("/proc/sys/net/core/bpf_jit_enable").trim()),
        lsm(fs::read_to_string(LSMS).ok().as_deref()),
        agent::services(),
        systemd(Path::new("/run/systemd/system").is_dir()),
        nginx(),
    ]
}

fn kernel_version(release: &str) -> Finding {
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().ok());
    let version = numbers.next().flatten().zip(numbers.next().flatten());
    let good = version.is_some_and(|version| version >= KERNEL_MIN);
    let remedy = format!("boot Linux {}.{} or newer, or run `portcullis proxy`", KERNEL_MIN.0, KERNEL_MIN.1);
    Finding::new("kernel", good, format!("Linux {release}"), remedy)
}

fn cgroup2(mounts: &str) -> Finding {
    match mount_of(mounts, "cgroup2") {
        Some(path) => Finding::new("cgroup2", true, format!("mounted at {path}"), ""),
        None => {
            let remedy =
                "as root: mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified";
            Finding::new("cgroup2", false, "not mounted", remedy)
        }
    }
}

fn bpffs(mounts: &str) -> Finding {
    let mounted = mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(1);
        fields.next() == Some(BPFFS) && fields.next() == Some("bpf")
    });
    let found = if mounted { format!("mounted at {BPFFS}") } else { format!("not mounted at {BPFFS}") };
    Finding::new("bpffs", mounted, found, format!("as root: mount -t bpf bpf {BPFFS}"))
}

fn privilege(status: &str) -> Finding {
    // Numbers of include/uapi/linux/capability.h.
    const WANTED: [(&str, u32); 3] = [("CAP_NET_ADMIN", 12), ("CAP_SYS_ADMIN", 21), ("CAP_BPF", 39)];
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let held = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or_default();
    let missing: Vec<&str> =
        WANTED.iter().filter(|(_, bit)| held >> bit & 1 == 0).map(|(name, _)| *name).collect();
    let found =
        if missing.is_empty() { "all held".to_owned() } else { format!("without {}", missing.join(", ")) };
    let remedy =
        "run as root, or give the agent's unit AmbientCapabilities=CAP_BPF CAP_NET_ADMIN CAP_SYS_ADMIN";
    Finding::new("capabilities", missing.is_empty(), found, remedy)
}

fn programs() -> Finding {
    match kernel::probe() {
        Ok(()) => Finding::new("bpf programs", true, "a program of the deciding kind loads", ""),
        Err(error) => {
            let remedy = "run as root, outside of containers that filter bpf(2) (Docker: --cap-add or --privileged); \
                          where that cannot be, run `portcullis proxy` before the application: the same verdicts";
            Finding::new("bpf programs", false, error.to_string(), remedy)
        }
    }
}

fn jit(value: &str) -> Finding {
    let good = matches!(value, "1" | "2");
    let found = match value {
        "" => "unknown: /proc/sys/net/core/bpf_jit_enable cannot be read".to_owned(),
        value => format!("net.core.bpf_jit_enable = {value}"),
    };
    let mut finding = Finding::new("jit", good, found, "as root: sysctl -w net.core.bpf_jit_enable=1");
    if !good {
        finding.state = State::Slow;
    }
    finding
}

/// Reads that go around the programs are refused by programs of the BPF LSM.
fn lsm(list: Option<&str>) -> Finding {
    const FOR: &str = "without it, servers that read by splice(2) get requests undecided";
    let Some(list) = list else {
        let remedy = format!("as root: mount -t securityfs none /sys/kernel/security; {FOR}");
        return Finding::note("bpf lsm", format!("unknown: {LSMS} cannot be read"), remedy);
    };
    let found = format!("the LSMs are {}", list.trim());
    if list.trim().split(',').any(|name| name == "bpf") {
        return Finding::new("bpf lsm", true, found, "");
    }
    let remedy = format!("add bpf to the list lsm= of the kernel's command line; {FOR}");
    Finding { state: State::Slow, ..Finding::new("bpf lsm", false, found, remedy) }
}

/// The agent ends with whoever started it unless something starts it again; enforcement stays either way.
fn systemd(runs: bool) -> Finding {
    if runs {
        return Finding::new("systemd", true, "runs: deploy/systemd/portcullis-agent.service fits", "");
    }
    let remedy = "have your init start `portcullis agent` again when it ends";
    Finding::note("systemd", "does not run here: nothing starts the agent again", remedy)
}

fn nginx() -> Finding {
    let places = ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx"];
    let found = places.into_iter().find(|path| Path::new(path).exists());
    let mut finding = match found {
        Some(path) => Finding::new("nginx", true, path, ""),
        None => Finding::new("nginx", false, "not installed", "apt-get install nginx-light"),
    };
    if finding.state == State::Missing {
        // Scenarios use it; enforcement does not.
        finding.state = State::Slow;
    }
    finding
}

/// Mount point of the first file system of that type.
fn mount_of<'a>(mounts: &'a str, wanted: &str) -> Option<&'a str> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (path, kind) = (fields.next()?, fields.next()?);
        (kind == wanted).then_some(path)
    })
}

// === impl Finding ===

impl Finding {
    fn new(what: &'static str, good: bool, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
        let state = if good { State::Good } else { State::Missing };
        let remedy = if good { String::new() } else { remedy.into() };
        Finding { what, state, found: found.into(), remedy }
    }

    fn text(&self) -> String {
        let Finding { what, state, found, remedy } = self;
        let mark = match state {
            State::Good => "ok     ",
            State::Slow => "note   ",
            State::Missing => "missing",
        };
        let mut text = format!("{mark} {what:<13} {found}\n");
        if !remedy.is_empty() {
            text.push_str(&format!("{:22}fix: {remedy}\n", ""));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_older_than_the_floor_are_missing() {
        let state = |release| kernel_version(release).state;
        assert_eq!(state("6.1.0-50-amd64"), State::Good);
        assert_eq!(state("10.0.1"), State::Good);
        assert_eq!(state("5.15.200"), State::Missing);
        assert_eq!(state("6.0.9"), State::Missing);
        assert_eq!(state(""), State::Missing);
    }

    #[test]
    fn mounts_are_told_with_their_remedy() {
        let mounts = "none /sys/fs/cgroup/unified cgroup2 rw 0 0\nbpf /sys/fs/bpf bpf rw 0 0\n";
        assert_eq!(cgroup2(mounts).found, "mounted at /sys/fs/cgroup/unified");
        assert_eq!(bpffs(mounts).state, State::Good);
        let missing = bpffs("bpf /elsewhere bpf rw 0 0\n");
        assert_eq!((missing.state, missing.remedy.contains("mount -t bpf")), (State::Missing, true));
    }

    #[test]
    fn capabilities_are_read_by_their_bits() {
        assert_eq!(privilege("CapEff:\t000001ffffffffff\n").state, State::Good);
        let without_bpf = privilege("CapEff:\t0000003fffffffff\n");
        assert_eq!(without_bpf.found, "without CAP_BPF");
        assert_eq!(privilege("CapEff:\t0000000000000000\n").state, State::Missing);
        assert_eq!(privilege("").state, State::Missing);
    }

    #[test]
    fn the_bpf_lsm_is_looked_for_by_its_name() {
        assert_eq!(lsm(Some("lockdown,capability,bpf\n")).state, State::Good);
        let without = lsm(Some("lockdown,capability,bpfish\n"));
        assert_eq!((without.state, without.remedy.contains("lsm=")), (State::Slow, true));
        assert!(lsm(None).remedy.contains("mount -t securityfs"));
    }

    #[test]
    fn a_machine_without_jit_is_slow_not_unfit() {
        assert_eq!(jit("0").state, State::Slow);
        assert_eq!(jit("1").state, State::Good);
    }
}
