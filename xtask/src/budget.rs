//! `cargo xtask budget`: what the verifier walks for each kernel program, and its largest stack frame,
//! against bpf/budget.toml.
//!
//! The count depends on the kernel, so the file has a table for each kernel series; on a series that has none, only
//! the ceiling holds and the task says so.
//!
//! **Invariant:** growth over 5 % needs the row changed in the same commit; a program without a row is a finding.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, bail};

use crate::setup::{Need, ensure};
use crate::sh::{self, step};
use crate::{Exit, Usage, toml};

/// Instructions that no program may pass on any kernel: the verifier refuses at one million, and kernels differ.
const CEILING_INSNS: u64 = 800_000;
const GROWTH_PERCENT_MAX: u64 = 5;
const FILE: &str = "bpf/budget.toml";

/// Measures, prints the table, and compares or (`--update`) rewrites this kernel's rows.
pub fn budget(args: &[String]) -> Result<()> {
    let update = match args {
        [] => false,
        [flag] if flag == "--update" => true,
        [arg, ..] => return Err(Usage(format!("unexpected argument `{arg}`")).into()),
    };
    ensure(&[Need::Build])?;
    let step = step("loading every kernel program");
    let Some((mut measured, refused)) = measure()? else {
        return Ok(());
    };
    step.done();
    let series = kernel_series()?;
    let path = sh::root().join(FILE);
    let text = fs::read_to_string(&path).unwrap_or_default();
    let recorded = recorded(&text, &series)?;
    // Rows of what could not be measured stay as they are.
    for name in &refused {
        println!("SKIPPED budget of {name}: this machine does not let it load");
        measured.extend(recorded.get(name).map(|row| (name.clone(), *row)));
    }
    let findings = compare(&measured, &recorded, &series);
    if update {
        fs::write(&path, rewritten(&text, &series, &measured)).with_context(|| format!("writing {FILE}"))?;
        println!("{FILE}: rows of kernel {series} rewritten");
        return Ok(());
    }
    if recorded.is_empty() {
        println!("{FILE} has no rows for kernel {series}: only the ceiling was checked (--update adds them)");
    }
    if findings.is_empty() {
        return Ok(());
    }
    findings.iter().for_each(|f| eprintln!("    {f}"));
    Err(Exit(1, format!("{} programs are over budget", findings.len())).into())
}

/// Compares the lines that `verifier_stats` printed on another kernel; what is wrong with them.
pub(crate) fn compare_lines(series: &str, lines: &[String]) -> Result<Vec<String>> {
    let measured: Costs = lines.iter().filter_map(|line| measured_line(line)).collect();
    if measured.is_empty() {
        return Ok(vec![format!("{series}: no program was measured")]);
    }
    let text = fs::read_to_string(sh::root().join(FILE)).with_context(|| format!("reading {FILE}"))?;
    Ok(compare(&measured, &recorded(&text, series)?, series))
}

/// Rewrites the rows of another kernel.
pub(crate) fn update_lines(series: &str, lines: &[String]) -> Result<()> {
    let measured: Costs = lines.iter().filter_map(|line| measured_line(line)).collect();
    let path = sh::root().join(FILE);
    let text = fs::read_to_string(&path).unwrap_or_default();
    fs::write(&path, rewritten(&text, series, &measured)).with_context(|| format!("writing {FILE}"))
}

/// What one program costs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Cost {
    insns: u64,
    stack_bytes: u64,
}

type Costs = BTreeMap<String, Cost>;

/// Costs, and names of programs that may not be loaded here. `None` when the kernel does not let this user load any, which is said
/// and, if required, an error.
fn measure() -> Result<Option<(Costs, Vec<String>)>> {
    let args =
        ["run", "--quiet", "--package", "portcullis-bpf", "--all-features", "--example", "verifier_stats"];
    let out = sh::cargo(args).output().context("starting cargo")?;
    let (text, errors) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    match out.status.code() {
        Some(0) => {}
        Some(3) => {
            let why = errors.lines().last().unwrap_or_default();
            if std::env::var("PORTCULLIS_REQUIRE")
                .is_ok_and(|r| r.split(',').any(|w| w == "all" || w == "bpf"))
            {
                bail!("PORTCULLIS_REQUIRE forbids to skip: {why}");
            }
            println!("SKIPPED budget: {why}");
            return Ok(None);
        }
        Some(_) | None => {
            eprint!("{errors}");
            bail!("a kernel program does not build or load; the end of the verifier's log is above");
        }
    }
    let costs: Costs = text.lines().filter_map(measured_line).collect();
    if costs.is_empty() {
        bail!("the example verifier_stats printed no program");
    }
    let refused = text.lines().filter_map(|line| line.strip_suffix(" refused")).map(str::to_owned).collect();
    Ok(Some((costs, refused)))
}

/// `name insns stack`
fn measured_line(line: &str) -> Option<(String, Cost)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [name, insns, stack] = words.as_slice() else { return None };
    Some(((*name).to_owned(), Cost { insns: insns.parse().ok()?, stack_bytes: stack.parse().ok()? }))
}

fn compare(measured: &Costs, recorded: &Costs, series: &str) -> Vec<String> {
    println!("{:<28} {:>10} {:>10} {:>8} {:>7}", "program", "insns", "budget", "change", "stack");
    let mut findings = Vec::new();
    for (name, cost) in measured {
        let row = recorded.get(name);
        let budget = row.map_or_else(|| "-".to_owned(), |r| r.insns.to_string());
        let change = row.map_or_else(|| "-".to_owned(), |r| percent(r.insns, cost.insns));
        println!("{name:<28} {:>10} {budget:>10} {change:>8} {:>7}", cost.insns, cost.stack_bytes);
        if cost.insns > CEILING_INSNS {
            findings
                .push(format!("{name}: {} instructions, over the ceiling of {CEILING_INSNS}", cost.insns));
        }
        match row {
            Some(row) if grew(row.insns, cost.insns) => findings.push(format!(
                "{name}: {} instructions, {} over its budget; make it cheaper, or `cargo xtask budget --update` in \
                 the same commit with the reason",
                cost.insns,
                percent(row.insns, cost.insns)
            )),
            Some(row) if grew(row.stack_bytes, cost.stack_bytes) => findings.push(format!(
                "{name}: a frame of {} bytes, {} over its budget; make it smaller, or `cargo xtask budget --update` in \
                 the same commit with the reason",
                cost.stack_bytes,
                percent(row.stack_bytes, cost.stack_bytes)
            )),
            None if !recorded.is_empty() => {
                findings.push(format!("{name}: has no row for kernel {series} in {FILE}; --update adds it"));
            }
            Some(_) | None => {}
        }
    }
    findings.extend(
        recorded
            .keys()
            .filter(|name| !measured.contains_key(*name))
            .map(|name| format!("{name}: has a row in {FILE} but is no program; --update removes it")),
    );
    findings
}

fn grew(from: u64, to: u64) -> bool {
    to * 100 > from * (100 + GROWTH_PERCENT_MAX)
}

fn percent(from: u64, to: u64) -> String {
    format!("{:+.1} %", (to as f64 / from.max(1) as f64 - 1.0) * 100.0)
}

/// `6.18` of `6.18.5-amd64`.
fn kernel_series() -> Result<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("reading the kernel's version")?;
    let mut parts = release.trim().split(|c: char| !c.is_ascii_digit());
    match (parts.next(), parts.next()) {
        (Some(major), Some(minor)) => Ok(format!("{major}.{minor}")),
        _ => bail!("the kernel's version is unreadable: {release}"),
    }
}

fn recorded(text: &str, series: &str) -> Result<Costs> {
    let table = format!("kernel.{series}");
    toml::entries(text)
        .into_iter()
        .filter(|e| e.table == table)
        .map(|e| {
            let number = |name: &str| -> Option<u64> {
                let (_, rest) = e.value.split_once(&format!("{name} = "))?;
                rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
            };
            let (Some(insns), Some(stack_bytes)) = (number("insns"), number("stack_bytes")) else {
                bail!("{FILE}: {}: expected {{ insns = N, stack_bytes = N }}, found {}", e.key, e.value);
            };
            Ok((e.key, Cost { insns, stack_bytes }))
        })
        .collect()
}

/// The file with this kernel's table replaced, or added at its end; tables of other kernels and the head stay.
fn rewritten(text: &str, series: &str, costs: &Costs) -> String {
    let head = format!("[kernel.\"{series}\"]");
    let mut table = format!("{head}\n");
    for (name, Cost { insns, stack_bytes }) in costs {
        table += &format!("{name} = {{ insns = {insns}, stack_bytes = {stack_bytes} }}\n");
    }
    let text = if text.trim().is_empty() { HEAD } else { text };
    let (before, rest) = text.split_once(&head).map_or((text, None), |(before, rest)| (before, Some(rest)));
    let after = rest.and_then(|rest| rest.find("\n[").map(|next| &rest[next..])).unwrap_or_default();
    format!("{}\n\n{table}{after}", before.trim_end())
}

/// How the file begins.
const HEAD: &str = "\
# What the verifier walks for each kernel program, and its largest stack frame, by kernel series.
# `cargo xtask budget` compares; growth over 5 % needs the row changed in the same commit, with the reason.
";

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(rows: &[(&str, u64)]) -> Costs {
        rows.iter().map(|(n, insns)| ((*n).to_owned(), Cost { insns: *insns, stack_bytes: 8 })).collect()
    }

    #[test]
    fn growth_over_five_percent_is_a_finding() {
        assert!(compare(&costs(&[("a", 105)]), &costs(&[("a", 100)]), "6.1").is_empty());
        assert_eq!(compare(&costs(&[("a", 106)]), &costs(&[("a", 100)]), "6.1").len(), 1);
        assert!(compare(&costs(&[("a", 50)]), &costs(&[("a", 100)]), "6.1").is_empty());
        let deep = Costs::from([("a".to_owned(), Cost { insns: 100, stack_bytes: 16 })]);
        assert_eq!(compare(&deep, &costs(&[("a", 100)]), "6.1").len(), 1);
    }

    #[test]
    fn missing_and_stale_rows_and_the_ceiling_are_findings() {
        assert_eq!(compare(&costs(&[("a", 1), ("b", 1)]), &costs(&[("a", 1)]), "6.1").len(), 1);
        assert_eq!(compare(&costs(&[("a", 1)]), &costs(&[("a", 1), ("b", 1)]), "6.1").len(), 1);
        assert_eq!(compare(&costs(&[("a", CEILING_INSNS + 1)]), &Costs::new(), "6.1").len(), 1);
    }

    #[test]
    fn rows_are_written_and_read_back_and_other_kernels_stay() {
        let first = rewritten("", "6.1", &costs(&[("a", 7)]));
        let both = rewritten(&first, "6.18", &costs(&[("b", 9)]));
        let again = rewritten(&both, "6.1", &costs(&[("c", 3)]));
        assert_eq!(recorded(&again, "6.1").expect("reads"), costs(&[("c", 3)]));
        assert_eq!(recorded(&again, "6.18").expect("reads"), costs(&[("b", 9)]));
        assert!(again.find("6.1\"]") < again.find("6.18\"]"), "{again}");
        assert_eq!(rewritten(&again, "6.18", &costs(&[("b", 9)])), again);
        assert!(recorded("[kernel.\"6.1\"]\na = 5\n", "6.1").is_err());
    }
}
