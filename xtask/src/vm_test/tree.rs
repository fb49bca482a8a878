//! A guest's files, and the initramfs that is made of them.
//!
//! **Invariant:** a file lies in the guest where it lies here, unless it is given another place by name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::archive::Archive;

/// Directories that are empty at first: the guest mounts something on most.
const EMPTY: &[&str] = &["dev", "proc", "sys", "tmp", "run"];

/// What a guest holds, by path without the leading `/`.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree(BTreeMap<String, Content>);

#[derive(Clone, Debug)]
enum Content {
    Bytes(Vec<u8>),
    /// Of this file here; read when the archive is written.
    Copy(PathBuf),
    /// A symbolic link to this path.
    Link(String),
}

// === impl Tree ===

impl Tree {
    /// A file with these contents.
    pub(super) fn put(&mut self, at: &str, bytes: Vec<u8>) {
        self.0.insert(key(Path::new(at)), Content::Bytes(bytes));
    }

    /// A file of this machine, by its own path.
    pub(super) fn copy(&mut self, file: &Path) {
        self.copy_to(&key(file), file);
    }

    /// A file of this machine, by another path.
    pub(super) fn copy_to(&mut self, at: &str, file: &Path) {
        self.0.insert(key(Path::new(at)), Content::Copy(file.to_owned()));
    }

    /// A symbolic link.
    pub(super) fn link(&mut self, at: &str, to: &Path) {
        self.0.insert(key(Path::new(at)), Content::Link(to.to_string_lossy().into_owned()));
    }

    /// A program or a shared object at `at`, and the libraries that it needs by their own paths.
    pub(super) fn program(&mut self, at: &str, file: &Path) -> Result<()> {
        self.copy_to(at, file);
        libraries(file)?.iter().for_each(|library| self.copy(library));
        Ok(())
    }

    /// Everything below a directory for which `keep` holds; links are followed, and left out where they lead nowhere.
    pub(super) fn copy_below(&mut self, dir: &Path, keep: &dyn Fn(&Path) -> bool) -> Result<()> {
        for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
            let path = entry.with_context(|| format!("reading {}", dir.display()))?.path();
            if !keep(&path) {
                continue;
            }
            if path.is_dir() {
                self.copy_below(&path, keep)?;
            } else if path.is_file() {
                self.copy(&path);
            }
        }
        Ok(())
    }

    /// Shared objects of this machine below these directories.
    pub(super) fn objects_below(&self, dirs: &[PathBuf]) -> Vec<PathBuf> {
        let copies = self.0.values().filter_map(|content| match content {
            Content::Copy(file) => Some(file.clone()),
            Content::Bytes(_) | Content::Link(_) => None,
        });
        let below = |file: &PathBuf| dirs.iter().any(|dir| file.starts_with(dir));
        copies.filter(|file| below(file) && file.extension().is_some_and(|e| e == "so")).collect()
    }

    /// Leaves a file of this machine out again.
    pub(super) fn remove(&mut self, file: &Path) {
        self.0.remove(&key(file));
    }

    /// Adds the files of another.
    pub(super) fn extend(&mut self, other: &Tree) {
        self.0.extend(other.0.iter().map(|(path, content)| (path.clone(), content.clone())));
    }

    /// Writes the initramfs.
    pub(super) fn write(&self, to: &Path) -> Result<()> {
        let file = File::create(to).with_context(|| format!("making {}", to.display()))?;
        let writing = || format!("writing {}", to.display());
        let mut archive = Archive::new(BufWriter::new(file));
        let mut directories: BTreeSet<&str> = EMPTY.iter().copied().collect();
        for path in self.0.keys() {
            directories.extend(path.match_indices('/').map(|(at, _)| &path[..at]));
        }
        for directory in directories {
            archive.directory(directory).with_context(writing)?;
        }
        for (path, content) in &self.0 {
            match content {
                Content::Bytes(bytes) => archive.file(path, bytes),
                Content::Copy(from) => archive.file(path, &read(from)?),
                Content::Link(to) => archive.link(path, to),
            }
            .with_context(writing)?;
        }
        archive.finish().map(drop).with_context(writing)
    }
}

/// Shared libraries, the loader included, by the paths that the program looks for them at; none when it is static.
pub(super) fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    needed(program, Command::new("ldd").arg(program))
}

/// Those of a shared object whose program will have loaded what lies in `dir`.
pub(super) fn libraries_beside(object: &Path, dir: &Path) -> Result<Vec<PathBuf>> {
    needed(object, Command::new("ldd").arg(object).env("LD_LIBRARY_PATH", dir))
}

fn needed(program: &Path, ldd: &mut Command) -> Result<Vec<PathBuf>> {
    let out = ldd.output().context("starting ldd")?;
    let text = String::from_utf8_lossy(&out.stdout);
    if text.contains("not found") {
        bail!("{} needs libraries that are not here:\n{text}", program.display());
    }
    let words = text.lines().flat_map(str::split_whitespace);
    Ok(words.filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}

/// The name in the archive: without the leading `/`, and without `..`, of which paths relative to `$ORIGIN` are full.
fn key(path: &Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
            Component::ParentDir => drop(parts.pop()),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        assert_eq!(key(Path::new("/usr/lib/jvm/x/bin/../lib/libjli.so")), "usr/lib/jvm/x/lib/libjli.so");
        assert_eq!(key(Path::new("tests/live")), "tests/live");
    }

    #[test]
    fn what_a_program_needs_comes_with_it() {
        let me = std::env::current_exe().expect("a program");
        let mut tree = Tree::default();
        tree.program("init", &me).expect("its libraries");
        assert!(tree.0.contains_key("init"));
        assert!(tree.0.keys().any(|path| path.contains("libc.so")), "{:?}", tree.0.keys());
    }
}
