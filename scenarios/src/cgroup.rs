//! The control group that protected applications are started in.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

/// A control group of our own; removed on drop, when the applications in it have ended.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
}

// === impl Cgroup ===

impl Cgroup {
    /// Makes a group below the cgroup2 mount.
    pub(crate) fn new() -> Result<Cgroup> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mounts = fs::read_to_string("/proc/self/mounts").context("reading /proc/self/mounts")?;
        let mount = mounts.lines().find_map(|line| {
            let mut fields = line.split(' ');
            let (_, path, kind) = (fields.next()?, fields.next()?, fields.next()?);
            (kind == "cgroup2").then(|| PathBuf::from(path))
        });
        let mount = mount
            .context("no cgroup2 hierarchy is mounted; as root: mount -t cgroup2 none /sys/fs/cgroup")?;
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = mount.join(format!("portcullis-scenario-{}-{n}", process::id()));
        fs::create_dir(&path).with_context(|| format!("creating control group {}", path.display()))?;
        Ok(Cgroup { path })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A process that was just killed leaves its group a moment later.
        for _ in 0..50 {
            if fs::remove_dir(&self.path).is_ok() || !self.path.exists() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}
