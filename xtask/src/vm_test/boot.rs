//! QEMU: with KVM where it works, else emulated.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::sh::{self, Bounds, step};

/// A guest says a line for each test, and ends a test that hangs (`TEST_MAX` in `vm-tests/src/tests.rs`, 300 s): one that
/// says nothing for longer hangs itself. The total is a few times what all tests take where everything is emulated.
const BOUNDS: Bounds = Bounds { silence: Duration::from_secs(450), total: Duration::from_secs(3 * 3600) };
/// Memory for the tests, MiB.
const MEMORY_MIB: u64 = 2048;

/// Boots `kernel` with `initramfs`; the lines of its console, which also go to `log`.
pub(super) fn boot(kernel: &Path, initramfs: &Path, log: &Path) -> Result<Vec<String>> {
    let qemu = sh::which("qemu-system-x86_64")
        .context("qemu-system-x86_64 is not installed; `cargo xtask setup`")?;
    let accelerator: &[&str] = if kvm_works() {
        &["-accel", "kvm", "-cpu", "host"]
    } else {
        &["-accel", "tcg,thread=multi", "-cpu", "max"]
    };
    let size = fs::metadata(initramfs).with_context(|| format!("reading {}", initramfs.display()))?.len();
    // No guest outlives this task, whatever ends that.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(&qemu).args(accelerator);
    command.args(["-smp", "2", "-m", &memory_mib(size).to_string()]);
    command.args(["-display", "none", "-nodefaults", "-no-user-config", "-no-reboot"]);
    command.args(["-serial", "stdio", "-kernel"]).arg(kernel).arg("-initrd").arg(initramfs);
    // A kernel that stalls must end as a failure, not as a hang. Emulated CPUs stop for seconds on a busy host, so the
    // watchdog is patient.
    command
        .args(["-append", "console=ttyS0 quiet panic=-1 oops=panic softlockup_panic=1 watchdog_thresh=30"]);
    let step = step("booting");
    let mut watched = step.run_bounded(&mut command, BOUNDS, "the guest's console is above")?;
    if let Some(bound) = watched.exceeded {
        // As the guest says what went wrong.
        watched.lines.push(format!("PCVM broken ended: {bound}"));
    }
    fs::write(log, watched.lines.join("\n") + "\n").with_context(|| format!("writing {}", log.display()))?;
    if watched.lines.is_empty() {
        bail!("QEMU ended with {} before the guest said a word", watched.status);
    }
    step.done();
    Ok(watched.lines)
}

/// The guest's memory: its files are in it twice while it unpacks them, and it lets them have half of it at most.
fn memory_mib(initramfs_bytes: u64) -> u64 {
    MEMORY_MIB + 2 * initramfs_bytes.div_ceil(1 << 20)
}

/// `/dev/kvm` may exist and not work: the processor must offer the extension to this machine.
pub(super) fn kvm_works() -> bool {
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let extension = flags
        .lines()
        .filter(|l| l.starts_with("flags"))
        .any(|l| l.split(' ').any(|f| f == "vmx" || f == "svm"));
    extension && fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_grows_with_what_is_unpacked_into_it() {
        assert_eq!(memory_mib(0), 2048);
        assert_eq!(memory_mib(1), 2050);
        assert_eq!(memory_mib(400 << 20), 2848);
    }

    #[test]
    fn silence_is_longer_than_a_test_that_hangs() {
        let guest = fs::read_to_string(sh::root().join("vm-tests/src/tests.rs")).expect("the guest's source");
        let seconds = guest.split("TEST_MAX: Duration = Duration::from_secs(").nth(1).expect("its bound");
        let test_max: u64 = seconds.split(')').next().and_then(|n| n.parse().ok()).expect("a number");
        assert!(BOUNDS.silence.as_secs() > test_max + 60);
        assert!(BOUNDS.total > 10 * BOUNDS.silence);
    }
}
