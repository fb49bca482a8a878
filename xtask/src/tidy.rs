//! `cargo xtask tidy`: the layout rules that a compiler does not check.
//!
//! **Invariant:** every finding names file, line, and what to do; all findings are shown, not the first only.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::Exit;
use crate::sh::{self, step};

mod edges;
mod files;
mod limits;
mod verifier;

/// Runs every rule over the files that git knows or would add.
pub fn tidy() -> Result<()> {
    let step = step("tidy");
    let tree = Tree::read()?;
    let mut findings = files::findings(&tree);
    findings.extend(edges::findings(&tree));
    findings.extend(limits::findings(&tree));
    findings.extend(verifier::findings(&tree));
    for finding in &findings {
        eprintln!("    {finding}");
    }
    let long = tree.files.iter().filter(|f| files::counted_lines(f) > files::SOFT_LINES).count();
    if long > 0 {
        eprintln!("    note: {long} files have more than {} lines; is each one thing?", files::SOFT_LINES);
    }
    step.done();
    if findings.is_empty() {
        Ok(())
    } else {
        Err(Exit(1, format!("tidy: {} findings", findings.len())).into())
    }
}

/// The text files of the repository.
struct Tree {
    files: Vec<File>,
}

struct File {
    /// Path from the root, with `/`.
    path: String,
    text: String,
}

// === impl Tree ===

impl Tree {
    fn read() -> Result<Tree> {
        let root = sh::root();
        let mut git = Command::new("git");
        // A clone that another user made is still readable; nothing is run from it.
        git.args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let out = git.current_dir(&root).output().context("tidy: cannot start git")?;
        if !out.status.success() {
            bail!("tidy: `git ls-files` failed: {}", String::from_utf8_lossy(&out.stderr).trim());
        }
        let names = String::from_utf8(out.stdout).context("tidy: a file name is not UTF-8")?;
        let mut files = Vec::new();
        for path in names.split('\0').filter(|p| !p.is_empty()) {
            match fs::read(root.join(path)) {
                // What is not text (a vector file, an archive) has no lines to judge.
                Ok(bytes) => files
                    .extend(String::from_utf8(bytes).ok().map(|text| File { path: path.to_owned(), text })),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {} // Deleted, not yet committed.
                Err(error) => return Err(error).with_context(|| format!("tidy: reading {path}")),
            }
        }
        Ok(Tree { files })
    }

    fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|f| f.path == path)
    }
}

// === impl File ===

impl File {
    fn extension(&self) -> &str {
        self.path.rsplit_once('.').map_or("", |(_, extension)| extension)
    }

    fn is_c(&self) -> bool {
        matches!(self.extension(), "c" | "h")
    }

    fn is_rust(&self) -> bool {
        self.extension() == "rs"
    }
}

#[cfg(test)]
fn tree(files: &[(&str, &str)]) -> Tree {
    Tree { files: files.iter().map(|(p, t)| File { path: (*p).to_owned(), text: (*t).to_owned() }).collect() }
}
