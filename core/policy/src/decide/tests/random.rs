//! Decisions at random against a slow reference.

use portcullis_wire::{Action, Auth, Mode, Policy, Rule};
use proptest::prelude::*;

use super::EXPIRED;
use crate::decide::*;
use crate::testing::{Holder, NOW_S, for_host, naive_matches, names, path, pattern};

/// The specification once more, as short and slow as can be.
fn slow(policies: &[Policy], request: &Request<'_>, token: &Token<'_>) -> (Reason, Mode, Option<String>) {
    let in_force: Vec<&Policy> =
        policies.iter().filter(|p| p.port_match == request.port && p.mode != Mode::Disabled).collect();
    if in_force.is_empty() {
        return (Reason::Internal, Mode::Enforce, None);
    }
    let exactness = |policy: &&&Policy| match (policy.host_match.as_deref(), request.host) {
        (None, _) => Some((0, 0)),
        (Some(pattern), Some(host)) => match pattern.strip_prefix('*') {
            None => (pattern == host).then_some((2, 0)),
            Some(suffix) => {
                (host.ends_with(suffix) && host.len() > suffix.len()).then_some((1, suffix.len()))
            }
        },
        (Some(_), None) => None,
    };
    let covering = in_force.iter().filter(|policy| exactness(policy).is_some()).max_by_key(exactness);
    let Some(policy) = covering else {
        return (Reason::HostNotCovered, in_force.iter().map(|policy| policy.mode).max().unwrap(), None);
    };
    let mut rules: Vec<&Rule> =
        policy.rules.iter().filter(|rule| rule.mode != Some(Mode::Disabled)).collect();
    rules.sort_by_key(|rule| {
        let prefix = slow_prefix(&rule.path_pattern);
        (-rule.priority, std::cmp::Reverse(prefix), rule.method == "*", rule.id.clone())
    });
    let found = rules.iter().find(|rule| {
        (rule.method == "*" || rule.method == request.method.name())
            && naive_matches(&rule.path_pattern, request.path)
    });
    let Some(rule) = found else {
        let reason = match (policy.default_action, token) {
            (Action::Allow, _) => Reason::DefaultAllow,
            (_, Token::None) => Reason::DefaultDenyAnonymous,
            (_, Token::Invalid(reason)) => *reason,
            (_, Token::Valid(_)) => Reason::DefaultDeny,
        };
        return (reason, policy.mode, None);
    };
    let asks = !rule.required_roles.is_empty() || rule.required_org.is_some() || rule.require_mfa;
    let auth = rule.auth.unwrap_or(if asks { Auth::Required } else { Auth::None });
    let reason = match (auth, token) {
        (Auth::None, _) => Reason::Public,
        (_, Token::Invalid(reason)) => *reason,
        (Auth::Optional, Token::None) => Reason::OptionalAnonymous,
        (Auth::Required, Token::None) => Reason::TokenMissing,
        (_, Token::Valid(claims)) => slow_requirements(rule, claims),
    };
    (reason, rule.mode.unwrap_or(policy.mode).min(policy.mode), Some(rule.id.clone()))
}

fn slow_prefix(pattern: &str) -> usize {
    let Some(at) = pattern.find(['*', '{']) else { return pattern.len() + 1 };
    // A remainder may be empty: its slash is not part of what all matches share.
    let tail: Vec<&str> = pattern[at..].split('/').collect();
    let (last, others) = tail.split_last().unwrap();
    let remainder = matches!(*last, "*" | "**") && others.iter().all(|segment| *segment == "**");
    if remainder && pattern[..at].ends_with('/') { at - 1 } else { at }
}

fn slow_requirements(rule: &Rule, claims: &Claims<'_>) -> Reason {
    if rule.required_org.is_some() && rule.required_org.as_deref() != claims.org_id {
        return Reason::OrgMismatch;
    }
    if !rule.required_roles.is_empty() && !claims.roles.iter().any(|role| rule.required_roles.contains(role))
    {
        return Reason::RoleMissing;
    }
    if rule.require_mfa && !claims.mfa_verified {
        return Reason::MfaRequired;
    }
    match (rule.mfa_max_age_s, claims.auth_time) {
        (None, _) => Reason::RuleAllow,
        (Some(age_s), Some(at_s)) if at_s + u64::from(age_s) >= NOW_S => Reason::RuleAllow,
        (Some(_), _) => Reason::MfaStale,
    }
}

fn any_mode() -> impl Strategy<Value = Mode> {
    prop_oneof![1 => Just(Mode::Disabled), 2 => Just(Mode::Monitor), 5 => Just(Mode::Enforce)]
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let method = prop::sample::select(vec!["GET", "POST", "*"]);
    let mode = prop::option::weighted(0.2, any_mode());
    let demand = prop_oneof![
        prop::option::of(prop::sample::select(vec![Auth::None, Auth::Optional, Auth::Required]))
            .prop_map(|auth| Rule { auth, ..Rule::default() }),
        prop::sample::subsequence(vec!["a", "b"], 1..=2)
            .prop_map(|list| Rule { required_roles: names(&list), ..Rule::default() }),
        Just(Rule { required_org: Some("acme".to_owned()), ..Rule::default() }),
        prop::option::of(1u32..100).prop_map(|mfa_max_age_s| Rule {
            require_mfa: true,
            mfa_max_age_s,
            ..Rule::default()
        }),
    ];
    (method, pattern(), mode, demand, -1i32..2).prop_map(|(method, path_pattern, mode, demand, priority)| {
        Rule { method: method.to_owned(), path_pattern, mode, priority, ..demand }
    })
}

fn any_policies() -> impl Strategy<Value = Vec<Policy>> {
    let host =
        prop::option::of(prop::sample::select(vec!["a.example", "*.a.example", "*.example", "b.a.example"]));
    let one = (80u16..82, host, any_mode(), any::<bool>(), prop::collection::vec(any_rule(), 0..8));
    prop::collection::vec(one, 1..4).prop_map(|all| {
        let numbered =
            all.into_iter().enumerate().map(|(number, (port_match, host, mode, allow, rules))| Policy {
                port_match,
                mode,
                default_action: if allow { Action::Allow } else { Action::Deny },
                rules: rules
                    .into_iter()
                    .enumerate()
                    .map(|(n, rule)| Rule { id: format!("r{n}"), ..rule })
                    .collect(),
                ..for_host(&format!("p{number}"), host)
            });
        numbered.collect()
    })
}

fn any_holder() -> impl Strategy<Value = Holder> {
    let roles = prop::sample::subsequence(vec!["a", "b", "c"], 0..=3);
    let org = prop::option::of(prop::sample::select(vec!["acme", "globex"]));
    let auth_time = prop::option::of(NOW_S - 120..NOW_S + 20);
    (roles, org, any::<bool>(), auth_time).prop_map(|(roles, org, mfa_verified, auth_time)| Holder {
        roles: names(&roles),
        org_id: org.map(str::to_owned),
        mfa_verified,
        auth_time,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn decisions_agree_with_the_slow_reference(
        policies in any_policies(),
        requests in prop::collection::vec(
            (80u16..82, prop::option::of(prop::sample::select(vec!["a.example", "b.a.example", "c.a.example", "z.example", "q"])),
             prop::sample::select(vec![Method::Get, Method::Post, Method::Other]), path()),
            8,
        ),
        holder in any_holder(),
    ) {
        // Two policies that tie are refused, which has tests of its own.
        let Ok(set) = PolicySet::new(policies.clone()) else { return Ok(()) };
        for (port, host, method, path) in &requests {
            let request = Request { port: *port, host: *host, method: *method, path };
            for token in [Token::None, EXPIRED, Token::Valid(holder.claims())] {
                let decision = set.decide(&request, &token, NOW_S);
                let (reason, mode, rule) = slow(&policies, &request, &token);
                prop_assert_eq!((decision.reason, decision.mode), (reason, mode), "{:?} {:?}", request, token);
                if reason != Reason::HostNotCovered && reason != Reason::Internal {
                    prop_assert_eq!(decision.rule_id(&set).map(str::to_owned), rule);
                }
                prop_assert!(set.needs_token(&request) || decision == set.decide(&request, &Token::None, NOW_S));
                let trace = set.explain(&request, &token, NOW_S);
                prop_assert_eq!((trace.reason, trace.mode, trace.verdict), (decision.reason, decision.mode, decision.verdict()));
            }
        }
    }
}
