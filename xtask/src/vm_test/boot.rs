//! QEMU: with KVM where it works, else emulated.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::sh::{self, step};

/// A guest that has not powered off by then is ended (seconds).
const BOOT_MAX_S: u32 = 1500;

/// Boots `kernel` with `initramfs`; the lines of its console, which also go to `log`.
pub(super) fn boot(kernel: &Path, initramfs: &Path, log: &Path) -> Result<Vec<String>> {
    let qemu = sh::which("qemu-system-x86_64")
        .context("qemu-system-x86_64 is not installed; `cargo xtask setup`")?;
    let accelerator: &[&str] = if kvm_works() {
        &["-accel", "kvm", "-cpu", "host"]
    } else {
        &["-accel", "tcg,thread=multi", "-cpu", "max"]
    };
    let mut command = Command::new("timeout");
    command.arg(BOOT_MAX_S.to_string()).arg(&qemu).args(accelerator);
    command.args([
        "-smp",
        "2",
        "-m",
        "2048",
        "-display",
        "none",
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
    ]);
    command.args(["-serial", "stdio", "-kernel"]).arg(kernel).arg("-initrd").arg(initramfs);
    // A kernel that stalls must end as a failure, not as a hang. Emulated CPUs stop for seconds on a busy host, so the
    // watchdog is patient.
    command
        .args(["-append", "console=ttyS0 quiet panic=-1 oops=panic softlockup_panic=1 watchdog_thresh=30"]);
    let step = step("booting");
    let watched = step.run_watched(&mut command, "the guest's console is above")?;
    fs::write(log, watched.lines.join("\n") + "\n").with_context(|| format!("writing {}", log.display()))?;
    if watched.lines.is_empty() {
        bail!("QEMU ended with {} before the guest said a word", watched.status);
    }
    step.done();
    Ok(watched.lines)
}

/// `/dev/kvm` may exist and not work: the processor must offer the extension to this machine.
fn kvm_works() -> bool {
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let extension = flags
        .lines()
        .filter(|l| l.starts_with("flags"))
        .any(|l| l.split(' ').any(|f| f == "vmx" || f == "svm"));
    extension && fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok()
}
