use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// Whether a text is an object for us, all of whose members are unknown.
fn accepts(text: &[u8]) -> bool {
    Reader::object(text, |_, value| value.skip()).is_ok()
}

/// Whether it is one for another implementation.
fn serde_accepts(text: &[u8]) -> bool {
    // Read whole: what that one skips it does not check.
    serde_json::from_slice::<serde_json::Map<String, Value>>(text).is_ok()
}

#[test]
fn objects() {
    for good in [
        "{}",
        " {\n} ",
        r#"{"a":1}"#,
        r#"{"a":1,"a":[{},[],null,true,false,-0.5e+7,"\u00e9"]}"#,
        "{\"\":\"\x7f\"}",
    ] {
        assert!(accepts(good.as_bytes()), "{good}");
    }
    for bad in [
        "",
        " ",
        "{",
        "}",
        "[]",
        "null",
        "1",
        "\"\"",
        "{}{}",
        "{},",
        "{,}",
        r#"{"a"}"#,
        r#"{"a":}"#,
        r#"{"a":1,}"#,
        r#"{"a" 1}"#,
        r#"{"a":1 "b":2}"#,
        r#"{"a":[1,]}"#,
        r#"{"a":[,1]}"#,
        r#"{"a":[1 2]}"#,
        r#"{"a":(1)}"#,
        r#"{"a":nul}"#,
        r#"{"a":nulll}"#,
        r#"{"a":[}}"#,
        r#"{"a":{]}"#,
        "{\"a\":\"\n\"}",
        "{\"a\":\"",
        "{\"a\":\"\\",
        "{\"a\":\"\\u",
        "\u{feff}{}",
        "{}\0",
        "{\"a\":1]",
        r#"{"a":"b}"#,
        r#"{a:1}"#,
        r#"{'a':1}"#,
        r#"{1:1}"#,
        r#"{null:1}"#,
    ] {
        assert!(!accepts(bad.as_bytes()), "{bad}");
    }
}

#[test]
fn names_are_decoded() {
    let mut names = Vec::new();
    let text = r#"{"a":1,"\u0062":2,"\"":3,"\ud83d\ude00":4,"\u0000":5,"":6}"#;
    Reader::object(text.as_bytes(), |name, value| {
        names.push(name.to_owned());
        value.skip()
    })
    .unwrap();
    assert_eq!(names, ["a", "b", "\"", "😀", "\0", ""]);
}

#[test]
fn a_member_that_is_not_read_is_no_object() {
    assert!(Reader::object(br#"{"a":1}"#, |_, _| Ok(())).is_err());
}

/// Texts that are JSON or nearly.
fn nearly_json() -> impl Strategy<Value = String> {
    // Small exponents: the other one refuses numbers that no f64 holds, ours has no opinion on what it skips.
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        "-?(0|[1-9][0-9]{0,5})(\\.[0-9]{1,3})?([eE][+-]?[0-9])?",
        "[-+0-9.eE]{1,4}",
        any::<String>().prop_map(|text| Value::String(text).to_string()),
        r#""(\\u[0-9a-fA-F]{4}|\\u[dD][89a-fA-F][0-9a-f]{2}|\\["\\/bfnrt]|[a-z]|\\[a-z]){0,4}""#,
    ];
    let value = leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(" , "))),
            prop::collection::vec((r#""[a-z]{0,2}""#, inner), 0..4).prop_map(|members| {
                let members: Vec<String> =
                    members.iter().map(|(name, value)| format!("{name}:{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    });
    value.prop_map(|value| format!("{{\"a\":{value}}}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Another implementation accepts the same texts.
    #[test]
    fn as_another_reader(text in nearly_json()) {
        prop_assert_eq!(accepts(text.as_bytes()), serde_accepts(text.as_bytes()), "{}", text);
    }

    /// The same with a change of one octet.
    #[test]
    fn as_another_reader_of_damaged_texts(text in nearly_json(), at in any::<prop::sample::Index>(), octet: u8) {
        let mut octets = text.into_bytes();
        let at = at.index(octets.len());
        octets[at] = octet;
        prop_assert_eq!(accepts(&octets), serde_accepts(&octets), "{}", String::from_utf8_lossy(&octets));
    }

    #[test]
    fn strings_as_another_reader(text in r#""(\\u[0-9a-fA-F]{4}|\\u[dD][89a-fA-F][0-9a-f]{2}|\\["\\/bfnrtx]|[a-zé😀]){0,10}""#) {
        let mut ours = None;
        let object = format!("{{\"a\":{text}}}");
        let read = Reader::object(object.as_bytes(), |_, value| {
            ours = Some(value.string()?);
            Ok(())
        });
        let theirs = serde_json::from_str::<String>(&text).ok().filter(|theirs| !theirs.contains('\0'));
        prop_assert_eq!(read.ok().and(ours), theirs);
    }
}
