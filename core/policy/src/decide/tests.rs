//! Decisions, line by line of docs/SEMANTICS.md.

use portcullis_wire::{Action, Auth, Mode, Policy, Requirements, Rule, Verdict};

use super::*;
use crate::testing::{
    NOW_S, deciding, for_host, named, names, policy, protected, reason, request, roles, rule, set,
};

mod random;

const VALID: Token<'static> = Token::Valid(Claims {
    roles: &[],
    permissions: &[],
    groups: &[],
    org_id: None,
    mfa_verified: false,
    auth_time: None,
});
const EXPIRED: Token<'static> = Token::Invalid(Reason::TokenExpired);

/// Reasons of a request without, with a refused and with a valid token.
#[track_caller]
fn check(set: &PolicySet, text: &str, expected: [Reason; 3]) {
    assert_eq!([Token::None, EXPIRED, VALID].map(|token| reason(set, text, &token)), expected, "{text}");
    let needed = expected[0] != expected[1] || expected[1] != expected[2];
    assert_eq!(set.needs_token(&request(text)), needed, "{text}");
}

/// Reason of the rule for `GET /` about a token.
#[track_caller]
fn check_rule(rule: &Rule, claims: Claims<'_>, expected: Reason) {
    let set = set(vec![policy(vec![rule.clone()])]);
    assert_eq!(reason(&set, "GET /", &Token::Valid(claims)), expected);
}

// Policies

#[test]
fn policy_covers_its_port_only() {
    let set = set(vec![policy(vec![rule("* /*")])]);
    assert_eq!(set.port_enforces(80), Some(true));
    assert_eq!(set.port_enforces(81), None);
    let decision = set.decide(&Request { port: 81, ..request("GET /") }, &VALID, NOW_S);
    assert_eq!((decision.reason, decision.mode, decision.policy), (Reason::Internal, Mode::Enforce, None));
}

#[test]
fn exact_host_beats_suffix_beats_none() {
    let set = set(vec![
        for_host("none", None),
        for_host("short", Some("*.example")),
        for_host("long", Some("*.a.example")),
        for_host("exact", Some("b.a.example")),
    ]);
    for (host, expected) in [
        ("b.a.example", "exact"),
        ("c.a.example", "long"),
        ("x.b.a.example", "long"),
        ("a.example", "short"),
        ("example", "none"),
        (".example", "none"),
        ("other.test", "none"),
        ("", "none"),
    ] {
        let text = format!("GET {host}/");
        let decision = set.decide(&request(&text), &Token::None, NOW_S);
        assert_eq!(decision.policy_id(&set), Some(expected), "{host}");
    }
}

#[test]
fn host_that_no_policy_covers_is_denied() {
    let mut hosts = vec![for_host("a", Some("a.example"))];
    let covered = set(hosts.clone());
    check(&covered, "GET other/", [Reason::HostNotCovered; 3]);
    check(&covered, "GET /", [Reason::HostNotCovered; 3]);
    let decision = covered.decide(&request("GET other/"), &VALID, NOW_S);
    assert_eq!((decision.mode, decision.policy, decision.verdict()), (Mode::Enforce, None, Verdict::Deny));
    hosts[0].mode = Mode::Monitor;
    let watched = set(hosts);
    let decision = watched.decide(&request("GET other/"), &VALID, NOW_S);
    assert_eq!((decision.mode, decision.verdict()), (Mode::Monitor, Verdict::WouldDeny));
    assert_eq!(watched.port_enforces(80), Some(false));
}

#[test]
fn disabled_policy_takes_no_part() {
    let off = |policy| Policy { mode: Mode::Disabled, ..policy };
    let with_other = set(vec![for_host("none", None), off(for_host("exact", Some("a.example")))]);
    let decision = with_other.decide(&request("GET a.example/"), &Token::None, NOW_S);
    assert_eq!(decision.policy_id(&with_other), Some("none"));
    assert_eq!(set(vec![off(for_host("none", None))]).port_enforces(80), None);
}

// Rules

#[test]
fn first_rule_that_matches_method_and_path_decides() {
    let set = set(vec![policy(vec![
        named("wide", "* /*"),
        named("users", "GET /users/*"),
        Rule { priority: 1, ..named("me", "* /users/me") },
    ])]);
    for (text, expected) in [
        ("GET /users/me", "me"),
        ("POST /users/me", "me"),
        ("GET /users/7", "users"),
        ("PUT /users/7", "wide"),
    ] {
        assert_eq!(deciding(&set, text).as_deref(), Some(expected), "{text}");
    }
}

#[test]
fn methods_are_exact() {
    let set = set(vec![policy(vec![named("get", "GET /*")])]);
    assert_eq!(deciding(&set, "GET /").as_deref(), Some("get"));
    for other in ["HEAD /", "OPTIONS /", "get /", "PROPFIND /"] {
        assert_eq!(deciding(&set, other), None, "{other}");
    }
}

#[test]
fn any_method_includes_the_ones_that_policies_cannot_name() {
    let set = set(vec![policy(vec![named("any", "* /*")])]);
    for method in ["GET /", "PROPFIND /", "TRACE /"] {
        assert_eq!(deciding(&set, method).as_deref(), Some("any"), "{method}");
    }
}

#[test]
fn rule_that_fails_is_final() {
    let strict = Rule { required_roles: names(&["admin"]), ..named("a", "GET /admin") };
    let set = set(vec![policy(vec![strict, rule("GET /*")])]);
    check(&set, "GET /admin", [Reason::TokenMissing, Reason::TokenExpired, Reason::RoleMissing]);
}

#[test]
fn disabled_rule_takes_no_part() {
    let off = Rule { mode: Some(Mode::Disabled), ..named("off", "GET /a") };
    let set = set(vec![policy(vec![off, named("wide", "* /*")])]);
    assert_eq!(deciding(&set, "GET /a").as_deref(), Some("wide"));
    assert_eq!(set.policies()[0].rules().len(), 2);
}

// Tokens and auth

#[test]
fn auth_none_ignores_the_token() {
    let set = set(vec![policy(vec![rule("GET /health")])]);
    check(&set, "GET /health", [Reason::Public; 3]);
}

#[test]
fn auth_optional_needs_a_valid_token_if_any() {
    let set = set(vec![policy(vec![Rule { auth: Some(Auth::Optional), ..rule("GET /") }])]);
    check(&set, "GET /", [Reason::OptionalAnonymous, Reason::TokenExpired, Reason::RuleAllow]);
}

#[test]
fn auth_required_needs_a_valid_token() {
    let set = set(vec![policy(vec![protected("GET /")])]);
    check(&set, "GET /", [Reason::TokenMissing, Reason::TokenExpired, Reason::RuleAllow]);
}

#[test]
fn auth_follows_from_requirements_when_absent() {
    let resolved = |rule| set(vec![policy(vec![rule])]).policies()[0].rules()[0].auth();
    assert_eq!(resolved(rule("GET /")), Auth::None);
    assert_eq!(resolved(Rule { required_roles: names(&["a"]), ..rule("GET /") }), Auth::Required);
    assert_eq!(resolved(Rule { required_permissions: names(&["a"]), ..rule("GET /") }), Auth::Required);
    assert_eq!(resolved(Rule { required_groups: names(&["a"]), ..rule("GET /") }), Auth::Required);
    assert_eq!(resolved(Rule { required_org: Some("a".to_owned()), ..rule("GET /") }), Auth::Required);
    assert_eq!(resolved(Rule { require_mfa: true, ..rule("GET /") }), Auth::Required);
    assert_eq!(resolved(Rule { all_of: Some(roles(&["a"])), ..rule("GET /") }), Auth::Required);
    assert_eq!(resolved(Rule { none_of: Some(roles(&["a"])), ..rule("GET /") }), Auth::Required);
}

#[test]
fn default_deny_is_401_without_and_403_with_a_valid_token() {
    let set = set(vec![policy(vec![])]);
    check(&set, "GET /", [Reason::DefaultDenyAnonymous, Reason::TokenExpired, Reason::DefaultDeny]);
    assert_eq!(Reason::DefaultDenyAnonymous.status(), Some(401));
    assert_eq!(Reason::DefaultDeny.status(), Some(403));
}

#[test]
fn default_allow_ignores_the_token() {
    let set = set(vec![Policy { default_action: Action::Allow, ..policy(vec![]) }]);
    check(&set, "GET /", [Reason::DefaultAllow; 3]);
}

#[test]
fn refused_token_never_becomes_an_allow() {
    let set = set(vec![policy(vec![protected("GET /")])]);
    for wrong in
        [Reason::None, Reason::RuleAllow, Reason::Public, Reason::OptionalAnonymous, Reason::DefaultAllow]
    {
        assert_eq!(reason(&set, "GET /", &Token::Invalid(wrong)), Reason::Internal);
    }
}

// Requirements

#[test]
fn any_of_each_list_is_enough_and_every_list_must_hold() {
    let rule = Rule {
        required_roles: names(&["a", "b"]),
        required_permissions: names(&["p", "q"]),
        required_groups: names(&["g", "h"]),
        ..rule("GET /")
    };
    let (role, permission, group) = (names(&["b"]), names(&["q"]), names(&["h"]));
    let all = Claims { roles: &role, permissions: &permission, groups: &group, ..Claims::default() };
    check_rule(&rule, all, Reason::RuleAllow);
    check_rule(&rule, Claims { roles: &permission, ..all }, Reason::RoleMissing);
    check_rule(&rule, Claims { permissions: &role, ..all }, Reason::PermissionMissing);
    check_rule(&rule, Claims { groups: &[], ..all }, Reason::GroupMissing);
}

#[test]
fn names_are_compared_exactly() {
    let rule = Rule { required_roles: names(&["admin"]), ..rule("GET /") };
    for close in ["Admin", "admin ", "administrator", "adm"] {
        check_rule(&rule, Claims { roles: &names(&[close]), ..Claims::default() }, Reason::RoleMissing);
    }
}

#[test]
fn all_of_needs_every_name() {
    let lists = Requirements { roles: names(&["a", "b"]), groups: names(&["g"]), ..Requirements::default() };
    let rule = Rule { all_of: Some(lists), ..rule("GET /") };
    let (two, one, group) = (names(&["b", "c", "a"]), names(&["a"]), names(&["g"]));
    let all = Claims { roles: &two, groups: &group, ..Claims::default() };
    check_rule(&rule, all, Reason::RuleAllow);
    check_rule(&rule, Claims { roles: &one, ..all }, Reason::AllOfMissing);
    check_rule(&rule, Claims { groups: &[], ..all }, Reason::AllOfMissing);
}

#[test]
fn none_of_refuses_every_name() {
    let lists = Requirements { roles: names(&["x"]), permissions: names(&["y"]), groups: names(&["z"]) };
    let rule = Rule { none_of: Some(lists), ..rule("GET /") };
    let (x, y, z) = (names(&["x"]), names(&["y"]), names(&["z"]));
    check_rule(
        &rule,
        Claims { roles: &y, permissions: &z, groups: &x, ..Claims::default() },
        Reason::RuleAllow,
    );
    check_rule(&rule, Claims { roles: &x, ..Claims::default() }, Reason::NoneOfPresent);
    check_rule(&rule, Claims { permissions: &y, ..Claims::default() }, Reason::NoneOfPresent);
    check_rule(&rule, Claims { groups: &z, ..Claims::default() }, Reason::NoneOfPresent);
}

#[test]
fn organisation_must_be_the_one_named() {
    let rule = Rule { required_org: Some("acme".to_owned()), ..rule("GET /") };
    check_rule(&rule, Claims { org_id: Some("acme"), ..Claims::default() }, Reason::RuleAllow);
    check_rule(&rule, Claims { org_id: Some("globex"), ..Claims::default() }, Reason::OrgMismatch);
    check_rule(&rule, Claims::default(), Reason::OrgMismatch);
}

#[test]
fn mfa_must_be_verified_and_young_enough() {
    let rule = Rule { require_mfa: true, ..rule("GET /") };
    let with = |mfa_verified, auth_time| Claims { mfa_verified, auth_time, ..Claims::default() };
    check_rule(&rule, with(true, None), Reason::RuleAllow);
    check_rule(&rule, with(false, Some(NOW_S)), Reason::MfaRequired);
    let rule = Rule { mfa_max_age_s: Some(60), ..rule };
    check_rule(&rule, with(true, Some(NOW_S - 60)), Reason::RuleAllow);
    check_rule(&rule, with(true, Some(NOW_S - 61)), Reason::MfaStale);
    check_rule(&rule, with(true, Some(NOW_S + 1000)), Reason::RuleAllow);
    check_rule(&rule, with(true, None), Reason::MfaStale);
    check_rule(&rule, with(false, None), Reason::MfaRequired);
}

#[test]
fn challenge_names_the_age_that_the_rule_asks_for() {
    let set = set(vec![policy(vec![Rule { require_mfa: true, mfa_max_age_s: Some(60), ..rule("GET /") }])]);
    assert_eq!(set.decide(&request("GET /"), &VALID, NOW_S).mfa_max_age_s, Some(60));
    assert_eq!(set.decide(&request("GET /x"), &VALID, NOW_S).mfa_max_age_s, None);
}

#[test]
fn requirements_are_checked_in_a_fixed_order() {
    let mut rule = Rule {
        required_org: Some("o".to_owned()),
        required_roles: names(&["r"]),
        required_permissions: names(&["p"]),
        required_groups: names(&["g"]),
        all_of: Some(roles(&["s"])),
        none_of: Some(roles(&["t"])),
        require_mfa: true,
        mfa_max_age_s: Some(1),
        ..rule("GET /")
    };
    let held = names(&["t"]);
    let claims = Claims { roles: &held, ..Claims::default() };
    let expected = [
        Reason::OrgMismatch,
        Reason::RoleMissing,
        Reason::PermissionMissing,
        Reason::GroupMissing,
        Reason::AllOfMissing,
        Reason::NoneOfPresent,
        Reason::MfaRequired,
    ];
    for (number, expected) in expected.into_iter().enumerate() {
        check_rule(&rule, claims, expected);
        match number {
            0 => rule.required_org = None,
            1 => rule.required_roles.clear(),
            2 => rule.required_permissions.clear(),
            3 => rule.required_groups.clear(),
            4 => rule.all_of = None,
            _ => rule.none_of = None,
        }
    }
}

// Modes

#[test]
fn mode_changes_what_is_done_not_what_is_decided() {
    for (mode, verdict, passes) in
        [(Mode::Enforce, Verdict::Deny, false), (Mode::Monitor, Verdict::WouldDeny, true)]
    {
        let set = set(vec![Policy { mode, ..policy(vec![protected("GET /"), rule("GET /open")]) }]);
        let decision = set.decide(&request("GET /"), &Token::None, NOW_S);
        assert_eq!((decision.reason, decision.mode), (Reason::TokenMissing, mode));
        assert_eq!((decision.verdict(), decision.passes()), (verdict, passes));
        let decision = set.decide(&request("GET /open"), &Token::None, NOW_S);
        assert_eq!((decision.verdict(), decision.passes()), (Verdict::Allow, true));
    }
}

#[test]
fn weaker_of_policy_and_rule_mode_holds() {
    let modes = [Mode::Monitor, Mode::Enforce];
    for (policy_mode, rule_mode) in modes.into_iter().flat_map(|a| modes.map(|b| (a, b))) {
        let narrowed = Rule { mode: Some(rule_mode), ..protected("GET /") };
        let set = set(vec![Policy { mode: policy_mode, ..policy(vec![narrowed]) }]);
        let decision = set.decide(&request("GET /"), &Token::None, NOW_S);
        assert_eq!(decision.mode, policy_mode.min(rule_mode));
        let by_default = set.decide(&request("GET /other"), &Token::None, NOW_S);
        assert_eq!(by_default.mode, policy_mode);
    }
}

#[test]
fn decision_names_policy_and_rule() {
    let set = set(vec![for_host("other", Some("a.example")), policy(vec![named("r", "GET /")])]);
    let decision = set.decide(&request("GET /"), &Token::None, NOW_S);
    assert_eq!((decision.policy_id(&set), decision.rule_id(&set)), (Some("p"), Some("r")));
    let decision = set.decide(&request("GET /x"), &Token::None, NOW_S);
    assert_eq!((decision.policy_id(&set), decision.rule_id(&set)), (Some("p"), None));
}

/// Rules that a decision about the path looks at.
fn looked_at(set: &PolicySet, path: &str) -> usize {
    let mut count = 0;
    set.policies()[0].index.walk(path.split('/').skip(1), |rules| count += rules.len());
    count
}

#[test]
fn ten_thousand_rules_are_not_looked_at_one_by_one() {
    for form in ["/api/v1/N/{id}", "/{tenant}/N/x", "/**/N/*", "/*/a*b/N", "/{a}/**/{b}/N"] {
        let rules = (0..10_000).map(|n| protected(&format!("GET {}", form.replace('N', &format!("n{n}")))));
        let set = set(vec![policy(rules.collect())]);
        let path = |name| {
            let path = form.replace('N', name).replace("{tenant}", "t").replace(['*', '{', '}'], "");
            path.replace("//", "/x/")
        };
        assert_eq!(deciding(&set, &format!("GET {}", path("n4567"))).as_deref(), Some("rule-4568"), "{form}");
        assert_eq!(looked_at(&set, &path("n4567")), 1, "{form}");
        assert_eq!(deciding(&set, &format!("GET {}", path("nobody"))), None, "{form}");
    }
}

#[test]
fn many_runs_of_segments_take_little_time() {
    let set = set(vec![policy(vec![rule(&format!("GET {}/b", "/**/a".repeat(30)))])]);
    assert_eq!(deciding(&set, &format!("GET {}", "/a".repeat(60))), None);
    assert_eq!(deciding(&set, &format!("GET {}/b", "/a".repeat(60))).as_deref(), Some("rule-1"));
}

#[test]
fn no_wildcard_takes_an_empty_segment() {
    let set = set(vec![policy(vec![rule("GET /a/**/b"), rule("GET /a/{x}/c"), rule("GET /a/*d/e")])]);
    for path in ["GET /a//b", "GET /a//c", "GET /a//e"] {
        assert_eq!(deciding(&set, path), None, "{path}");
    }
}
