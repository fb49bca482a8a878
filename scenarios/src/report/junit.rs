//! JUnit XML, as CI systems read it: a suite for each scenario and engine, a case for each step.

use super::{Outcome, Report, ScenarioResult, StepResult};

pub(super) fn render(report: &Report) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let cases: Vec<&StepResult> = report.scenarios.iter().flat_map(|s| &s.steps).collect();
    let failed = cases.iter().filter(|step| step.outcome == Outcome::Failed).count();
    out.push_str(&format!(
        "<testsuites name=\"portcullis\" tests=\"{}\" failures=\"{failed}\" time=\"{}\">\n",
        cases.len(),
        seconds(report.duration_ms)
    ));
    report.scenarios.iter().for_each(|scenario| suite(&mut out, scenario, &report.started_at));
    out.push_str("</testsuites>\n");
    out
}

fn suite(out: &mut String, scenario: &ScenarioResult, started_at: &str) {
    let ScenarioResult { name, engine, outcome, reason, duration_ms, steps, file, .. } = scenario;
    let suite = escape(&format!("{name}/{engine}"));
    let count = |outcome| steps.iter().filter(|step| step.outcome == outcome).count();
    // A scenario that ended before its first step, or between steps, still has to be seen.
    let alone = *outcome != Outcome::Passed && steps.iter().all(|step| step.outcome == Outcome::Passed);
    let (mut failed, mut skipped) = (count(Outcome::Failed), count(Outcome::NotRun));
    if alone {
        match outcome {
            Outcome::Failed => failed += 1,
            Outcome::NotRun | Outcome::Passed => skipped += 1,
        }
    }
    out.push_str(&format!(
        "  <testsuite name=\"{suite}\" tests=\"{}\" failures=\"{failed}\" skipped=\"{skipped}\" time=\"{}\" \
         timestamp=\"{started_at}\" file=\"{}\">\n",
        steps.len() + usize::from(alone),
        seconds(*duration_ms),
        escape(&file.display().to_string())
    ));
    if alone {
        let reasons: Vec<String> = reason.iter().cloned().collect();
        case(out, &suite, "scenario", *duration_ms, *outcome, &reasons);
    }
    for step in steps {
        let name = format!("{} ({})", step.name, step.app);
        case(out, &suite, &name, step.duration_ms, step.outcome, &step.reasons);
    }
    out.push_str("  </testsuite>\n");
}

fn case(out: &mut String, suite: &str, name: &str, duration_ms: u64, outcome: Outcome, reasons: &[String]) {
    let time = seconds(duration_ms);
    let open = format!("    <testcase classname=\"{suite}\" name=\"{}\" time=\"{time}\"", escape(name));
    let first = escape(reasons.first().map_or("", String::as_str));
    match outcome {
        Outcome::Passed => out.push_str(&format!("{open}/>\n")),
        Outcome::NotRun => out.push_str(&format!("{open}><skipped message=\"{first}\"/></testcase>\n")),
        Outcome::Failed => {
            let all = escape(&reasons.join("\n"));
            out.push_str(&format!("{open}><failure message=\"{first}\">{all}</failure></testcase>\n"));
        }
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1_000, ms % 1_000)
}

/// Text for XML content and attributes. Characters that XML 1.0 cannot hold become U+FFFD.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push_str("&#9;"),
            '\r' => out.push_str("&#13;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
