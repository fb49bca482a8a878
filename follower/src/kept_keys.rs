//! Keys of issuers' URLs on disk, beside the bundle: so that an agent that starts while an issuer cannot be reached goes on
//! with keys that are young enough.
//!
//! The keys are public, and what makes them trusted is that the file is its owner's only: who could write it could write
//! the agent's settings, which name the issuers. The checksum keeps out what is torn.

use std::fs;
use std::io;
use std::path::PathBuf;

use portcullis_wire::JwkSet;
use serde::{Deserialize, Serialize};

use crate::file;

/// The file.
#[derive(Debug)]
pub(crate) struct KeptKeys(PathBuf);

/// Keys of one issuer.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeptRow {
    pub issuer: String,
    /// Where they were fetched.
    pub jwks_uri: String,
    pub jwks: JwkSet,
    /// When, Unix seconds.
    pub fetched_s: u64,
}

/// The file is of no use.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {message}; it is not used and will be replaced when keys are fetched")]
pub(crate) struct KeptKeysError {
    path: String,
    message: String,
}

const MAGIC: &str = "portcullis-keys-1 sha256:";

// === impl KeptKeys ===

impl KeptKeys {
    pub(crate) fn new(path: PathBuf) -> KeptKeys {
        KeptKeys(path)
    }

    /// What it keeps.
    pub(crate) fn read(&self) -> Result<Vec<KeptRow>, KeptKeysError> {
        let text = match fs::read(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            text => text.map_err(|error| self.failed(error.to_string()))?,
        };
        let rows = file::checked(MAGIC, &text).map_err(|error| self.failed(error.to_owned()))?;
        serde_json::from_slice(rows).map_err(|error| self.failed(error.to_string()))
    }

    pub(crate) fn write(&self, rows: &[KeptRow]) -> Result<(), KeptKeysError> {
        let text = serde_json::to_vec(rows).map_err(|error| self.failed(error.to_string()))?;
        let written = file::replace(&self.0, &file::with_checksum(MAGIC, &text));
        written.map_err(|error| self.failed(format!("cannot keep keys: {error}")))
    }

    fn failed(&self, message: String) -> KeptKeysError {
        KeptKeysError { path: self.0.display().to_string(), message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_what_is_torn_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let kept = KeptKeys::new(dir.path().join("bundle.keys"));
        assert_eq!(kept.read().unwrap(), []);
        let jwks = serde_json::from_str(r#"{"keys": [{"kty": "EC", "kid": "k"}]}"#).unwrap();
        let row = KeptRow { issuer: "i".into(), jwks_uri: "https://i/keys".into(), jwks, fetched_s: 7 };
        kept.write(std::slice::from_ref(&row)).unwrap();
        assert_eq!(kept.read().unwrap(), [row]);
        let text = fs::read(&kept.0).unwrap();
        for cut in 0..text.len() {
            fs::write(&kept.0, &text[..cut]).unwrap();
            let error = kept.read().expect_err("a torn file").to_string();
            assert!(error.contains("bundle.keys"), "{error}");
        }
    }
}
