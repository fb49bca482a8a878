//! What the JOSE header says.

use portcullis_wire::Reason;

use super::Party;
use super::draft::{Draft, quote, spell_escaped};
use super::rng::Rng;

/// Another algorithm than the key's (RFC 8725 sections 2.1 and 3.1).
pub(super) fn alg(draft: &mut Draft, rng: &mut Rng, parties: &[Party]) {
    let own = draft.signing_key(parties).alg();
    if rng.one_in(6) {
        draft.header.set("alg", spell_escaped(rng, own));
        return draft.expect(Ok(()), "alg with escapes");
    }
    if rng.one_in(6) {
        draft.header.remove("alg");
        return draft.expect(Err(Reason::TokenHeader), "no alg");
    }
    let other = if own == "RS256" { "ES256" } else { "RS256" };
    let alg = *rng.pick(&[
        other, "none", "None", "NONE", "nOnE", "HS256", "HS384", "HS512", "RS1", "RS384", "RS512", "PS256",
        "ES384", "ES512", "ES256K", "EdDSA", "rs256", "es256", "RS256 ", " ES256", "RS2560", "RS25", "",
        "RSA-OAEP", "dir",
    ]);
    draft.header.set("alg", quote(alg));
    draft.expect(Err(Reason::TokenAlg), format!("alg {alg:?}"));
}

pub(super) fn typ(draft: &mut Draft, rng: &mut Rng, _: &[Party]) {
    const GOOD: &[&str] = &["JWT", "jwt", "Jwt", "at+jwt", "AT+JWT", "application/jwt", "Application/AT+JWT"];
    const BAD: &[&str] = &[
        "",
        "JWS",
        "JWE",
        "JOSE",
        "jw",
        "jwtt",
        "JWT ",
        "at+JW",
        "at-jwt",
        "application/",
        "application/jwt ",
        "application/at+jwt ",
        "text/jwt",
        "dpop+jwt",
        "secevent+jwt",
        "logout+jwt",
        "j\u{17f}t",
        "application/jwt;v=1",
        "at+jwtapplication/",
        "@T+JWT",
        "JWT\u{212a}",
    ];
    let good = rng.one_in(2);
    let typ = *rng.pick(if good { GOOD } else { BAD });
    let spelt = if rng.one_in(3) { spell_escaped(rng, typ) } else { quote(typ) };
    draft.header.set("typ", spelt);
    draft.expect(if good { Ok(()) } else { Err(Reason::TokenHeader) }, format!("typ {typ:?}"));
}

/// A kid that no key of the issuer has, or that a key of another issuer has.
pub(super) fn kid(draft: &mut Draft, rng: &mut Rng, parties: &[Party]) {
    let Party { keys, .. } = &parties[draft.party];
    let own = keys[draft.key].0.clone();
    if rng.one_in(6) {
        draft.header.remove("kid");
        return draft.expect(Err(Reason::TokenKey), "no kid");
    }
    if rng.one_in(3) {
        // the kid of any key: the issuer's other one does not verify what this one signed
        let party = &parties[rng.below(parties.len())];
        let kid = rng.pick(&party.keys).0.clone();
        draft.header.set("kid", quote(&kid));
        let alg = draft.signing_key(parties).alg();
        let expected = match keys.iter().position(|(known, _)| *known == kid) {
            None => Err(Reason::TokenKey),
            Some(at) if at == draft.key => Ok(()),
            Some(at) if keys[at].1.alg() != alg => Err(Reason::TokenAlg),
            Some(_) => Err(Reason::TokenSignature),
        };
        return draft.expect(expected, format!("kid {kid:?}"));
    }
    let near = [
        String::new(),
        format!("{own} "),
        format!("{own}\n"),
        own.to_uppercase(),
        "../../../../dev/null".to_owned(),
        "/etc/hostname".to_owned(),
        "x' UNION SELECT 'key' --".to_owned(),
        "https://evil.example/jwks.json".to_owned(),
        "k".repeat(241),
        "k".repeat(600),
    ];
    let kid = rng.pick(&near);
    draft.header.set("kid", quote(kid));
    // It may happen to be another key's.
    if keys.iter().any(|(known, _)| known == kid) {
        draft.doubt(format!("kid {kid:?}"));
    } else {
        draft.expect(Err(Reason::TokenKey), format!("kid {kid:?}"));
    }
}

/// Members that change what other readers do (RFC 7515 sections 4.1.2 to 4.1.11, RFC 7797).
pub(super) fn extension(draft: &mut Draft, rng: &mut Rng, parties: &[Party]) {
    if rng.one_in(2) {
        let (name, value) = *rng.pick(&[
            ("crit", "[\"exp\"]"),
            ("crit", "[]"),
            ("crit", "null"),
            ("crit", "\"b64\""),
            ("crit", "[\"b64\"]"),
            ("crit", "{}"),
            ("b64", "false"),
            ("b64", "true"),
            ("b64", "null"),
            ("b64", "\"false\""),
            ("b64", "0"),
        ]);
        let spelt = if rng.one_in(3) { spell_escaped(rng, name) } else { quote(name) };
        draft.header.insert(rng, spelt, value);
        return draft.expect(Err(Reason::TokenHeader), format!("{name} is {value}"));
    }
    // a key that the token brings along, and pointers to one: ignored
    let jwk = draft.signing_key(parties).public_jwk("mine");
    let e = jwk.e.unwrap_or_default();
    let (name, value) = match rng.below(5) {
        0 => ("jwk", format!("{{\"kty\":\"RSA\",\"e\":\"{e}\",\"kid\":\"mine\",\"alg\":\"none\"}}")),
        1 => ("jku", "\"https://evil.example/jwks.json\"".to_owned()),
        2 => ("x5u", "\"https://evil.example/cert.pem\"".to_owned()),
        3 => ("x5c", "[\"MIIB\"]".to_owned()),
        _ => ("cty", "\"JWT\"".to_owned()),
    };
    draft.header.insert(rng, quote(name), value);
    draft.expect(Ok(()), format!("{name} is there"));
}

pub(super) fn wrong_type(draft: &mut Draft, rng: &mut Rng, _: &[Party]) {
    let name = *rng.pick(&["alg", "kid", "typ"]);
    let value = *rng.pick(&[
        "null",
        "1",
        "true",
        "{}",
        "[]",
        "[\"RS256\"]",
        "\"RS256\\u0000\"",
        "{\"alg\":\"RS256\"}",
        "0.5",
    ]);
    draft.header.set(name, value);
    draft.expect(Err(Reason::TokenHeader), format!("{name} is {value}"));
}

pub(super) fn duplicate(draft: &mut Draft, rng: &mut Rng, _: &[Party]) {
    let name = *rng.pick(&["alg", "kid", "typ", "jwk", "zip"]);
    let known = !["jwk", "zip"].contains(&name);
    let first = draft.header.get(name).map_or(b"\"JWT\"".to_vec(), <[u8]>::to_vec);
    draft.header.set(name, first.clone());
    let spelt = if rng.one_in(2) { spell_escaped(rng, name) } else { quote(name) };
    let second = if rng.one_in(2) { first } else { b"\"none\"".to_vec() };
    draft.header.insert(rng, spelt, second);
    draft.expect(if known { Err(Reason::TokenHeader) } else { Ok(()) }, format!("{name} twice"));
}
