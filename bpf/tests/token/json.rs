//! The walk over a claims set, against serde_json: syntax, types, duplicates, values; by hand and by mutation.

use std::fmt;

use portcullis_bpf::host::SlotField;
use portcullis_bpf::limits::{CLAIM_VALUES_MAX, JSON_DEPTH_MAX, JSON_TAIL, JSON_TOKENS_MAX};
use portcullis_testkit::{Rng, seed};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::engine::{Engine, on_both};

on_both! {
    "json": accepted,
    "json": refused,
    "json": counts_and_depth,
    "json": long_strings,
    "json": mutations,
}

/// Names of the known members, in the order of `enum pc_claim`.
const KNOWN: [&str; 20] = [
    "alg",
    "kid",
    "typ",
    "crit",
    "b64",
    "iss",
    "sub",
    "aud",
    "exp",
    "nbf",
    "iat",
    "auth_time",
    "jti",
    "sid",
    "org_id",
    "email",
    "roles",
    "permissions",
    "groups",
    "mfa_verified",
];
/// All but those of the JOSE header.
const CLAIMS: u32 = 0xf_ffe0;

/// What a walk keeps.
#[derive(Debug, Default, Eq, PartialEq)]
struct Claims {
    seen: u32,
    exp: u64,
    nbf: u64,
    iat: u64,
    auth_time: u64,
    mfa: bool,
    /// Strings of known members, in order.
    values: Vec<(u32, Vec<u8>)>,
}

/// Members of an object in order, duplicates included.
struct Members(Vec<(String, Value)>);

// === impl Members ===

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Walk;
        impl<'de> Visitor<'de> for Walk {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Walk)
    }
}

/// The rules of lib/claims.h, said again over serde_json's reading. `Err(true)`: serde_json has a limit of its own.
fn reference(text: &[u8]) -> Result<Claims, bool> {
    let Members(members) =
        serde_json::from_slice(text).map_err(|e| e.to_string().starts_with("number out of range"))?;
    let mut claims = Claims::default();
    for (name, value) in members {
        if 1 + depth(&value) > JSON_DEPTH_MAX {
            return Err(false);
        }
        let Some(index) = KNOWN.iter().position(|k| *k == name).filter(|i| CLAIMS >> i & 1 == 1) else {
            continue;
        };
        if claims.seen >> index & 1 == 1 {
            return Err(false);
        }
        claims.seen |= 1 << index;
        member(&mut claims, index, &value).ok_or(false)?;
    }
    if claims.values.len() > CLAIM_VALUES_MAX { Err(false) } else { Ok(claims) }
}

fn member(claims: &mut Claims, index: usize, value: &Value) -> Option<()> {
    let integer = || value.as_u64().filter(|n| *n < 1_000_000_000_000_000);
    let mut string = |text: &str| {
        claims.values.push((index as u32, text.as_bytes().to_vec()));
        (!text.contains('\0')).then_some(())
    };
    match KNOWN[index] {
        "exp" => claims.exp = integer()?,
        "nbf" => claims.nbf = integer()?,
        "iat" => claims.iat = integer()?,
        "auth_time" => claims.auth_time = integer()?,
        "mfa_verified" => claims.mfa = value.as_bool()?,
        "roles" | "permissions" | "groups" => {
            value.as_array()?.iter().try_for_each(|v| string(v.as_str()?))?
        }
        "aud" => match value {
            Value::String(text) => string(text)?,
            other => other.as_array()?.iter().try_for_each(|v| string(v.as_str()?))?,
        },
        _ => string(value.as_str()?)?,
    }
    Some(())
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// The walk's result, `None` when it refuses.
fn walk(engine: &mut Engine, text: &[u8]) -> Option<Claims> {
    engine.set_bytes(SlotField::JWT_JSON, &[text, &[0; JSON_TAIL]].concat());
    engine.set_u32(SlotField::JWT_END, text.len() as u32);
    engine.set_u32(SlotField::JWT_MASK, CLAIMS);
    if engine.run() != 0 {
        return None;
    }
    let count = engine.u32(SlotField::JWT_VALUES) as usize;
    let values = engine.bytes(SlotField::JWT_VALUE, 8 * count).to_vec();
    let value = |row: &[u8]| {
        let [offset, len] = [0, 2].map(|i| usize::from(u16::from_ne_bytes([row[i], row[i + 1]])));
        (u32::from(row[4]), engine.bytes(SlotField::JWT_JSON, offset + len)[offset..].to_vec())
    };
    Some(Claims {
        seen: engine.u32(SlotField::JWT_SEEN),
        exp: engine.u64(SlotField::JWT_EXP),
        nbf: engine.u64(SlotField::JWT_NBF),
        iat: engine.u64(SlotField::JWT_IAT),
        auth_time: engine.u64(SlotField::JWT_AUTH_TIME),
        mfa: engine.u32(SlotField::JWT_MFA) == 1,
        values: values.chunks_exact(8).map(value).collect(),
    })
}

fn check(engine: &mut Engine, text: &[u8]) -> bool {
    match reference(text) {
        Err(true) => false,
        expected => {
            let expected = expected.ok();
            let accepted = expected.is_some();
            assert_eq!(walk(engine, text), expected, "{}", text.escape_ascii());
            accepted
        }
    }
}

fn accepted(engine: &mut Engine) {
    for text in ACCEPTED {
        assert!(check(engine, text.as_bytes()), "the reference refuses {text}");
    }
}

fn refused(engine: &mut Engine) {
    for text in REFUSED {
        assert!(reference(text).is_err(), "the reference takes {}", text.escape_ascii());
        assert_eq!(walk(engine, text), None, "{}", text.escape_ascii());
    }
}

fn counts_and_depth(engine: &mut Engine) {
    let nested = |n: usize| format!("{{\"x\":{}{}}}", "[".repeat(n), "]".repeat(n));
    assert!(check(engine, nested(JSON_DEPTH_MAX - 1).as_bytes()));
    assert!(!check(engine, nested(JSON_DEPTH_MAX).as_bytes()));
    let roles = |n: usize| format!("{{\"roles\":[{}]}}", vec!["\"r\""; n].join(","));
    assert!(check(engine, roles(CLAIM_VALUES_MAX).as_bytes()));
    assert!(!check(engine, roles(CLAIM_VALUES_MAX + 1).as_bytes()));
    // Two for the braces, two for `"x":`, two for the brackets, two less one for the numbers and commas.
    let numbers = |tokens: usize| format!("{{\"x\":[{}]}}", vec!["1"; (tokens - 5) / 2].join(","));
    assert!(walk(engine, numbers(JSON_TOKENS_MAX - 1).as_bytes()).is_some());
    assert!(walk(engine, numbers(JSON_TOKENS_MAX + 3).as_bytes()).is_none());
}

fn long_strings(engine: &mut Engine) {
    let text = |s: &str| format!("{{\"sub\":\"{s}\",\"x\":\"{s}\"}}");
    assert!(check(engine, text(&"a".repeat(1500)).as_bytes()));
    assert!(check(engine, text(&"\u{20ac}".repeat(500)).as_bytes()));
    // Escapes are decoded in short strings only.
    assert!(check(engine, text(&format!("{}\\n", "a".repeat(254))).as_bytes()));
    assert_eq!(walk(engine, text(&format!("{}\\n", "a".repeat(255))).as_bytes()), None);
    assert!(check(engine, text(&"\\u20ac".repeat(42)).as_bytes()));
    assert!(
        check(engine, format!("{{\"x\":\"{}\"}}", "\\ud83d\\ude00".repeat(100)).as_bytes()),
        "unknown: not decoded"
    );
}

fn mutations(engine: &mut Engine) {
    let mut rng = Rng::new(seed());
    let mut taken = 0;
    for _ in 0..12_000 {
        let mut text = rng.pick(ACCEPTED).expect("some").as_bytes().to_vec();
        for _ in 0..=rng.below(3) {
            mutate(&mut rng, &mut text);
        }
        taken += u32::from(check(engine, &text));
    }
    // Else the comparison is one of refusals only.
    assert!(taken > 500, "only {taken} mutated texts were accepted");
}

fn mutate(rng: &mut Rng, text: &mut Vec<u8>) {
    const PIECES: &[&[u8]] = &[
        b"\"",
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"0",
        b"-",
        b".",
        b"e",
        b" ",
        b"\n",
        b"\0",
        b"\x7f",
        b"\x80",
        b"\xc3\xa9",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xf0\x9f\x98\x80",
        b"\\u0041",
        b"\\ud83d\\ude00",
        b"\\ud800",
        b"\\u0000",
        b"null",
        b"true",
        b"\"exp\":1,",
        b"\"x\":",
        b"{}",
        b"[]",
        b"\"a\"",
        b"1",
        b"\\n",
        b"\x1f",
        b"\xff",
    ];
    let at = rng.below(text.len() as u64 + 1) as usize;
    let end = (at + rng.below(4) as usize).min(text.len());
    match rng.below(5) {
        0 => drop(text.drain(at..end)),
        1 => {
            let slice = text[at..end].to_vec();
            let to = rng.below(text.len() as u64 + 1) as usize;
            text.splice(to..to, slice);
        }
        2 if at < text.len() => text[at] = rng.next_u64() as u8,
        3 if at < text.len() => text[at] ^= 1 << rng.below(8),
        _ => {
            let piece = rng.pick(PIECES).expect("some");
            text.splice(at..end.min(at + rng.below(2) as usize), piece.iter().copied());
        }
    }
}

const ACCEPTED: &[&str] = &[
    "{}",
    " \t\r\n{ } \n",
    r#"{"iss":"https://a.example","sub":"u1","aud":"api","exp":1700000000,"nbf":0,"iat":1,"jti":"j"}"#,
    r#"{"aud":["a","b"],"roles":["admin","dev"],"permissions":[],"groups":["g"],"org_id":"o","sid":"s"}"#,
    r#"{"exp":999999999999999,"auth_time":12,"mfa_verified":true,"email":"a@b.example"}"#,
    r#"{"mfa_verified":false,"x":null,"y":true,"z":false,"n":[1,-2,3.5,1e3,-0.0E-2,0]}"#,
    r#"{"x":{"exp":"no","exp":2,"roles":5},"y":[{"iss":1},[],{}],"exp":3}"#,
    r#"{"sub":"\u00e9\u20ac\ud83d\ude00\"\\\/\b\f\n\r\t","e":"\u0000","\u0065xp":7}"#,
    r#"{"sub":"é€😀","":"empty","roles":["\u0061"]}"#,
    r#"{"alg":1,"kid":[],"crit":{},"b64":null,"typ":{"a":"b"}}"#,
    r#"{"exp ":1,"Exp":"x","expp":2,"auth_timf":0,"auth_time_":"q","permissionz":1,"exp\u0000":"nul"}"#,
];

const REFUSED: &[&[u8]] = &[
    b"",
    b" ",
    b"[]",
    b"1",
    b"\"exp\"",
    b"{",
    b"}",
    b"{}}",
    b"{}{}",
    b"{},",
    b"{}\0",
    b"{\"a\"}",
    b"{\"a\":}",
    b"{\"a\":1,}",
    b"{,\"a\":1}",
    b"{\"a\":1 \"b\":2}",
    b"{\"a\":1;\"b\":2}",
    b"{'a':1}",
    b"{a:1}",
    b"{\"a\":[1,]}",
    b"{\"a\":[,1]}",
    b"{\"a\":[1}",
    b"{\"a\":[1}]",
    b"{\"a\":01}",
    b"{\"a\":+1}",
    b"{\"a\":-}",
    b"{\"a\":1.}",
    b"{\"a\":.5}",
    b"{\"a\":1e}",
    b"{\"a\":1e+}",
    b"{\"a\":0x10}",
    b"{\"a\":NaN}",
    b"{\"a\":Infinity}",
    b"{\"a\":tru}",
    b"{\"a\":True}",
    b"{\"a\":nullx}",
    b"{\"a\":\"x}",
    b"{\"a\":\"\\x\"}",
    b"{\"a\":\"\\u12g4\"}",
    b"{\"a\":\"\\u123\"}",
    b"{\"a\":\"\\ud800\"}",
    b"{\"a\":\"\\udc00\"}",
    b"{\"a\":\"\\ud800\\ud800\"}",
    b"{\"a\":\"\\ud800x\"}",
    b"{\"a\":\"\n\"}",
    b"{\"a\":\"\x1f\"}",
    b"{\"a\":\"\0\"}",
    b"{\"a\":\"\xff\"}",
    b"{\"a\":\"\xc0\x80\"}",
    b"{\"a\":\"\xe0\x80\x80\"}",
    b"{\"a\":\"\xed\xa0\x80\"}",
    b"{\"a\":\"\xf4\x90\x80\x80\"}",
    b"{\"a\":\"\xc3\"}",
    b"{\"a\":1}/**/",
    b"\xef\xbb\xbf{}",
    b"{\"exp\":1,\"exp\":1}",
    b"{\"exp\":1,\"\\u0065xp\":1}",
    b"{\"roles\":[],\"roles\":[]}",
    b"{\"exp\":\"1\"}",
    b"{\"exp\":1.0}",
    b"{\"exp\":1e3}",
    b"{\"exp\":-1}",
    b"{\"exp\":-0}",
    b"{\"exp\":1000000000000000}",
    b"{\"exp\":null}",
    b"{\"exp\":[1]}",
    b"{\"exp\":{}}",
    b"{\"exp\":true}",
    b"{\"iss\":1}",
    b"{\"iss\":[\"a\"]}",
    b"{\"iss\":null}",
    b"{\"iss\":\"a\\u0000\"}",
    b"{\"roles\":\"admin\"}",
    b"{\"roles\":[1]}",
    b"{\"roles\":[[\"a\"]]}",
    b"{\"roles\":[{\"a\":\"b\"}]}",
    b"{\"roles\":[null]}",
    b"{\"roles\":{}}",
    b"{\"roles\":[\"a\\u0000b\"]}",
    b"{\"aud\":[[]]}",
    b"{\"aud\":{}}",
    b"{\"mfa_verified\":1}",
    b"{\"mfa_verified\":\"true\"}",
    b"{\"mfa_verified\":null}",
    b"{\"mfa_verified\":[true]}",
];
