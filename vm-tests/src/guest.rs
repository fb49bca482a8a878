//! The guest around the tests: file systems, kernel modules, the loopback interface, power.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

/// Makes the guest usable: what a distribution's first process would have done of it.
pub fn prepare() -> Result<()> {
    // Nothing is mounted on /tmp: it is in memory as it is, and the sources that tests look for may lie below it.
    for (source, target, kind) in [
        (c"dev", c"/dev", c"devtmpfs"),
        (c"shm", c"/dev/shm", c"tmpfs"),
        (c"proc", c"/proc", c"proc"),
        (c"sys", c"/sys", c"sysfs"),
        (c"run", c"/run", c"tmpfs"),
        (c"cgroup2", c"/sys/fs/cgroup", c"cgroup2"),
        (c"bpf", c"/sys/fs/bpf", c"bpf"),
    ] {
        mount(source, target, kind)?;
    }
    // The console shows the tests' lines, not the kernel's chatter; warnings and worse stay.
    fs::write("/proc/sys/kernel/printk", "5").context("writing /proc/sys/kernel/printk")?;
    println!(
        "PCVM kernel {}",
        fs::read_to_string("/proc/sys/kernel/osrelease").context("reading osrelease")?.trim()
    );
    commands()?;
    load_modules(Path::new("/mods"))?;
    loopback_up().context("bringing the loopback interface up")?;
    unlimited_memlock().context("raising RLIMIT_MEMLOCK")
}

/// Never returns: the machine is gone.
pub fn power_off() -> ! {
    // SAFETY: sync takes nothing; reboot with this command takes no further argument and needs only privilege.
    unsafe {
        libc::sync();
        libc::reboot(libc::RB_POWER_OFF);
    }
    // PID 1 must not return: the kernel would panic, which hides what happened.
    loop {
        std::thread::park();
    }
}

/// Ordinary commands, as links to busybox.
fn commands() -> Result<()> {
    let done = Command::new("/bin/busybox").args(["--install", "-s", "/bin"]).status();
    anyhow::ensure!(done.context("starting /bin/busybox")?.success(), "busybox could not install its links");
    Ok(())
}

fn mount(source: &CStr, target: &CStr, kind: &CStr) -> Result<()> {
    let path = target.to_string_lossy();
    // Directories below a file system that was just mounted (sysfs) exist already.
    if let Err(error) = fs::create_dir_all(path.as_ref())
        && !Path::new(path.as_ref()).is_dir()
    {
        return Err(error).with_context(|| format!("making {path}"));
    }
    // SAFETY: all pointers are valid C strings for the call; a null `data` is allowed.
    let done = unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) };
    check(done).with_context(|| format!("mounting {} at {path}", kind.to_string_lossy()))
}

/// Loads the modules that `order` lists, one file name a line.
fn load_modules(dir: &Path) -> Result<()> {
    let Ok(order) = fs::read_to_string(dir.join("order")) else { return Ok(()) };
    let none = CString::default();
    for name in order.lines() {
        let file = File::open(dir.join(name)).with_context(|| format!("opening module {name}"))?;
        // SAFETY: the descriptor is open for the call, the parameter string is empty and terminated.
        let done = unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), none.as_ptr(), 0) };
        match check(i32::try_from(done).unwrap_or(-1)) {
            Err(error) if error.raw_os_error() != Some(libc::EEXIST) => {
                return Err(error).with_context(|| format!("loading module {name}"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn loopback_up() -> io::Result<()> {
    // SAFETY: plain system calls; `ifreq` is zeroed, which is a valid value, and lives through the call.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        check(socket)?;
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
            *to = from.cast_signed();
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        let done = check(libc::ioctl(socket, libc::SIOCSIFFLAGS, &request));
        libc::close(socket);
        done
    }
}

fn unlimited_memlock() -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the structure lives through the call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
