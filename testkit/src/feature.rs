//! What a test needs of its machine, and the one way to skip without it.
//!
//! **Invariant:** a skip is printed, recorded in the skip file (which `cargo xtask test` counts and names), and is a
//! failure when `PORTCULLIS_REQUIRE` names the feature or is `all`.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::{env, fmt, io, thread};

use crate::{cgroup, net};

/// A property of the machine that not every machine has.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Feature {
    /// Effective user id 0.
    Root,
    /// The kernel loads socket-ops programs and makes socket hashes for this process.
    Bpf,
    /// Programs of the BPF LSM are loaded for this process, and run: `bpf` is in the kernel's list of LSMs.
    BpfLsm,
    /// A writable bpffs at `/sys/fs/bpf`.
    BpfFs,
    /// A mounted cgroup2 hierarchy in which this process may make a group.
    Cgroup2,
    /// This process may make a network namespace.
    NetNs,
    /// `socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP)` works.
    Mptcp,
    /// `io_uring_setup` works: the kernel has it, and `kernel.io_uring_disabled` lets this process.
    IoUring,
    /// Setting the system clock harms nobody: a virtual machine that is the test's own. Said by
    /// `PORTCULLIS_MAY_SET_CLOCK=1`, and never tried.
    SetClock,
    /// CPUs 0 and 1, for this process.
    TwoCpus,
    /// The nginx binary.
    Nginx,
    /// A Go toolchain, or the program that the tests would build with it: `PORTCULLIS_GO_SERVER` names it.
    Go,
    /// Another program, by its name, on PATH or in an sbin directory.
    Tool(&'static str),
}

/// Names a server that a Go toolchain elsewhere has built, for machines without one.
pub const GO_SERVER: &str = "PORTCULLIS_GO_SERVER";

/// Whether `PORTCULLIS_EMULATED=1` says that the processors are emulated, as the guests' of vm-test are where there is no
/// KVM. They stand still for moments, and what takes nanoseconds elsewhere may take milliseconds.
pub fn emulated() -> bool {
    env::var_os("PORTCULLIS_EMULATED").is_some_and(|value| value == "1")
}

/// Proof that [`need`] found every feature.
#[derive(Clone, Copy, Debug)]
pub struct Granted(());

/// Returns `None` when this machine lacks one of `features`, after saying so; the test then returns.
///
/// # Panics
/// When a missing feature is required by `PORTCULLIS_REQUIRE` (`all`, or names as in the skip line, by comma).
#[track_caller]
pub fn need(features: &[Feature]) -> Option<Granted> {
    let missing: Vec<(Feature, String)> =
        features.iter().filter_map(|f| probe(*f).err().map(|why| (*f, why))).collect();
    if missing.is_empty() {
        return Some(Granted(()));
    }
    let test = test_name(Location::caller());
    let reason = missing.iter().map(|(f, why)| format!("{f}: {why}")).collect::<Vec<_>>().join("; ");
    let required = env::var("PORTCULLIS_REQUIRE").unwrap_or_default();
    assert!(
        !missing.iter().any(|(f, _)| is_required(&required, *f)),
        "{test} needs what this machine lacks, and PORTCULLIS_REQUIRE={required} forbids to skip it: {reason}"
    );
    eprintln!("SKIPPED {test}: {reason}");
    if let Err(error) = record(&test, &reason) {
        // A skip that nobody counts would look like a pass.
        panic!("{test}: cannot record the skip in {}: {error}", skip_file().display());
    }
    None
}

/// `need!(Bpf, NetNs)` returns from the test when a feature is missing; `need!(Bpf => Ok(()))` returns that value.
#[macro_export]
macro_rules! need {
    ($($feature:ident $(($arg:expr))?),+) => {
        let Some(_) = $crate::need(&[$($crate::Feature::$feature $(($arg))?),+]) else { return };
    };
    ($($feature:ident $(($arg:expr))?),+ => $value:expr) => {
        let Some(_) = $crate::need(&[$($crate::Feature::$feature $(($arg))?),+]) else { return $value };
    };
}

/// Tries one feature on this machine; the error says what was tried and what came back.
pub fn probe(feature: Feature) -> Result<(), String> {
    match feature {
        Feature::Root => root(),
        Feature::Bpf => bpf::probe(),
        Feature::BpfLsm => bpf_lsm(),
        Feature::BpfFs => bpffs(),
        Feature::Cgroup2 => cgroup::probe(),
        Feature::NetNs => net::probe_netns(),
        Feature::Mptcp => net::probe_mptcp(),
        Feature::IoUring => io_uring(),
        Feature::SetClock => set_clock(),
        Feature::TwoCpus => two_cpus(),
        Feature::Nginx => tool("nginx"),
        Feature::Go => go(env::var_os(GO_SERVER)),
        Feature::Tool(name) => tool(name),
    }
}

// === impl Feature ===

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Feature::Root => f.write_str("root"),
            Feature::Bpf => f.write_str("bpf"),
            Feature::BpfLsm => f.write_str("bpf-lsm"),
            Feature::BpfFs => f.write_str("bpffs"),
            Feature::Cgroup2 => f.write_str("cgroup2"),
            Feature::NetNs => f.write_str("netns"),
            Feature::Mptcp => f.write_str("mptcp"),
            Feature::IoUring => f.write_str("io-uring"),
            Feature::SetClock => f.write_str("set-clock"),
            Feature::TwoCpus => f.write_str("two-cpus"),
            Feature::Nginx => f.write_str("nginx"),
            Feature::Go => f.write_str("go"),
            Feature::Tool(name) => f.write_str(name),
        }
    }
}

/// Where skips are recorded: `PORTCULLIS_SKIPS`, else `target/portcullis/skips.txt` of the workspace.
fn skip_file() -> PathBuf {
    if let Some(path) = env::var_os("PORTCULLIS_SKIPS") {
        return PathBuf::from(path);
    }
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).join("target"),
        PathBuf::from,
    );
    target.join("portcullis/skips.txt")
}

fn record(test: &str, reason: &str) -> io::Result<()> {
    static ONE_LINE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_LINE_AT_A_TIME.lock();
    let path = skip_file();
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    // One write in append mode: lines of test processes that run side by side do not mix.
    let line = format!("{test}: {}\n", reason.replace('\n', " "));
    OpenOptions::new().create(true).append(true).open(path)?.write_all(line.as_bytes())
}

fn is_required(required: &str, feature: Feature) -> bool {
    let name = feature.to_string();
    required.split(',').map(str::trim).any(|word| word == "all" || word.eq_ignore_ascii_case(&name))
}

fn test_name(caller: &Location<'_>) -> String {
    let at = format!("{}:{}", caller.file(), caller.line());
    match thread::current().name() {
        Some(name) if name != "main" => format!("{name} ({at})"),
        _ => env::var("NEXTEST_TEST_NAME").map_or_else(|_| at.clone(), |name| format!("{name} ({at})")),
    }
}

fn root() -> Result<(), String> {
    // SAFETY: geteuid takes nothing and cannot fail.
    match unsafe { libc::geteuid() } {
        0 => Ok(()),
        uid => Err(format!("effective user id is {uid}, not 0")),
    }
}

fn set_clock() -> Result<(), String> {
    const ALLOWED: &str = "PORTCULLIS_MAY_SET_CLOCK";
    match env::var(ALLOWED).as_deref() {
        Ok("1") => root(),
        _ => Err(format!("{ALLOWED} is not 1: others may need this machine's clock")),
    }
}

fn io_uring() -> Result<(), String> {
    /// `struct io_uring_params`, 120 bytes; all zero asks for nothing special.
    #[repr(C)]
    struct Params([u64; 15]);
    let mut params = Params([0; 15]);
    // SAFETY: the structure is of the size that the call reads and writes, and lives through it.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, &raw mut params) };
    if fd < 0 {
        return Err(format!("io_uring_setup: {}", io::Error::last_os_error()));
    }
    // SAFETY: the call made this descriptor, and nothing else owns it.
    drop(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) });
    Ok(())
}

fn two_cpus() -> Result<(), String> {
    // SAFETY: cpu_set_t is plain data for which all-zero is valid; the call writes it, and its size is passed.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) != 0 {
            return Err(format!("sched_getaffinity: {}", io::Error::last_os_error()));
        }
        set
    };
    // SAFETY: a live set.
    let missing = [0, 1].into_iter().find(|cpu| unsafe { !libc::CPU_ISSET(*cpu, &set) });
    missing.map_or(Ok(()), |cpu| Err(format!("CPU {cpu} is not there for this process")))
}

/// Asks securityfs, which is not mounted everywhere: through a mount that nobody sees (fsopen, fsmount: Linux 5.2).
fn bpf_lsm() -> Result<(), String> {
    bpf::probe_lsm()?;
    const FSCONFIG_CMD_CREATE: libc::c_ulong = 6;
    let made = |what: &str, result: libc::c_long| match result {
        0.. => Ok(result as libc::c_int),
        _ => Err(format!("{what}: {}", io::Error::last_os_error())),
    };
    let none = std::ptr::null::<libc::c_char>();
    let mut active = String::new();
    // SAFETY: strings that live through the calls, null where none is wanted, and integers. The descriptors that the calls
    // make are owned by nothing else.
    unsafe {
        let fs = made("fsopen", libc::syscall(libc::SYS_fsopen, c"securityfs".as_ptr(), 0))?;
        let fs = OwnedFd::from_raw_fd(fs);
        let create = libc::syscall(libc::SYS_fsconfig, fs.as_raw_fd(), FSCONFIG_CMD_CREATE, none, none, 0);
        made("fsconfig", create)?;
        let mount = made("fsmount", libc::syscall(libc::SYS_fsmount, fs.as_raw_fd(), 0, 0))?;
        let mount = OwnedFd::from_raw_fd(mount);
        let file = made("lsm", libc::openat(mount.as_raw_fd(), c"lsm".as_ptr(), libc::O_RDONLY).into())?;
        File::from_raw_fd(file).read_to_string(&mut active).map_err(|error| format!("lsm: {error}"))?;
    }
    let active = active.trim();
    if active.split(',').any(|name| name == "bpf") { Ok(()) } else { Err(format!("the LSMs are {active}")) }
}

fn bpffs() -> Result<(), String> {
    const DIR: &str = "/sys/fs/bpf";
    let mounts = fs::read_to_string("/proc/self/mounts").map_err(|e| format!("/proc/self/mounts: {e}"))?;
    if !mounts.lines().any(|l| l.split(' ').nth(1) == Some(DIR) && l.split(' ').nth(2) == Some("bpf")) {
        return Err(format!("no bpffs at {DIR}; as root: mount -t bpf bpf {DIR}"));
    }
    let trial = Path::new(DIR).join(format!("pc-probe-{}-{:?}", std::process::id(), thread::current().id()));
    fs::create_dir(&trial)
        .and_then(|()| fs::remove_dir(&trial))
        .map_err(|e| format!("{}: {e}", trial.display()))
}

fn tool(name: &str) -> Result<(), String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let found = env::split_paths(&path).chain(sbin).any(|dir| dir.join(name).is_file());
    if found { Ok(()) } else { Err("not installed".to_owned()) }
}

fn go(server: Option<OsString>) -> Result<(), String> {
    match server.map(PathBuf::from) {
        None => tool("go"),
        Some(path) if path.is_file() => Ok(()),
        Some(path) => Err(format!("{GO_SERVER}: {} is not there", path.display())),
    }
}

/// The smallest use of `bpf(2)` that stands for the real one.
mod bpf {
    use std::fs::File;
    use std::os::fd::FromRawFd;
    use std::{io, mem};

    const BPF_MAP_CREATE: libc::c_long = 0;
    const BPF_PROG_LOAD: libc::c_long = 5;
    const BPF_MAP_TYPE_SOCKHASH: u32 = 18;
    const BPF_PROG_TYPE_SOCK_OPS: u32 = 13;
    const BPF_PROG_TYPE_LSM: u32 = 29;
    const BPF_LSM_MAC: u32 = 27;
    /// `r0 = 1; exit`
    const PROGRAM: [u64; 2] = [0x0000_0001_0000_00b7, 0x95];

    /// `union bpf_attr`, the part of each command that is used here; the kernel takes the rest as zero.
    #[repr(C)]
    #[derive(Default)]
    struct MapCreate {
        map_type: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        map_flags: u32,
    }

    #[repr(C)]
    #[derive(Default)]
    struct ProgLoad {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log_buf: u64,
        kern_version: u32,
        prog_flags: u32,
        prog_name: [u8; 16],
        prog_ifindex: u32,
        expected_attach_type: u32,
        prog_btf_fd: u32,
        func_info_rec_size: u32,
        func_info: u64,
        func_info_cnt: u32,
        line_info_rec_size: u32,
        line_info: u64,
        line_info_cnt: u32,
        attach_btf_id: u32,
    }

    pub(super) fn probe() -> Result<(), String> {
        let map = MapCreate {
            map_type: BPF_MAP_TYPE_SOCKHASH,
            key_size: 8,
            value_size: 8,
            max_entries: 1,
            map_flags: 0,
        };
        call(BPF_MAP_CREATE, &map).map_err(|e| format!("creating a sockhash: {e}"))?;
        let program = ProgLoad {
            prog_type: BPF_PROG_TYPE_SOCK_OPS,
            insn_cnt: PROGRAM.len() as u32,
            insns: PROGRAM.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
            ..ProgLoad::default()
        };
        call(BPF_PROG_LOAD, &program).map_err(|e| format!("loading a sockops program: {e}"))?;
        Ok(())
    }

    /// Which hook does not matter, so one is named that is none: whoever may load programs of this kind is told that, EINVAL.
    pub(super) fn probe_lsm() -> Result<(), String> {
        let program = ProgLoad {
            prog_type: BPF_PROG_TYPE_LSM,
            insn_cnt: PROGRAM.len() as u32,
            insns: PROGRAM.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
            expected_attach_type: BPF_LSM_MAC,
            attach_btf_id: 1,
            ..ProgLoad::default()
        };
        match call(BPF_PROG_LOAD, &program) {
            Err(error) if error.raw_os_error() != Some(libc::EINVAL) => {
                Err(format!("loading a program of the BPF LSM: {error}"))
            }
            _ => Ok(()),
        }
    }

    fn call<T>(command: libc::c_long, attr: &T) -> io::Result<File> {
        // SAFETY: `attr` is a live #[repr(C)] prefix of union bpf_attr and its size is passed; the pointers in it
        // are to 'static data of the lengths given. Both commands only read it.
        let fd =
            unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), mem::size_of::<T>()) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: both commands return a new descriptor that nothing else owns.
        Ok(unsafe { File::from_raw_fd(fd as libc::c_int) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_is_reported_by_name() {
        let why = probe(Feature::Tool("no-such-program-of-portcullis")).expect_err("does not exist");
        assert_eq!(why, "not installed");
        assert_eq!(Feature::Tool("x").to_string(), "x");
    }

    #[test]
    fn a_server_that_go_built_must_be_there() {
        let me = env::current_exe().expect("a program");
        assert_eq!(go(Some(me.into())), Ok(()));
        let why = go(Some("/no/such/program".into())).expect_err("does not exist");
        assert!(why.contains(GO_SERVER) && why.contains("/no/such/program"), "{why}");
        assert_eq!(go(None), tool("go"));
    }

    #[test]
    fn required_features_are_matched_by_name() {
        assert!(is_required("all", Feature::Bpf));
        assert!(is_required("netns, bpf", Feature::Bpf));
        assert!(!is_required("netns", Feature::Bpf));
        assert!(!is_required("", Feature::Root));
    }

    #[test]
    fn the_test_name_and_place_are_in_a_skip() {
        let name = test_name(Location::caller());
        assert!(name.contains("the_test_name_and_place_are_in_a_skip"), "{name}");
        assert!(name.contains("feature.rs:"), "{name}");
    }
}
