//! Which CPU a process runs on.

use std::io;

/// Puts the calling thread, and what it starts from now on, on one CPU.
pub fn pin(cpu: usize) -> io::Result<()> {
    // SAFETY: the set is a plain bit mask that lives through both calls; CPU_SET stays within it for small numbers.
    let done = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// CPUs of the machine that are online, whichever of them this thread may use.
pub fn online() -> usize {
    // SAFETY: a pure query.
    let n = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    usize::try_from(n).unwrap_or(1).max(1)
}

/// What the figures belong to.
pub fn machine() -> serde_json::Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or_default();
    serde_json::json!({
        "cpu": model.trim_start_matches(['\t', ' ', ':']),
        "cpus": online(),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "load": read("/proc/loadavg").trim(),
    })
}
