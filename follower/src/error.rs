//! What can go wrong on the way from a control plane.

use crate::follower::EngineError;
use crate::signature::SignatureError;

pub use crate::cache::CacheError;
pub use crate::identity::IdentityError;
pub use crate::logs::SpoolError;

/// A configuration cannot be used, or records not be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FollowError {
    /// The last good configuration on disk.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// It cannot be put into force.
    #[error("configuration version {version}: {source}")]
    Engine {
        /// Version of the bundle.
        version: u64,
        /// Why.
        source: EngineError,
    },
    /// What is in force cannot be told.
    #[error("{0}")]
    Health(EngineError),
    /// The control plane sent an older version than the one in force.
    #[error("configuration version {offered} is older than {current}, which was in force: refused")]
    Older {
        /// What was sent.
        offered: u64,
        /// What is, or was, in force.
        current: u64,
    },
    /// The control plane.
    #[error(transparent)]
    Plane(#[from] PlaneError),
    /// The records' place on disk.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// A thread could not be started.
    #[error("starting a thread: {0}")]
    Thread(std::io::Error),
}

/// The control plane could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlaneError {
    /// Its answer is not what it should be.
    #[error("{what}: {message}")]
    Answer {
        /// What was asked.
        what: &'static str,
        /// What came.
        message: String,
    },
    /// It cannot be reached, or the connection broke.
    #[error("{what}: {source}")]
    Http {
        /// What was asked.
        what: &'static str,
        /// What the HTTP client says.
        source: Box<ureq::Error>,
    },
    /// Who this is to it cannot be kept or found on disk.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A secret with characters that no header field can hold.
    #[error("a secret for the control plane holds control characters or line ends: copy it again")]
    Secret,
    /// The bundle is not what the control plane signed.
    #[error("control plane: the bundle is refused: {0}")]
    Signature(#[from] SignatureError),
    /// It answered with a status that is no success.
    #[error("{what}: status {status}: {message}")]
    Status {
        /// What was asked.
        what: &'static str,
        /// The status.
        status: u16,
        /// The beginning of the body.
        message: String,
    },
    /// Its TLS is not to be trusted.
    #[error("{what}: {message}")]
    Tls {
        /// What was asked.
        what: &'static str,
        /// What is wrong, and the remedy.
        message: String,
    },
    /// Where it is, or who vouches for it.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// A setting of whom to talk to, or whom to believe.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// A file with authorities.
    #[error("--ca {file}: {message}; write the authority's certificate as PEM")]
    Ca {
        /// The file.
        file: String,
        /// What is wrong.
        message: String,
    },
    /// Plain HTTP that leaves this host.
    #[error(
        "`{url}`: plain HTTP to another host: whoever is on the way reads the secrets and writes the policies; write \
         https://, or say --insecure-http"
    )]
    Clear {
        /// The URL.
        url: String,
    },
    /// No URL of the kind.
    #[error("`{url}`: write https://HOST:PORT, or http://HOST:PORT on this host")]
    Url {
        /// What was written.
        url: String,
    },
}

// === impl PlaneError ===

impl PlaneError {
    /// Whether the same request will be refused again: it is not a matter of who asks, how often, or when.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            PlaneError::Status { status, .. } => {
                matches!(status, 400..=499) && !matches!(status, 401 | 403 | 404 | 408 | 409 | 425 | 429)
            }
            PlaneError::Answer { .. }
            | PlaneError::Http { .. }
            | PlaneError::Identity(_)
            | PlaneError::Secret
            | PlaneError::Signature(_)
            | PlaneError::Tls { .. }
            | PlaneError::Trust(_) => false,
        }
    }
}
