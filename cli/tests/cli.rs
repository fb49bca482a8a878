//! The command as scripts use it: exit status, what it prints, and files that are wrong.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use portcullis_testkit::need;

const POLICY: &str = "\
name: orders
port_match: 8080
mode: enforce
default_action: deny
rules:
  - { id: health, method: GET, path_pattern: /health, auth: none }
  - { id: read, method: GET, path_pattern: \"/orders/{id}\", required_roles: [reader, admin] }
  - { id: write, method: POST, path_pattern: /orders, required_roles: [admin] }
";

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Dir {
        Dir(tempfile::tempdir().expect("a directory"))
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path
    }
}

fn portcullis<A: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = A>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portcullis")).args(args).output().expect("the command starts")
}

fn check(output: &Output, code: i32, texts: &[&str]) {
    let all = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    let all = String::from_utf8_lossy(&all);
    assert_eq!(output.status.code(), Some(code), "{all}");
    for text in texts {
        assert!(all.contains(text), "no `{text}` in:\n{all}");
    }
}

fn os(path: &Path) -> &std::ffi::OsStr {
    path.as_os_str()
}

#[test]
fn every_command_has_help_with_examples() {
    for command in [
        "run",
        "check",
        "explain",
        "validate",
        "suggest",
        "agent",
        "proxy",
        "control-plane",
        "doctor",
        "offboarding",
        "completions",
    ] {
        check(&portcullis([command, "--help"]), 0, &["Example", "portcullis "]);
    }
    let help = portcullis(["--help"]);
    check(&help, 0, &["Exit status", "validate"]);
    assert!(
        !String::from_utf8_lossy(&help.stdout).contains("  app"),
        "the test application is not for people"
    );
}

#[test]
fn bad_usage_is_two() {
    check(&portcullis(["fly"]), 2, &["unrecognized subcommand"]);
    check(&portcullis(["run"]), 2, &["FILE|DIR"]);
    check(
        &portcullis(["run", "x.yaml", "--engine", "steam"]),
        2,
        &["possible values: kernel, proxy, model, all"],
    );
}

#[test]
fn completions_are_scripts() {
    check(&portcullis(["completions", "bash"]), 0, &["complete -F _portcullis"]);
}

#[test]
fn run_refuses_an_unknown_field_with_its_place_and_the_fix() {
    let dir = Dir::new();
    let text = "name: a\npolicies:\n  - { name: p, mode: enforce, default_action: deny }\nsteps:\n  \
                - { name: s, request: { pth: /a }, expect: { status: 200 } }\n";
    let file = dir.file("bad.yaml", text);
    let place = format!("{}:5:27: unknown field `pth`", file.display());
    check(&portcullis([os("run".as_ref()), os(&file)]), 2, &[&place, "fix: did you mean `path`?"]);
}

#[test]
fn run_refuses_bad_yaml_and_bad_policies() {
    let dir = Dir::new();
    let broken = dir.file("broken.yaml", "name: a\npolicies: [\nsteps: []\n");
    check(&portcullis([os("run".as_ref()), os(&broken)]), 2, &["broken.yaml:", "fix: "]);
    let rule = "{ method: GET, path_pattern: no-slash, auth: none }";
    let text = format!(
        "name: a\npolicies:\n  - name: p\n    mode: enforce\n    default_action: deny\n    rules:\n      - {rule}\n\
         steps:\n  - {{ name: s, request: {{ path: /a }}, expect: {{ status: 200 }} }}\n"
    );
    let file = dir.file("policy.yaml", &text);
    check(&portcullis([os("run".as_ref()), os(&file)]), 2, &["policy.yaml:7:38: ", "fix: "]);
}

#[test]
fn a_named_engine_that_cannot_run_is_two_and_never_a_pass() {
    let dir = Dir::new();
    let text = "name: a\npolicies:\n  - { name: p, mode: enforce, default_action: deny }\nsteps:\n  \
                - { name: s, request: { path: /a }, expect: { status: 401 } }\n";
    let file = dir.file("a.yaml", text);
    let report = dir.0.path().join("report");
    // Without these capabilities nobody may load programs.
    need!(Root, Tool("setpriv"));
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-bpf,-sys_admin,-net_admin,-perfmon", "--inh-caps", "-all"]);
    command
        .arg(env!("CARGO_BIN_EXE_portcullis"))
        .args(["run", "--engine", "kernel", "--report"])
        .arg(&report);
    let output = command.arg(&file).output().expect("the command starts");
    check(&output, 2, &["not run", "0 passed"]);
    let json = std::fs::read_to_string(report.join("report.json")).unwrap();
    assert!(json.contains("\"outcome\": \"not_run\""), "{json}");
}

#[test]
fn run_writes_its_three_reports() {
    let dir = Dir::new();
    let text = "name: a\npolicies:\n  - { name: p, mode: enforce, default_action: deny }\nsteps:\n  \
                - { name: s, request: { path: /a }, expect: { status: 401, app_requests: 0 } }\n";
    let file = dir.file("a.yaml", text);
    let report = dir.0.path().join("report");
    let output = portcullis([
        os("run".as_ref()),
        os(&file),
        "--engine=model".as_ref(),
        "--report".as_ref(),
        os(&report),
    ]);
    check(&output, 0, &["1 passed, 0 failed, 0 not run; 1 requests"]);
    for (name, beginning) in
        [("report.json", "{"), ("report.html", "<!doctype html>"), ("junit.xml", "<?xml")]
    {
        let text = std::fs::read_to_string(report.join(name)).unwrap();
        assert!(text.starts_with(beginning), "{name}");
    }
}

#[test]
fn the_interface_of_the_control_plane_is_printed() {
    let output = portcullis(["control-plane", "--print-openapi"]);
    check(&output, 0, &["\"openapi\": \"3.1.0\"", "/manage/v1/{tenant}/access/policies"]);
    serde_json::from_slice::<serde_json::Value>(&output.stdout).expect("JSON and nothing else");
    check(&portcullis(["control-plane"]), 2, &["--api-key"]);
}

#[test]
fn certificates_and_urls_of_the_control_plane_are_checked() {
    let with = |args: &[&str]| portcullis([&["control-plane", "--api-key", "k"], args].concat());
    check(&with(&["--tls-cert", "chain.pem"]), 2, &["--tls-key"]);
    let missing =
        ["--listen", "127.0.0.1:0", "--tls-cert", "/nowhere/chain.pem", "--tls-key", "/nowhere/key.pem"];
    check(&with(&missing), 2, &["/nowhere/chain.pem", "check the path"]);
    check(&with(&["--url", "plane.example"]), 2, &["--url", "https://"]);
}

#[test]
fn check_tells_good_files_from_bad_ones() {
    let dir = Dir::new();
    let good = dir.file("good.yaml", POLICY);
    check(&portcullis([os("check".as_ref()), os(&good)]), 0, &["good.yaml: policies, 0 warnings"]);
    let bad = dir.file("bad.yaml", &POLICY.replace("required_roles", "requird_roles"));
    check(
        &portcullis([os("check".as_ref()), os(&bad)]),
        2,
        &["bad.yaml:7:", "did you mean `required_roles`?"],
    );
    let shadow = "  - { id: never, method: GET, path_pattern: /health, required_roles: [x], priority: -1 }\n";
    let shadowed = dir.file("shadowed.yaml", &format!("{POLICY}{shadow}"));
    check(&portcullis([os("check".as_ref()), os(&shadowed)]), 0, &["warning: ", "shadowed.yaml:9:"]);
    check(&portcullis(["check".as_ref(), "--deny-warnings".as_ref(), os(&shadowed)]), 1, &[]);
}

#[test]
fn explain_traces_a_decision() {
    let dir = Dir::new();
    let file = dir.file("p.yaml", POLICY);
    let explain = |args: &[&str]| {
        let mut all = vec![os("explain".as_ref()), os("--policy".as_ref()), os(&file)];
        all.extend(args.iter().map(|arg| std::ffi::OsStr::new(*arg)));
        portcullis(all)
    };
    check(&explain(&["GET", "/orders/7"]), 0, &["rule read", "decides", "deny, 401", "token_missing"]);
    let reader = "{\"roles\":[\"reader\"]}";
    check(&explain(&["GET", "/orders/7?x=1", "--claims", reader]), 0, &["allow", "rule_allow"]);
    check(&explain(&["POST", "/orders", "--claims", reader]), 0, &["deny, 403", "role_missing"]);
    check(&explain(&["GET", "/a/../b"]), 0, &["deny, 400", "path_ambiguous"]);
    check(&explain(&["GET", "/orders/7", "--token-refused", "token_expired"]), 0, &["token_expired"]);
    check(&explain(&["GET", "/orders/7", "--token-refused", "tired"]), 2, &["known: token_missing"]);
    check(&explain(&["GET", "/orders/7", "--claims", "{"]), 2, &["reading the claims"]);
}

#[test]
fn validate_says_who_loses_and_who_gains() {
    let dir = Dir::new();
    let old = dir.file("old.yaml", POLICY);
    let new = POLICY
        .replace("[reader, admin]", "[admin]")
        .replace("required_roles: [admin] }", "required_roles: [admin, writer] }");
    let new = dir.file(
        "new.yaml",
        &new.replace(
            "required_roles: [admin, writer] }\n  - { id: write",
            "required_roles: [admin] }\n  - { id: write",
        ),
    );
    let traffic = dir.file(
        "traffic.jsonl",
        "{\"port\":8080,\"method\":\"GET\",\"path\":\"/orders/7\",\"claims\":{\"sub\":\"alice\",\"roles\":[\"reader\"]},\"count\":12}\n\
         {\"port\":8080,\"method\":\"POST\",\"path\":\"/orders\",\"claims\":{\"sub\":\"bob\",\"roles\":[\"writer\"]}}\n\
         {\"port\":8080,\"method\":\"GET\",\"path\":\"/orders/7\"}\n\
         {\"port\":9,\"method\":\"GET\",\"path\":\"/\"}\n",
    );
    let validate = |args: &[&std::ffi::OsStr]| {
        let mut all: Vec<&std::ffi::OsStr> = vec!["validate".as_ref(), "--traffic".as_ref(), os(&traffic)];
        all.extend(args);
        portcullis(all)
    };
    let both = validate(&["--policy".as_ref(), os(&new), "--baseline".as_ref(), os(&old)]);
    check(
        &both,
        1,
        &[
            "12 of 15 requests lose access",
            "alice  GET :8080/orders/7: role_missing (policy orders, rule read)",
            "1 of 15 requests gain access",
            "bob  POST :8080/orders (policy orders, rule write)",
            "1 requests are to ports that the policy does not protect",
            "orders/health: GET /health",
        ],
    );
    let same = validate(&["--policy".as_ref(), os(&old), "--baseline".as_ref(), os(&old)]);
    check(&same, 0, &["0 of 15 requests lose access"]);
    let alone = validate(&["--policy".as_ref(), os(&old)]);
    check(&alone, 1, &["anonymous  GET :8080/orders/7: token_missing"]);
}

#[test]
fn validate_refuses_bad_traffic_with_its_place() {
    let dir = Dir::new();
    let policy = dir.file("p.yaml", POLICY);
    let traffic = dir
        .file("t.jsonl", "{\"port\":1,\"method\":\"GET\",\"path\":\"/\"}\n{\"port\":1,\"methd\":\"GET\"}\n");
    let args = ["validate".as_ref(), "--policy".as_ref(), os(&policy), "--traffic".as_ref(), os(&traffic)];
    check(&portcullis(args), 2, &["t.jsonl:2:", "unknown field `methd`", "fix: "]);
}

#[test]
fn doctor_looks_at_everything() {
    let output = portcullis(["doctor"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for what in ["kernel", "cgroup2", "bpffs", "capabilities", "bpf programs", "jit", "bpf lsm"] {
        assert!(text.contains(what), "no {what} in:\n{text}");
    }
    let missing = text.contains("missing ");
    assert_eq!(output.status.code(), Some(i32::from(missing)), "{text}");
}

#[test]
fn a_draft_is_a_valid_policy_that_passes_its_traffic() {
    let dir = Dir::new();
    let record = |method: &str, path: &str, user: &str, decision: &str| {
        format!(
            "{{\"agent_id\":\"a\",\"decision_id\":\"0\",\"source_ip\":\"::1\",\"source_port\":1,\"destination_port\":8080,\
             \"method\":\"{method}\",\"path\":\"{path}\"{user},\"roles\":[\"reader\"],\"decision\":\"{decision}\",\
             \"reason\":\"rule_allow\",\"decision_reason\":\"\",\"mode\":\"monitor\",\"policy_generation\":1,\"latency_us\":1.0,\
             \"verify_ns\":0,\"token_cache_hit\":false,\"mfa_verified\":false,\"timestamp\":\"\"}}\n"
        )
    };
    let user = ",\"user_id\":\"u\"";
    let logs: String = [
        record("GET", "/orders/7", user, "allow"),
        record("GET", "/orders/8", user, "would_deny"),
        record("GET", "/health", "", "allow"),
        record("GET", "/admin", "", "deny"),
    ]
    .concat();
    let logs = dir.file("access.jsonl", &logs);
    let output = portcullis([os(Path::new("suggest")), os(Path::new("--logs")), os(&logs)]);
    check(
        &output,
        0,
        &["3 requests that passed would pass, 0 would not", "GET /health: nobody showed a token"],
    );
    let draft = String::from_utf8(output.stdout).expect("text");
    assert!(draft.contains("path_pattern: \"/orders/{id}\", required_roles: [\"reader\"]"), "{draft}");
    assert!(!draft.contains("/admin"), "{draft}");
    let draft = dir.file("draft.yaml", &draft);
    check(&portcullis([os(Path::new("check")), os(&draft)]), 0, &["policies"]);
    let explain = |path: &str, code: i32, text: &str| {
        let args = ["explain", "--policy", draft.to_str().expect("text"), "GET", path];
        check(&portcullis(args), code, &[text]);
    };
    explain("/health", 0, "public");
    explain("/orders", 0, "default_deny_anonymous");

    let none = dir.file("none.jsonl", &record("GET", "/a", "", "deny"));
    check(
        &portcullis([os(Path::new("suggest")), os(Path::new("--logs")), os(&none)]),
        2,
        &["no request passed"],
    );
    let bad = dir.file("bad.jsonl", "{}\n");
    check(&portcullis([os(Path::new("suggest")), os(Path::new("--logs")), os(&bad)]), 2, &["line 1"]);
}

#[test]
fn doctor_looks_at_the_settings_of_an_agent() {
    let dir = Dir::new();
    let spool = dir.0.path().join("file/spool");
    dir.file("file", "");
    let text = format!("api_url = \"http://127.0.0.1:1\"\ntenant = \"acme\"\nspool = {spool:?}\n");
    let config = dir.file("agent.toml", &text);
    let output = portcullis([os(Path::new("doctor")), os(Path::new("--config")), os(&config)]);
    check(&output, 1, &["missing plane", "missing identity", "missing spool", "note    cache", "services"]);
    let config = dir.file("bad.toml", "tenant = \"acme\"\nspol = 1\n");
    let output = portcullis([os(Path::new("doctor")), os(Path::new("--config")), os(&config)]);
    check(&output, 2, &["bad.toml:2:1", "unknown field `spol`"]);
}
