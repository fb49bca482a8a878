//! Rules in words, for logs.

use portcullis_wire::{Auth, Rule};

/// `POST /api/patients/* requires role doctor`.
pub(crate) fn rule(rule: &Rule, auth: Auth) -> String {
    let needs = needs(rule);
    let what = match auth {
        Auth::None => "needs no token".to_owned(),
        Auth::Optional => "accepts requests without token".to_owned(),
        Auth::Required if needs.is_empty() => "requires a token".to_owned(),
        Auth::Required => format!("requires {}", needs.join(" and ")),
    };
    format!("{} {} {what}", rule.method, rule.path_pattern)
}

fn needs(rule: &Rule) -> Vec<String> {
    let mut needs = Vec::new();
    if let Some(org) = &rule.required_org {
        needs.push(format!("organisation {org}"));
    }
    for (noun, names) in [
        ("role", &rule.required_roles),
        ("permission", &rule.required_permissions),
        ("group", &rule.required_groups),
    ] {
        if !names.is_empty() {
            needs.push(format!("{noun} {}", names.join(" or ")));
        }
    }
    for (word, list) in [("all of", &rule.all_of), ("none of", &rule.none_of)] {
        let Some(list) = list else { continue };
        let kinds = [("role", &list.roles), ("permission", &list.permissions), ("group", &list.groups)];
        let names: Vec<String> = kinds
            .iter()
            .flat_map(|(noun, names)| names.iter().map(move |name| format!("{noun} {name}")))
            .collect();
        if !names.is_empty() {
            needs.push(format!("{word} ({})", names.join(", ")));
        }
    }
    match (rule.require_mfa, rule.mfa_max_age_s) {
        (false, _) => {}
        (true, None) => needs.push("MFA".to_owned()),
        (true, Some(age_s)) => needs.push(format!("MFA within {age_s} s")),
    }
    needs
}

#[cfg(test)]
mod tests {
    use portcullis_wire::Requirements;

    use super::*;

    fn check(rule_: Rule, auth: Auth, expected: &str) {
        assert_eq!(rule(&rule_, auth), expected);
    }

    fn base() -> Rule {
        Rule { method: "POST".to_owned(), path_pattern: "/api/patients/*".to_owned(), ..Rule::default() }
    }

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn one_role() {
        let rule = Rule { required_roles: names(&["doctor"]), ..base() };
        check(rule, Auth::Required, "POST /api/patients/* requires role doctor");
    }

    #[test]
    fn no_requirement() {
        check(base(), Auth::None, "POST /api/patients/* needs no token");
        check(base(), Auth::Optional, "POST /api/patients/* accepts requests without token");
        check(base(), Auth::Required, "POST /api/patients/* requires a token");
    }

    #[test]
    fn every_requirement() {
        let rule = Rule {
            required_roles: names(&["a", "b"]),
            required_permissions: names(&["p"]),
            required_groups: names(&["g"]),
            all_of: Some(Requirements {
                roles: names(&["r"]),
                groups: names(&["h"]),
                ..Requirements::default()
            }),
            none_of: Some(Requirements { permissions: names(&["q"]), ..Requirements::default() }),
            required_org: Some("acme".to_owned()),
            require_mfa: true,
            mfa_max_age_s: Some(300),
            ..base()
        };
        check(
            rule,
            Auth::Required,
            "POST /api/patients/* requires organisation acme and role a or b and permission p and group g and \
             all of (role r, group h) and none of (permission q) and MFA within 300 s",
        );
    }
}
