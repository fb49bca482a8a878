//! `cargo xtask vm-test`: boots stock kernels in QEMU and runs the kernel-facing tests inside each.
//!
//! The guest is an initramfs with the test programs of this build, their shared libraries, the servers that this
//! machine has (`servers.rs`), a few modules of the kernel, and `portcullis-vm-init` as its first process. Every test
//! runs in a process of its own.
//!
//! **Invariant:** a skip for want of a feature that the kernel has is a failure (`PORTCULLIS_REQUIRE` in the guest).
//! **Invariant:** a guest that does not report its end has failed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::setup::{self, Need};
use crate::sh::{self, step};
use crate::{Exit, Usage, budget, toml};
use tree::Tree;

mod archive;
mod boot;
mod fetch;
mod image;
mod servers;
mod tree;

pub(crate) use fetch::mirror;

/// Where the kernels are listed.
const LIST: &str = "vm-tests/kernels.toml";
/// Packages whose integration tests run in the guest.
const PACKAGES: &[&str] = &["portcullis-bpf", "portcullis-enforcer", "portcullis-testkit"];
/// The test program that starts servers of other kinds.
const STARTS_SERVERS: &str = "live";
/// What the first process is told (`vm-tests/src/settings.rs`).
const SETTINGS: &str = "settings";

/// One row of the list.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Kernel {
    name: String,
    suite: String,
    series: String,
    default: bool,
}

/// What a guest said.
#[derive(Debug, Default, Eq, PartialEq)]
struct Report {
    release: String,
    passed: usize,
    failed: Vec<String>,
    skipped: Vec<String>,
    /// Tests that nobody asked for: `#[ignore]`.
    ignored: Vec<String>,
    /// Lines of `verifier_stats`: program, instructions, stack bytes.
    stats: Vec<String>,
    ended: bool,
}

/// Boots the kernels that `args` name, or the default ones, one after the other; a table at the end.
pub fn vm_test(args: &[String]) -> Result<()> {
    let kernels = kernels()?;
    let Some(options) = Options::parse(args, &kernels)? else {
        list(&kernels);
        return Ok(());
    };
    setup::ensure(&[Need::Build, Need::Serve, Need::Nextest, Need::Vm])?;
    let dir = sh::results().join("vm");
    let programs = image::build_programs(PACKAGES, &dir, &options.filter)?;
    let common = common(&programs, &options.tests, &dir)?;
    let mut rows = Vec::new();
    for kernel in &options.kernels {
        let start = Instant::now();
        let mut report = one(kernel, &dir, &common).unwrap_or_else(|error| {
            eprintln!("error: {}: {error:#}", kernel.name);
            Report { failed: vec![format!("{error:#}")], ..Report::default() }
        });
        if options.update_budget && !report.stats.is_empty() {
            budget::update_lines(&kernel.name, &report.stats)?;
        }
        report.failed.extend(budget::compare_lines(&kernel.name, &report.stats)?);
        rows.push((kernel.name.clone(), report, start.elapsed().as_secs()));
    }
    table(&rows);
    save(&rows)?;
    let bad = rows.iter().filter(|(_, report, _)| !report.good()).count();
    let passed: usize = rows.iter().map(|(_, r, _)| r.passed).sum();
    let failed: usize = rows.iter().map(|(_, r, _)| r.failed.len()).sum();
    let skipped: usize = rows.iter().map(|(_, r, _)| r.skipped.len()).sum();
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if bad == 0 { Ok(()) } else { Err(Exit(1, format!("{bad} of {} kernels failed", rows.len())).into()) }
}

/// What the command line asks for.
#[derive(Debug)]
struct Options {
    kernels: Vec<Kernel>,
    /// Only test programs whose name contains one of these; empty: all; `none`: only load the datapath.
    filter: Vec<String>,
    /// Only tests whose name contains one of these; empty: all.
    tests: Vec<String>,
    /// Rewrite the kernels' rows of the verifier budget.
    update_budget: bool,
}

// === impl Options ===

impl Options {
    /// `None`: only list.
    fn parse(args: &[String], all: &[Kernel]) -> Result<Option<Options>> {
        let (mut kernels, mut filter, mut tests, mut update_budget) =
            (Vec::new(), Vec::new(), Vec::new(), false);
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--list" => return Ok(None),
                "--update-budget" => update_budget = true,
                "--all" => kernels.extend(all.iter().cloned()),
                "--kernel" => {
                    let name = args.next().ok_or_else(|| Usage("--kernel takes a version".to_owned()))?;
                    kernels.push(find(all, name)?);
                }
                "--program" => {
                    filter
                        .push(args.next().ok_or_else(|| Usage("--program takes a name".to_owned()))?.clone());
                }
                "--test" => {
                    tests.push(args.next().ok_or_else(|| Usage("--test takes a name".to_owned()))?.clone());
                }
                other => match other.strip_prefix("--kernel=") {
                    Some(name) => kernels.push(find(all, name)?),
                    None => return Err(Usage(format!("unexpected argument `{other}`")).into()),
                },
            }
        }
        if kernels.is_empty() {
            kernels = all.iter().filter(|kernel| kernel.default).cloned().collect();
        }
        Ok(Some(Options { kernels, filter, tests, update_budget }))
    }
}

// === impl Report ===

impl Report {
    fn good(&self) -> bool {
        self.ended && self.failed.is_empty() && self.passed > 0
    }

    /// Reads what the guest wrote to its console.
    fn read(lines: &[String]) -> Report {
        let mut report = Report::default();
        for line in lines.iter().filter_map(|line| line.trim_start().strip_prefix("PCVM ")) {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                "kernel" => rest.clone_into(&mut report.release),
                "ok" => report.passed += 1,
                "stats" => report.stats.push(rest.to_owned()),
                "failed" | "hung" | "broken" => report.failed.push(format!("{word} {rest}")),
                "skipped" => report.skipped.push(rest.to_owned()),
                "ignored" => report.ignored.push(rest.to_owned()),
                "end" => report.ended = true,
                _ => {}
            }
        }
        // A test that skipped itself has also ended well.
        report.passed = report.passed.saturating_sub(report.skipped.len());
        if !report.ended {
            report
                .failed
                .push("the guest did not reach its end; its console is above and in the log".to_owned());
        }
        report
    }
}

/// What all guests have.
fn common(programs: &[PathBuf], tests: &[String], dir: &Path) -> Result<Tree> {
    let mut common = image::tree(programs)?;
    let mut settings: Vec<String> = tests.iter().map(|name| format!("test {name}")).collect();
    if !boot::kvm_works() {
        settings.push("env PORTCULLIS_EMULATED=1".to_owned());
    }
    if programs.iter().any(|program| program.ends_with(STARTS_SERVERS)) {
        let servers = servers::servers(dir)?;
        common.extend(&servers.tree);
        settings.extend(servers.settings);
    }
    common.put(SETTINGS, settings.iter().map(|line| format!("{line}\n")).collect::<String>().into_bytes());
    Ok(common)
}

fn one(kernel: &Kernel, dir: &Path, common: &Tree) -> Result<Report> {
    let step = step(&format!("kernel {}", kernel.name));
    let fetched = fetch::fetch(kernel, dir)?;
    // Of one kernel at a time: with the servers it is some hundred megabytes.
    let initramfs = dir.join("initramfs.cpio");
    image::initramfs(&fetched, common, &initramfs)?;
    let log = dir.join(format!("{}.log", kernel.name));
    let lines = boot::boot(&fetched.image, &initramfs, &log)?;
    step.done();
    Ok(Report::read(&lines))
}

fn kernels() -> Result<Vec<Kernel>> {
    let path = sh::root().join(LIST);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    parse(&text)
}

fn parse(text: &str) -> Result<Vec<Kernel>> {
    let mut rows: BTreeMap<String, Kernel> = BTreeMap::new();
    let mut order = Vec::new();
    for entry in toml::entries(text) {
        let Some(name) = entry.table.strip_prefix("kernel.") else {
            bail!("{LIST}: unexpected table `[{}]`; write [kernel.\"VERSION\"]", entry.table);
        };
        let row = rows.entry(name.to_owned()).or_insert_with(|| {
            order.push(name.to_owned());
            Kernel { name: name.to_owned(), ..Kernel::default() }
        });
        let value = entry.value.trim_matches('"').to_owned();
        match entry.key.as_str() {
            "suite" => row.suite = value,
            "series" => row.series = value,
            "default" => row.default = value == "true",
            other => bail!("{LIST}: [kernel.\"{name}\"]: unexpected key `{other}`"),
        }
    }
    let kernels: Vec<Kernel> = order.iter().filter_map(|name| rows.remove(name)).collect();
    match kernels.iter().find(|k| k.suite.is_empty() || k.series.is_empty()) {
        Some(kernel) => bail!("{LIST}: [kernel.\"{}\"]: needs suite and series", kernel.name),
        None => Ok(kernels),
    }
}

fn find(all: &[Kernel], name: &str) -> Result<Kernel> {
    all.iter().find(|kernel| kernel.name == name).cloned().ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|kernel| kernel.name.as_str()).collect();
        Usage(format!("no kernel `{name}` in {LIST}; there are {}", names.join(", "))).into()
    })
}

fn list(kernels: &[Kernel]) {
    println!("{:<8} {:<20} {:<10} by default", "kernel", "suite", "series");
    for Kernel { name, suite, series, default } in kernels {
        println!("{name:<8} {suite:<20} {series:<10} {}", if *default { "yes" } else { "no" });
    }
}

fn table(rows: &[(String, Report, u64)]) {
    println!(
        "{:<8} {:<28} {:>7} {:>7} {:>8} {:>6}  outcome",
        "kernel", "release", "passed", "failed", "skipped", "s"
    );
    for (name, report, seconds) in rows {
        let Report { release, passed, failed, skipped, .. } = report;
        let outcome = if report.good() { "passed" } else { "FAILED" };
        println!(
            "{name:<8} {release:<28} {passed:>7} {:>7} {:>8} {seconds:>6}  {outcome}",
            failed.len(),
            skipped.len()
        );
    }
    for (name, report, _) in rows {
        report.skipped.iter().for_each(|line| println!("SKIPPED {name}: {line}"));
        report.ignored.iter().for_each(|line| println!("IGNORED {name}: {line}"));
        report.failed.iter().for_each(|line| println!("FAILED {name}: {line}"));
    }
}

/// The table for programs: `target/portcullis/vm/report.json`.
fn save(rows: &[(String, Report, u64)]) -> Result<()> {
    let quoted = |text: &str| {
        let escaped: String = text
            .chars()
            .map(|c| match c {
                '"' | '\\' => format!("\\{c}"),
                c if c.is_control() => " ".to_owned(),
                c => c.to_string(),
            })
            .collect();
        format!("\"{escaped}\"")
    };
    let lists = |lines: &[String]| lines.iter().map(|l| quoted(l)).collect::<Vec<_>>().join(", ");
    let kernels: Vec<String> = rows
        .iter()
        .map(|(name, report, seconds)| {
            format!(
                "    {{ \"kernel\": {}, \"release\": {}, \"outcome\": \"{}\", \"passed\": {}, \"failed\": [{}], \
                 \"skipped\": [{}], \"ignored\": [{}], \"duration_s\": {seconds} }}",
                quoted(name),
                quoted(&report.release),
                if report.good() { "passed" } else { "failed" },
                report.passed,
                lists(&report.failed),
                lists(&report.skipped),
                lists(&report.ignored)
            )
        })
        .collect();
    let path = sh::results().join("vm/report.json");
    let text = format!("{{\n  \"schema\": 1,\n  \"kernels\": [\n{}\n  ]\n}}\n", kernels.join(",\n"));
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_list_is_read_in_order() {
        let text = "[kernel.\"7.0\"]\nsuite = \"s\"\nseries = \"7.0.\"\ndefault = true\n[kernel.\"6.1\"]\nsuite = \"t\"\nseries = \"6.1.\"\n";
        let kernels = parse(text).expect("a good list");
        assert_eq!(kernels.iter().map(|k| k.name.as_str()).collect::<Vec<_>>(), ["7.0", "6.1"]);
        assert!(kernels[0].default && !kernels[1].default);
    }

    #[test]
    fn a_wrong_list_names_the_place() {
        let error = parse("[kernel.\"7.0\"]\nsuites = \"s\"\n").expect_err("a wrong key").to_string();
        assert!(error.contains("7.0") && error.contains("suites"), "{error}");
    }

    #[test]
    fn the_list_of_this_repository_is_good() {
        assert!(kernels().expect("a good list").iter().filter(|k| k.default).count() >= 3);
    }

    #[test]
    fn a_guest_that_ends_is_counted() {
        let report = Report::read(&lines(
            "noise\nPCVM kernel 6.1.0\nPCVM ok 12 live a\nPCVM ok 3 live b\nPCVM ignored live c\nPCVM skipped b: nginx\nPCVM end\n",
        ));
        assert_eq!((report.release.as_str(), report.passed), ("6.1.0", 1));
        assert!(report.good());
        assert_eq!(
            (report.skipped, report.ignored),
            (vec!["b: nginx".to_owned()], vec!["live c".to_owned()])
        );
    }

    #[test]
    fn a_guest_that_does_not_end_has_failed() {
        assert!(!Report::read(&lines("PCVM kernel 6.1.0\nPCVM ok 12 live a\nKernel panic")).good());
        assert!(!Report::read(&lines("PCVM kernel 6.1.0\nPCVM end")).good());
        assert!(!Report::read(&lines("PCVM ok 1 live a\nPCVM hung 9 live b\nPCVM end")).good());
    }

    #[test]
    fn options_name_kernels() {
        let all = kernels().expect("a good list");
        let parse =
            |args: &[&str]| Options::parse(&args.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>(), &all);
        assert!(parse(&["--list"]).expect("good").is_none());
        assert_eq!(parse(&["--kernel", "6.1"]).expect("good").map(|o| o.kernels.len()), Some(1));
        assert!(parse(&["--kernel", "2.6"]).expect_err("unknown").to_string().contains("6.12"));
        assert!(parse(&["--frobnicate"]).is_err());
        let tests = parse(&["--test", "delivery::", "--test", "a"]).expect("good").expect("no list").tests;
        assert_eq!(tests, ["delivery::", "a"]);
        assert!(parse(&["--test"]).expect_err("no name").to_string().contains("--test"));
    }
}
