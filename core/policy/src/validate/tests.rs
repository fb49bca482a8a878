//! One test for every way in which policies can be wrong.

use portcullis_wire::{Auth, Mode, Policy, Requirements, Rule};

use crate::testing::{errors, for_host, named, names, policy, protected, rule, set};

/// The policy has this error and no other.
#[track_caller]
fn refused(policy: Policy, rule_index: Option<usize>, field: &str, message: &str, remedy: &str) {
    let errors = errors(vec![policy]);
    assert_eq!(errors.len(), 1, "{errors:?}");
    let error = &errors[0];
    assert_eq!((error.rule_index, error.field.as_str()), (rule_index, field), "{error}");
    assert!(error.message.contains(message), "{error}");
    assert!(error.remedy.contains(remedy), "{error}");
}

#[track_caller]
fn refused_rule(rule_: Rule, field: &str, message: &str, remedy: &str) {
    refused(policy(vec![rule("GET /ok"), rule_]), Some(1), field, message, remedy);
}

#[test]
fn unknown_method_is_refused() {
    refused_rule(rule("get /"), "method", "`get`", "write `GET`: methods are case-sensitive");
    refused_rule(rule("Options /"), "method", "`Options`", "write `OPTIONS`");
    refused_rule(rule("TRACE /"), "method", "`TRACE`", "GET, POST, PUT, DELETE, PATCH, HEAD, OPTIONS or `*`");
    refused_rule(rule("any /"), "method", "`any`", "write `*`");
    refused_rule(Rule { method: String::new(), ..rule("GET /") }, "method", "``", "write `*`");
    refused_rule(Rule { method: " GET".to_owned(), ..rule("GET /") }, "method", "` GET`", "write `GET`");
}

#[test]
fn bad_path_pattern_is_refused() {
    refused_rule(rule("GET api/*"), "path_pattern", "does not begin with a slash", "`/api/*`");
    refused_rule(rule("GET /a//b"), "path_pattern", "empty segment", "single slash");
}

#[test]
fn only_websocket_can_be_named() {
    let with = |protocol: &str| Rule { upgrade: vec![protocol.to_owned()], ..rule("GET /ws") };
    refused_rule(with("h2c"), "upgrade", "`h2c`", "write `websocket`");
    refused_rule(with("WebSocket"), "upgrade", "`WebSocket`", "write `websocket`");
    set(vec![policy(vec![with("websocket")])]);
}

#[test]
fn bad_host_match_is_refused() {
    refused(for_host("p", Some("a.example:80")), None, "host_match", "colon", "port_match");
    refused(for_host("p", Some("")), None, "host_match", "empty", "leave `host_match` out");
}

#[test]
fn port_0_is_refused() {
    refused(Policy { port_match: 0, ..policy(vec![]) }, None, "port_match", "port 0", "listens on");
}

#[test]
fn empty_or_long_names_are_refused() {
    refused(
        Policy { name: " ".to_owned(), ..policy(vec![]) },
        None,
        "name",
        "the name is empty",
        "write a name",
    );
    refused(Policy { id: " ".to_owned(), ..policy(vec![]) }, None, "id", "the id is empty", "write a name");
    refused(Policy { name: "x".repeat(241), ..policy(vec![]) }, None, "name", "241 bytes", "shorter");
    refused(
        Policy { name: "a\nb".to_owned(), ..policy(vec![]) },
        None,
        "name",
        "control character",
        "leave it out",
    );
    refused_rule(named(" ", "GET /"), "id", "the id is empty", "leave the field out");
    refused_rule(named(&"x".repeat(241), "GET /"), "id", "241 bytes", "shorter");
    set(vec![Policy { name: "x".repeat(240), ..policy(vec![]) }]);
}

#[test]
fn policy_without_id_and_name_is_named_by_position() {
    let nameless = Policy { id: String::new(), name: String::new(), ..policy(vec![]) };
    let errors = errors(vec![for_host("p", Some("a")), nameless]);
    assert_eq!((errors[0].policy.as_str(), errors[0].policy_index), ("#2", 1));
}

#[test]
fn name_serves_as_id() {
    let set = set(vec![Policy { id: String::new(), ..policy(vec![rule("GET /a"), named("x", "GET /b")]) }]);
    assert_eq!(set.policies()[0].id(), "Policy");
    let ids: Vec<&str> = set.policies()[0].rules().iter().map(|rule| rule.id()).collect();
    assert_eq!(ids, ["rule-1", "x"]);
}

#[test]
fn duplicate_policy_ids_are_refused() {
    let errors = errors(vec![for_host("p", Some("a")), for_host("q", Some("b")), for_host("p", Some("c"))]);
    assert_eq!(errors.len(), 1);
    assert_eq!((errors[0].policy_index, errors[0].field.as_str()), (2, "id"));
    assert!(errors[0].message.contains("policies 1 and 3 have the id `p`"), "{}", errors[0]);
}

#[test]
fn duplicate_rule_ids_are_refused() {
    let rules = vec![named("rule-2", "GET /a"), rule("GET /b"), named("x", "GET /c")];
    refused(
        policy(rules),
        Some(1),
        "id",
        "rules 1 and 2 of the policy have the id `rule-2`",
        "id of its own",
    );
}

#[test]
fn empty_requirements_are_refused() {
    let rule_ = Rule { required_roles: names(&["a", ""]), ..rule("GET /") };
    refused_rule(rule_, "required_roles", "role 2 of the list is empty", "");
    let rule_ = Rule { required_permissions: names(&[" "]), ..rule("GET /") };
    refused_rule(rule_, "required_permissions", "permission 1 of the list is empty", "");
    let rule_ = Rule { required_groups: names(&["a\u{7f}"]), ..rule("GET /") };
    refused_rule(rule_, "required_groups", "group 1 of the list holds the control character", "");
    refused_rule(Rule { required_org: Some(String::new()), ..rule("GET /") }, "required_org", "is empty", "");
    let nothing = Some(Requirements::default());
    refused_rule(
        Rule { all_of: nothing.clone(), ..rule("GET /") },
        "all_of",
        "lists nothing",
        "leave the field out",
    );
    refused_rule(
        Rule { none_of: nothing, ..rule("GET /") },
        "none_of",
        "lists nothing",
        "leave the field out",
    );
    let long = Some(Requirements { groups: vec!["x".repeat(241)], ..Requirements::default() });
    refused_rule(
        Rule { none_of: long, ..rule("GET /") },
        "none_of",
        "group 1 of the list has 241 bytes",
        "shorter",
    );
}

#[test]
fn mfa_age_without_mfa_is_refused() {
    let rule_ = Rule { mfa_max_age_s: Some(60), ..rule("GET /") };
    refused_rule(rule_, "mfa_max_age_s", "does nothing without `require_mfa`", "require_mfa: true");
    let rule_ = Rule { mfa_max_age_s: Some(0), require_mfa: true, ..rule("GET /") };
    refused_rule(rule_, "mfa_max_age_s", "0 seconds", "any age");
}

#[test]
fn requirement_without_token_is_refused() {
    for auth in [Auth::None, Auth::Optional] {
        let auth = Some(auth);
        let with = |rule_: Rule| refused_rule(rule_, "auth", "asks something of it", "auth: required");
        with(Rule { auth, required_roles: names(&["a"]), ..rule("GET /") });
        with(Rule { auth, required_permissions: names(&["a"]), ..rule("GET /") });
        with(Rule { auth, required_groups: names(&["a"]), ..rule("GET /") });
        with(Rule { auth, required_org: Some("a".to_owned()), ..rule("GET /") });
        with(Rule { auth, require_mfa: true, ..rule("GET /") });
        let lists = Some(Requirements { roles: names(&["a"]), ..Requirements::default() });
        with(Rule { auth, all_of: lists.clone(), ..rule("GET /") });
        with(Rule { auth, none_of: lists, ..rule("GET /") });
    }
}

#[test]
fn policies_that_tie_are_refused_naming_both() {
    let errors =
        errors(vec![for_host("one", None), for_host("two", Some("a.example")), for_host("three", None)]);
    assert_eq!(errors.len(), 1);
    assert_eq!((errors[0].policy_index, errors[0].field.as_str()), (2, "port_match"));
    assert!(errors[0].message.contains("policies `one` and `three` both cover port 80"), "{}", errors[0]);
}

#[test]
fn hosts_that_differ_in_case_only_tie() {
    for (a, b) in [("A.example", "a.Example"), ("*.A.example", "*.a.example")] {
        let errors = errors(vec![for_host("one", Some(a)), for_host("two", Some(b))]);
        assert_eq!((errors.len(), errors[0].field.as_str()), (1, "host_match"));
        assert!(errors[0].message.contains("policies `one` and `two`"), "{}", errors[0]);
    }
}

#[test]
fn policies_of_other_ports_hosts_or_disabled_ones_do_not_tie() {
    set(vec![
        for_host("a", None),
        for_host("b", Some("x.example")),
        for_host("c", Some("*.x.example")),
        for_host("d", Some("*.example")),
        Policy { port_match: 81, ..for_host("e", None) },
        Policy { mode: Mode::Disabled, ..for_host("f", None) },
        Policy { mode: Mode::Disabled, ..for_host("g", None) },
    ]);
}

#[test]
fn disabled_policies_and_rules_are_checked_too() {
    let rule_ = Rule { mode: Some(Mode::Disabled), ..rule("GET nowhere") };
    let disabled = Policy { mode: Mode::Disabled, ..policy(vec![rule_]) };
    refused(disabled, Some(0), "path_pattern", "slash", "`/nowhere`");
}

#[test]
fn all_errors_are_reported_at_once_in_order_of_place() {
    let bad = Rule {
        required_roles: names(&[""]),
        mfa_max_age_s: Some(1),
        auth: Some(Auth::None),
        ..rule("put x")
    };
    let first =
        Policy { port_match: 0, host_match: Some("*".to_owned()), ..policy(vec![rule("GET /"), bad]) };
    let second = Policy { id: "p".to_owned(), ..policy(vec![protected("GET a")]) };
    let places: Vec<_> = errors(vec![first, second])
        .into_iter()
        .map(|error| (error.policy_index, error.rule_index, error.field))
        .collect();
    let expected = [
        (0, None, "port_match"),
        (0, None, "host_match"),
        (0, Some(1), "method"),
        (0, Some(1), "path_pattern"),
        (0, Some(1), "required_roles"),
        (0, Some(1), "mfa_max_age_s"),
        (0, Some(1), "auth"),
        (1, None, "id"),
        (1, Some(0), "path_pattern"),
    ];
    assert_eq!(places, expected.map(|(policy, rule, field)| (policy, rule, field.to_owned())));
}

#[test]
fn error_reads_as_one_line() {
    let error = &errors(vec![policy(vec![rule("get /")])])[0];
    let line = "policy `p`, rule 1, method: `get` is no method that a rule can name; \
                write `GET`: methods are case-sensitive (RFC 9110 section 9.1)";
    assert_eq!(error.to_string(), line);
}
