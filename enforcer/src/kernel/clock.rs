//! The clocks that the kernel programs and user space share.

use std::io;

use portcullis_bpf::abi::Clock;

use super::error::KernelError;
use super::map::Maps;

/// CLOCK_BOOTTIME, ns: what `bpf_ktime_get_boot_ns` reads.
pub(crate) fn boot_ns() -> i64 {
    read(libc::CLOCK_BOOTTIME)
}

/// Unix time minus boot time, ns, plus `offset_ns`. Steps and slews of the clock change it.
pub(crate) fn boot_to_unix_ns(offset_ns: i64) -> i64 {
    // Two readings of boot time around the other one: an interruption in between shows and is tried again.
    let mut best = (i64::MAX, 0);
    for _ in 0..5 {
        let before = boot_ns();
        let unix = read(libc::CLOCK_REALTIME);
        let gap = boot_ns() - before;
        best = best.min((gap, unix - before - gap / 2));
        if gap < 2_000 {
            break;
        }
    }
    best.1 + offset_ns
}

/// Tells the programs the time.
pub(crate) fn publish(maps: &Maps, boot_to_unix_ns: i64) -> Result<(), KernelError> {
    let done = maps.get("pc_clock")?.set(&0u32, &Clock { boot_to_unix_ns });
    done.map_err(KernelError::system("write the clock"))
}

fn read(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is live and writable. The clocks above exist on every kernel that has BPF.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    debug_assert_eq!(result, 0, "{}", io::Error::last_os_error());
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}
