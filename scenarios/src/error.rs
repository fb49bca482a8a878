//! What is wrong with a file, where, and what to write instead.

use std::fmt;
use std::path::{Path, PathBuf};

/// One thing that is wrong with a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FileProblem {
    /// The file.
    pub file: PathBuf,
    /// Line, from 1; 0 if the problem has no place.
    pub line: u64,
    /// Column in characters, from 1; 0 if the problem has no place.
    pub column: u64,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

// === impl FileProblem ===

impl FileProblem {
    /// A problem at a place in `file`.
    pub fn new(
        file: &Path,
        (line, column): (u64, u64),
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> FileProblem {
        FileProblem { file: file.to_owned(), line, column, message: message.into(), remedy: remedy.into() }
    }
}

/// `file:line:column: message`, and the remedy on a line of its own.
impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FileProblem { file, line, column, message, remedy } = self;
        write!(f, "{}", file.display())?;
        if *line > 0 {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {message}")?;
        if remedy.is_empty() { Ok(()) } else { write!(f, "\n    fix: {remedy}") }
    }
}

impl std::error::Error for FileProblem {}
