//! Keeps the configuration on disk, on a thread of its own.
//!
//! **Invariant:** nobody who brings a configuration into force waits for the disk: the next change may be a revocation.
//! **Invariant:** when the following ends in order, the file holds the last configuration that was in force.

use std::sync::{Condvar, Mutex, PoisonError};

use crate::CacheError;
use crate::cache::{Cache, Cached};
use crate::lock;
use crate::signature::BundleKey;

/// A file, and what is to be written to it.
#[derive(Debug)]
pub(crate) struct Keep {
    cache: Cache,
    due: Mutex<Due>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Due {
    /// The newest configuration, if the file does not hold it yet. Those that it replaced are not written at all.
    new: Option<Signed>,
    /// It could not be written, and is tried again when it is confirmed.
    again: Option<Signed>,
    /// What the file holds is still the configuration.
    confirm: bool,
    /// Why the last attempt failed.
    failed: Option<String>,
    end: bool,
}

/// A bundle as it was sent.
#[derive(Debug)]
struct Signed {
    signature: Option<String>,
    text: Vec<u8>,
}

// === impl Keep ===

impl Keep {
    pub(crate) fn new(cache: Cache) -> Keep {
        Keep { cache, due: Mutex::default(), wake: Condvar::new() }
    }

    /// What the file holds; see [`Cache::read`].
    pub(crate) fn read(&self, key: Option<(&BundleKey, &str)>) -> Result<Option<Cached>, CacheError> {
        self.cache.read(key)
    }

    /// Has the file replaced, soon.
    pub(crate) fn write(&self, signature: Option<String>, text: Vec<u8>) {
        let mut due = lock(&self.due);
        due.new = Some(Signed { signature, text });
        self.wake.notify_one();
    }

    /// Has it noted that the file is up to date, soon.
    pub(crate) fn confirm(&self) {
        lock(&self.due).confirm = true;
        self.wake.notify_one();
    }

    /// Why the file does not hold the configuration, if it could not be written.
    pub(crate) fn failed(&self) -> Option<String> {
        lock(&self.due).failed.clone()
    }

    /// Lets [`Keep::run`] return when everything is written.
    pub(crate) fn end(&self) {
        lock(&self.due).end = true;
        self.wake.notify_one();
    }

    /// Writes what is due, until the end.
    pub(crate) fn run(&self) {
        let mut due = lock(&self.due);
        loop {
            let confirm = std::mem::take(&mut due.confirm);
            let bundle = due.new.take().or_else(|| due.again.take_if(|_| confirm));
            if bundle.is_none() && !confirm {
                if due.end {
                    return;
                }
                due = self.wake.wait(due).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            drop(due);
            let done = match &bundle {
                Some(Signed { signature, text }) => self.cache.write(signature.as_deref(), text),
                None => self.cache.confirm(),
            };
            due = lock(&self.due);
            due.failed = done.err().map(|error| error.to_string());
            due.again = bundle.filter(|_| due.failed.is_some());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    /// A directory that goes with the test.
    struct Dir(PathBuf);

    impl Dir {
        fn new() -> Dir {
            let name = format!("pc-keep-{}", crate::backoff::random_u64());
            let dir = Dir(std::env::temp_dir().join(name));
            fs::create_dir_all(&dir.0).unwrap();
            dir
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    fn run(keep: &Keep, work: impl FnOnce()) {
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| keep.run());
            work();
            keep.end();
            writer.join().unwrap();
        });
    }

    fn version(keep: &Keep) -> Option<u64> {
        keep.read(None).unwrap().map(|cached| cached.read.bundle.version)
    }

    #[test]
    fn the_last_one_is_there_at_the_end() {
        let dir = Dir::new();
        let keep = Keep::new(Cache::new(dir.0.join("bundle")));
        run(&keep, || {
            keep.confirm();
            for version in 1..=50 {
                keep.write(None, format!("{{\"version\": {version}}}").into_bytes());
            }
        });
        assert_eq!((version(&keep), keep.failed()), (Some(50), None));
    }

    #[test]
    fn what_cannot_be_written_is_said_and_tried_again() {
        let dir = Dir::new();
        let place = dir.0.join("place");
        fs::write(&place, "in the way").unwrap();
        let keep = Keep::new(Cache::new(place.join("bundle")));
        run(&keep, || keep.write(None, br#"{"version": 7}"#.to_vec()));
        assert!(keep.failed().unwrap().contains("cannot keep the configuration"));
        fs::remove_file(&place).unwrap();
        run(&keep, || keep.confirm());
        assert_eq!((version(&keep), keep.failed()), (Some(7), None));
    }
}
