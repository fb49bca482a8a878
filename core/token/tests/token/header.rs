//! The JOSE header (RFC 7515 section 4; RFC 8725 sections 2.1, 3.1, 3.10, 3.11; THREATS T30, T31).

use portcullis_token::verify;
use portcullis_wire::Reason;

use crate::fixture::{NOW_S, claims, ec, judge_header, refused, rsa, store};

#[track_caller]
fn header_refused(header: &str) {
    refused(judge_header(header), Reason::TokenHeader);
}

#[test]
fn algorithms_by_name() {
    assert!(judge_header(r#"{"alg":"ES256","kid":"ec"}"#).is_ok());
    assert!(judge_header(r#"{"alg":"\u0045S256","kid":"\u0065c"}"#).is_ok());
    for alg in [
        "none", "None", "NONE", "nOnE", "HS256", "HS384", "HS512", "RS384", "RS512", "PS256", "PS384",
        "PS512", "ES384", "ES512", "ES256K", "EdDSA", "Ed25519", "es256", "ES256 ", " ES256", "ES2560",
        "ES25", "", "dir", "RSA-OAEP",
    ] {
        refused(judge_header(&format!(r#"{{"alg":"{alg}","kid":"ec"}}"#)), Reason::TokenAlg);
    }
}

//= https://www.rfc-editor.org/rfc/rfc8725#section-3.1
//= type=test
//# Each key MUST be used with exactly one algorithm, and this MUST be checked when the cryptographic operation is
//# performed.
/// The algorithm is the key's: signed with the key that kid names, under the name of the other algorithm.
#[test]
fn algorithm_of_the_key() {
    for (key, header) in [(ec(), r#"{"alg":"RS256","kid":"ec"}"#), (rsa(), r#"{"alg":"ES256","kid":"rsa"}"#)]
    {
        let token = key.sign(header, &claims(&[]));
        refused(verify(token.as_bytes(), store(), NOW_S), Reason::TokenAlg);
    }
    for (key, header) in [(ec(), r#"{"alg":"ES256","kid":"ec"}"#), (rsa(), r#"{"alg":"RS256","kid":"rsa"}"#)]
    {
        let token = key.sign(header, &claims(&[]));
        assert!(verify(token.as_bytes(), store(), NOW_S).is_ok());
    }
}

#[test]
fn types_are_exact() {
    for value in [
        "null",
        "1",
        "true",
        "[]",
        "{}",
        "[\"ES256\"]",
        "{\"a\":\"ES256\"}",
        "\"ES256\\u0000\"",
        "\"\\u0000\"",
    ] {
        header_refused(&format!(r#"{{"alg":{value},"kid":"ec"}}"#));
        header_refused(&format!(r#"{{"alg":"ES256","kid":{value}}}"#));
        header_refused(&format!(r#"{{"alg":"ES256","kid":"ec","typ":{value}}}"#));
    }
}

#[test]
fn members_that_must_be_there() {
    header_refused("{}");
    header_refused(r#"{"kid":"ec"}"#);
    header_refused(r#"{"kid":"ec","Alg":"ES256","alg ":"ES256","alg\u0000":"ES256"}"#);
    refused(judge_header(r#"{"alg":"ES256"}"#), Reason::TokenKey);
    refused(judge_header(r#"{"alg":"ES256","KID":"ec"}"#), Reason::TokenKey);
}

//= https://www.rfc-editor.org/rfc/rfc7515#section-4
//= type=test
//# The Header Parameter names within the JOSE Header MUST be unique
#[test]
fn duplicates() {
    header_refused(r#"{"alg":"ES256","alg":"ES256","kid":"ec"}"#);
    header_refused(r#"{"alg":"none","alg":"ES256","kid":"ec"}"#);
    header_refused(r#"{"alg":"ES256","kid":"ec","\u0061lg":"none"}"#);
    header_refused(r#"{"alg":"ES256","kid":"ec","\u006b\u0069\u0064":"ec"}"#);
    header_refused(r#"{"alg":"ES256","kid":"ec","typ":"JWT","typ":"JWT"}"#);
    assert!(judge_header(r#"{"alg":"ES256","kid":"ec","x":1,"x":{"alg":"none","alg":1}}"#).is_ok());
}

#[test]
fn typ() {
    for typ in ["JWT", "jwt", "at+jwt", "AT+JWT", "application/jwt", "Application/at+JWT", "J\\u0057T"] {
        assert!(judge_header(&format!(r#"{{"alg":"ES256","kid":"ec","typ":"{typ}"}}"#)).is_ok(), "{typ}");
    }
    for typ in [
        "",
        "JWS",
        "JOSE",
        "jw",
        "JWTT",
        "JWT ",
        " JWT",
        "application/",
        "application/JWT ",
        "text/jwt",
        "dpop+jwt",
        "secevent+jwt",
        "logout+jwt",
        "id+jwt",
        "application/jwt; charset=utf-8",
        "\u{17f}wt",
        "JWT\u{212a}",
    ] {
        header_refused(&format!(r#"{{"alg":"ES256","kid":"ec","typ":"{typ}"}}"#));
    }
}

//= https://www.rfc-editor.org/rfc/rfc7515#section-4.1.11
//= type=test
//# If any of the listed extension Header Parameters are not understood and supported by the recipient, then the JWS is
//# invalid.
#[test]
fn extensions_are_not_understood() {
    for value in ["[\"exp\"]", "[\"b64\"]", "[]", "null", "\"exp\"", "{}", "true", "1"] {
        header_refused(&format!(r#"{{"alg":"ES256","kid":"ec","crit":{value}}}"#));
        header_refused(&format!(r#"{{"crit":{value},"alg":"ES256","kid":"ec"}}"#));
    }
    for value in ["false", "true", "null", "\"false\"", "0"] {
        header_refused(&format!(r#"{{"alg":"ES256","kid":"ec","b64":{value}}}"#));
        header_refused(&format!(r#"{{"alg":"ES256","kid":"ec","\u0062\u0036\u0034":{value}}}"#));
    }
}

#[test]
fn keys_of_the_token_mean_nothing() {
    for member in [
        r#""jwk":{"kty":"oct","k":"AA"}"#,
        r#""jku":"https://evil.example/jwks.json""#,
        r#""x5u":"https://evil.example/cert.pem""#,
        r#""x5c":["MIIB"],"x5t":"AA","x5t#S256":"AA""#,
        r#""zip":"DEF""#,
        r#""cty":"JWT""#,
    ] {
        assert!(judge_header(&format!(r#"{{"alg":"ES256","kid":"ec",{member}}}"#)).is_ok(), "{member}");
    }
}

#[test]
fn kids_of_nobody() {
    for kid in [
        "",
        "EC",
        "ec ",
        " ec",
        "ec\\n",
        "e",
        "ecc",
        "../../dev/null",
        "/etc/passwd",
        "ec' OR '1'='1",
        "*",
        "ec,rsa",
        "e\u{301}c",
    ] {
        refused(judge_header(&format!(r#"{{"alg":"ES256","kid":"{kid}"}}"#)), Reason::TokenKey);
    }
    refused(judge_header(&format!(r#"{{"alg":"ES256","kid":"{}"}}"#, "k".repeat(900))), Reason::TokenKey);
}

#[test]
fn size() {
    let sized = |octets: usize| {
        let header = |pad: usize| format!(r#"{{"alg":"ES256","kid":"ec","x":"{}"}}"#, "x".repeat(pad));
        header(octets - header(0).len())
    };
    assert!(judge_header(&sized(1024)).is_ok());
    header_refused(&sized(1025));
}

#[test]
fn not_one_object() {
    for header in [
        "[]",
        "null",
        "\"ES256\"",
        "{",
        "}",
        r#"{"alg":"ES256","kid":"ec"}}"#,
        r#"{"alg":"ES256","kid":"ec"}{}"#,
        r#"[{"alg":"ES256","kid":"ec"}]"#,
        r#"{"alg":"ES256","kid":"ec",}"#,
        r#"{alg:"ES256","kid":"ec"}"#,
        "\u{feff}{\"alg\":\"ES256\",\"kid\":\"ec\"}",
        "{'alg':'ES256','kid':'ec'}",
    ] {
        header_refused(header);
    }
    assert!(judge_header(" \t\r\n{ \"alg\" : \"ES256\" ,\n\"kid\"\t: \"ec\" }\n").is_ok());
}
