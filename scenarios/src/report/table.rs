//! The table for people, and below it what went wrong.

use std::fmt::Write as _;

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, ContentArrangement, Table};

use super::{Outcome, Report, ScenarioResult, StepResult, Summary};

pub(super) fn render(report: &Report, width: Option<u16>, colours: bool) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    if let Some(width) = width {
        table.set_width(width);
    }
    table.set_header(["Scenario", "Engine", "Outcome", "Steps", "Requests", "Time"]);
    for scenario in &report.scenarios {
        table.add_row(row(scenario));
    }
    for column in [3, 4, 5] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut out = format!("{table}\n");
    if colours {
        out = out.lines().map(|line| coloured(line) + "\n").collect();
    }
    for scenario in &report.scenarios {
        details(&mut out, scenario);
    }
    for scenario in &report.scenarios {
        for step in &scenario.steps {
            for note in &step.notes {
                write_line(
                    &mut out,
                    &format!("{} on {}: {}: {}", scenario.name, scenario.engine, step.name, printable(note)),
                );
            }
        }
    }
    for engine in report.engines.iter().filter(|engine| !engine.ready) {
        let reason = engine.reason.as_deref().unwrap_or("no reason given");
        write_line(&mut out, &format!("{} engine not run: {reason}", engine.engine));
    }
    let Summary { passed, failed, not_run, requests } = report.summary;
    write_line(
        &mut out,
        &format!(
            "{passed} passed, {failed} failed, {not_run} not run; {requests} requests in {}",
            duration(report.duration_ms)
        ),
    );
    out
}

fn row(scenario: &ScenarioResult) -> [String; 6] {
    let good = scenario.steps.iter().filter(|step| step.outcome == Outcome::Passed).count();
    let requests: u64 = scenario.steps.iter().map(|step| step.requests).sum();
    [
        scenario.name.clone(),
        scenario.engine.to_string(),
        scenario.outcome.to_string(),
        format!("{good}/{}", scenario.steps.len()),
        requests.to_string(),
        duration(scenario.duration_ms),
    ]
}

/// A line of the table with its outcome in colour. Done behind the layout, which counts characters.
fn coloured(line: &str) -> String {
    for (outcome, colour) in [(Outcome::Passed, 32), (Outcome::NotRun, 33), (Outcome::Failed, 31)] {
        // Names of scenarios have no spaces: this is the outcome's own column.
        let word = format!(" {outcome} ");
        if line.contains(&word) {
            return line.replacen(&word, &format!("\u{1b}[{colour}m{word}\u{1b}[0m"), 1);
        }
    }
    line.to_owned()
}

fn details(out: &mut String, scenario: &ScenarioResult) {
    if scenario.outcome == Outcome::Passed {
        return;
    }
    let bad: Vec<&StepResult> =
        scenario.steps.iter().filter(|step| step.outcome != Outcome::Passed).collect();
    if bad.is_empty() && scenario.outcome == Outcome::NotRun {
        // The engine's line below says it once for all scenarios.
        return;
    }
    let ScenarioResult { name, engine, outcome, .. } = scenario;
    write_line(out, &format!("{name} on {engine}: {outcome}"));
    if bad.is_empty() {
        write_line(out, &format!("  {}", scenario.reason.as_deref().unwrap_or_default()));
    }
    for step in bad {
        write_line(out, &format!("  {} ({}): {}", step.name, step.app, step.outcome));
        for reason in &step.reasons {
            write_line(out, &format!("    {reason}"));
        }
    }
    for line in &scenario.engine_output {
        write_line(out, &format!("  {engine}: {line}"));
    }
}

/// A note can hold what the control plane said.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn write_line(out: &mut String, line: &str) {
    // Writing to a string cannot fail.
    writeln!(out, "{line}").unwrap_or_default();
}

fn duration(ms: u64) -> String {
    if ms < 1_000 { format!("{ms} ms") } else { format!("{}.{} s", ms / 1_000, ms % 1_000 / 100) }
}
