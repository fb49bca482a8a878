//! Keeps the configuration, and the keys of this host's own issuers, on disk, on a thread of its own.
//!
//! **Invariant:** nobody who brings a configuration into force waits for the disk: the next change may be a revocation.
//! **Invariant:** when the following ends in order, the files hold what was in force last.

use std::path::PathBuf;
use std::sync::{Condvar, Mutex, PoisonError};

use crate::cache::{Cache, CacheError, Cached};
use crate::kept_keys::{KeptKeys, KeptRow};
use crate::lock;
use crate::signature::BundleKey;

/// The files, and what is to be written to them.
#[derive(Debug)]
pub(crate) struct Keep {
    cache: Cache,
    keys: KeptKeys,
    due: Mutex<Due>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Due {
    /// The newest configuration, if the file does not hold it yet. Those that it replaced are not written at all.
    bundle: Option<Signed>,
    /// It could not be written, and is tried again when it is confirmed.
    again: Option<Signed>,
    /// What the file holds is still the configuration.
    confirm: bool,
    /// The newest keys, if their file does not hold them yet.
    keys: Option<Vec<KeptRow>>,
    /// Why the last attempt failed.
    failed: Option<String>,
    keys_failed: Option<String>,
    end: bool,
}

/// A bundle as it came.
#[derive(Debug)]
struct Signed {
    signature: Option<String>,
    text: Vec<u8>,
}

// === impl Keep ===

impl Keep {
    /// The keys are beside the bundle, in a file with `.keys` behind its name.
    pub(crate) fn new(path: PathBuf) -> Keep {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".keys");
        let keys = KeptKeys::new(path.with_file_name(name));
        Keep { cache: Cache::new(path), keys, due: Mutex::default(), wake: Condvar::new() }
    }

    /// What the file holds; see [`Cache::read`].
    pub(crate) fn read(&self, key: Option<(&BundleKey, &str)>) -> Result<Option<Cached>, CacheError> {
        self.cache.read(key)
    }

    /// The keys that are kept; why they are of no use is among the failures.
    pub(crate) fn read_keys(&self) -> Vec<KeptRow> {
        self.keys.read().unwrap_or_else(|error| {
            lock(&self.due).keys_failed = Some(error.to_string());
            Vec::new()
        })
    }

    /// Has the file replaced, soon.
    pub(crate) fn write(&self, signature: Option<String>, text: Vec<u8>) {
        lock(&self.due).bundle = Some(Signed { signature, text });
        self.wake.notify_one();
    }

    /// Has the keys' file replaced, soon.
    pub(crate) fn write_keys(&self, rows: Vec<KeptRow>) {
        lock(&self.due).keys = Some(rows);
        self.wake.notify_one();
    }

    /// Has it noted that the file is up to date, soon.
    pub(crate) fn confirm(&self) {
        lock(&self.due).confirm = true;
        self.wake.notify_one();
    }

    /// Why the files do not hold what is in force, if they could not be read or written.
    pub(crate) fn failed(&self) -> Vec<String> {
        let due = lock(&self.due);
        due.failed.iter().chain(&due.keys_failed).cloned().collect()
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
            let bundle = due.bundle.take().or_else(|| due.again.take_if(|_| confirm));
            let keys = due.keys.take();
            if bundle.is_none() && keys.is_none() && !confirm {
                if due.end {
                    return;
                }
                due = self.wake.wait(due).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            drop(due);
            let done = match &bundle {
                Some(Signed { signature, text }) => Some(self.cache.write(signature.as_deref(), text)),
                None => confirm.then(|| self.cache.confirm()),
            };
            let keys = keys.map(|rows| self.keys.write(&rows));
            due = lock(&self.due);
            if let Some(done) = done {
                due.failed = done.err().map(|error| error.to_string());
                due.again = bundle.filter(|_| due.failed.is_some());
            }
            if let Some(done) = keys {
                // They are fetched again in a few minutes, and then written again.
                due.keys_failed = done.err().map(|error| error.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

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
        let dir = tempfile::tempdir().unwrap();
        let keep = Keep::new(dir.path().join("bundle"));
        let row = |fetched_s| KeptRow {
            issuer: "i".into(),
            jwks_uri: "https://i/keys".into(),
            jwks: portcullis_wire::JwkSet::default(),
            fetched_s,
        };
        run(&keep, || {
            keep.confirm();
            for version in 1..=50 {
                keep.write(None, format!("{{\"version\": {version}}}").into_bytes());
                keep.write_keys(vec![row(version)]);
            }
        });
        assert_eq!((version(&keep), keep.failed()), (Some(50), Vec::new()));
        assert_eq!(keep.read_keys(), [row(50)]);
    }

    #[test]
    fn what_cannot_be_written_is_said_and_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("place");
        fs::write(&place, "in the way").unwrap();
        let keep = Keep::new(place.join("bundle"));
        run(&keep, || {
            keep.write(None, br#"{"version": 7}"#.to_vec());
            keep.write_keys(Vec::new());
        });
        let failed = keep.failed();
        assert!(failed[0].contains("cannot keep the configuration"), "{failed:?}");
        assert!(failed[1].contains("cannot keep keys"), "{failed:?}");
        fs::remove_file(&place).unwrap();
        run(&keep, || {
            keep.confirm();
            keep.write_keys(Vec::new());
        });
        assert_eq!((version(&keep), keep.failed()), (Some(7), Vec::new()));
    }
}
