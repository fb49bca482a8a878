//! Whole tokens (RFC 7515, RFC 7519): what is verified, and for which reason anything else is refused.

use aws_lc_rs::signature::{EcdsaKeyPair, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis_bpf::abi::{Identity, Issuer, Name, Revocation, alg, identity_flag, name_kind};
use portcullis_bpf::host::SlotField;
use portcullis_bpf::limits::{NAME_MAX, TOKEN_MAX};
use portcullis_bpf::p256_tables;
use portcullis_bpf::reason::REASONS;
use portcullis_testkit::{Rng, seed};
use zerocopy::{FromBytes, IntoBytes};

use crate::engine::{Engine, on_both};
use crate::keys::{
    RSA2048, RSA3072, RSA4096, RsaSize, generate_p256, modulus, set_p256_key, sign_p256, sign_rsa,
};

on_both! {
    "jwt_parse jwt_rs256_2048": valid_rs256_2048,
    "jwt_parse jwt_rs256_3072": valid_rs256_3072,
    "jwt_parse jwt_rs256_4096": valid_rs256_4096,
    "jwt_parse jwt_es256": valid_es256,
    "jwt_parse jwt_rs256_2048": identity,
    "jwt_parse jwt_rs256_2048": compact_form,
    "jwt_parse jwt_rs256_2048": header,
    "jwt_parse jwt_rs256_2048": claims,
    "jwt_parse jwt_rs256_2048": times,
    "jwt_parse jwt_rs256_2048": halves_are_apart,
    "jwt_parse jwt_rs256_2048": issuers_are_apart,
    "jwt_parse jwt_rs256_2048": no_changed_bit_passes_rs256,
    "revoked": revocations,
    "jwt_parse jwt_es256": no_changed_bit_passes_es256,
}

const NOW: u64 = 1_700_000_000;
const LEEWAY: u32 = 30;
const HALF: u8 = 1;
const ISSUER: u32 = 65;
const HEADER: &str = r#"{"alg":"RS256","typ":"JWT","kid":"k1"}"#;
const CLAIMS: &str = r#"{"iss":"https://idp.example","aud":"api","exp":1700000600}"#;

fn name(engine: &mut Engine, half: u8, kind: u8, scope: u32, text: &str, value: u32) {
    let mut s = [0; NAME_MAX];
    s[..text.len()].copy_from_slice(text.as_bytes());
    let key = Name { half, kind, len: text.len() as u16, scope, s };
    engine.update("pc_names", key.as_bytes(), &value.to_ne_bytes());
}

/// The issuer https://idp.example of half 1 with the audience `api` and one key, `k1`.
fn configure(engine: &mut Engine, algorithm: u32) {
    name(engine, HALF, name_kind::ISSUER, 0, "https://idp.example", ISSUER);
    name(engine, HALF, name_kind::AUDIENCE, ISSUER, "api", 1);
    name(engine, HALF, name_kind::KID, ISSUER, "k1", algorithm << 16 | 3);
    let issuer = Issuer { id: 0, leeway_s: LEEWAY };
    engine.update("pc_issuers", &ISSUER.to_ne_bytes(), issuer.as_bytes());
}

fn rs256(engine: &mut Engine) -> RsaKeyPair {
    configure(engine, alg::RS256_2048);
    let pair = RSA2048.generate();
    RSA2048.set_key(engine, 3, &modulus(&pair));
    pair
}

fn es256(engine: &mut Engine) -> EcdsaKeyPair {
    configure(engine, alg::ES256);
    engine.points("pc_p256_g", 0, &p256_tables::generator_table());
    let pair = generate_p256();
    set_p256_key(engine, 3, &pair);
    pair
}

fn signed(header: &[u8], claims: &[u8], sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let mut token = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = sign(token.as_bytes());
    token.push('.');
    token += &URL_SAFE_NO_PAD.encode(signature);
    token
}

fn place(engine: &mut Engine, token: &[u8], now: u64) {
    // Not at the start, so that offsets count.
    engine.set_head(&[b"GET / HTTP/1.1\r\nAuthorization: Bearer ", token, b"\r\n\r\n"].concat());
    engine.set_u32(SlotField::JWT_TOKEN, 38);
    engine.set_u32(SlotField::JWT_TOKEN_LEN, token.len() as u32);
    engine.set_u32(SlotField::JWT_HALF, u32::from(HALF));
    engine.set_u64(SlotField::JWT_NOW, now);
}

/// Both steps on the token at `now`; the slug of the reason, `none` when it is verified.
fn verify_at(engine: &mut Engine, token: &[u8], now: u64) -> &'static str {
    place(engine, token, now);
    let parsed = engine.run();
    if parsed == 0 {
        assert_eq!(engine.run_step(1), engine.u32(SlotField::JWT_REASON) as i32);
    }
    let code = engine.u32(SlotField::JWT_REASON);
    let row = REASONS.iter().find(|row| u32::from(row.code) == code).expect("a known reason");
    assert!(parsed == 0 || code != 0, "a refusal has a reason");
    row.slug
}

fn check(engine: &mut Engine, token: impl AsRef<[u8]>, expected: &str) {
    let token = token.as_ref();
    assert_eq!(verify_at(engine, token, NOW), expected, "{}", token.escape_ascii());
}

fn valid_rsa(engine: &mut Engine, size: RsaSize, algorithm: u32) {
    configure(engine, algorithm);
    let pair = size.generate();
    size.set_key(engine, 3, &modulus(&pair));
    let token = signed(HEADER.as_bytes(), CLAIMS.as_bytes(), |m| sign_rsa(&pair, m));
    check(engine, &token, "none");
    check(engine, &token[..token.len() - 1], "token_signature");
    check(engine, format!("{token}A"), "token_signature");
    let mut other = modulus(&pair);
    other[100] ^= 1;
    size.set_key(engine, 3, &other);
    check(engine, &token, "token_signature");
    size.set_key(engine, 3, &modulus(&pair));
    check(engine, &token, "none");
    // Each size is its own algorithm: a signature of another length is none.
    let small = RSA2048.generate();
    check(engine, signed(HEADER.as_bytes(), CLAIMS.as_bytes(), |m| sign_rsa(&small, m)), "token_signature");
    let header = HEADER.replace("RS256", "ES256");
    check(engine, signed(header.as_bytes(), CLAIMS.as_bytes(), |m| sign_rsa(&pair, m)), "token_alg");
}

fn valid_rs256_2048(engine: &mut Engine) {
    valid_rsa(engine, RSA2048, alg::RS256_2048);
}
fn valid_rs256_3072(engine: &mut Engine) {
    valid_rsa(engine, RSA3072, alg::RS256_3072);
}
fn valid_rs256_4096(engine: &mut Engine) {
    valid_rsa(engine, RSA4096, alg::RS256_4096);
}

fn valid_es256(engine: &mut Engine) {
    let pair = es256(engine);
    let header = HEADER.replace("RS256", "ES256");
    let token = signed(header.as_bytes(), CLAIMS.as_bytes(), |m| sign_p256(&pair, m));
    check(engine, &token, "none");
    check(engine, &token[..token.len() - 1], "token_signature");
    check(engine, format!("{token}A"), "token_signature");
    check(
        engine,
        signed(header.as_bytes(), CLAIMS.as_bytes(), |m| sign_p256(&generate_p256(), m)),
        "token_signature",
    );
    check(engine, signed(header.as_bytes(), CLAIMS.as_bytes(), |_| vec![0; 64]), "token_signature");
    check(engine, signed(HEADER.as_bytes(), CLAIMS.as_bytes(), |m| sign_p256(&pair, m)), "token_alg");
}

fn identity(engine: &mut Engine) {
    let pair = rs256(engine);
    name(engine, HALF, name_kind::ROLE, 0, "admin", 0);
    name(engine, HALF, name_kind::ROLE, 0, "caf\u{e9}", 64);
    name(engine, HALF, name_kind::PERMISSION, 0, "admin", 511);
    name(engine, HALF, name_kind::GROUP, 0, "g", 7);
    name(engine, HALF, name_kind::ORG, 0, "o1", 130);
    // The other half must not count.
    name(engine, 0, name_kind::ROLE, 0, "dev", 9);
    let claims = r#"{"iss":"https://idp.example","aud":["x","api"],"exp":1700000600,"nbf":1,"iat":2,"auth_time":3,
        "sub":"user \u0031","email":"a@b.example","roles":["dev","admin","caf\u00e9"],"groups":["h","g"],"org_id":"o1",
        "mfa_verified":true,"sid":"s","jti":"j"}"#;
    check(engine, signed(HEADER.as_bytes(), claims.as_bytes(), |m| sign_rsa(&pair, m)), "none");
    let id = Identity::read_from_bytes(engine.bytes(SlotField::ID, size_of::<Identity>())).expect("identity");
    assert_eq!((id.exp, id.nbf, id.iat, id.auth_time), (1_700_000_600, 1, 2, 3));
    assert_eq!(
        id.flags,
        identity_flag::MFA | identity_flag::NBF | identity_flag::IAT | identity_flag::AUTH_TIME
    );
    assert_eq!(id.issuer, ISSUER);
    assert_eq!(
        id.bits.w,
        [1 | 1 << 7, 1, 1 << 2, 0, 0, 0, 0, 0],
        "admin and g, caf\u{e9}, o1; no permission"
    );
    assert_eq!((id.sub.len, &id.sub.s[..7]), (6, &b"user 1\0"[..]));
    assert_eq!((id.email.len, &id.email.s[..12]), (11, &b"a@b.example\0"[..]));
    assert_eq!((id.kid_len, &id.kid[..3]), (2, &b"k1\0"[..]));
    // A second token leaves nothing of the first.
    check(engine, signed(HEADER.as_bytes(), CLAIMS.as_bytes(), |m| sign_rsa(&pair, m)), "none");
    let id = Identity::read_from_bytes(engine.bytes(SlotField::ID, size_of::<Identity>())).expect("identity");
    assert_eq!((id.flags, id.nbf, id.bits.w, id.sub.len, id.email.len), (0, 0, [0; 8], 0, 0));
    assert!(id.sub.s.iter().chain(&id.email.s).all(|b| *b == 0));
}

fn compact_form(engine: &mut Engine) {
    let pair = rs256(engine);
    let token = signed(HEADER.as_bytes(), CLAIMS.as_bytes(), |m| sign_rsa(&pair, m));
    check(engine, &token, "none");
    let [header, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    let malformed = [
        String::new(),
        ".".into(),
        "..".into(),
        "...".into(),
        format!("{header}.{claims}"),
        format!("{header}.{claims}."),
        format!("{header}..{signature}"),
        format!(".{claims}.{signature}"),
        format!("{token}."),
        format!("{token}.x"),
        format!("{header}=.{claims}.{signature}"),
        format!("{header}.{claims}=.{signature}"),
        format!("{header}.{claims}+.{signature}"),
        format!(" {token}"),
        format!("{header}A.{claims}.{signature}")
            .replacen(header, &header[..header.len() - 1], 1)
            .replacen("A.", "/.", 1),
    ];
    for bad in &malformed {
        check(engine, bad, "token_malformed");
    }
    for bad in [format!("{token}="), format!("{header}.{claims}.{}+", &signature[1..]), format!("{token} ")] {
        check(engine, bad, "token_signature");
    }
    // Spare bits of the last character: 2048 bits leave four.
    let last = &token[token.len() - 1..];
    for other in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".chars() {
        if !last.contains(other) {
            check(engine, format!("{}{other}", &token[..token.len() - 1]), "token_signature");
        }
    }
    // The longest token, and one character more.
    let rest = TOKEN_MAX - (header.len() + 2 + signature.len());
    let filled = |chars: usize| {
        let octets = chars / 4 * 3 + [0, 0, 1, 2][chars % 4];
        let pad = octets - CLAIMS.len() - r#","x":"""#.len();
        let claims = CLAIMS.replace('}', &format!(r#","x":"{}"}}"#, "p".repeat(pad)));
        signed(HEADER.as_bytes(), claims.as_bytes(), |m| sign_rsa(&pair, m))
    };
    let longest = (rest - 4..=rest).rev().map(filled).find(|t| t.len() <= TOKEN_MAX).expect("fits");
    assert!(longest.len() >= TOKEN_MAX - 1, "{}", longest.len());
    check(engine, &longest, "none");
    check(engine, "a".repeat(TOKEN_MAX + 1), "token_too_large");
    check(engine, filled(rest + 4), "token_too_large");
}

fn header(engine: &mut Engine) {
    let pair = rs256(engine);
    let mut expect = |header: &str, reason: &str| {
        check(engine, signed(header.as_bytes(), CLAIMS.as_bytes(), |m| sign_rsa(&pair, m)), reason);
    };
    for good in [
        r#"{"alg":"RS256","kid":"k1"}"#,
        r#" { "kid" : "k1" , "alg" : "RS256" } "#,
        r#"{"alg":"RS\u0032\u00356","kid":"\u006b1","x5t":"a","jwk":{"kty":"oct"}}"#,
        r#"{"alg":"RS256","kid":"k1","typ":"jwt"}"#,
        r#"{"alg":"RS256","kid":"k1","typ":"at+JWT"}"#,
        r#"{"alg":"RS256","kid":"k1","typ":"application/jwt"}"#,
        r#"{"alg":"RS256","kid":"k1","typ":"application/at+jwt"}"#,
        r#"{"alg":"RS256","kid":"k1","exp":"a claim means nothing here"}"#,
    ] {
        expect(good, "none");
    }
    for bad in [
        "{}",
        "[]",
        "x",
        r#"{"kid":"k1"}"#,
        r#"{"alg":null,"kid":"k1"}"#,
        r#"{"alg":["RS256"],"kid":"k1"}"#,
        r#"{"alg":"RS256","alg":"RS256","kid":"k1"}"#,
        r#"{"alg":"RS256","kid":"k1","kid":"k1"}"#,
        r#"{"alg":"RS256","kid":1}"#,
        r#"{"alg":"RS256","kid":"k1","crit":["exp"]}"#,
        r#"{"alg":"RS256","kid":"k1","crit":[]}"#,
        r#"{"alg":"RS256","kid":"k1","b64":true}"#,
        r#"{"alg":"RS256","kid":"k1","b64":false}"#,
        r#"{"alg":"RS256","kid":"k1","typ":"JWS"}"#,
        r#"{"alg":"RS256","kid":"k1","typ":""}"#,
        r#"{"alg":"RS256","kid":"k1","typ":"jwt "}"#,
        r#"{"alg":"RS256","kid":"k1","typ":"application/jwtx"}"#,
        r#"{"alg":"RS256","kid":"k1"}x"#,
    ] {
        expect(bad, "token_header");
    }
    expect(&format!(r#"{{"alg":"RS256","kid":"k1","x":"{}"}}"#, "p".repeat(1000)), "token_header");
    for bad in ["none", "None", "HS256", "RS384", "PS256", "RS256 ", "rs256", "", "RS2560", "ES384"] {
        expect(&format!(r#"{{"alg":"{bad}","kid":"k1"}}"#), "token_alg");
    }
    expect(r#"{"alg":"RS256"}"#, "token_key");
    for bad in ["k2", "K1", "k1 ", "k", "k11", ""] {
        expect(&format!(r#"{{"alg":"RS256","kid":"{bad}"}}"#), "token_key");
    }
    expect(&format!(r#"{{"alg":"RS256","kid":"{}"}}"#, "k".repeat(NAME_MAX + 1)), "token_key");
    expect(r#"{"alg":"RS256","kid":"k1\u0000"}"#, "token_header");
}

fn claims(engine: &mut Engine) {
    let pair = rs256(engine);
    let mut expect = |claims: &str, reason: &str| {
        check(engine, signed(HEADER.as_bytes(), claims.as_bytes(), |m| sign_rsa(&pair, m)), reason);
    };
    let with = |from: &str, to: &str| CLAIMS.replace(from, to);
    expect(&with("\"api\"", r#"["api"]"#), "none");
    expect(&with("\"api\"", r#"["other","a\u0070i"]"#), "none");
    expect(&with("\"exp\"", r#""alg":1,"crit":[],"exp""#), "none");
    for bad in ["", "x", "[]", "\"exp\"", "{", "null"] {
        let expected = if bad.is_empty() { "token_malformed" } else { "token_claims" };
        expect(bad, expected);
    }
    for (from, to) in [
        (r#""iss":"https://idp.example","#, ""),
        (r#","exp":1700000600"#, ""),
        ("1700000600", "\"1700000600\""),
        ("1700000600", "1700000600.5"),
        ("1700000600", "1e18"),
        ("1700000600", "9999999999999999"),
        ("1700000600", "1700000600,\"exp\":1700000600"),
        ("1700000600", "1700000600,\"nbf\":\"0\""),
        ("1700000600", "1700000600,\"roles\":\"admin\""),
        ("1700000600", "1700000600,\"sub\":null"),
    ] {
        expect(&with(from, to), "token_claims");
    }
    for bad in ["https://idp.example/", "https://idp.exampl", "HTTPS://idp.example", "", "api"] {
        expect(&with("https://idp.example", bad), "token_issuer");
    }
    for bad in ["\"apx\"", "\"\"", "[]", "[\"x\",\"y\"]", "\"https://idp.example\""] {
        expect(&with("\"api\"", bad), "token_audience");
    }
    expect(&with(r#""aud":"api","#, ""), "token_audience");
    expect(&with(r#""aud":"api""#, r#""roles":["api"]"#), "token_audience");
}

/// RFC 7519 sections 4.1.4 to 4.1.6, with the issuer's leeway.
fn times(engine: &mut Engine) {
    let pair = rs256(engine);
    let leeway = u64::from(LEEWAY);
    let token = |claims: &str| {
        let claims = CLAIMS.replace(r#""exp":1700000600"#, claims);
        signed(HEADER.as_bytes(), claims.as_bytes(), |m| sign_rsa(&pair, m))
    };
    let mut expect =
        |token: &str, now: u64, reason: &str| assert_eq!(verify_at(engine, token.as_bytes(), now), reason);
    let t = token(r#""exp":1000,"nbf":900,"iat":800"#);
    expect(&t, 1000 + leeway - 1, "none");
    expect(&t, 1000 + leeway, "token_expired");
    expect(&t, 5_000_000_000, "token_expired");
    expect(&t, 900 - leeway, "none");
    expect(&t, 900 - leeway - 1, "token_not_yet");
    expect(&token(r#""exp":1000,"iat":900"#), 900 - leeway, "none");
    expect(&token(r#""exp":1000,"iat":900"#), 900 - leeway - 1, "token_iat");
    expect(&token(r#""exp":0"#), 1, "none");
    expect(&token(r#""exp":0"#), leeway, "token_expired");
    expect(&token(r#""exp":999999999999999"#), 1 << 40, "none");
    // Expired comes before not yet.
    expect(&token(r#""exp":10,"nbf":900"#), 100, "token_expired");
}

fn halves_are_apart(engine: &mut Engine) {
    let pair = rs256(engine);
    let token = signed(HEADER.as_bytes(), CLAIMS.as_bytes(), |m| sign_rsa(&pair, m));
    check(engine, &token, "none");
    // The same names in the other half, with another audience: nothing changes here.
    name(engine, 0, name_kind::ISSUER, 0, "https://idp.example", 2);
    name(engine, 0, name_kind::AUDIENCE, 2, "api2", 1);
    check(engine, &token, "none");
    check(engine, token.replace('.', ".."), "token_malformed");
    let other = signed(HEADER.as_bytes(), CLAIMS.replace("api", "api2").as_bytes(), |m| sign_rsa(&pair, m));
    check(engine, other, "token_audience");
}

/// THREATS: a key or an audience of one issuer is nothing to another.
fn issuers_are_apart(engine: &mut Engine) {
    let pair = rs256(engine);
    name(engine, HALF, name_kind::ISSUER, 0, "https://evil.example", 66);
    engine.update("pc_issuers", &66u32.to_ne_bytes(), Issuer { id: 1, leeway_s: 0 }.as_bytes());
    let claims = CLAIMS.replace("idp", "evil");
    let token = signed(HEADER.as_bytes(), claims.as_bytes(), |m| sign_rsa(&pair, m));
    check(engine, &token, "token_audience");
    name(engine, HALF, name_kind::AUDIENCE, 66, "api", 1);
    check(engine, &token, "token_key");
    // The same kid with a key of its own.
    let evil = RSA2048.generate();
    RSA2048.set_key(engine, 4, &modulus(&evil));
    name(engine, HALF, name_kind::KID, 66, "k1", alg::RS256_2048 << 16 | 4);
    check(engine, &token, "token_signature");
    check(engine, signed(HEADER.as_bytes(), claims.as_bytes(), |m| sign_rsa(&evil, m)), "none");
    check(engine, signed(HEADER.as_bytes(), CLAIMS.as_bytes(), |m| sign_rsa(&evil, m)), "token_signature");
    // A kid that points at no key.
    name(engine, HALF, name_kind::KID, 66, "k9", alg::RS256_2048 << 16 | 0xffff);
    let header = HEADER.replace("k1", "k9");
    check(engine, signed(header.as_bytes(), claims.as_bytes(), |m| sign_rsa(&evil, m)), "token_signature");
}

/// By each claim, with and without `iat`, of this issuer and this half only.
fn revocations(engine: &mut Engine) {
    configure(engine, alg::RS256_2048);
    let revoke = |engine: &mut Engine, half, kind, scope, text: &str, not_before: u64| {
        let mut s = [0; NAME_MAX];
        s[..text.len()].copy_from_slice(text.as_bytes());
        let key = Name { half, kind, len: text.len() as u16, scope, s };
        engine.update("pc_revoked", key.as_bytes(), Revocation { not_before }.as_bytes());
    };
    revoke(engine, HALF, name_kind::REVOKED_SUB, ISSUER, "mallory", 1000);
    revoke(engine, HALF, name_kind::REVOKED_SID, ISSUER, "s1", u64::MAX);
    revoke(engine, HALF, name_kind::REVOKED_JTI, ISSUER, "j1", u64::MAX);
    revoke(engine, HALF, name_kind::REVOKED_ORG, ISSUER, "o1", 1000);
    revoke(engine, HALF, name_kind::REVOKED_SUB, ISSUER + 1, "alice", u64::MAX);
    revoke(engine, 0, name_kind::REVOKED_SUB, ISSUER, "alice", u64::MAX);
    revoke(engine, HALF, name_kind::ROLE, ISSUER, "alice", u64::MAX);
    let mut expect = |claims: &str, revoked: bool| {
        let claims = CLAIMS.replace('}', &format!(",{claims}}}"));
        let token = signed(HEADER.as_bytes(), claims.as_bytes(), |_| vec![0; 256]);
        place(engine, token.as_bytes(), NOW);
        assert_eq!(engine.run(), i32::from(revoked), "{claims}");
    };
    expect(r#""sub":"mallory""#, true);
    expect(r#""sub":"mallory","iat":999"#, true);
    expect(r#""sub":"mallory","iat":1000"#, false);
    expect(r#""sub":"m\u0061llory","iat":999"#, true);
    expect(r#""sub":"alice","iat":1"#, false);
    expect(r#""sub":"mallor","email":"mallory","roles":["mallory"]"#, false);
    expect(r#""sid":"s1","iat":1699999999"#, true);
    expect(r#""jti":"j1","iat":1699999999"#, true);
    expect(r#""org_id":"o1","iat":1"#, true);
    expect(r#""org_id":"o1","iat":1001"#, false);
    expect(r#""sub":"s1","sid":"j1","jti":"o1","org_id":"mallory""#, false);
    expect(&format!(r#""sub":"{}""#, "a".repeat(NAME_MAX)), false);
    // Cannot be looked up.
    expect(&format!(r#""sub":"{}""#, "a".repeat(NAME_MAX + 1)), true);
}

/// Every bit of a token's characters changed, some of them in a kernel run; none passes.
fn no_changed_bit_passes(engine: &mut Engine, token: &str) {
    check(engine, token, "none");
    let mut rng = Rng::new(seed());
    for _ in 0..800 {
        let mut changed = token.as_bytes().to_vec();
        let bit = rng.below(8 * changed.len() as u64) as usize;
        changed[bit / 8] ^= 1 << (bit % 8);
        assert_ne!(verify_at(engine, &changed, NOW), "none", "bit {bit}");
    }
}

fn no_changed_bit_passes_rs256(engine: &mut Engine) {
    let pair = rs256(engine);
    no_changed_bit_passes(engine, &signed(HEADER.as_bytes(), CLAIMS.as_bytes(), |m| sign_rsa(&pair, m)));
}

fn no_changed_bit_passes_es256(engine: &mut Engine) {
    let pair = es256(engine);
    let header = HEADER.replace("RS256", "ES256");
    no_changed_bit_passes(engine, &signed(header.as_bytes(), CLAIMS.as_bytes(), |m| sign_p256(&pair, m)));
}

/// What the steps of one token cost: the parse, and digest and signature.
pub fn cost() {
    let mut engine = Engine::kernel("jwt_parse jwt_rs256_2048 revoked");
    let pair = rs256(&mut engine);
    let claims = format!(
        r#"{{"iss":"https://idp.example","aud":"api","exp":1700000600,"iat":1700000000,"sub":"user-1","email":"u@example.org","roles":["reader","writer"],"jti":"0123456789abcdef","pad":"{}"}}"#,
        "x".repeat(120)
    );
    let token = signed(HEADER.as_bytes(), claims.as_bytes(), |text| sign_rsa(&pair, text));
    for (step, label) in [(0, "jwt_parse"), (1, "jwt_rs256_2048"), (2, "jwt_parse and revoked")] {
        let mut times: Vec<_> = (0..31)
            .map(|_| {
                place(&mut engine, token.as_bytes(), NOW);
                engine.run_step(0);
                let (result, time) = engine.timed(step, 1);
                assert_eq!(result, 0, "{label}");
                let mut all = time;
                for _ in 0..20 {
                    place(&mut engine, token.as_bytes(), NOW);
                    engine.run_step(0);
                    all = all.min(engine.timed(step, 1).1);
                }
                all
            })
            .collect();
        times.sort_unstable();
        println!("{label} ({} characters): least {:?}, median {:?}", token.len(), times[0], times[15]);
    }
}
