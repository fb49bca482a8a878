//! What the claims say.

use portcullis_wire::Reason;

use super::Party;
use super::draft::{Draft, Times, list, number, quote, spell_escaped};
use super::rng::Rng;

const STRINGS: &[&str] = &["iss", "sub", "jti", "sid", "email", "org_id"];
const LISTS: &[&str] = &["roles", "permissions", "groups"];
const NUMBERS: &[&str] = &["exp", "nbf", "iat", "auth_time"];

const NO_STRING: &[&str] =
    &["null", "1", "true", "{}", "[]", "[\"a\"]", "{\"a\":\"b\"}", "\"\\u0000\"", "\"a\\u0000\""];
const NO_LIST: &[&str] = &[
    "\"admin\"",
    "null",
    "1",
    "true",
    "{}",
    "[1]",
    "[null]",
    "[[\"a\"]]",
    "[[]]",
    "[{}]",
    "[\"a\",true]",
    "[\"a\",{\"b\":\"c\"}]",
    "[\"a\\u0000\"]",
    "{\"0\":\"admin\"}",
];
const NO_NUMBER: &[&str] = &[
    "\"1\"",
    "null",
    "true",
    "[]",
    "[1]",
    "{}",
    "1.0",
    "1.5",
    "1e3",
    "1E+3",
    "-1",
    "-0",
    "-1e400",
    "1e400",
    "1000000000000000",
    "9007199254740993",
    "9223372036854775808",
    "18446744073709551616",
    "99999999999999999999999999999999999999999",
];
const NO_BOOLEAN: &[&str] = &["\"true\"", "1", "0", "null", "[]", "[true]", "{}", "\"\""];

/// Another time than the token was made for, mostly about an edge.
pub(super) fn now(draft: &mut Draft, rng: &mut Rng, _: &[Party]) {
    let Times { exp, nbf, iat, leeway_s } = draft.times;
    let edges = [
        Some(exp + leeway_s),
        nbf.map(|t| t.saturating_sub(leeway_s)),
        iat.map(|t| t.saturating_sub(leeway_s)),
    ];
    let edge = rng.pick(&edges).unwrap_or(exp);
    let random = rng.next();
    draft.now_s = *rng.pick(&[
        edge.saturating_sub(2),
        edge.saturating_sub(1),
        edge,
        edge + 1,
        edge + 2,
        0,
        u64::MAX,
        u64::MAX - leeway_s,
        random,
    ]);
    let expected = judge(draft.times, draft.now_s);
    draft.expect(expected, format!("now {}", draft.now_s));
}

/// Other time claims, mostly about an edge.
pub(super) fn times(draft: &mut Draft, rng: &mut Rng, _: &[Party]) {
    let (now, leeway_s) = (draft.now_s, draft.times.leeway_s);
    let mut near = |edge: u64| {
        let random = rng.seconds(1_000_000_000_000_000);
        *rng.pick(&[edge - 1, edge, edge + 1, 0, 1, 999_999_999_999_999, random])
    };
    draft.times = Times {
        exp: near(now.saturating_sub(leeway_s).max(1)),
        nbf: Some(near(now + leeway_s)),
        ..draft.times
    };
    draft.times.iat = Some(near(now + leeway_s));
    let Times { exp, nbf, iat, .. } = draft.times;
    draft.claims.set("exp", number(exp));
    draft.claims.set("nbf", number(nbf.unwrap_or_default()));
    draft.claims.set("iat", number(iat.unwrap_or_default()));
    let expected = judge(draft.times, now);
    draft.expect(expected, format!("exp {exp}, nbf {nbf:?}, iat {iat:?} at {now}"));
}

/// The rule, written once more, over numbers that cannot overflow.
fn judge(times: Times, now_s: u64) -> Result<(), Reason> {
    let [now, leeway] = [now_s, times.leeway_s].map(i128::from);
    let after = |time: Option<u64>| time.is_some_and(|time| i128::from(time) - leeway > now);
    if now - leeway >= i128::from(times.exp) {
        Err(Reason::TokenExpired)
    } else if after(times.nbf) {
        Err(Reason::TokenNotYet)
    } else if after(times.iat) {
        Err(Reason::TokenIat)
    } else {
        Ok(())
    }
}

/// An issuer that is not trusted, most of them close to one that is.
pub(super) fn issuer(draft: &mut Draft, rng: &mut Rng, parties: &[Party]) {
    let own = parties[draft.party].issuer.clone();
    let near = [
        format!("{own}/"),
        format!("{own} "),
        format!(" {own}"),
        own.to_uppercase(),
        own.chars().skip(1).collect(),
        own.replace("https", "http"),
        own.replace('a', "%61"),
        String::new(),
        "https://evil.example".to_owned(),
        "null".to_owned(),
        format!("{own}\n"),
    ];
    let other = rng.pick(&near);
    draft.claims.set("iss", quote(other));
    // It may happen to be another party's.
    if parties.iter().any(|party| party.issuer == *other) {
        draft.doubt(format!("iss {other:?}"));
    } else {
        draft.expect(Err(Reason::TokenIssuer), format!("iss {other:?}"));
    }
}

/// No accepted audience, or one of another issuer.
pub(super) fn audience(draft: &mut Draft, rng: &mut Rng, parties: &[Party]) {
    let own = &parties[draft.party].audiences;
    let foreign =
        parties.iter().flat_map(|party| &party.audiences).filter(|audience| !own.contains(audience));
    let near = [format!("{}/", own[0]), own[0].to_uppercase(), own.join(" "), own.join(","), "*".to_owned()];
    let mut wrong: Vec<String> = foreign.cloned().chain(near).chain([String::new()]).collect();
    wrong.retain(|audience| !own.contains(audience));
    rng.shuffle(&mut wrong);
    let value = match rng.below(4) {
        0 => quote(&wrong[0]),
        1 => list(&[]),
        _ => list(&wrong[..1 + rng.below(wrong.len())].iter().map(|a| quote(a)).collect::<Vec<_>>()),
    };
    draft.claims.set("aud", value);
    draft.expect(Err(Reason::TokenAudience), "no accepted audience");
}

/// A known claim of another type than its own.
pub(super) fn wrong_type(draft: &mut Draft, rng: &mut Rng, _: &[Party]) {
    let (names, values): (&[&str], &[&str]) = match rng.below(8) {
        0 | 1 => (STRINGS, NO_STRING),
        2 | 3 => (LISTS, NO_LIST),
        4 | 5 => (NUMBERS, NO_NUMBER),
        6 => (&["mfa_verified"], NO_BOOLEAN),
        // a string, too, is the right type for `aud`
        _ => (&["aud"], &NO_LIST[1..]),
    };
    let (name, value) = (*rng.pick(names), *rng.pick(values));
    draft.claims.set(name, value);
    draft.expect(Err(Reason::TokenClaims), format!("{name} is {value}"));
}

pub(super) fn missing(draft: &mut Draft, rng: &mut Rng, _: &[Party]) {
    let (name, expected) = *rng.pick(&[
        ("iss", Err(Reason::TokenClaims)),
        ("exp", Err(Reason::TokenClaims)),
        ("aud", Err(Reason::TokenAudience)),
        ("nbf", Ok(())),
        ("iat", Ok(())),
        ("sub", Ok(())),
    ]);
    draft.claims.remove(name);
    draft.expect(expected, format!("no {name}"));
}

/// A claim twice: equal or not, spelt the same or not.
pub(super) fn duplicate(draft: &mut Draft, rng: &mut Rng, _: &[Party]) {
    let name = *rng.pick(&[STRINGS, LISTS, NUMBERS, &["aud", "mfa_verified", "unknown", "cnf"]].concat());
    let valid: &[u8] = match name {
        _ if STRINGS.contains(&name) => b"\"x\"",
        _ if NUMBERS.contains(&name) => b"1",
        "mfa_verified" => b"true",
        _ => b"[]",
    };
    let first = draft.claims.get(name).map_or(valid.to_vec(), <[u8]>::to_vec);
    draft.claims.set(name, first.clone());
    let second = if rng.one_in(2) { first } else { valid.to_vec() };
    let spelt = if rng.one_in(2) { spell_escaped(rng, name) } else { quote(name) };
    draft.claims.insert(rng, spelt, second);
    let known = !["unknown", "cnf"].contains(&name);
    draft.expect(if known { Err(Reason::TokenClaims) } else { Ok(()) }, format!("{name} twice"));
}

/// Names that are known elsewhere only: in the header, deeper, or in another spelling.
pub(super) fn misplaced(draft: &mut Draft, rng: &mut Rng, _: &[Party]) {
    let value = *rng.pick(&["null", "\"x\"", "[1]", "{\"exp\":null}", "1.5"]);
    let name = *rng.pick(&["alg", "kid", "typ", "crit", "b64"]);
    draft.claims.insert(rng, quote(name), value);
    draft.claims.insert(rng, quote(name), value);
    let near = *rng.pick(&[
        "Exp",
        "exp ",
        " exp",
        "EXP",
        "exp\0",
        "exp\u{301}",
        "",
        "expp",
        "ex",
        "mfa_verified\0",
        "mfa_verified1",
        "permissions_",
    ]);
    draft.claims.insert(rng, quote(near), value);
    let deep = format!("{{\"exp\":{value},\"exp\":\"x\",\"aud\":{value},\"roles\":{{}}}}");
    draft.claims.insert(rng, quote("nested"), deep);
    draft.header.insert(rng, quote("iss"), value);
    draft.header.insert(rng, quote("exp"), value);
    draft.expect(Ok(()), format!("{name}, {near:?} and others in the wrong place"));
}
