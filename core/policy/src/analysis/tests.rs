//! Findings that must be made, and valid policies that must stay without any.

use portcullis_wire::{Action, Auth, Method, Mode, Policy, Rule};
use proptest::prelude::*;

use super::*;
use crate::testing::{NOW_S, named, names, path, pattern, policy, protected, roles, rule, set};
use crate::{Request, Token};

/// Rule position, kind and message of each finding.
fn findings(policy: Policy) -> Vec<(Option<usize>, FindingKind, String)> {
    let found = analyse(&set(vec![policy]));
    found.into_iter().map(|finding| (finding.rule_index, finding.kind, finding.message)).collect()
}

#[track_caller]
fn check(policy: Policy, rule_index: Option<usize>, kind: FindingKind, message: &str) {
    let found = findings(policy);
    assert!(
        found.iter().any(|(at, of, text)| *at == rule_index && *of == kind && text.contains(message)),
        "{found:?}"
    );
}

#[track_caller]
fn clean(policy: Policy) {
    assert_eq!(findings(policy), []);
}

fn open(rules: Vec<Rule>) -> Policy {
    Policy { default_action: Action::Allow, ..policy(rules) }
}

#[test]
fn sound_policy_has_no_findings() {
    clean(policy(vec![
        Rule { required_roles: names(&["admin", "viewer"]), priority: 10, ..rule("GET /api/*") },
        Rule {
            required_roles: names(&["admin"]),
            require_mfa: true,
            priority: 20,
            ..rule("POST /api/admin/*")
        },
        Rule { priority: 1, ..rule("GET /health") },
    ]));
}

#[test]
fn rule_behind_a_broader_one_is_shadowed() {
    let broad = Rule { priority: 1, ..named("broad", "* /api/*") };
    let message = "rule `broad` (* /api/*, priority 1) comes first";
    check(policy(vec![protected("GET /api/admin"), broad]), Some(0), FindingKind::Shadowed, message);
}

#[test]
fn rule_behind_the_same_rule_is_shadowed() {
    let rules = vec![named("b", "GET /a/{x}"), named("a", "GET /a/{y}")];
    check(policy(rules), Some(0), FindingKind::Shadowed, "rule `a`");
}

#[test]
fn rule_behind_several_that_cover_its_methods_together_is_shadowed() {
    let methods = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"];
    let mut rules: Vec<Rule> = methods.map(|method| named(method, &format!("{method} /a/*"))).to_vec();
    rules.push(Rule { priority: 1, ..protected("* /a/*") });
    rules[0].priority = 2;
    // Rule 7 is evaluated behind GET only; the six others are behind it.
    let found = findings(policy(rules.clone()));
    let shadowed: Vec<_> = found.iter().filter(|(_, kind, _)| *kind == FindingKind::Shadowed).collect();
    assert_eq!(shadowed.len(), 6, "{found:?}");
    let get = Rule { priority: 3, ..named("two", "* /a/b/*") };
    check(policy(vec![named("one", "GET /a/b/c"), get]), Some(0), FindingKind::Shadowed, "rule `two`");
}

#[test]
fn rule_that_decides_something_is_not_shadowed() {
    for (first, second) in [
        ("GET /api/*", "* /api/x"),
        ("* /api/{id}", "* /api/x/y"),
        ("* /a*", "* /b"),
        ("* /a/**/b", "* /a/**/c"),
    ] {
        let found = findings(policy(vec![Rule { priority: 1, ..rule(first) }, rule(second)]));
        assert!(!found.iter().any(|(_, kind, _)| *kind == FindingKind::Shadowed), "{found:?}");
    }
}

#[test]
fn disabled_rule_shadows_nothing_and_is_reported() {
    let off = Rule { priority: 1, mode: Some(Mode::Disabled), ..rule("* /*") };
    let found = findings(policy(vec![off, rule("GET /a")]));
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].0, found[0].1), (Some(0), FindingKind::DisabledRule));
}

#[test]
fn disabled_policy_is_reported_once() {
    let found =
        findings(Policy { mode: Mode::Disabled, ..policy(vec![rule("GET /a"), named("b", "GET /a")]) });
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].0, found[0].1), (None, FindingKind::DisabledPolicy));
}

#[test]
fn stronger_mode_than_the_policy_has_no_effect() {
    let strong = Rule { mode: Some(Mode::Enforce), ..rule("GET /a") };
    let watched = Policy { mode: Mode::Monitor, ..policy(vec![strong]) };
    check(
        watched,
        Some(0),
        FindingKind::ModeWithoutEffect,
        "mode `enforce` has no effect: the policy is in mode `monitor`",
    );
}

#[test]
fn contradicting_requirements_are_unsatisfiable() {
    let none_of = Some(roles(&["a", "b"]));
    let rule_ = Rule { all_of: Some(roles(&["b", "c"])), none_of: none_of.clone(), ..rule("GET /") };
    check(policy(vec![rule_]), Some(0), FindingKind::Unsatisfiable, "role `b` is both");
    let rule_ = Rule { required_roles: names(&["a", "b"]), none_of: none_of.clone(), ..rule("GET /") };
    check(policy(vec![rule_]), Some(0), FindingKind::Unsatisfiable, "every required role");
    clean(policy(vec![Rule { required_roles: names(&["a", "c"]), none_of, ..rule("GET /") }]));
}

#[test]
fn order_that_only_ids_decide_is_reported() {
    let strict = Rule { required_roles: names(&["admin"]), ..named("b", "GET /a/{x}/c") };
    check(
        policy(vec![named("a", "GET /a/*b/{x}"), strict.clone()]),
        Some(1),
        FindingKind::OrderById,
        "rule `a`",
    );
    let found = findings(policy(vec![named("a", "GET /a/{y}/c"), strict.clone()]));
    assert!(found.iter().all(|(_, kind, _)| *kind == FindingKind::Shadowed), "that says it all: {found:?}");
    let found = findings(policy(vec![named("a", "GET /a/{x}/d"), strict]));
    assert_eq!(found, [], "they share no path");
    let found = findings(policy(vec![named("a", "GET /a/{x}/d*"), named("b", "GET /a/*b/{x}")]));
    assert_eq!(found, [], "both ask for the same");
}

#[test]
fn methods_that_pass_by_default_are_reported() {
    let message = "(any other method, POST, PUT, DELETE, PATCH, HEAD, OPTIONS)";
    check(open(vec![protected("GET /admin/*")]), Some(0), FindingKind::OpenMethods, message);
    clean(open(vec![protected("* /admin/*")]));
    clean(policy(vec![protected("GET /admin/*")]));
}

#[test]
fn spelling_that_passes_is_reported() {
    let message = "GET /admin/ passes without one";
    check(open(vec![protected("* /admin")]), Some(0), FindingKind::OpenSpelling, message);
    let public = Rule { auth: Some(Auth::None), ..rule("* /*") };
    check(policy(vec![protected("* /admin"), public.clone()]), Some(0), FindingKind::OpenSpelling, message);
    check(open(vec![protected("* /a/")]), Some(0), FindingKind::OpenSpelling, "GET /a passes");
    clean(policy(vec![protected("* /admin/*"), public]));
    clean(policy(vec![protected("* /admin")]));
}

#[test]
fn findings_read_as_one_line_and_as_json() {
    let found =
        analyse(&set(vec![policy(vec![named("x", "GET /a"), named("w", "* /a"), named("v", "* /a")])]));
    let line = "policy `p`, rule `w`: it never decides: rule `v` (* /a, priority 0) comes first and is about every \
                request that this one is about; raise its `priority`, or remove it";
    assert_eq!(found[0].to_string(), line);
    assert!(found[0].kind.is_warning());
    assert_eq!(serde_json::to_value(&found[0]).unwrap()["kind"], "shadowed");
}

fn any_rules() -> impl Strategy<Value = Vec<Rule>> {
    let one = (pattern(), prop::sample::select(vec!["GET", "POST", "*"]), 0i32..2);
    prop::collection::vec(one, 1..8).prop_map(|rules| {
        let rules = rules.into_iter();
        rules
            .map(|(pattern, method, priority)| Rule { priority, ..rule(&format!("{method} {pattern}")) })
            .collect()
    })
}

/// Ids of the rules that are reported as shadowed.
fn shadowed(set: &PolicySet) -> Vec<String> {
    let found = analyse(set).into_iter().filter(|finding| finding.kind == FindingKind::Shadowed);
    found.filter_map(|finding| finding.rule).collect()
}

proptest! {
    #[test]
    fn shadowed_rule_never_decides(rules in any_rules(), paths in prop::collection::vec(path(), 64)) {
        let set = set(vec![policy(rules)]);
        let shadowed = shadowed(&set);
        for path in &paths {
            for method in Method::ALL {
                let decision = set.decide(&Request { port: 80, host: None, method, path }, &Token::None, NOW_S);
                if let Some(rule) = decision.rule_id(&set) {
                    prop_assert!(!shadowed.iter().any(|id| id == rule), "{} decides {} {}", rule, method, path);
                }
            }
        }
    }

    #[test]
    fn shadowed_rules_are_those_that_comparing_every_pair_finds(rules in any_rules()) {
        let set = set(vec![policy(rules)]);
        let rules = set.policies()[0].rules();
        let mut expected = Vec::new();
        for (number, rule) in rules.iter().enumerate() {
            let before = rules[..number].iter().filter(|earlier| earlier.glob().contains(rule.glob()));
            let covered = before.fold(0, |covered, earlier| covered | earlier.methods());
            if rule.methods() & !covered == 0 {
                expected.push(rule.id().to_owned());
            }
        }
        expected.sort_unstable();
        prop_assert_eq!(shadowed(&set), expected);
    }

    #[test]
    fn example_of_a_pattern_is_matched_by_it(text in pattern()) {
        let glob = crate::Glob::parse(&text).unwrap();
        prop_assert!(glob.matches(&super::open::example(&glob)), "{}", text);
    }
}
