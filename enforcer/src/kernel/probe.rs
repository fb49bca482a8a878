//! Whether this process may use BPF as the datapath needs it.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::error::NotPermitted;

/// Loads the smallest program of the kind that decides, and looks for a cgroup2 hierarchy.
pub fn probe() -> Result<(), NotPermitted> {
    cgroup2_mount()?;
    uninterrupted(load).map_err(|error| {
        let why = match error.raw_os_error() {
            Some(libc::EPERM) => "needs root, or CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN",
            Some(libc::ENOSYS) => "the kernel has no bpf(2)",
            _ => "the kernel refused the smallest sk_skb program",
        };
        NotPermitted { reason: format!("loading a program: {error} ({why})") }
    })
}

/// Mount point of the cgroup2 hierarchy.
pub fn cgroup2_mount() -> Result<PathBuf, NotPermitted> {
    let mounts = fs::read_to_string("/proc/self/mounts")
        .map_err(|error| NotPermitted { reason: format!("reading /proc/self/mounts: {error}") })?;
    let found = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (path, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(path))
    });
    found.ok_or_else(|| NotPermitted { reason: "no cgroup2 hierarchy is mounted".to_owned() })
}

/// Repeats what a signal has interrupted: the verifier then gives up with EAGAIN.
fn uninterrupted<T>(mut act: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    const ATTEMPTS: usize = 5;
    for _ in 1..ATTEMPTS {
        match act() {
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
            result => return result,
        }
    }
    act()
}

/// `r0 = 1; exit` as an sk_skb program, dropped at once.
fn load() -> io::Result<()> {
    const PROG_LOAD: libc::c_long = 5;
    const SK_SKB: u32 = 14;
    const PROGRAM: [u64; 2] = [0x0000_0001_0000_00b7, 0x95];

    #[repr(C)]
    #[derive(Default)]
    struct Load {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log_buf: u64,
    }

    let attr = Load {
        prog_type: SK_SKB,
        insn_cnt: PROGRAM.len() as u32,
        insns: PROGRAM.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        ..Load::default()
    };
    // SAFETY: `attr` is a prefix of union bpf_attr whose size is passed; its pointers are to 'static data.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const attr, size_of::<Load>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and is closed once.
    unsafe { libc::close(fd as libc::c_int) };
    Ok(())
}
