//! JSON Web Keys, RFC 7517. Unknown members are kept out of the way, not refused (section 4: they MUST be
//! ignored); vetting is `portcullis-token`'s.
//!
//! **Invariant:** a member of a set that is no key takes its place and says why, and takes no other key with it.

use std::fmt;

use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A key set, RFC 7517 section 5.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct JwkSet {
    /// The keys, each at its place; those that cannot be read say so in `Jwk::unreadable`.
    //= https://www.rfc-editor.org/rfc/rfc7517#section-5
    //# Implementations SHOULD ignore JWKs within a JWK Set that use "kty" (key type) values that are not understood by
    //# them, that are missing required members, or for which values are out of the supported ranges.
    #[serde(deserialize_with = "each_by_itself")]
    pub keys: Vec<Jwk>,
}

/// One key. Private members are read so that a set which carries them can be refused.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Jwk {
    /// Key type: `RSA` or `EC`.
    pub kty: String,
    /// Key identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// Intended use: `sig`.
    #[serde(default, rename = "use", skip_serializing_if = "Option::is_none")]
    pub use_: Option<String>,
    /// Permitted operations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_ops: Option<Vec<String>>,
    /// Algorithm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alg: Option<String>,
    /// RSA modulus, base64url big-endian.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<String>,
    /// RSA public exponent, base64url big-endian.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e: Option<String>,
    /// EC curve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crv: Option<String>,
    /// EC x coordinate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x: Option<String>,
    /// EC y coordinate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub y: Option<String>,
    /// Private exponent or scalar: must not be present in a published set, nor must the private members below (RFC
    /// 7518 section 6.3.2: each of them gives the key away).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub d: Option<String>,
    /// First prime factor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p: Option<String>,
    /// Second prime factor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub q: Option<String>,
    /// Exponent of the first factor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dp: Option<String>,
    /// Exponent of the second factor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dq: Option<String>,
    /// Coefficient of the second factor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qi: Option<String>,
    /// Further factors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oth: Option<serde_json::Value>,
    /// Symmetric key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub k: Option<String>,
    /// Why this is no key, if it could not be read as one; what could be read is the kid at most. Never on the wire.
    #[serde(skip)]
    pub unreadable: Option<String>,
}

/// One member of a set, whatever it is.
struct Entry(Jwk);

struct AnyJson;

// === impl Jwk ===

impl Jwk {
    fn unreadable(reason: impl fmt::Display, kid: Option<String>) -> Jwk {
        Jwk { kid, unreadable: Some(reason.to_string()), ..Jwk::default() }
    }
}

// === impl Entry ===

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entry, D::Error> {
        deserializer.deserialize_any(AnyJson).map(Entry)
    }
}

// === impl AnyJson ===

impl<'de> Visitor<'de> for AnyJson {
    type Value = Jwk;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Jwk, A::Error> {
        let mut members = Map::new();
        let mut twice = None;
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            // RFC 7517 section 4: member names are unique. Which of two is meant would be a guess.
            if members.insert(name.clone(), value).is_some() {
                twice = twice.or(Some(name));
            }
        }
        let kid = members.get("kid").and_then(Value::as_str).map(str::to_owned);
        if let Some(name) = twice {
            let kid = kid.filter(|_| name != "kid");
            return Ok(Jwk::unreadable(format_args!("member {name:?} stands there twice"), kid));
        }
        let read = Jwk::deserialize(Value::Object(members));
        Ok(read.unwrap_or_else(|error| Jwk::unreadable(error, kid)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Jwk, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(no_object("an array"))
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Jwk, E> {
        Ok(no_object("a string"))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Jwk, E> {
        Ok(no_object("a boolean"))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Jwk, E> {
        Ok(no_object("a number"))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Jwk, E> {
        Ok(no_object("a number"))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Jwk, E> {
        Ok(no_object("a number"))
    }

    fn visit_unit<E: Error>(self) -> Result<Jwk, E> {
        Ok(no_object("null"))
    }
}

fn no_object(what: &str) -> Jwk {
    Jwk::unreadable(format_args!("is {what}, not an object"), None)
}

fn each_by_itself<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Jwk>, D::Error> {
    let entries = Vec::<Entry>::deserialize(deserializer)?;
    Ok(entries.into_iter().map(|Entry(jwk)| jwk).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `entry` between two keys, which have to stay; what is said about it.
    #[track_caller]
    fn unreadable(entry: &str) -> (String, Option<String>) {
        let text = format!(r#"{{"keys":[{{"kty":"EC","kid":"a"}},{entry},{{"kty":"RSA","kid":"b"}}]}}"#);
        let JwkSet { keys } = serde_json::from_str(&text).expect("the set");
        let [first, odd, last] = <[Jwk; 3]>::try_from(keys).expect("three members");
        for (key, kid) in [(first, "a"), (last, "b")] {
            assert_eq!((key.kid.as_deref(), key.unreadable), (Some(kid), None));
        }
        (odd.unreadable.expect("a reason"), odd.kid)
    }

    #[test]
    fn what_is_no_key_takes_no_other_with_it() {
        let rows = [
            (r#"{"kid":"x"}"#, "missing field `kty`", Some("x")),
            (r#"{"kty":7,"kid":"x"}"#, "invalid type: integer `7`, expected a string", Some("x")),
            (r#"{"kty":"EC","kid":["x"]}"#, "invalid type: sequence, expected a string", None),
            (r#"{"kty":"EC","kid":"x","key_ops":"verify"}"#, "expected a sequence", Some("x")),
            (r#"{"kty":"EC","kid":"x","n":null,"n":"AQ"}"#, "member \"n\" stands there twice", Some("x")),
            (r#"{"kty":"EC","kid":"x","kid":"a"}"#, "member \"kid\" stands there twice", None),
            (r#"["kty","EC",{"a":[]}]"#, "is an array, not an object", None),
            (r#""EC""#, "is a string, not an object", None),
            ("true", "is a boolean, not an object", None),
            ("-1", "is a number, not an object", None),
            ("1", "is a number, not an object", None),
            ("1e3", "is a number, not an object", None),
            ("null", "is null, not an object", None),
        ];
        for (entry, reason, kid) in rows {
            let (told, found) = unreadable(entry);
            assert!(told.contains(reason), "{entry}: {told}");
            assert_eq!(found.as_deref(), kid, "{entry}");
        }
    }

    #[test]
    fn what_is_no_json_is_no_set() {
        for text in [r#"{"keys":[{"kty":"EC"},{"kty":]}"#, r#"{"keys":{}}"#, r#"{"keys":null}"#, "{}", "[]"] {
            serde_json::from_str::<JwkSet>(text).expect_err(text);
        }
    }

    #[test]
    fn a_reason_is_not_written() {
        let set: JwkSet = serde_json::from_str(r#"{"keys":[{"kid":"x"}]}"#).expect("the set");
        assert_eq!(serde_json::to_string(&set).expect("JSON"), r#"{"keys":[{"kty":"","kid":"x"}]}"#);
    }
}
