//! Scenario files from disk to checked values.

use std::fs;
use std::path::{Path, PathBuf};

use super::locate::{Located, has_key};
use super::{Scenario, check, yaml};
use crate::FileProblem;

/// A scenario that passed every check.
#[derive(Clone, Debug)]
pub struct LoadedScenario {
    /// Where it came from.
    pub file: PathBuf,
    /// The scenario.
    pub scenario: Scenario,
}

/// What a file is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A scenario: it has `steps`.
    Scenario,
    /// Policies: one, a list, or a mapping with `policies`.
    Policies,
}

/// What the file is, by its top level.
pub fn kind_of(file: &Path) -> Result<Kind, Vec<FileProblem>> {
    let text = read(file)?;
    let root: Located = yaml::parse(file, &text).map_err(|p| vec![p])?;
    let scenario = ["steps", "actors", "apps"].iter().any(|key| has_key(&root, key));
    Ok(if scenario { Kind::Scenario } else { Kind::Policies })
}

/// Reads and checks one scenario file; all problems that can be told at once.
pub fn load(file: &Path) -> Result<LoadedScenario, Vec<FileProblem>> {
    let text = read(file)?;
    let scenario: Scenario = yaml::parse(file, &text).map_err(|p| vec![p])?;
    let root: Located = yaml::parse(file, &text).map_err(|p| vec![p])?;
    let problems = check::check(file, &scenario, &root);
    if problems.is_empty() { Ok(LoadedScenario { file: file.to_owned(), scenario }) } else { Err(problems) }
}

/// The file's text; a file that cannot be read is a problem like any other.
pub(super) fn read(file: &Path) -> Result<String, Vec<FileProblem>> {
    const MAX: u64 = 16 << 20;
    let refuse = |message: String, remedy: &str| vec![FileProblem::new(file, (0, 0), message, remedy)];
    let size =
        fs::metadata(file).map_err(|e| refuse(e.to_string(), "check the path and its permissions"))?.len();
    if size > MAX {
        return Err(refuse(format!("the file has {size} bytes; at most {MAX} are read"), "split the file"));
    }
    let bytes = fs::read(file).map_err(|e| refuse(e.to_string(), "check the path and its permissions"))?;
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        let before = &e.as_bytes()[..at];
        let line = before.iter().filter(|b| **b == b'\n').count() as u64 + 1;
        let column = before.iter().rev().take_while(|b| **b != b'\n').count() as u64 + 1;
        vec![FileProblem::new(file, (line, column), "the file is not UTF-8", "save it as UTF-8")]
    })
}
