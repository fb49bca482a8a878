use std::time::Instant;

use portcullis_token::mint::SigningKey;
use portcullis_wire::{Action, Candidate, Issuer, Jwk, JwkSet, Mode, Policy, Revocation, RevokedClaim, Rule};

use super::*;

fn policy(id: &str, port: u16, rules: Vec<Rule>) -> Policy {
    Policy {
        id: id.to_owned(),
        name: id.to_owned(),
        port_match: port,
        host_match: None,
        mode: Mode::Enforce,
        default_action: Action::Deny,
        rules,
    }
}

fn rule(method: &str, path: &str) -> Rule {
    Rule { method: method.to_owned(), path_pattern: path.to_owned(), ..Rule::default() }
}

fn with_policies(policies: Vec<Policy>) -> Result<Compiled, CompileError> {
    compile(&Bundle { version: 3, policies, ..Bundle::default() })
}

fn with_keys(keys: Vec<Jwk>) -> Result<Compiled, CompileError> {
    let issuer = Issuer {
        issuer: "https://issuer.example".to_owned(),
        audiences: vec!["api".to_owned()],
        leeway_s: 30,
        jwks: JwkSet { keys },
    };
    compile(&Bundle { issuers: vec![issuer], ..Bundle::default() })
}

fn error(result: Result<Compiled, CompileError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn tables_name_what_is_in_force() {
    let off = Rule { id: "off".to_owned(), mode: Some(Mode::Disabled), ..rule("GET", "/off") };
    let admin =
        Rule { id: "admin".to_owned(), required_roles: vec!["admin".to_owned()], ..rule("*", "/admin/*") };
    let disabled = Policy { mode: Mode::Disabled, ..policy("disabled", 81, vec![rule("GET", "/")]) };
    let compiled = with_policies(vec![disabled, policy("web", 80, vec![off, admin])]).unwrap();
    let Tables { version, policies, rules, issuers, principals, candidate: _ } = compiled.tables;
    assert_eq!(version, 3);
    assert_eq!(policies, [PolicyEntry { id: "web".to_owned(), name: "web".to_owned() }]);
    assert_eq!(rules.len(), 1);
    assert_eq!((rules[0].id.as_str(), rules[0].text.as_str()), ("admin", "* /admin/* requires role admin"));
    assert!(issuers.is_empty());
    assert_eq!(principals, [Principal { kind: PrincipalKind::Role, name: "admin".to_owned() }]);
    assert_eq!(compiled.image.ports().collect::<Vec<_>>(), [80]);
}

#[test]
fn a_candidate_never_stops_the_live_policies() {
    let live = vec![policy("web", 80, vec![rule("GET", "/")])];
    let compile = |tried: Vec<Policy>| {
        let candidate = Some(Candidate { name: "next".to_owned(), policies: tried });
        compile(&Bundle { policies: live.clone(), candidate, ..Bundle::default() }).unwrap()
    };
    let tried = compile(vec![policy("next", 80, vec![rule("GET", "/a")])]);
    assert_eq!((tried.candidate_problem, tried.tables.candidate.as_deref()), (None, Some("next")));
    assert_eq!(tried.tables.policies.len(), 2);
    // Wrong, too large, and for a port that nothing protects.
    let wrong = compile(vec![policy("next", 80, vec![rule("GET", "no-slash")])]);
    assert!(wrong.candidate_problem.unwrap().contains("next"));
    assert_eq!((wrong.tables.policies.len(), wrong.tables.candidate), (1, None));
    let many = (0..=limits::RULES_MAX).map(|n| rule("GET", &format!("/{n}"))).collect();
    let large = compile(vec![policy("next", 80, many)]);
    assert!(large.candidate_problem.unwrap().contains("PC_RULES_MAX"));
    assert_eq!(large.tables.rules.len(), 1);
    let elsewhere = compile(vec![policy("next", 81, vec![rule("GET", "/a")])]);
    assert!(elsewhere.candidate_problem.unwrap().contains("81"));
    assert_eq!(elsewhere.image.ports().collect::<Vec<_>>(), [80], "a port on trial is not protected by that");
}

#[test]
fn keys_of_every_algorithm_are_named() {
    let keys: Vec<SigningKey> = [2048, 3072, 4096]
        .map(|bits| SigningKey::generate_rs256(bits).unwrap())
        .into_iter()
        .chain([SigningKey::generate_es256().unwrap(), SigningKey::generate_es256().unwrap()])
        .collect();
    let jwks =
        keys.iter().zip(["r2", "r3", "r4", "e1", "e2"]).map(|(key, kid)| key.public_jwk(kid)).collect();
    let compiled = with_keys(jwks).unwrap();
    assert!(compiled.problems.is_empty());
    let kids: Vec<_> = compiled
        .image
        .names
        .iter()
        .filter_map(|name| match name.meaning {
            Meaning::Kid { issuer: 0, alg, key } => Some((name.text.as_str(), alg, key)),
            _ => None,
        })
        .collect();
    assert_eq!(kids, [("r2", 1, 0), ("r3", 2, 0), ("r4", 3, 0), ("e1", 4, 0), ("e2", 4, 1)]);
    let image::Keys { rsa2048, rsa3072, rsa4096, p256 } = &compiled.image.keys;
    assert_eq!((rsa2048.len(), rsa3072.len(), rsa4096.len()), (1, 1, 1));
    assert_eq!(p256.len(), 2 * limits::P256_POINTS_Q);
    assert_eq!(compiled.tables.issuers, ["https://issuer.example"]);
}

#[test]
fn a_bad_key_is_left_out_and_reported() {
    let good = SigningKey::generate_es256().unwrap().public_jwk("good");
    let bad = Jwk { crv: Some("P-384".to_owned()), kid: Some("bad".to_owned()), ..good.clone() };
    let compiled = with_keys(vec![bad, good]).unwrap();
    assert_eq!(compiled.problems.len(), 1);
    let text = compiled.problems[0].to_string();
    assert!(text.contains("bad") && text.contains("P-384"), "{text}");
    assert!(compiled.image.names.iter().any(|name| name.text == "good"));
    assert!(!compiled.image.names.iter().any(|name| name.text == "bad"));
}

#[test]
fn keys_beyond_the_room_are_left_out_and_the_first_in_line_stay() {
    let (es, rs) = (SigningKey::generate_es256().unwrap(), SigningKey::generate_rs256(2048).unwrap());
    let issuer = |name: &str, key: &SigningKey, count: usize| Issuer {
        issuer: name.to_owned(),
        audiences: vec!["api".to_owned()],
        jwks: JwkSet { keys: (0..count).map(|i| key.public_jwk(&format!("{name}{i}"))).collect() },
        ..Issuer::default()
    };
    let revocations = vec![Revocation {
        issuer: "own".to_owned(),
        claim: RevokedClaim::Sub,
        value: "u".to_owned(),
        not_before: None,
        expires_at: 0,
    }];
    let issuers = vec![
        issuer("first", &es, 1),
        issuer("greedy", &es, limits::P256_KEYS_MAX),
        issuer("own", &es, 1),
        issuer("rsa", &rs, limits::RSA_KEYS_MAX + 2),
    ];
    let bundle = Bundle { version: 1, issuers, revocations, ..Bundle::default() };
    let compiled = compile(&bundle).unwrap();
    let problems: Vec<String> = compiled.problems.iter().map(ToString::to_string).collect();
    let left_out = ["greedy15", "own0", "rsa128", "rsa129"];
    assert_eq!(problems.len(), left_out.len(), "{problems:?}");
    for (problem, (kid, most)) in problems.iter().zip(left_out.into_iter().zip([16, 16, 128, 128])) {
        assert!(problem.contains(kid) && problem.contains(&format!("more than {most} keys")), "{problem}");
    }
    let named = |text: &str| compiled.image.names.iter().any(|name| name.text == text);
    for kid in left_out {
        assert!(!named(kid), "{kid}");
    }
    for kid in ["first0", "greedy14", "rsa127"] {
        assert!(named(kid), "{kid}");
    }
    assert_eq!(compiled.image.revocations.len(), 1, "what is revoked comes into force");
    // What tokens of connections that go on are judged by is the same.
    let kids = |compiled: &Compiled, issuer: &str| compiled.keys.issuer(issuer).unwrap().keys().len();
    assert_eq!((kids(&compiled, "greedy"), kids(&compiled, "own")), (15, 0));
    // And with other revocations only.
    let mut compiler = Compiler::default();
    compiler.compile(&bundle, 1).unwrap();
    let again = compiler.compile(&Bundle { version: 2, revocations: Vec::new(), ..bundle }, 2).unwrap();
    assert_eq!((kids(&again, "own"), again.problems.len()), (0, left_out.len()));
}

#[test]
fn every_wrong_policy_is_named_at_once() {
    let text = error(with_policies(vec![
        policy("a", 0, vec![rule("GET", "no-slash")]),
        policy("b", 80, vec![rule("FETCH", "/")]),
    ]));
    assert!(text.lines().count() >= 3, "{text}");
    for part in ["port_match", "path_pattern", "FETCH"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn what_does_not_fit_is_an_error_with_the_bound() {
    let many = |count: usize| (0..count).map(|i| rule("GET", &format!("/r{i}"))).collect::<Vec<_>>();
    let half = limits::RULES_MAX / 2;
    let text = error(with_policies(vec![policy("a", 1, many(half)), policy("b", 2, many(half + 1))]));
    assert!(text.contains("16385 rules") && text.contains("16384 (PC_RULES_MAX)"), "{text}");

    let ports =
        (1..=limits::PORTS_MAX as u16 / 2 + 1).map(|port| policy(&format!("p{port}"), port, Vec::new()));
    let text = error(with_policies(ports.collect()));
    assert!(text.contains("513 ports") && text.contains("512"), "{text}");

    let audiences = (0..=limits::NAMES_MAX).map(|i| format!("a{i}")).collect();
    let issuer = Issuer { issuer: "i".to_owned(), audiences, ..Issuer::default() };
    let text = error(compile(&Bundle { issuers: vec![issuer], ..Bundle::default() }));
    assert!(text.contains("PC_NAMES_MAX"), "{text}");
}

#[test]
fn revocations_are_those_of_trusted_issuers_and_the_widest_counts() {
    let revoked = |issuer: &str, claim, value: &str, not_before| Revocation {
        issuer: issuer.to_owned(),
        claim,
        value: value.to_owned(),
        not_before,
        expires_at: 0,
    };
    let bundle = Bundle {
        issuers: ["a", "b"].map(|name| Issuer { issuer: name.to_owned(), ..Issuer::default() }).into(),
        revocations: vec![
            revoked("b", RevokedClaim::Sub, "u", Some(5)),
            revoked("b", RevokedClaim::Sub, "u", Some(7)),
            revoked("b", RevokedClaim::OrgId, "o", Some(7)),
            revoked("b", RevokedClaim::OrgId, "o", None),
            revoked("c", RevokedClaim::Sid, "s", None),
            revoked("a", RevokedClaim::Jti, &"j".repeat(limits::NAME_MAX + 1), None),
        ],
        ..Bundle::default()
    };
    let image = compile(&bundle).unwrap().image;
    let found: Vec<_> =
        image.revocations.iter().map(|(r, at)| (r.kind, r.issuer, r.value.as_str(), *at)).collect();
    assert_eq!(found, [(16, 1, "u", 7), (19, 1, "o", u64::MAX)]);
}

#[test]
fn patterns_that_explode_are_an_error_and_take_bounded_time() {
    // Deterministic automata of `**/a/{x}/{x}/...` double with every segment.
    let tail = "/{x}".repeat(24);
    let rules = (0..4).map(|i| rule("GET", &format!("/**/a{i}{tail}"))).collect();
    let text = error(with_policies(vec![policy("a", 80, rules)]));
    assert!(text.contains("policy `a`") && text.contains("`**`"), "{text}");
}

#[test]
fn ten_thousand_rules_fit() {
    for (name, policies, rules_each) in [("one policy", 1, 10_000), ("100 policies", 100, 100)] {
        let policies =
            (0..policies).map(|p| policy(&format!("p{p}"), 8000 + p, routes(u64::from(p), rules_each)));
        let bundle = Bundle { policies: policies.collect(), ..Bundle::default() };
        let started = Instant::now();
        let compiled = compile(&bundle).unwrap();
        println!("{name}: {:?} in {:?}", compiled.image.sizes(), started.elapsed());
        assert_eq!(compiled.tables.rules.len(), 10_000);
    }
}

/// Rules as a large service has them: few words, many combinations.
fn routes(seed: u64, count: usize) -> Vec<Rule> {
    let mut rng = portcullis_testkit::Rng::new(seed);
    let nouns =
        ["patients", "orders", "invoices", "users", "groups", "devices", "reports", "wards", "labs", "keys"];
    (0..count)
        .map(|i| {
            let mut path = format!("/api/v{}/{}-{i}", 1 + rng.below(3), rng.pick(&nouns).unwrap());
            if rng.one_in(2) {
                path += &format!("/{{id}}/{}", rng.pick(&nouns).unwrap());
            }
            if rng.one_in(4) {
                path += "/*";
            }
            let method = *rng.pick(&["GET", "POST", "PUT", "DELETE", "*"]).unwrap();
            Rule { required_roles: vec![format!("role-{}", i % 400)], ..rule(method, &path) }
        })
        .collect()
}
