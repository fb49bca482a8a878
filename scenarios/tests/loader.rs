//! Bad files are refused with file, line, column and the remedy.

use std::path::Path;

use portcullis_scenarios::FileProblem;
use portcullis_scenarios::spec::{lint, load, load_policies};

const GOOD: &str = "\
name: good
policies:
  - name: p
    mode: enforce
    default_action: deny
    rules:
      - { method: GET, path_pattern: /a, required_roles: [r] }
actors:
  reader: { claims: { roles: [r] } }
steps:
  - name: s
    request: { path: /a, as: reader }
    expect: { status: 200 }
";

fn with_file<T>(text: &str, work: impl FnOnce(&Path) -> T) -> T {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("f.yaml");
    std::fs::write(&file, text).expect("a file");
    work(&file)
}

/// The good scenario with one text replaced: what is wrong, and where.
fn problems(from: &str, to: &str) -> Vec<FileProblem> {
    assert!(GOOD.contains(from), "{from}");
    with_file(&GOOD.replacen(from, to, 1), |file| load(file).expect_err("the file is bad"))
}

fn check(from: &str, to: &str, place: (u64, u64), message: &str, remedy: &str) {
    let found = problems(from, to);
    let first = &found[0];
    assert_eq!((first.line, first.column), place, "{found:?}");
    assert!(first.message.contains(message), "{found:?}");
    assert!(first.remedy.contains(remedy), "{found:?}");
}

#[test]
fn the_good_one_is_good() {
    with_file(GOOD, |file| assert_eq!(load(file).unwrap().scenario.name, "good"));
}

#[test]
fn an_unknown_field_names_the_nearest() {
    check(
        "required_roles",
        "requird_roles",
        (7, 42),
        "unknown field `requird_roles`",
        "did you mean `required_roles`?",
    );
    check("status: 200", "stauts: 200", (13, 15), "unknown field `stauts`", "did you mean `status`?");
}

#[test]
fn an_unknown_value_names_the_nearest() {
    check("mode: enforce", "mode: enfroce", (4, 11), "unknown value `enfroce`", "did you mean `enforce`?");
}

#[test]
fn a_missing_field_is_named() {
    // The place is in the mapping: that of the last field which is there.
    check(
        "    default_action: deny\n",
        "",
        (5, 5),
        "missing field `default_action`",
        "add `default_action:`",
    );
}

#[test]
fn a_value_of_the_wrong_type_has_a_place() {
    let found = problems("status: 200", "status: many");
    assert_eq!(found[0].line, 13, "{found:?}");
}

#[test]
fn bad_yaml_has_a_place() {
    let found = problems("{ path: /a, as: reader }", "{ path: /a, as: reader");
    assert!((12..=14).contains(&found[0].line), "{found:?}");
    assert!(!found[0].remedy.is_empty());
}

#[test]
fn an_actor_that_is_not_there_is_a_typo_with_a_place() {
    check("as: reader", "as: raeder", (12, 30), "no actor `raeder`", "did you mean `reader`?");
}

#[test]
fn a_bad_policy_is_shown_where_it_stands() {
    check("path_pattern: /a", "path_pattern: a", (7, 38), "", "");
    check("method: GET", "method: FETCH", (7, 19), "FETCH", "");
}

#[test]
fn a_step_that_cannot_fail_is_refused() {
    check(
        "    expect: { status: 200 }\n",
        "",
        (11, 5),
        "expects nothing, so it cannot fail",
        "add `expect:`",
    );
}

#[test]
fn a_step_with_two_actions_is_refused() {
    check(
        "    expect:",
        "    set_mode: monitor\n    expect:",
        (11, 5),
        "must do one thing",
        "exactly one of",
    );
}

/// What is wrong with a step put before the good one, and where.
fn check_step(step: &str, place: (u64, u64), message: &str, remedy: &str) {
    check("steps:\n", &format!("steps:\n  - name: first\n    {step}\n"), place, message, remedy);
}

#[test]
fn names_must_lead_to_something_that_a_step_before_made() {
    let call = |rest: &str| format!("call: {{ method: POST, path: /x, {rest} }}");
    check_step(&call("body: { a: [\"{{nobody}}\"] }"), (12, 43), "`nobody`", "known: reader, tenant");
    check_step(&call("bearer: \"{{reeder}}\""), (12, 45), "`reeder`", "did you mean `reader`?");
    check_step("step_up: alice", (12, 14), "`alice` is not logged in here", "login: { as: alice");
    let login = "login: { as: reader, email: a, password: b }";
    check_step(login, (12, 18), "`reader` has a minted token", "another actor");
    let code = "login: { as: alice, email: a, password: b, code: true }";
    check_step(code, (12, 18), "no authenticator app", "enrol_mfa: alice");
    check_step("stop_traffic: { name: t, requests_min: 1 }", (12, 27), "no traffic that goes on `t`", "");
    let arrived =
        "arrived: { since: later, within_ms: 1 }\n    expect: { log: [{ decision: allow, count: 1 }] }";
    check_step(arrived, (12, 23), "no step before this one `later`", "");
}

#[test]
fn a_login_makes_an_actor_for_the_steps_behind_it() {
    let text = "steps:\n  - name: l\n    login: { as: alice, email: a, password: b }\n  \
                - name: r\n    request: { path: /a, as: alice }\n    expect: { status: 200 }\n";
    with_file(&GOOD.replacen("steps:\n", text, 1), |file| load(file).expect("a good file"));
}

#[test]
fn a_call_must_be_one() {
    check_step("call: { method: post, path: /x }", (12, 21), "`post` is not a method", "upper case");
    check_step("call: { method: GET, path: x }", (12, 32), "`x` is not a path", "begin with `/`");
    let save = "call: { method: GET, path: /x, save: { a: id } }";
    check_step(save, (12, 47), "`id` is not a JSON Pointer", "write `/id`");
}

#[test]
fn until_says_what_it_waits_for_and_nothing_that_depends_on_how_often() {
    let until = |expect: &str| {
        format!(
            "request: {{ path: /a }}\n    until: {{ before: 200, within_ms: 9 }}\n    expect: {{ {expect} }}"
        )
    };
    check_step(
        &until("body_contains: x"),
        (13, 12),
        "does not say what it waits for",
        "differs from `before`",
    );
    check_step(&until("status: 200"), (13, 12), "does not say what it waits for", "differs from `before`");
    check_step(&until("status: 401, app_requests: 1"), (13, 12), "is not known", "the last response");
}

#[test]
fn expectations_fit_what_the_step_does() {
    check_step("plane: down\n    expect: { status: 200 }", (13, 13), "sends no request", "");
    check_step(
        "request: { path: /a }\n    expect: { status: 200, json: { /a: 1 } }",
        (13, 34),
        "answer of the control plane",
        "",
    );
    check_step("clock: { advance_s: 0 }", (12, 25), "stand still", "1 or more");
}

#[test]
fn an_unknown_reason_names_the_nearest() {
    let log = "{ status: 200, log: [{ decision: deny, reason: token_mising }] }";
    check("{ status: 200 }", log, (13, 60), "no reason `token_mising`", "did you mean `token_missing`?");
}

#[test]
fn a_comparison_of_bytes_says_what_a_proxy_is_held_to() {
    let transparent = "transparent: [{ path: /a, as: reader }]";
    let request = "request: { path: /a, as: reader }";
    check(request, transparent, (11, 5), "compares bytes, which a proxy changes", "`on_proxy: meaning`");
    let needless = format!("on_proxy: meaning\n    {request}");
    check(request, &needless, (12, 15), "does not compare anything on the proxy", "leave it out");
    for good in [
        format!("on_proxy: meaning\n    {transparent}"),
        format!("engines: [kernel, model]\n    {transparent}"),
    ] {
        with_file(&GOOD.replace(request, &good), |file| assert!(load(file).is_ok(), "{good}"));
    }
}

#[test]
fn only_our_own_server_tells_what_it_read() {
    let found = with_file(
        &GOOD.replace("steps:", "apps: [nginx]\nsteps:").replace("status: 200", "app_saw: [x]"),
        |file| load(file).expect_err("nginx does not tell"),
    );
    assert!(found[0].message.contains("only our own server"), "{found:?}");
    check("status: 200", "app_never_saw: ['']", (13, 30), "an empty text", "write the text");
}

#[test]
fn every_problem_of_a_file_is_told() {
    let text = GOOD.replace("as: reader", "as: nobody").replace("name: good", "name: 'not a name'");
    let found = with_file(&text, |file| load(file).expect_err("bad"));
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn a_problem_prints_as_editors_and_people_read_it() {
    let problem = FileProblem::new(Path::new("a.yaml"), (7, 3), "what", "how");
    assert_eq!(problem.to_string(), "a.yaml:7:3: what\n    fix: how");
}

#[test]
fn a_file_that_is_not_there_or_not_text_is_a_problem() {
    assert_eq!(load(Path::new("/nonexistent.yaml")).expect_err("absent").len(), 1);
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("latin1.yaml");
    std::fs::write(&file, b"name: a\ndescription: caf\xe9\n").unwrap();
    let found = load(&file).expect_err("not UTF-8");
    assert_eq!((found[0].line, found[0].column), (2, 17), "{found:?}");
}

#[test]
fn policies_alone_in_their_three_forms() {
    let one = "name: p\nport_match: 80\nmode: enforce\ndefault_action: deny\n";
    let list = "- { name: p, port_match: 80, mode: enforce, default_action: deny }\n";
    let mapping = format!("policies:\n  {list}");
    for text in [one, list, &mapping] {
        assert_eq!(with_file(text, |file| load_policies(file).unwrap().policies.len()), 1, "{text}");
    }
    let bad = with_file("- { name: p, port_match: 0, mode: enforce, default_action: deny }\n", |file| {
        load_policies(file).expect_err("port 0")
    });
    assert_eq!((bad[0].line, bad[0].column), (1, 26), "{bad:?}");
}

#[test]
fn a_shadowed_rule_is_a_warning_with_a_place() {
    let text = "\
name: p
port_match: 80
mode: enforce
default_action: deny
rules:
  - { id: all, method: \"*\", path_pattern: \"/**\", required_roles: [r], priority: 9 }
  - { id: never, method: GET, path_pattern: /a, required_roles: [s] }
";
    let found = with_file(text, |file| lint(file).unwrap());
    assert_eq!(found.warnings.len(), 1, "{found:?}");
    assert_eq!(found.warnings[0].line, 7, "{found:?}");
    assert!(found.warnings[0].message.contains("never decides"), "{found:?}");
}

#[test]
fn the_scenarios_of_this_directory_are_good() {
    let mut count = 0;
    for entry in std::fs::read_dir(env!("CARGO_MANIFEST_DIR")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "yaml") {
            if let Err(found) = load(&path) {
                panic!("{}", found.iter().map(|p| format!("{p}\n")).collect::<String>());
            }
            count += 1;
        }
    }
    assert!(count >= 5, "only {count} scenarios found");
}
