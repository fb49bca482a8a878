//! The last good configuration on disk: what is used when the control plane cannot be reached at a start.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use portcullis_wire::Bundle;

/// A file with one bundle.
#[derive(Debug)]
pub(crate) struct Cache {
    path: PathBuf,
}

// === impl Cache ===

impl Cache {
    pub(crate) fn new(path: PathBuf) -> Cache {
        Cache { path }
    }

    /// The bundle, if there is one that can be read.
    pub(crate) fn read(&self) -> Option<Bundle> {
        let text = fs::read(&self.path).ok()?;
        match serde_json::from_slice(&text) {
            Ok(bundle) => Some(bundle),
            Err(error) => {
                eprintln!("portcullis: {} is not used: {error}", self.path.display());
                None
            }
        }
    }

    /// Replaces the file as a whole: a crash leaves the old one or the new one.
    pub(crate) fn write(&self, text: &[u8]) {
        if let Err(error) = replace(&self.path, text) {
            eprintln!("portcullis: cannot keep the configuration in {}: {error}", self.path.display());
        }
    }
}

fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    fs::write(&new, text)?;
    fs::File::open(&new)?.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_what_is_torn_is_not_used() {
        let dir = std::env::temp_dir().join(format!("pc-cache-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let cache = Cache::new(dir.join("bundle.json"));
        assert_eq!(cache.read(), None);
        cache.write(br#"{"version": 7}"#);
        assert_eq!(cache.read().map(|bundle| bundle.version), Some(7));
        cache.write(br#"{"version": 8"#);
        assert_eq!(cache.read(), None);
        fs::remove_dir_all(dir).unwrap();
    }
}
