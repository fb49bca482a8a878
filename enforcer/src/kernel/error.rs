//! What can go wrong with the kernel's part.

use std::io;
use std::path::{Path, PathBuf};

use crate::compile::SinkError;

/// The kernel engine cannot be used, or not as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// A path of the instance or of the cgroup refused an operation.
    #[error("cannot {what} {}: {source}", path.display())]
    At {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process runs this instance.
    #[error("the instance {} belongs to a running agent; stop that one first", path.display())]
    Busy {
        /// The instance's directory.
        path: PathBuf,
    },
    /// The instance in the kernel was made by programs that keep other state, and in a way that this agent does not know.
    #[error(
        "the instance {} holds {found}, this agent needs {wanted}, and cannot end it without a gap: it goes on enforcing \
         what it did. Start the agent of its version again, or end it (`portcullis agent --detach`) while no request \
         can come",
        path.display()
    )]
    Incompatible {
        /// The instance's directory.
        path: PathBuf,
        /// What is pinned there.
        found: String,
        /// What these programs need.
        wanted: String,
    },
    /// The verifier or the loader refused the programs.
    #[error("loading {program}: {message}")]
    Load {
        /// The program, or `object`.
        program: String,
        /// The end of the log.
        message: String,
    },
    /// A map that the programs should have is missing.
    #[error("the programs have no map {name}")]
    NoMap {
        /// Its name.
        name: String,
    },
    /// This process may not use BPF.
    #[error(transparent)]
    NotPermitted(#[from] NotPermitted),
    /// The time of an instance that is no harness's was to be moved.
    #[error(
        "the time of the instance {} is the machine's: only a harness moves that of an instance which it made itself",
        path.display()
    )]
    RealTime {
        /// The instance's directory.
        path: PathBuf,
    },
    /// A map refused a part of the configuration. The generation before it is in force.
    #[error("configuration: {0}")]
    Sink(#[from] SinkError),
    /// A system call failed.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// BPF is not permitted to this process, or not offered by this kernel. One line for people.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("BPF is not permitted here: {reason}")]
pub struct NotPermitted {
    /// What was tried and what the kernel said.
    pub reason: String,
}

// === impl KernelError ===

impl KernelError {
    pub(crate) fn at(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self::At { what, path: path.to_owned(), source }
    }

    pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}
