//! How long a deactivated user gets in: from the SCIM PATCH to the kernel's first denial, on an open connection, with a
//! token that is cached and good for minutes.
//!
//! These tests assert a time, which no other test does: it is a promise of the product, a hundred times what is measured
//! on a calm machine. They run alone (`.config/nextest.toml`), and judge the 99th percentile, not the worst run.

use std::process::Command;
use std::sync::{Mutex, PoisonError};

use portcullis_testkit::need;
use serde_json::Value;

/// What is promised besides the interval of an agent that only asks, milliseconds.
const PROMISE_MS: f64 = 1000.0;
/// For a runner that does not read nextest's configuration.
static ALONE: Mutex<()> = Mutex::new(());

/// Figures of so many users, who were all denied for the revocation.
fn figures(runs: u32, args: &[&str]) -> Value {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.args(["offboarding", "--format", "json", "--deadline-ms", "30000", "--runs"]);
    let output = command.arg(runs.to_string()).args(args).output().expect("the command starts");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let figures: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(figures["runs"], runs, "{figures}");
    figures
}

#[test]
fn with_push_99_of_100_deactivated_users_are_out_within_a_second() {
    need!(Bpf, BpfFs, Cgroup2);
    let figures = figures(200, &[]);
    assert_eq!(figures["push"], true, "{figures}");
    assert!(figures["p99_ms"].as_f64().expect("a time") < PROMISE_MS, "{figures}");
}

#[test]
fn without_push_they_are_out_within_the_interval_and_a_second() {
    const POLL_MS: u32 = 400;
    need!(Bpf, BpfFs, Cgroup2);
    let figures = figures(60, &["--no-push", "--poll-ms", &POLL_MS.to_string()]);
    assert_eq!(figures["push"], false, "{figures}");
    assert!(figures["p99_ms"].as_f64().expect("a time") < f64::from(POLL_MS) + PROMISE_MS, "{figures}");
    // Nobody tells the agent: some have to wait for it to ask.
    assert!(figures["max_ms"].as_f64().expect("a time") > f64::from(POLL_MS) / 4.0, "{figures}");
}
