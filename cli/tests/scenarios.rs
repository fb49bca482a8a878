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
    let others =
        ["token_defects.yaml", "request_smuggling.yaml", "org_isolation.yaml", "healthcare_rbac.yaml"];
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

/// That the denial comes, with push and without; how soon is for `cargo xtask bench offboarding` to say.
#[test]
fn a_deactivated_user_is_denied_on_an_open_connection() {
    need!(Bpf, BpfFs, Cgroup2);
    for (args, runs) in
        [(&["--runs", "10"][..], 10), (&["--runs", "3", "--no-push", "--poll-ms", "500"][..], 3)]
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        let output =
            command.args(["offboarding", "--format", "json", "--deadline-ms", "30000"]).args(args).output();
        let output = output.expect("the command starts");
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(found["runs"], runs, "{found}");
    }
}

#[test]
fn monitor_vs_enforce_in_the_kernel() {
    need!(Bpf, BpfFs, Cgroup2, Nginx);
    holds("kernel", &["monitor_vs_enforce.yaml"]);
}

#[test]
fn tokens_in_the_kernel() {
    need!(Bpf, BpfFs, Cgroup2);
    holds("kernel", &["token_defects.yaml", "org_isolation.yaml", "healthcare_rbac.yaml"]);
}

#[test]
fn request_smuggling_in_the_kernel() {
    need!(Bpf, BpfFs, Cgroup2);
    holds("kernel", &["request_smuggling.yaml"]);
}
