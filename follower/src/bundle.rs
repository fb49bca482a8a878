//! A bundle from its text. What cannot be read of one key must not take the rest of the configuration with it: the key
//! is left out and reported, as one that is read and found unsound is.

use portcullis_wire::{Bundle, Jwk, JwkSet};
use serde_json::Value;

/// Greatest version of a bundle: 48 bits, as many as a control plane can count up in nine million years of one a second.
pub const VERSION_MAX: u64 = (1 << 48) - 1;

/// A bundle, and what is left out of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Read {
    /// The bundle.
    pub bundle: Bundle,
    /// Keys that could not be read.
    pub problems: Vec<String>,
}

/// Reads a bundle.
pub(crate) fn read(text: &[u8]) -> Result<Read, serde_json::Error> {
    let mut value: Value = serde_json::from_slice(text)?;
    let mut problems = Vec::new();
    let issuers = value.get_mut("issuers").and_then(Value::as_array_mut);
    for issuer in issuers.into_iter().flatten() {
        let name = issuer["issuer"].as_str().unwrap_or_default().to_owned();
        if let Some(keys) = issuer.pointer_mut("/jwks/keys").and_then(Value::as_array_mut) {
            problems.extend(leave_out_unreadable(&name, keys));
        }
    }
    // From the text where it can be read as it is: errors then have a line and a column.
    let bundle: Bundle =
        if problems.is_empty() { serde_json::from_slice(text)? } else { serde_json::from_value(value)? };
    if bundle.version > VERSION_MAX {
        let message = format!("version {} is beyond {VERSION_MAX}", bundle.version);
        return Err(serde::de::Error::custom(message));
    }
    Ok(Read { bundle, problems })
}

/// Reads a key set that an issuer publishes.
pub(crate) fn read_keys(issuer: &str, text: &[u8]) -> Result<(JwkSet, Vec<String>), serde_json::Error> {
    let mut value: Value = serde_json::from_slice(text)?;
    let keys = value.get_mut("keys").and_then(Value::as_array_mut);
    let keys = keys.ok_or_else(|| serde::de::Error::custom("there is no array `keys`"))?;
    let problems = leave_out_unreadable(issuer, keys);
    let keys = keys.drain(..).map(serde_json::from_value).collect::<Result<_, _>>()?;
    Ok((JwkSet { keys }, problems))
}

fn leave_out_unreadable(issuer: &str, keys: &mut Vec<Value>) -> Vec<String> {
    let mut problems = Vec::new();
    let mut position = 0;
    keys.retain(|key| {
        position += 1;
        let read = serde_json::from_value::<Jwk>(key.clone());
        if let Err(error) = &read {
            problems.push(format!("issuer {issuer:?}, key number {position}: cannot be read: {error}"));
        }
        read.is_ok()
    });
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreadable_key_takes_no_other_with_it() {
        let text = br#"{"version": 3, "issuers": [{"issuer": "i", "audiences": ["a"], "jwks": {"keys": [
            {"kty": 5, "kid": "odd"}, {"kty": "EC", "kid": "good"}, "no object"]}}], "policies": []}"#;
        let Read { bundle, problems } = read(text).unwrap();
        let kids: Vec<_> = bundle.issuers[0].jwks.keys.iter().map(|key| key.kid.as_deref()).collect();
        assert_eq!(kids, [Some("good")]);
        assert_eq!(problems.len(), 2);
        assert!(problems[0].contains("\"i\", key number 1"), "{problems:?}");
        assert!(problems[1].contains("key number 3"), "{problems:?}");
    }

    #[test]
    fn what_is_wrong_elsewhere_refuses_the_bundle() {
        let error = read(b"{\n  \"version\": 3,\n  \"polices\": []\n}").unwrap_err();
        assert_eq!(error.line(), 3, "{error}");
        read(b"{").unwrap_err();
        read(format!("{{\"version\": {}}}", VERSION_MAX + 1).as_bytes()).unwrap_err();
    }

    #[test]
    fn a_key_set_is_an_object_with_keys() {
        let (set, problems) = read_keys("i", br#"{"keys": [{"kty": "RSA", "x5c": ["a"]}, 1]}"#).unwrap();
        assert_eq!((set.keys.len(), problems.len()), (1, 1));
        read_keys("i", b"[]").unwrap_err();
        read_keys("i", b"{}").unwrap_err();
    }
}
