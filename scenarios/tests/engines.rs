//! The runner on real engines: it passes what holds, fails what does not, and leaves nothing behind.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use portcullis_scenarios::report::{Outcome, Report};
use portcullis_scenarios::{Commands, EngineKind, FileProblem, Progress, RunConfig, run_files};

const HEAD: &str = "\
name: small
policies:
  - name: p
    mode: enforce
    default_action: deny
    rules:
      - { id: read, method: GET, path_pattern: /a, required_roles: [r] }
actors:
  reader: { claims: { roles: [r] } }
steps:
";

fn run(paths: Vec<PathBuf>) -> Result<Report, Vec<FileProblem>> {
    let app = vec![OsString::from(env!("CARGO_BIN_EXE_portcullis-app"))];
    let commands = Commands { app, ..Commands::default() };
    let config =
        RunConfig { paths, engines: vec![EngineKind::Model], commands, progress: Progress::silent() };
    tokio::runtime::Runtime::new().expect("a runtime").block_on(run_files(config))
}

/// The result of a scenario with these steps on the model.
fn steps(text: &str) -> Report {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("small.yaml");
    std::fs::write(&file, format!("{HEAD}{text}")).expect("a file");
    run(vec![file]).expect("a good file")
}

/// What the only failing step says.
fn failure(text: &str) -> String {
    let report = steps(text);
    assert_eq!(report.exit_code(&[]), 1, "{report:?}");
    assert_eq!(report.scenarios[0].outcome, Outcome::Failed);
    report.scenarios[0].steps.iter().flat_map(|step| step.reasons.clone()).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_holds_passes() {
    let report = steps(
        "  - { name: a, request: { path: /a }, repeat: 20, expect: { status: 401, app_requests: 0, app_bytes: 0, \
         log: [{ decision: deny, reason: token_missing, rule: read }] } }\n\
         \x20 - { name: b, request: { path: /a, as: reader }, repeat: 20, connection: reuse, \
         expect: { status: 200, app_requests: 20, log: [{ decision: allow }] } }\n",
    );
    assert_eq!(report.exit_code(&[]), 0, "{}", report.to_table(None, false));
    assert_eq!(report.summary.requests, 40);
}

#[test]
fn a_wrong_status_fails() {
    let said = failure("  - { name: a, request: { path: /a, as: reader }, expect: { status: 401 } }\n");
    assert!(said.contains("status: 200, expected 401"), "{said}");
}

#[test]
fn a_request_that_reached_the_application_fails() {
    let said = failure("  - { name: a, request: { path: /a, as: reader }, expect: { app_requests: 0 } }\n");
    assert!(said.contains("the application saw 1 requests, expected 0"), "{said}");
}

#[test]
fn a_decision_that_was_not_logged_fails() {
    let log = "[{ decision: deny, reason: role_missing }]";
    let said = failure(&format!("  - {{ name: a, request: {{ path: /a }}, expect: {{ log: {log} }} }}\n"));
    assert!(said.contains("0 records `deny` with reason `role_missing`, expected 1"), "{said}");
    assert!(said.contains("no entry describes; the first: deny, token_missing"), "{said}");
}

#[test]
fn an_engine_that_changes_bytes_fails_to_be_transparent() {
    let said =
        failure("  - { name: a, on_proxy: meaning, transparent: [{ path: /a }], expect: { status: 401 } }\n");
    assert!(said.contains("the client saw other bytes in exchange 1"), "{said}");
    assert!(said.contains("the application saw 0 exchanges, 1 without the engine"), "{said}");
}

#[test]
fn monitor_mode_is_transparent_and_logs() {
    let report = steps(
        "  - { name: m, set_mode: monitor }\n  - { name: a, on_proxy: meaning, transparent: [{ path: /a }, { path: /b, as: reader }], \
         expect: { status: 200, log: [{ decision: would_deny, reason: token_missing, count: 1 }, \
         { decision: would_deny, reason: default_deny, count: 1 }] } }\n",
    );
    assert_eq!(report.exit_code(&[]), 0, "{}", report.to_table(None, false));
}

#[test]
fn a_report_holds_no_token() {
    let report = steps("  - { name: a, request: { path: /a, as: reader }, expect: { status: 200 } }\n");
    let json = report.to_json().unwrap();
    assert!(json.contains("<token of reader>"), "{json}");
    // Every compact JWS begins like this: base64url of `{"`.
    assert!(!json.contains("eyJ"), "{json}");
}

#[test]
fn what_the_application_saw_is_compared() {
    let request = "{ path: /a, as: reader, headers: { X-Own: Kept } }";
    let holds = format!(
        "  - {{ name: a, request: {request}, expect: {{ app_saw: [\"\\r\\nx-own: kept\\r\\n\"], app_never_saw: [other] }} }}\n"
    );
    let report = steps(&holds);
    assert_eq!(report.exit_code(&[]), 0, "{}", report.to_table(None, false));
    let said = failure(&holds.replace("[other]", "[x-OWN]").replace("kept\\r", "lost\\r"));
    assert!(said.contains("the application did not see `\r\nx-own: lost\r\n`"), "{said}");
    assert!(said.contains("the application saw `x-OWN`"), "{said}");
}

#[test]
fn two_scenarios_of_one_name_are_refused() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("token_defects.yaml");
    let found = run(vec![here.clone(), here]).expect_err("the same file twice");
    assert!(found[0].message.contains("is also in"), "{found:?}");
}

#[test]
fn a_directory_without_scenarios_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let found = run(vec![dir.path().to_owned()]).expect_err("empty");
    assert!(found[0].message.contains("no .yaml file"), "{found:?}");
}
