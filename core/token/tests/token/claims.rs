//! The claims set (RFC 7519 section 4, RFC 8259, THREATS T35).

use portcullis_token::Claims;
use portcullis_wire::Reason;

use crate::fixture::{AUDIENCE, ES256, ISSUER, NOW_S, claims, ec, judge, judge_claims, refused};

#[track_caller]
fn claims_refused(claims: &str) {
    refused(judge_claims(claims), Reason::TokenClaims);
}

/// Refused with this claim, accepted without.
#[track_caller]
fn claim_refused(name: &str, value: &str) {
    claims_refused(&claims(&[(name, value)]));
}

#[track_caller]
fn accepted(claims: &str) -> Claims {
    judge_claims(claims).expect("acceptable claims").claims().clone()
}

#[test]
fn every_claim_is_read() {
    let token = judge_claims(&claims(&[
        ("aud", r#"["other","api://shop"]"#),
        ("sub", "\"u1\""),
        ("jti", "\"t1\""),
        ("sid", "\"s1\""),
        ("email", "\"u@example\""),
        ("org_id", "\"o1\""),
        ("roles", r#"["admin","\u00e9\ud83d\ude00"]"#),
        ("permissions", r#"["a:b"]"#),
        ("groups", "[]"),
        ("nbf", "1"),
        ("iat", "2"),
        ("auth_time", "3"),
        ("mfa_verified", "true"),
    ]))
    .expect("a valid token");
    assert_eq!((token.kid(), token.issuer()), ("ec", ISSUER));
    let expected = Claims {
        iss: ISSUER.to_owned(),
        aud: vec!["other".to_owned(), AUDIENCE.to_owned()],
        sub: Some("u1".to_owned()),
        jti: Some("t1".to_owned()),
        sid: Some("s1".to_owned()),
        email: Some("u@example".to_owned()),
        org_id: Some("o1".to_owned()),
        roles: vec!["admin".to_owned(), "é😀".to_owned()],
        permissions: vec!["a:b".to_owned()],
        groups: vec![],
        exp: NOW_S + 300,
        nbf: Some(1),
        iat: Some(2),
        auth_time: Some(3),
        mfa_verified: true,
    };
    assert_eq!(*token.claims(), expected);
}

#[test]
fn what_may_be_absent() {
    let Claims { sub, roles, nbf, auth_time, mfa_verified, .. } = accepted(&claims(&[]));
    assert_eq!((sub, roles, nbf, auth_time, mfa_verified), (None, vec![], None, None, false));
    claims_refused(&claims(&[("iss", "")]));
    claims_refused(&claims(&[("exp", "")]));
    claims_refused("{}");
}

#[test]
fn strings_are_strings() {
    for name in ["iss", "sub", "jti", "sid", "email", "org_id"] {
        for value in
            ["null", "0", "true", "[]", "{}", "[\"a\"]", "{\"a\":\"b\"}", "\"a\\u0000b\"", "\"\\u0000\""]
        {
            claim_refused(name, value);
        }
    }
}

#[test]
fn lists_are_lists_of_strings() {
    for name in ["roles", "permissions", "groups"] {
        for value in [
            "\"admin\"",
            "null",
            "1",
            "false",
            "{}",
            "[1]",
            "[null]",
            "[true]",
            "[[\"a\"]]",
            "[[]]",
            "[{}]",
            "[\"a\",1]",
            "{\"0\":\"admin\"}",
            "[\"a\\u0000\"]",
            "[\"a\",]",
            "[,\"a\"]",
            "[\"a\" \"b\"]",
        ] {
            claim_refused(name, value);
        }
    }
    for value in ["null", "1", "true", "{}", "[1]", "[null]", "[[\"api://shop\"]]", "[\"api://shop\",null]"] {
        claim_refused("aud", value);
    }
}

#[test]
fn numbers_are_digits() {
    for name in ["exp", "nbf", "iat", "auth_time"] {
        for value in [
            "\"1\"",
            "null",
            "true",
            "[]",
            "{}",
            "[1]",
            "1.0",
            "1750000000.5",
            "1e3",
            "1E3",
            "1e+3",
            "-1",
            "-0",
            "01",
            "+1",
            "1.",
            ".5",
            "1e",
            "0x10",
            "NaN",
            "Infinity",
            "1000000000000000",
            "9007199254740993",
            "9223372036854775807",
            "9223372036854775808",
            "18446744073709551615",
            "18446744073709551616",
            "1e400",
            "99999999999999999999999999999999999999999999999999",
        ] {
            claim_refused(name, value);
        }
    }
    assert_eq!(accepted(&claims(&[("exp", "999999999999999")])).exp, 999_999_999_999_999);
    assert_eq!(accepted(&claims(&[("auth_time", "0")])).auth_time, Some(0));
}

#[test]
fn mfa_is_a_boolean() {
    for value in ["\"true\"", "1", "null", "[true]", "{}", "True", "TRUE", "tru", "truee", "\"\""] {
        claim_refused("mfa_verified", value);
    }
    assert!(accepted(&claims(&[("mfa_verified", "true")])).mfa_verified);
    assert!(!accepted(&claims(&[("mfa_verified", "false")])).mfa_verified);
}

//= https://www.rfc-editor.org/rfc/rfc7519#section-4
//= type=test
//# The Claim Names within a JWT Claims Set MUST be unique
#[test]
fn duplicates() {
    for (name, value) in [
        ("iss", "\"https://id.example/\""),
        ("aud", "\"api://shop\""),
        ("exp", "1999999999"),
        ("nbf", "1"),
        ("iat", "1"),
        ("auth_time", "1"),
        ("sub", "\"a\""),
        ("jti", "\"a\""),
        ("sid", "\"a\""),
        ("email", "\"a\""),
        ("org_id", "\"a\""),
        ("roles", "[]"),
        ("permissions", "[]"),
        ("groups", "[]"),
        ("mfa_verified", "true"),
    ] {
        let once = claims(&[(name, value)]);
        accepted(&once);
        let behind = |second: &str| format!("{},{second}:{value}}}", &once[..once.len() - 1]);
        claims_refused(&behind(&format!("\"{name}\"")));
        let escaped = format!("\"\\u{:04x}{}\"", name.as_bytes()[0], &name[1..]);
        claims_refused(&behind(&escaped));
        claims_refused(&format!("{{{escaped}:{value},{}", &once[1..]));
    }
    accepted(&claims(&[("x", "1,\"x\":2"), ("kid", "1,\"kid\":2")]));
}

#[test]
fn names_are_exact_and_at_the_top() {
    let hidden = format!(
        r#"{{"roles":["admin"],"mfa_verified":true,"sub":"root","exp":1,"exp":"x","iss":{ISSUER:?}}}"#
    );
    let read = accepted(&claims(&[
        ("a", &hidden),
        ("b", &format!("[{hidden},[{hidden}]]")),
        ("Roles", "[\"admin\"]"),
        ("roles ", "1"),
        ("roles\\u0000", "1"),
        ("r\u{6f}\u{301}les", "1"),
        ("mfa_verified1", "true"),
        ("", "true"),
    ]));
    assert_eq!((read.roles, read.mfa_verified, read.sub), (vec![], false, None));
    let escaped = accepted(&claims(&[("r\\u006fles", "[\"admin\"]")]));
    assert_eq!(escaped.roles, ["admin"]);
}

#[test]
fn escapes() {
    let email = |text: &str| judge_claims(&claims(&[("email", &format!("\"{text}\""))]));
    for (text, meaning) in [
        (r#"\"\\\/\b\f\n\r\t"#, "\"\\/\u{8}\u{c}\n\r\t"),
        (r"\u0041\u00e9\uFFFF", "A\u{e9}\u{ffff}"),
        (r"\ud83d\uDE00", "😀"),
        (r"\ud800\udc00\udbff\udfff", "\u{10000}\u{10ffff}"),
        (r"\\u0041", "\\u0041"),
    ] {
        assert_eq!(email(text).unwrap().claims().email.as_deref(), Some(meaning));
    }
    for text in [
        r"\",
        r"\x41",
        r"\u",
        r"\u004",
        r"\u004g",
        r"\u+041",
        r"\u 041",
        r"\ud800",
        r"\udc00",
        r"\ud800\u0041",
        r"\ud800\n",
        r"\ud800\ud800",
        r"\udc00\ud800",
        r"\ud800x",
        r"\0",
        r"\'",
        r"\U0041",
        r"\v",
    ] {
        refused(email(text), Reason::TokenClaims);
        // not even where nobody reads it
        claims_refused(&claims(&[("x", &format!("[{{\"y\":\"{text}\"}}]"))]));
        claims_refused(&claims(&[("x", &format!("{{\"{text}\":1}}"))]));
        claims_refused(&claims(&[(text, "1")]));
    }
}

#[test]
fn octets_are_utf8() {
    let with = |octets: &[u8]| {
        let [before, behind] = ["email", "x"].map(|name| {
            let text = claims(&[(name, "\"@\"")]).into_bytes();
            let at = text.iter().position(|b| *b == b'@').unwrap();
            [&text[..at], octets, &text[at + 1..]].concat()
        });
        [before, behind].map(|claims| judge(ec().sign_octets(ES256.as_bytes(), &claims)))
    };
    for good in [
        "\u{7f}",
        "\u{80}",
        "\u{7ff}",
        "\u{800}",
        "\u{d7ff}",
        "\u{e000}",
        "\u{ffff}",
        "\u{10000}",
        "\u{10ffff}",
    ] {
        assert!(with(good.as_bytes()).iter().all(Result::is_ok), "{good:?}");
    }
    for bad in [
        &b"\0"[..],
        b"\x1f",
        b"\n",
        b"\t",
        b"\x80",
        b"\xbf",
        b"\xc0\x80",
        b"\xc1\xbf",
        b"\xc2",
        b"\xe0\x9f\xbf",
        b"\xe1\x80",
        b"\xed\xa0\x80",
        b"\xed\xbf\xbf",
        b"\xf0\x8f\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
        b"\xfe",
        b"\xff",
    ] {
        with(bad).into_iter().for_each(|judgement| refused(judgement, Reason::TokenClaims));
    }
}

#[test]
fn limits() {
    let nested = |levels: usize| claims(&[("x", &format!("{}0{}", "[".repeat(levels), "]".repeat(levels)))]);
    accepted(&nested(15));
    claims_refused(&nested(16));
    let values = |count: usize| claims(&[("roles", &format!("[{}]", vec!["\"r\""; count].join(",")))]);
    // iss and aud are two of the 128
    accepted(&values(126));
    claims_refused(&values(127));
    // the object with three members of one token each: 13; with a fourth, an array of n numbers: 17 + 2 n
    let tokens =
        |numbers: usize, first: &str| claims(&[("x", &format!("[{first}{}]", vec!["0"; numbers].join(",")))]);
    accepted(&tokens(503, ""));
    accepted(&tokens(502, "[],"));
    claims_refused(&tokens(504, ""));
    let escaped = |name: &str, raw: usize| claims(&[(name, &format!("\"\\n{}\"", "a".repeat(raw - 2)))]);
    accepted(&escaped("email", 256));
    claims_refused(&escaped("email", 257));
    accepted(&escaped("x", 1000));
    accepted(&claims(&[("email", &format!("\"{}\"", "a".repeat(1000)))]));
}

#[test]
fn not_one_object() {
    let good = claims(&[]);
    accepted(&format!(" \n\t\r{good}\r\n "));
    for bad in [
        format!("{good}{good}"),
        format!("{good},"),
        format!("{good}}}"),
        format!("[{good}]"),
        format!("\"{good}\""),
        format!("\u{feff}{good}"),
        format!("{good}\0"),
        format!("\0{good}"),
        format!("{good}//"),
        format!("/**/{good}"),
        good[1..].to_owned(),
        good[..good.len() - 1].to_owned(),
        good.replace(':', "="),
        good.replace('"', "'"),
        good.replace(',', ",,"),
        good.replace(',', ";"),
        good.replace(',', " "),
        good.replace('}', ",}"),
        good.replace('{', "{,"),
        "null".to_owned(),
        "[]".to_owned(),
        "0".to_owned(),
        "\u{a0}{}".to_owned(),
    ] {
        claims_refused(&bad);
    }
}
