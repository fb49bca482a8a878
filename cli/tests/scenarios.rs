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
