//! Properties of every token: minted ones verify, changed ones do not, nothing panics.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::fixture::{
    AUDIENCE, ES256, ISSUER, NOW_S, RS256, claims, ec, ec_store, encode, judge, rsa, store,
};
use portcullis_token::verify;

/// Strings that a known claim may hold.
fn name() -> impl Strategy<Value = String> {
    // Escapes of the writer count against a limit of 256 octets: six for one control character.
    "[^\0]{0,40}"
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// What is written by another JSON implementation is read as it was meant.
    #[test]
    fn minted_tokens_verify(
        sub in option::of(name()), email in option::of(name()), org in option::of(name()),
        roles in vec(name(), 0..6), groups in option::of(vec(name(), 0..6)), audiences in vec(name(), 0..4),
        exp in NOW_S + 1..1_000_000_000_000_000, iat in option::of(0..=NOW_S), mfa: bool,
        unknown in vec((any::<String>(), any::<Option<i64>>()), 0..4),
    ) {
        let mut set = serde_json::Map::new();
        for (name, value) in unknown {
            set.insert(format!("x-{name}"), json!(value));
        }
        let aud: Vec<String> = audiences.iter().cloned().chain([AUDIENCE.to_owned()]).collect();
        set.insert("iss".to_owned(), json!(ISSUER));
        set.insert("aud".to_owned(), json!(aud));
        set.insert("exp".to_owned(), json!(exp));
        set.insert("roles".to_owned(), json!(roles));
        set.insert("mfa_verified".to_owned(), json!(mfa));
        let optional = [("sub", json!(sub)), ("email", json!(email)), ("org_id", json!(org)), ("groups", json!(groups)), ("iat", json!(iat))];
        set.extend(optional.into_iter().filter(|(_, v)| !v.is_null()).map(|(n, v)| (n.to_owned(), v)));
        let token = ec().sign(ES256, &Value::Object(set).to_string());
        prop_assume!(token.len() <= 4096);
        let verified = judge(&token).expect("valid");
        let read = verified.claims();
        prop_assert_eq!(&read.sub, &sub);
        prop_assert_eq!(&read.email, &email);
        prop_assert_eq!(&read.org_id, &org);
        prop_assert_eq!(&read.roles, &roles);
        prop_assert_eq!(&read.groups, &groups.unwrap_or_default());
        prop_assert_eq!(&read.aud, &aud);
        prop_assert_eq!((read.exp, read.iat, read.mfa_verified), (exp, iat, mfa));
    }

    #[test]
    fn arbitrary_octets_are_refused(octets in vec(any::<u8>(), 0..5000)) {
        prop_assert!(judge(&octets).is_err());
    }

    #[test]
    fn arbitrary_parts_are_refused(
        header in vec(any::<u8>(), 1..200), payload in vec(any::<u8>(), 1..400), signature in vec(any::<u8>(), 1..600),
    ) {
        prop_assert!(judge([header, payload, signature].map(encode).join(".")).is_err());
    }

    /// Signed, so that only the claims can be at fault; most of these are.
    #[test]
    fn arbitrary_claims_do_not_panic(text in r#"[{}\[\]:,"\\0-9a-z.eE+ -]{0,200}"#) {
        let _ = judge(ec().sign(ES256, &text));
        let _ = judge(ec().sign(&text, &claims(&[("x", &text)])));
    }

    /// One octet replaced by another, taken away, or put in.
    #[test]
    fn one_change_is_enough(at in any::<prop::sample::Index>(), octet: u8, kind in 0..3) {
        let good = ec().sign(ES256, &claims(&[("sub", "\"someone\"")])).into_bytes();
        prop_assert!(judge(&good).is_ok());
        let at = at.index(good.len());
        let mut changed = good.clone();
        match kind {
            0 => changed[at] = octet,
            1 => drop(changed.remove(at)),
            _ => changed.insert(at, octet),
        }
        prop_assume!(changed != good);
        prop_assert!(judge(&changed).is_err());
    }
}

/// Every position of an RS256 and an ES256 token, with its neighbours in the alphabet and the characters that decoders are
/// lenient about.
#[test]
fn no_position_may_change() {
    for (key, header) in [(ec(), ES256), (rsa(), RS256)] {
        let good = key.sign(header, &claims(&[("roles", "[\"reader\"]")])).into_bytes();
        assert!(verify(&good, store(), NOW_S).is_ok());
        for at in 0..good.len() {
            let mut changed = good.clone();
            for octet in [good[at] ^ 1, good[at] ^ 2, good[at] ^ 0x20, b'.', b'=', b'+', b'\n', 0] {
                changed[at] = octet;
                if octet != good[at] {
                    let judgement = verify(&changed, store(), NOW_S);
                    assert!(judgement.is_err(), "position {at}: {:?}", String::from_utf8_lossy(&changed));
                }
            }
        }
        // cut at every length
        for end in 0..good.len() {
            assert!(verify(&good[..end], ec_store(), NOW_S).is_err(), "{end} characters");
        }
    }
}
