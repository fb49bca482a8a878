//! The scenarios of this tree hold, on the model everywhere and in the kernel where BPF is permitted.

use std::path::{Path, PathBuf};
use std::process::Command;

use portcullis_testkit::need;

fn scenario(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(name)
}

fn holds(engine: &str, names: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.arg("run").args(["--engine", engine]).args(names.iter().map(|name| scenario(name)));
    let output = command.output().expect("the command starts");
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&text));
}

#[test]
fn monitor_vs_enforce_on_the_model() {
    need!(Nginx);
    holds("model", &["monitor_vs_enforce.yaml"]);
}

#[test]
fn the_others_on_the_model() {
    let others = [
        "token_defects.yaml",
        "request_smuggling.yaml",
        "org_isolation.yaml",
        "healthcare_rbac.yaml",
        "proxy_fallback.yaml",
    ];
    holds("model", &others);
}

/// Logins, second factors, keys, directories, outages.
const IDENTITY: [&str; 4] =
    ["mfa_step_up.yaml", "jwks_rotation.yaml", "scim_offboarding.yaml", "plane_outage.yaml"];

#[test]
fn identity_on_the_model() {
    holds("model", &IDENTITY);
}

#[test]
fn identity_in_the_kernel() {
    need!(Bpf, BpfFs, Cgroup2);
    holds("kernel", &IDENTITY);
}

#[test]
fn monitor_vs_enforce_on_the_proxy() {
    need!(Nginx);
    holds("proxy", &["monitor_vs_enforce.yaml"]);
}

#[test]
fn the_others_on_the_proxy() {
    let others = [
        "token_defects.yaml",
        "request_smuggling.yaml",
        "org_isolation.yaml",
        "healthcare_rbac.yaml",
        "proxy_fallback.yaml",
    ];
    holds("proxy", &others);
}

#[test]
fn where_bpf_is_not_permitted_the_proxy_decides() {
    need!(Root, Tool("setpriv"));
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-bpf,-sys_admin,-net_admin,-perfmon", "--inh-caps", "-all"]);
    command.arg(env!("CARGO_BIN_EXE_portcullis")).args(["run", "--engine", "all", "--format", "json"]);
    let output = command.arg(scenario("proxy_fallback.yaml")).output().expect("the command starts");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let rows = report["scenarios"].as_array().expect("scenarios");
    let outcome = |engine: &str| {
        let row =
            rows.iter().find(|row| row["engine"] == engine).unwrap_or_else(|| panic!("no {engine} row"));
        (row["outcome"].as_str().unwrap_or_default().to_owned(), row["reason"].is_string())
    };
    assert_eq!(outcome("kernel"), ("not_run".to_owned(), true));
    assert_eq!(outcome("proxy"), ("passed".to_owned(), false));
    assert_eq!(outcome("model"), ("passed".to_owned(), false));
}

#[test]
fn monitor_vs_enforce_in_the_kernel() {
    need!(Bpf, BpfFs, Cgroup2, Nginx);
    holds("kernel", &["monitor_vs_enforce.yaml"]);
}

#[test]
fn tokens_in_the_kernel() {
    need!(Bpf, BpfFs, Cgroup2);
    holds(
        "kernel",
        &["token_defects.yaml", "org_isolation.yaml", "healthcare_rbac.yaml", "proxy_fallback.yaml"],
    );
}

#[test]
fn request_smuggling_in_the_kernel() {
    need!(Bpf, BpfFs, Cgroup2);
    holds("kernel", &["request_smuggling.yaml"]);
}
