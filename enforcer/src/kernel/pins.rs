//! The directory of an instance on the BPF file system: what keeps enforcement alive without a process.
//!
//! ```text
//! <instance>/maps/<name>      every map of the datapath
//! <instance>/progs/<name>     every program
//! <instance>/links/guard, …   the attachments to the cgroup
//! <instance>/object-<hash>-state-<n>   written last: the instance is complete, and whose it is
//! <instance>-held             the guard of an instance before, until this one has a configuration
//! ```
//!
//! **Invariant:** only the holder of the lock changes an instance.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use portcullis_bpf::limits;

use super::error::KernelError;

/// An instance's directory, locked.
#[derive(Debug)]
pub(crate) struct Pins {
    dir: PathBuf,
    /// Holds the lock; it goes with the process, so a killed agent leaves none.
    _lock: File,
}

/// What stands in the directory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Found {
    /// Nothing.
    Nothing,
    /// An instance whose making, or whose end, was interrupted.
    Fragment,
    /// A complete instance.
    Complete(Marker),
}

/// Whose instance it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Marker {
    /// Hash of the object file.
    pub object: u64,
    /// Version of the state that outlives programs, `PC_STATE_VERSION`.
    pub state: u64,
}

const PARTS: [&str; 3] = ["links", "progs", "maps"];
/// A directory that says whose time may be moved.
const VIRTUAL_TIME: &str = "virtual-time";

// === impl Pins ===

impl Pins {
    /// Makes the directory if need be and locks it.
    pub(crate) fn lock(dir: &Path) -> Result<Pins, KernelError> {
        if let Some(parent) = dir.parent() {
            fs::create_dir_all(parent).map_err(|source| KernelError::at("make", parent, source))?;
            bpffs(parent)?;
        }
        for part in [None].into_iter().chain(PARTS.map(Some)) {
            let path = part.map_or(dir.to_owned(), |part| dir.join(part));
            match fs::create_dir(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(KernelError::at("make", &path, error));
                }
                _ => {}
            }
        }
        let lock = File::open(dir).map_err(|source| KernelError::at("open", dir, source))?;
        // SAFETY: the descriptor is open; no memory is involved.
        if unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
            let error = io::Error::last_os_error();
            return Err(match error.kind() {
                io::ErrorKind::WouldBlock => KernelError::Busy { path: dir.to_owned() },
                _ => KernelError::at("lock", dir, error),
            });
        }
        Ok(Pins { dir: dir.to_owned(), _lock: lock })
    }

    /// The directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the maps are pinned.
    pub(crate) fn maps(&self) -> PathBuf {
        self.dir.join("maps")
    }

    /// Where a program is pinned.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.dir.join("progs").join(name)
    }

    /// Where a link is pinned.
    pub(crate) fn link(&self, name: &str) -> PathBuf {
        self.dir.join("links").join(name)
    }

    /// Where the guard of an instance that was not taken over is pinned.
    pub(crate) fn held(&self) -> PathBuf {
        held(&self.dir)
    }

    /// What is there.
    pub(crate) fn found(&self) -> Result<Found, KernelError> {
        if let Some((_, marker)) = self.markers()?.into_iter().next() {
            return Ok(Found::Complete(marker));
        }
        let empty = PARTS.iter().try_fold(true, |empty, part| {
            Ok::<_, KernelError>(empty && names(&self.dir.join(part))?.is_empty())
        })?;
        Ok(if empty { Found::Nothing } else { Found::Fragment })
    }

    /// Says that the instance is complete and is `marker`'s.
    pub(crate) fn mark(&self, marker: &Marker) -> Result<(), KernelError> {
        for (path, old) in self.markers()? {
            if old != *marker {
                fs::remove_dir(&path).map_err(|source| KernelError::at("remove", &path, source))?;
            }
        }
        let path = self.dir.join(marker.name());
        match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(KernelError::at("make", &path, error))
            }
            _ => Ok(()),
        }
    }

    /// Says that the instance's time may be moved.
    pub(crate) fn mark_virtual_time(&self) -> Result<(), KernelError> {
        let path = self.dir.join(VIRTUAL_TIME);
        fs::create_dir(&path).map_err(|source| KernelError::at("make", &path, source))
    }

    /// Whether it may.
    pub(crate) fn has_virtual_time(&self) -> bool {
        self.dir.join(VIRTUAL_TIME).exists()
    }

    /// Removes the marker and every pin but the links, which the caller has detached, and then the directory.
    pub(crate) fn remove(self) -> Result<(), KernelError> {
        for (path, _) in self.markers()? {
            fs::remove_dir(&path).map_err(|source| KernelError::at("remove", &path, source))?;
        }
        if self.has_virtual_time() {
            let path = self.dir.join(VIRTUAL_TIME);
            fs::remove_dir(&path).map_err(|source| KernelError::at("remove", &path, source))?;
        }
        for part in PARTS {
            let dir = self.dir.join(part);
            for (_, path) in names(&dir)? {
                remove_file(&path)?;
            }
            fs::remove_dir(&dir).map_err(|source| KernelError::at("remove", &dir, source))?;
        }
        fs::remove_dir(&self.dir).map_err(|source| KernelError::at("remove", &self.dir, source))
    }

    fn markers(&self) -> Result<Vec<(PathBuf, Marker)>, KernelError> {
        let all = names(&self.dir)?;
        Ok(all.into_iter().filter_map(|(name, path)| Some((path, Marker::parse(&name)?))).collect())
    }
}

// === impl Marker ===

impl Marker {
    /// That of the programs in this executable.
    pub(crate) fn ours() -> Marker {
        Marker { object: fnv(portcullis_bpf::OBJECT), state: limits::STATE_VERSION as u64 }
    }

    /// For people and as the name of a directory.
    pub(crate) fn name(&self) -> String {
        format!("object-{:016x}-state-{}", self.object, self.state)
    }

    fn parse(name: &str) -> Option<Marker> {
        let (object, state) = name.strip_prefix("object-")?.split_once("-state-")?;
        Some(Marker { object: u64::from_str_radix(object, 16).ok()?, state: state.parse().ok()? })
    }
}

/// As [`Pins::held`], of the instance in `dir`.
pub(crate) fn held(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push("-held");
    dir.with_file_name(name)
}

/// Names and paths in a directory, sorted.
pub(crate) fn names(dir: &Path) -> Result<Vec<(String, PathBuf)>, KernelError> {
    let list = || -> io::Result<Vec<(String, PathBuf)>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            all.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
        }
        all.sort();
        Ok(all)
    };
    list().map_err(|source| KernelError::at("list", dir, source))
}

/// Removes a pin that may be there.
pub(crate) fn remove_file(path: &Path) -> Result<(), KernelError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(KernelError::at("remove", path, error)),
        _ => Ok(()),
    }
}

fn bpffs(dir: &Path) -> Result<(), KernelError> {
    const BPF_FS_MAGIC: i64 = 0xcafe_4a11;
    let path = std::ffi::CString::new(dir.as_os_str().as_encoded_bytes()).map_err(io::Error::other);
    let path = path.map_err(|source| KernelError::at("use", dir, source))?;
    // SAFETY: statfs is plain data for which all-zero is valid; the kernel fills it, from a C string that lives.
    let (result, info) = unsafe {
        let mut info: libc::statfs = std::mem::zeroed();
        (libc::statfs(path.as_ptr(), &raw mut info), info)
    };
    let error = match result {
        0 if info.f_type == BPF_FS_MAGIC => return Ok(()),
        0 => io::Error::other("not on a BPF file system; as root: mount -t bpf bpf /sys/fs/bpf"),
        _ => io::Error::last_os_error(),
    };
    Err(KernelError::at("use", dir, error))
}

/// FNV-1a, 64 bits: tells objects apart, protects nothing.
fn fnv(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_read_back() {
        let marker = Marker { object: 0xfeed, state: 3 };
        assert_eq!(Marker::parse(&marker.name()), Some(marker));
        assert_eq!(Marker::parse("maps"), None);
        assert_eq!(Marker::parse("object-xyz-state-1"), None);
    }
}
