//! The last good configuration on disk: what is used when the control plane cannot be reached at a start, and the
//! version below which nothing is accepted any more.
//!
//! The file is one line with the SHA-256 of what follows, one line with the signature (empty: none came), then the bundle
//! as it was sent. The checksum keeps out what is torn; the signature, verified again at each reading, keeps out what
//! somebody wrote who is not the control plane.
//!
//! **Invariant:** a file that is torn or was changed is not used, and that is said.
//! **Invariant:** with a pinned key, a file without its signature is not used.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::bundle::{self, Read};
use crate::file;
use crate::signature::{BundleKey, SignatureError};

/// A file with one bundle.
#[derive(Debug)]
pub(crate) struct Cache {
    path: PathBuf,
}

/// A bundle of the file.
#[derive(Debug)]
pub(crate) struct Cached {
    pub(crate) read: Read,
    /// When the control plane last said that it is the configuration, Unix seconds.
    pub(crate) confirmed_s: u64,
}

/// The file is of no use.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {message}; it is not used and will be replaced with the next configuration")]
pub struct CacheError {
    path: String,
    message: String,
}

const MAGIC: &str = "portcullis-bundle-2 sha256:";
/// Before bundles had signatures.
const MAGIC_UNSIGNED: &str = "portcullis-bundle-1 sha256:";

// === impl Cache ===

impl Cache {
    pub(crate) fn new(path: PathBuf) -> Cache {
        Cache { path }
    }

    /// The bundle, if there is one. `key`: that of the pinned key and who this is, if there is a pinned one.
    pub(crate) fn read(&self, key: Option<(&BundleKey, &str)>) -> Result<Option<Cached>, CacheError> {
        let fail = |message: String| CacheError { path: self.path.display().to_string(), message };
        let text = match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|error| fail(error.to_string()))?,
        };
        let (signature, body) = parts(&text).map_err(|error| fail(error.to_owned()))?;
        let signed = key.map(|(key, agent)| key.verify(signature, agent, body)).transpose();
        let signed = signed.map_err(|error| fail(error.to_string()))?;
        let read = bundle::read(body).map_err(|error| fail(error.to_string()))?;
        let said = read.bundle.version;
        if let Some(signed) = signed.filter(|signed| *signed != said) {
            return Err(fail(SignatureError::Version { signed, said }.to_string()));
        }
        let confirmed = fs::metadata(&self.path).and_then(|about| about.modified()).ok();
        let confirmed = confirmed.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        Ok(Some(Cached { read, confirmed_s: confirmed.unwrap_or_default().as_secs() }))
    }

    /// Replaces the file as a whole: a crash leaves the old one or the new one.
    pub(crate) fn write(&self, signature: Option<&str>, text: &[u8]) -> Result<(), CacheError> {
        let contents = [signature.unwrap_or_default().as_bytes(), b"\n", text].concat();
        let written = file::replace(&self.path, &file::with_checksum(MAGIC, &contents));
        written.map_err(|error| self.failed(&error))
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

/// Signature and bundle.
fn parts(text: &[u8]) -> Result<(Option<&str>, &[u8]), &'static str> {
    if text.starts_with(MAGIC_UNSIGNED.as_bytes()) {
        return Ok((None, file::checked(MAGIC_UNSIGNED, text)?));
    }
    let contents = file::checked(MAGIC, text)?;
    let end = contents.iter().position(|byte| *byte == b'\n').ok_or("it ends before the bundle")?;
    let signature = std::str::from_utf8(&contents[..end]).map_err(|_| "its signature is no text")?;
    Ok((Some(signature).filter(|signature| !signature.is_empty()), &contents[end + 1..]))
}

#[cfg(test)]
mod tests {
    use portcullis_token::mint::SigningKey;

    use super::*;

    fn with_cache(work: impl FnOnce(&Cache)) {
        let dir = tempfile::tempdir().unwrap();
        work(&Cache::new(dir.path().join("deep/bundle.json")));
    }

    fn version(cache: &Cache) -> Option<u64> {
        cache.read(None).unwrap().map(|cached| cached.read.bundle.version)
    }

    #[test]
    fn what_was_written_is_read() {
        with_cache(|cache| {
            assert!(cache.read(None).unwrap().is_none());
            cache.write(None, br#"{"version": 7}"#).unwrap();
            assert_eq!(version(cache), Some(7));
            cache.write(Some("a..b"), br#"{"version": 8}"#).unwrap();
            assert_eq!(version(cache), Some(8));
            cache.confirm().unwrap();
            assert_eq!(version(cache), Some(8));
        });
    }

    #[test]
    fn what_is_torn_or_changed_is_not_used() {
        with_cache(|cache| {
            cache.write(Some("a..b"), br#"{"version": 7, "policies": []}"#).unwrap();
            let good = fs::read(&cache.path).unwrap();
            for cut in 0..good.len() {
                fs::write(&cache.path, &good[..cut]).unwrap();
                cache.read(None).map(drop).expect_err("a torn file");
            }
            for at in 0..good.len() {
                let mut changed = good.clone();
                changed[at] ^= 1;
                fs::write(&cache.path, &changed).unwrap();
                cache.read(None).map(drop).expect_err("a changed file");
            }
        });
    }

    #[test]
    fn with_a_pinned_key_only_what_it_signed_for_this_agent_is_used() {
        let (key, other) = (SigningKey::generate_es256().unwrap(), SigningKey::generate_es256().unwrap());
        let pinned = BundleKey::new(key.public_jwk("k")).unwrap();
        let body = br#"{"version": 7}"#;
        let sign = |key: &SigningKey, agent: &str, version: u64| {
            let header = format!(
                r#"{{"alg":"ES256","typ":"portcullis-bundle+jws","agent":"{agent}","version":{version}}}"#
            );
            let whole = key.sign_octets(header.as_bytes(), body);
            let parts: Vec<&str> = whole.split('.').collect();
            format!("{}..{}", parts[0], parts[2])
        };
        with_cache(|cache| {
            let read = || cache.read(Some((&pinned, "a1")));
            cache.write(Some(&sign(&key, "a1", 7)), body).unwrap();
            assert_eq!(read().unwrap().unwrap().read.bundle.version, 7);
            // Whoever can write the file can write its checksum, but not the signature.
            let check = |signature: Option<&str>, body: &[u8], why: &str| {
                cache.write(signature, body).unwrap();
                let error = read().map(drop).expect_err(why).to_string();
                assert!(error.contains(why) && error.contains("it is not used"), "{error}");
            };
            check(Some(&sign(&key, "a1", 7)), br#"{"version": 8}"#, "not of the pinned key");
            check(Some(&sign(&other, "a1", 7)), body, "not of the pinned key");
            check(Some(&sign(&key, "a2", 7)), body, "signed for agent \"a2\"");
            check(Some(&sign(&key, "a1", 6)), body, "of version 6");
            check(None, body, "no signature");
            fs::write(&cache.path, file::with_checksum(MAGIC_UNSIGNED, body)).unwrap();
            let error = read().map(drop).expect_err("an unsigned file").to_string();
            assert!(error.contains("no signature"), "{error}");
            assert_eq!(version(cache), Some(7), "without a pinned key it is what it was");
        });
    }
}
