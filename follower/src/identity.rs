//! Who this is to the control plane, and the file that keeps it over restarts.
//!
//! A registration makes another agent each time, and each counts against the plan: what it gave is kept, the secret and
//! the key that bundles are signed with. The file is its owner's only.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use portcullis_wire::Jwk;
use serde::{Deserialize, Serialize};

use crate::file;

/// Who this is to the control plane.
#[derive(Clone)]
pub enum Identity {
    /// Registered before.
    Known {
        /// Identifier.
        agent_id: String,
        /// Secret from the registration.
        secret: String,
    },
    /// To be registered, with a key of the management interface, unless the identity file says that it was.
    Register {
        /// The key.
        api_key: String,
        /// Name of this host.
        hostname: String,
    },
}

/// The identity file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {message}; mend it, or delete it to register again")]
pub struct IdentityError {
    path: String,
    message: String,
}

/// What is kept.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    /// Of which control plane.
    pub url: String,
    pub tenant: String,
    pub agent_id: String,
    /// Absent when it is given in the settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_secret: Option<String>,
    /// Absent when the control plane signs no bundles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle_key: Option<Jwk>,
}

/// The file.
#[derive(Clone, Debug)]
pub(crate) struct IdentityFile(PathBuf);

// === impl IdentityFile ===

impl IdentityFile {
    pub(crate) fn new(path: PathBuf) -> IdentityFile {
        IdentityFile(path)
    }

    /// What it keeps of this tenant.
    pub(crate) fn read(&self, tenant: &str) -> Result<Option<Kept>, IdentityError> {
        let text = match fs::read(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|error| self.failed(error.to_string()))?,
        };
        if text.is_empty() {
            return Ok(None);
        }
        let kept: Kept = serde_json::from_slice(&text).map_err(|error| self.failed(error.to_string()))?;
        Ok(Some(kept).filter(|kept| kept.tenant == tenant))
    }

    pub(crate) fn write(&self, kept: &Kept) -> Result<(), IdentityError> {
        let text = serde_json::to_vec(kept).map_err(|error| self.failed(error.to_string()))?;
        file::replace(&self.0, &text).map_err(|error| self.failed(format!("cannot be written: {error}")))
    }

    /// Whether it could be written: what a registration gives is given once, and counts against the plan.
    pub(crate) fn try_write(&self) -> Result<(), IdentityError> {
        let failed = |error: io::Error| self.failed(format!("cannot be written: {error}"));
        let text = match fs::read(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            text => Some(text.map_err(failed)?),
        };
        file::replace(&self.0, text.as_deref().unwrap_or_default()).map_err(failed)?;
        // An empty one, should a crash leave it, is none.
        if text.is_none() { fs::remove_file(&self.0).map_err(failed) } else { Ok(()) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn failed(&self, message: String) -> IdentityError {
        IdentityError { path: self.0.display().to_string(), message }
    }
}

// === impl Identity ===

impl fmt::Debug for Identity {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known { agent_id, secret: _ } => {
                f.debug_struct("Known").field("agent_id", agent_id).finish()
            }
            Self::Register { api_key: _, hostname } => {
                f.debug_struct("Register").field("hostname", hostname).finish()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn it_is_its_owners_only_and_of_one_tenant() {
        let dir = tempfile::tempdir().unwrap();
        let file = IdentityFile::new(dir.path().join("deep/identity"));
        assert!(file.read("t").unwrap().is_none());
        file.try_write().unwrap();
        assert!(file.read("t").unwrap().is_none());
        let kept = Kept {
            url: "https://a".to_owned(),
            tenant: "t".to_owned(),
            agent_id: "a1".to_owned(),
            agent_secret: Some("s".to_owned()),
            bundle_key: None,
        };
        file.write(&kept).unwrap();
        file.write(&kept).unwrap();
        file.try_write().unwrap();
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(file.read("t").unwrap().unwrap().agent_id, "a1");
        assert!(file.read("u").unwrap().is_none());
        fs::write(file.path(), "{").unwrap();
        let error = file.read("t").map(drop).unwrap_err().to_string();
        assert!(error.contains("delete it to register again"), "{error}");
        let nowhere = IdentityFile::new(file.path().join("below/a-file"));
        nowhere.try_write().unwrap_err();
    }
}
