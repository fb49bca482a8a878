//! The last good configuration on disk: what is used when the control plane cannot be reached at a start, and the
//! version below which nothing is accepted any more.
//!
//! The file is one line with the SHA-256 of what follows, then the bundle as it was sent.
//!
//! **Invariant:** a file that is torn or was changed is not used, and that is said.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};

use super::bundle::{self, Read};

/// A file with one bundle.
#[derive(Debug)]
pub(crate) struct Cache {
    path: PathBuf,
}

/// The file is of no use.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {message}; it is not used and will be replaced with the next configuration")]
pub struct CacheError {
    path: String,
    message: String,
}

const MAGIC: &str = "portcullis-bundle-1 sha256:";

// === impl Cache ===

impl Cache {
    pub(crate) fn new(path: PathBuf) -> Cache {
        Cache { path }
    }

    /// The bundle, if there is one, and when the control plane last said that it is the configuration, Unix seconds.
    pub(crate) fn read(&self) -> Result<Option<(Read, u64)>, CacheError> {
        let fail = |message: String| CacheError { path: self.path.display().to_string(), message };
        let text = match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|error| fail(error.to_string()))?,
        };
        let end = text.iter().position(|byte| *byte == b'\n');
        let (head, body) = end.map_or((&text[..], &[][..]), |end| (&text[..end], &text[end + 1..]));
        let sum = head.strip_prefix(MAGIC.as_bytes());
        let sum = sum.ok_or_else(|| fail("it does not begin as a cached configuration does".to_owned()))?;
        if sum != hex(body).as_bytes() {
            return Err(fail("its checksum differs from its contents".to_owned()));
        }
        let read = bundle::read(body).map_err(|error| fail(error.to_string()))?;
        let confirmed = fs::metadata(&self.path).and_then(|about| about.modified()).ok();
        let confirmed = confirmed.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        Ok(Some((read, confirmed.unwrap_or_default().as_secs())))
    }

    /// Replaces the file as a whole: a crash leaves the old one or the new one.
    pub(crate) fn write(&self, text: &[u8]) -> Result<(), CacheError> {
        let head = format!("{MAGIC}{}\n", hex(text));
        replace(&self.path, &[head.as_bytes(), text].concat()).map_err(|error| self.failed(&error))
    }

    /// Notes that what the file holds is still the configuration.
    pub(crate) fn confirm(&self) -> Result<(), CacheError> {
        let touch = || fs::File::options().write(true).open(&self.path)?.set_times(now());
        match touch() {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed(&error)),
            _ => Ok(()),
        }
    }

    fn failed(&self, error: &io::Error) -> CacheError {
        let message = format!("cannot keep the configuration: {error}");
        CacheError { path: self.path.display().to_string(), message }
    }
}

#[expect(clippy::disallowed_methods, reason = "the time of a file is the machine's time")]
fn now() -> fs::FileTimes {
    fs::FileTimes::new().set_modified(std::time::SystemTime::now())
}

fn hex(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a file beside the old one, to the disk, and renames it; directories above it are made.
pub(super) fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    fs::write(&new, text)?;
    fs::File::open(&new)?.sync_all()?;
    fs::rename(&new, path)?;
    // The new name has to survive a loss of power too.
    fs::File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_cache(work: impl FnOnce(&Cache)) {
        let dir = std::env::temp_dir().join(format!("pc-cache-{}", super::super::clock::random_u64()));
        work(&Cache::new(dir.join("deep/bundle.json")));
        fs::remove_dir_all(dir).unwrap();
    }

    fn version(cache: &Cache) -> Option<u64> {
        cache.read().unwrap().map(|(read, _)| read.bundle.version)
    }

    #[test]
    fn what_was_written_is_read() {
        with_cache(|cache| {
            assert_eq!(cache.read().unwrap().map(drop), None);
            cache.write(br#"{"version": 7}"#).unwrap();
            assert_eq!(version(cache), Some(7));
            cache.write(br#"{"version": 8}"#).unwrap();
            assert_eq!(version(cache), Some(8));
            cache.confirm().unwrap();
            assert_eq!(version(cache), Some(8));
        });
    }

    #[test]
    fn what_is_torn_or_changed_is_not_used() {
        with_cache(|cache| {
            cache.write(br#"{"version": 7, "policies": []}"#).unwrap();
            let good = fs::read(&cache.path).unwrap();
            for cut in 0..good.len() {
                fs::write(&cache.path, &good[..cut]).unwrap();
                cache.read().map(drop).expect_err("a torn file");
            }
            for at in 0..good.len() {
                let mut changed = good.clone();
                changed[at] ^= 1;
                fs::write(&cache.path, &changed).unwrap();
                cache.read().map(drop).expect_err("a changed file");
            }
        });
    }
}
