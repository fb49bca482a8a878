//! Heads, sizes, names and words of source files.

use super::{File, Tree};

/// A source file longer than this is a question; longer than [`HARD_LINES`] a finding.
pub(super) const SOFT_LINES: usize = 400;
const HARD_LINES: usize = 800;

pub(super) fn findings(tree: &Tree) -> Vec<String> {
    tree.files.iter().flat_map(check).collect()
}

/// Lines without the unit tests at the bottom of a Rust file.
pub(super) fn counted_lines(file: &File) -> usize {
    let is_source = file.is_rust() || file.is_c() || matches!(file.extension(), "sh" | "py");
    let is_tests = file.path.contains("/tests/") || file.path.ends_with("/tests.rs") || is_generated(file);
    if !is_source || is_tests {
        return 0;
    }
    let lines: Vec<&str> = file.text.lines().collect();
    let tests = lines.windows(2).position(|w| w[0] == "#[cfg(test)]" && w[1].starts_with("mod tests {"));
    tests.unwrap_or(lines.len())
}

fn check(file: &File) -> Vec<String> {
    let path = &file.path;
    let mut out = Vec::new();
    if path.ends_with("/mod.rs") {
        out.push(format!("{path}: name it after the module, beside the folder (foo.rs and foo/)"));
    }
    let lines = counted_lines(file);
    if lines > HARD_LINES {
        out.push(format!("{path}: {lines} lines, more than {HARD_LINES}; split it by concept"));
    }
    // The unit tests of foo.rs in foo/tests.rs are a part of foo.rs.
    if file.is_rust() && !path.ends_with("/tests.rs") && !file.text.starts_with("//!") {
        out.push(format!("{path}:1: start with `//!`: what this is, and its **Invariant:** lines"));
    }
    if file.is_c() {
        let mut head = file.text.lines();
        if !head.next().is_some_and(|l| l.contains("SPDX-License-Identifier:")) {
            out.push(format!("{path}:1: start with the SPDX-License-Identifier line of the other C files"));
        }
        if !head.next().is_some_and(|l| l.starts_with("/*") || l.starts_with("//")) {
            out.push(format!("{path}:2: say what the file is for, in a comment below the licence line"));
        }
    }
    // This file has to name what it looks for.
    if path != "xtask/src/tidy/files.rs" && path != "LICENSE" {
        for (n, line) in file.text.lines().enumerate() {
            out.extend(words(line).map(|(word, why)| format!("{path}:{}: `{word}`: {why}", n + 1)));
        }
    }
    out
}

fn words(line: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    FORBIDDEN.iter().filter(|(word, _)| line.contains(word)).copied()
}

fn is_generated(file: &File) -> bool {
    file.text.lines().take(5).any(|l| l.contains("@generated"))
}

const UNFINISHED: &str = "finish it, or say in docs/ what is not there";
const MACHINE: &str = "a path of one machine; take it from the environment or a flag";
const FORBIDDEN: &[(&str, &str)] = &[
    ("TODO", UNFINISHED),
    ("FIXME", UNFINISHED),
    ("XXX", UNFINISHED),
    ("todo!(", UNFINISHED),
    ("unimplemented!(", UNFINISHED),
    ("/root/", MACHINE),
    ("/work/", MACHINE),
    ("/home/", MACHINE),
];

#[cfg(test)]
mod tests {
    use super::super::tree;
    use super::*;

    fn check_one(path: &str, text: &str) -> Vec<String> {
        findings(&tree(&[(path, text)]))
    }

    #[test]
    fn good_files_pass() {
        assert!(check_one("a/src/lib.rs", "//! What it is.\n").is_empty());
        assert!(check_one("bpf/lib/a.h", "/* SPDX-License-Identifier: X */\n/* What it is. */\n").is_empty());
    }

    #[test]
    fn heads_are_required() {
        assert_eq!(check_one("a/src/lib.rs", "use std::fs;\n").len(), 1);
        assert_eq!(check_one("bpf/lib/a.h", "#define A\n").len(), 2);
    }

    #[test]
    fn mod_rs_and_long_files_are_found() {
        assert_eq!(check_one("a/src/b/mod.rs", "//! B.\n").len(), 1);
        let long = "//! A.\n".to_owned() + &"//\n".repeat(HARD_LINES);
        assert_eq!(check_one("a/src/a.rs", &long).len(), 1);
        assert!(check_one("a/tests/a.rs", &long).is_empty(), "tests are apart");
        let tests = "//! A.\n#[cfg(test)]\nmod tests {\n".to_owned() + &"//\n".repeat(HARD_LINES);
        assert!(check_one("a/src/a.rs", &tests).is_empty(), "unit tests are apart");
    }

    #[test]
    fn unfinished_work_and_machine_paths_are_found_with_their_line() {
        let found = check_one("a/src/a.rs", "//! A.\n// TODO: later\n");
        assert!(found.iter().any(|f| f.starts_with("a/src/a.rs:2: `TODO`")), "{found:?}");
        assert_eq!(check_one("docs/a.md", "see /home/me/notes\n").len(), 1);
    }
}
