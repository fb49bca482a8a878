//! Control groups of a test's own, below the cgroup2 mount wherever that is.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Mount point of the cgroup2 hierarchy: `/sys/fs/cgroup` on a unified system, below it on a hybrid one.
pub fn cgroup2_mount() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("reading /proc/self/mounts")?;
    match find_cgroup2(&mounts) {
        Some(path) => Ok(path),
        None => bail!("no cgroup2 hierarchy is mounted; as root: mount -t cgroup2 none /sys/fs/cgroup"),
    }
}

/// A fresh control group; on drop what still runs in it is killed and it is removed.
#[derive(Debug)]
pub struct TestCgroup {
    path: PathBuf,
}

/// The process is in a [`TestCgroup`]; on drop it goes back to where it was.
#[derive(Debug)]
pub struct InCgroup {
    back: PathBuf,
}

// === impl TestCgroup ===

impl TestCgroup {
    /// Makes the group `pc-<name>-<pid>-<n>` below the cgroup2 mount.
    pub fn new(name: &str) -> Result<TestCgroup> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = cgroup2_mount()?.join(format!("pc-{name}-{}-{n}", process::id()));
        fs::create_dir(&path).with_context(|| format!("making the cgroup {}", path.display()))?;
        Ok(TestCgroup { path })
    }

    /// Where the group is; programs attach to this directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The child that `command` spawns starts inside the group, before its first instruction.
    pub fn enter_command(&self, command: &mut Command) -> Result<()> {
        let procs = self.procs()?;
        // SAFETY: the closure runs between fork and exec and makes one write(2) on a descriptor opened before; it
        // allocates nothing and takes no lock.
        unsafe {
            command.pre_exec(move || {
                let written = libc::write(std::os::fd::AsRawFd::as_raw_fd(&procs), b"0".as_ptr().cast(), 1);
                if written == 1 { Ok(()) } else { Err(io::Error::last_os_error()) }
            });
        }
        Ok(())
    }

    /// Moves this whole process (all threads) into the group. A socket belongs to the group in which it was made,
    /// so this comes before the sockets. For tests that have their process to themselves, as nextest gives.
    pub fn enter_process(&self) -> Result<InCgroup> {
        let back = own_cgroup()?;
        self.procs()?.write_all(b"0").with_context(|| format!("entering {}", self.path.display()))?;
        Ok(InCgroup { back })
    }

    fn procs(&self) -> Result<File> {
        let path = self.path.join("cgroup.procs");
        OpenOptions::new().write(true).open(&path).with_context(|| format!("opening {}", path.display()))
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        // cgroup.kill is newer (5.14) than the oldest kernel; without it, rmdir below reports who is left.
        let _ = fs::write(self.path.join("cgroup.kill"), "1");
        let deadline = Instant::now() + Duration::from_secs(5);
        while let Err(error) = fs::remove_dir(&self.path) {
            if error.kind() == io::ErrorKind::NotFound {
                return;
            }
            if Instant::now() > deadline {
                eprintln!("cgroup {} is left behind: {error}", self.path.display());
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

// === impl InCgroup ===

impl Drop for InCgroup {
    fn drop(&mut self) {
        if let Err(error) = fs::write(self.back.join("cgroup.procs"), "0") {
            eprintln!("cannot go back to {}: {error}", self.back.display());
        }
    }
}

/// Makes and removes a group, for [`crate::Feature::Cgroup2`].
pub(crate) fn probe() -> Result<(), String> {
    TestCgroup::new("probe").map(drop).map_err(|e| format!("{e:#}"))
}

fn own_cgroup() -> Result<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").context("reading /proc/self/cgroup")?;
    let line =
        own.lines().find_map(|l| l.strip_prefix("0::/")).context("this process is in no cgroup2 group")?;
    Ok(cgroup2_mount()?.join(line))
}

fn find_cgroup2(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (path, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_is_found_on_unified_and_hybrid_systems() {
        let hybrid = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(find_cgroup2(hybrid), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(
            find_cgroup2("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0"),
            Some(PathBuf::from("/sys/fs/cgroup"))
        );
        assert_eq!(find_cgroup2("cgroup /sys/fs/cgroup/cgroup2 cgroup rw 0 0"), None);
    }
}
