//! Reports: exit status, forms, and that nothing from outside gets through unescaped.

use std::collections::BTreeMap;

use portcullis_wire::{AccessLog, Verdict};

use super::*;

const EVIL: &str = "</pre><script>alert('x')</script>&\"\u{1b}[31m";

fn step(outcome: Outcome) -> StepResult {
    StepResult {
        name: "no token".to_owned(),
        app: "rust".to_owned(),
        outcome,
        reasons: if outcome == Outcome::Passed { vec![] } else { vec![format!("status: {EVIL}")] },
        duration_ms: 12,
        action: "GET / without a token".to_owned(),
        notes: vec![format!("first 401 after {EVIL}")],
        requests: 3,
        statuses: BTreeMap::from([(401, 2), (0, 1)]),
        app_requests: 0,
        app_bytes: 0,
        sample: Some(Sample { request: format!("GET /{EVIL}"), response: EVIL.to_owned() }),
        records_total: 3,
        records: vec![AccessLog {
            path: EVIL.to_owned(),
            user_id: Some(EVIL.to_owned()),
            decision: Verdict::Deny,
            ..AccessLog::default()
        }],
    }
}

fn report(engine: EngineKind, ready: bool, outcome: Outcome) -> Report {
    let steps = if ready { vec![step(outcome)] } else { vec![] };
    let scenario = ScenarioResult {
        name: "one".to_owned(),
        engine,
        outcome,
        reason: None,
        duration_ms: 1_234,
        description: EVIL.to_owned(),
        file: "one.yaml".into(),
        steps,
        engine_output: vec![],
    };
    let scenarios = vec![scenario];
    Report {
        schema: SCHEMA,
        version: "0".to_owned(),
        started_at: rfc3339(0),
        duration_ms: 2_000,
        machine: Machine { kernel: "6.1".to_owned(), arch: "x".to_owned(), cpus: 2 },
        engines: vec![EngineResult { engine, ready, reason: (!ready).then(|| "no BPF here".to_owned()) }],
        summary: Summary::of(&scenarios),
        scenarios,
    }
}

/// Adds a scenario that passed on the model.
fn and_a_pass(mut report: Report) -> Report {
    report.scenarios.extend(self::report(EngineKind::Model, true, Outcome::Passed).scenarios);
    report.engines.push(EngineResult { engine: EngineKind::Model, ready: true, reason: None });
    report.summary = Summary::of(&report.scenarios);
    report
}

#[test]
fn all_passed_is_zero_and_any_failure_is_one() {
    assert_eq!(report(EngineKind::Model, true, Outcome::Passed).exit_code(&[]), 0);
    assert_eq!(report(EngineKind::Model, true, Outcome::Failed).exit_code(&[]), 1);
    assert_eq!(and_a_pass(report(EngineKind::Kernel, true, Outcome::Failed)).exit_code(&[]), 1);
}

#[test]
fn an_engine_that_cannot_run_is_excused_unless_it_was_named_or_alone() {
    let kernel = || report(EngineKind::Kernel, false, Outcome::NotRun);
    assert_eq!(and_a_pass(kernel()).exit_code(&[]), 0);
    assert_eq!(and_a_pass(kernel()).exit_code(&[EngineKind::Kernel]), 2);
    assert_eq!(kernel().exit_code(&[]), 2, "nothing ran at all");
}

#[test]
fn a_missing_application_is_not_excused() {
    assert_eq!(and_a_pass(report(EngineKind::Kernel, true, Outcome::NotRun)).exit_code(&[]), 2);
}

#[test]
fn the_json_has_the_members_that_programs_rely_on() {
    let text = report(EngineKind::Kernel, false, Outcome::NotRun).to_json().unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["schema"], SCHEMA);
    let scenario = &value["scenarios"][0];
    assert_eq!(scenario["name"], "one");
    assert_eq!(scenario["engine"], "kernel");
    assert_eq!(scenario["outcome"], "not_run");
    assert_eq!(scenario["duration_ms"], 1_234);
    assert!(scenario.get("reason").is_some());
    assert_eq!(value["engines"][0]["reason"], "no BPF here");
}

#[test]
fn the_page_escapes_what_came_from_outside() {
    let page = report(EngineKind::Model, true, Outcome::Failed).to_html();
    assert!(!page.contains("<script"), "markup of a path is in the page");
    assert!(!page.contains('\u{1b}'), "a control character is in the page");
    // Description, reason, note, request, response, path and subject.
    assert_eq!(page.matches("&lt;script&gt;").count(), 7);
    assert!(
        !page.contains("http://") && !page.contains("https://"),
        "the page needs something from elsewhere"
    );
}

#[test]
fn the_page_is_well_formed() {
    let page = report(EngineKind::Model, true, Outcome::Failed).to_html();
    let void = ["meta", "!doctype"];
    let mut open: Vec<&str> = Vec::new();
    for tag in page.split('<').skip(1).filter_map(|rest| rest.split('>').next()) {
        let name = tag.split([' ', '/']).find(|part| !part.is_empty()).unwrap_or_default();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "closing <{tag}>");
        } else if !void.contains(&name) {
            open.push(name);
        }
    }
    assert_eq!(open, Vec::<&str>::new());
}

#[test]
fn junit_counts_failures_and_holds_no_forbidden_character() {
    let xml = report(EngineKind::Model, true, Outcome::Failed).to_junit();
    assert!(xml.contains("<testsuite name=\"one/model\" tests=\"1\" failures=\"1\" skipped=\"0\""), "{xml}");
    assert!(xml.contains("<failure message=\"status: &lt;/pre&gt;"), "{xml}");
    assert!(!xml.contains('\u{1b}'));
}

#[test]
fn junit_shows_an_engine_that_was_not_run() {
    let xml = report(EngineKind::Kernel, false, Outcome::NotRun).to_junit();
    assert!(xml.contains("tests=\"1\" failures=\"0\" skipped=\"1\""), "{xml}");
    assert!(xml.contains("<skipped"), "{xml}");
}

#[test]
fn the_table_names_what_failed_and_what_was_not_run() {
    let text = report(EngineKind::Model, true, Outcome::Failed).to_table(None, false);
    assert!(text.contains("one on model: failed"), "{text}");
    assert!(text.contains("no token (rust): failed"), "{text}");
    assert!(text.ends_with("0 passed, 1 failed, 0 not run; 3 requests in 2.0 s\n"), "{text}");
    let text = report(EngineKind::Kernel, false, Outcome::NotRun).to_table(None, false);
    assert!(text.contains("kernel engine not run: no BPF here"), "{text}");
}
