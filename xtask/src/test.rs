//! `cargo xtask test`: set-up, then every test that this machine can run, with what was skipped named and counted.
//!
//! **Invariant:** a test that skipped itself through `portcullis_testkit::need` is counted as skipped, not as passed.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};

use crate::Exit;
use crate::setup::{self, Need, ensure};
use crate::sh::{self, Watched, step};

/// Runs the tests; `args` go to the runner.
pub fn test(args: &[String]) -> Result<()> {
    ensure(&[Need::Build, Need::Serve, Need::Outside, Need::BpfFs, Need::Nextest])?;
    let skips = sh::results().join("skips.txt");
    fs::create_dir_all(sh::results()).with_context(|| format!("making {}", sh::results().display()))?;
    fs::write(&skips, "").with_context(|| format!("emptying {}", skips.display()))?;

    let whole = !args.iter().any(|a| a == "-p" || a.starts_with("--package"));
    let scope: &[&str] = if whole { &["--workspace"] } else { &[] };
    let mut total = if setup::has_nextest() {
        let mut nextest = sh::cargo(["nextest", "run", "--all-features", "--no-fail-fast"]);
        nextest.args(scope).args(args).args(["--color", if sh::colours() { "always" } else { "never" }]);
        if args.is_empty() {
            // Names what is ignored; with a filter that would be all the rest.
            nextest.args(["--final-status-level", "skip"]);
        }
        runner("tests", nextest.env("PORTCULLIS_SKIPS", &skips), nextest_summary)?
    } else {
        let mut plain = sh::cargo(["test", "--all-features", "--no-fail-fast", "--lib", "--bins", "--tests"]);
        runner(
            "tests (cargo test)",
            plain.args(scope).args(args).env("PORTCULLIS_SKIPS", &skips),
            libtest_results,
        )?
    };
    if args.is_empty() {
        let mut doc =
            sh::cargo(["test", "--doc", "--workspace", "--all-features", "--no-fail-fast", "--quiet"]);
        total.add(&runner("documentation tests", doc.env("PORTCULLIS_SKIPS", &skips), libtest_results)?);
    }

    let text = fs::read_to_string(&skips).with_context(|| format!("reading {}", skips.display()))?;
    let named: BTreeSet<&str> = text.lines().collect();
    total.passed = total.passed.saturating_sub(named.len());
    total.skipped += named.len();
    named.iter().for_each(|line| println!("SKIPPED {line}"));
    println!("{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped);
    if total.failed == 0 { Ok(()) } else { Err(Exit(1, format!("{} tests failed", total.failed)).into()) }
}

/// What a runner counted.
#[derive(Debug, Default, Eq, PartialEq)]
struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
}

// === impl Counts ===

impl Counts {
    fn add(&mut self, other: &Counts) {
        let Counts { passed, failed, skipped } = other;
        self.passed += passed;
        self.failed += failed;
        self.skipped += skipped;
    }
}

fn runner(
    what: &str,
    command: &mut std::process::Command,
    read: fn(&[String]) -> Option<Counts>,
) -> Result<Counts> {
    let step = step(what);
    let Watched { status, lines, exceeded: _ } =
        step.run_watched(command, "`cargo xtask setup` checks the machine")?;
    step.done();
    let Some(counts) = read(&lines) else {
        let text =
            format!("{what}: the runner ended with {status} before it ran a test; its message is above");
        return Err(Exit(1, text).into());
    };
    if !status.success() && counts.failed == 0 {
        return Err(Exit(1, format!("{what}: the runner ended with {status} though no test failed")).into());
    }
    Ok(counts)
}

/// `Summary [ 1.2s] 17 tests run: 15 passed (1 slow), 1 failed, 1 timed out, 1 skipped`
fn nextest_summary(lines: &[String]) -> Option<Counts> {
    let line = lines.iter().rev().find(|l| l.trim_start().starts_with("Summary ["))?;
    let (_, rest) = line.split_once("run: ")?;
    let mut counts = Counts::default();
    for part in rest.split(", ") {
        let mut words = part.split_whitespace();
        let Some(n) = words.next().and_then(|n| n.parse::<usize>().ok()) else { continue };
        match words.next() {
            Some("passed") => counts.passed += n,
            Some("skipped") => counts.skipped += n,
            // failed, timed out, exec failed
            Some("failed" | "timed" | "exec") => counts.failed += n,
            Some(_) | None => {}
        }
    }
    Some(counts)
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out`, any number of them.
fn libtest_results(lines: &[String]) -> Option<Counts> {
    let mut counts = Counts::default();
    let mut seen = false;
    for (_, rest) in lines.iter().filter_map(|l| l.strip_prefix("test result: ")?.split_once(". ")) {
        seen = true;
        for part in rest.split("; ") {
            match part.trim().split_once(' ') {
                Some((n, "passed")) => counts.passed += n.parse().unwrap_or(0),
                Some((n, "failed")) => counts.failed += n.parse().unwrap_or(0),
                Some((n, "ignored")) => counts.skipped += n.parse().unwrap_or(0),
                Some(_) | None => {}
            }
        }
    }
    seen.then_some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_summary_of_nextest_is_read() {
        let text = "noise\n     Summary [   1.2s] 18 tests run: 15 passed (1 slow), 2 failed, 1 timed out, 4 skipped";
        assert_eq!(nextest_summary(&lines(text)), Some(Counts { passed: 15, failed: 3, skipped: 4 }));
        assert_eq!(nextest_summary(&lines("error: could not compile")), None);
    }

    #[test]
    fn the_last_summary_of_nextest_counts() {
        let text =
            "Summary [ 1s] 1 test run: 1 passed, 0 skipped\nSummary [ 1s] 2 tests run: 2 passed, 0 skipped";
        assert_eq!(nextest_summary(&lines(text)).map(|c| c.passed), Some(2));
    }

    #[test]
    fn the_results_of_libtest_are_added_up() {
        let text = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s\n\
                    test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        assert_eq!(libtest_results(&lines(text)), Some(Counts { passed: 4, failed: 2, skipped: 1 }));
        assert_eq!(libtest_results(&lines("error")), None);
    }
}
