//! Tests of globs: by table, against the definition, and of the relations between them.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::testing::{naive_matches, path, pattern};

#[track_caller]
fn check(pattern: &str, yes: &[&str], no: &[&str]) {
    let glob = Glob::parse(pattern).unwrap();
    for path in yes {
        assert!(glob.matches(path), "{pattern} should match {path}");
    }
    for path in no {
        assert!(!glob.matches(path), "{pattern} should not match {path}");
    }
}

#[track_caller]
fn refused(pattern: &str, message: &str, remedy: &str) {
    let error = Glob::parse(pattern).unwrap_err();
    assert!(error.message.contains(message), "{pattern}: {error}");
    assert!(error.remedy.contains(remedy), "{pattern}: {error}");
}

#[test]
fn literal_path_matches_itself_only() {
    check("/health", &["/health"], &["/health/", "/healthz", "/Health", "/", "/a/health", "/health/x"]);
    check("/", &["/"], &["/a", ""]);
}

#[test]
fn trailing_slash_is_another_path() {
    check("/a/", &["/a/"], &["/a", "/a/b", "/a/b/"]);
}

#[test]
fn placeholder_is_one_whole_segment() {
    check("/users/{id}", &["/users/7", "/users/a.b"], &["/users", "/users/", "/users/7/", "/users/7/x"]);
    check("/users/{id}/posts", &["/users/7/posts"], &["/users//posts", "/users/posts", "/users/7/8/posts"]);
}

#[test]
fn inner_star_as_a_segment_is_one_whole_segment() {
    check("/a/*/b", &["/a/x/b"], &["/a/b", "/a/x/y/b", "/a//b"]);
    check("/a/*/", &["/a/x/"], &["/a/", "/a/x", "/a/x/y/"]);
}

#[test]
fn star_within_a_segment_stays_within_it() {
    check(
        "/files/*.json",
        &["/files/a.json", "/files/.json"],
        &["/files/a.jsonx", "/files/a/b.json", "/files/"],
    );
    check("/v*/x", &["/v/x", "/v1/x"], &["/w/x", "/v1/2/x"]);
    check("/a*b*c", &["/abc", "/aXbYc", "/abcbc"], &["/acb", "/ab", "/abc/"]);
    check("/ab*ba", &["/abba", "/abxba"], &["/aba"]);
}

#[test]
fn trailing_star_is_any_remainder() {
    let yes = ["/api", "/api/", "/api/x", "/api/x/y/", "/api/x.json"];
    check("/api/*", &yes, &["/apix", "/ap", "/", "/x/api"]);
    check("/*", &["/", "/a", "/a/b/"], &[""]);
}

#[test]
fn trailing_double_star_is_any_remainder_too() {
    for (one, two) in [("/api/*", "/api/**"), ("/*", "/**"), ("/a/*", "/a/**/*"), ("/a/*", "/a/**/**")] {
        let (one, two) = (Glob::parse(one).unwrap(), Glob::parse(two).unwrap());
        assert_eq!((one.segments(), one.rest()), (two.segments(), two.rest()));
    }
}

#[test]
fn double_star_is_any_number_of_segments() {
    check(
        "/a/**/b",
        &["/a/b", "/a/x/b", "/a/x/y/b", "/a/b/b"],
        &["/a", "/ab", "/a/b/", "/a/xb", "/a//b", "/a/x//b"],
    );
    check("/**/admin/*", &["/admin", "/x/admin", "/x/y/admin/z"], &["/x/admins", "/x"]);
    check("/**/a/**/b/*", &["/a/b", "/x/a/y/b/z", "/a/a/b"], &["/b/a", "/a"]);
    check("/a/**/", &["/a/", "/a/b/", "/a/b/c/"], &["/a", "/a/b"]);
    let (one, two) = (Glob::parse("/a/**/b").unwrap(), Glob::parse("/a/**/**/b").unwrap());
    assert_eq!(one.segments(), two.segments());
}

#[test]
fn percent_encoded_text_matches_its_canonical_form() {
    check("/caf%C3%A9/%20", &["/caf%C3%A9/%20"], &["/café/ ", "/caf%c3%a9/%20"]);
    check("/%2A/%3B%7B", &["/%2A/%3B%7B"], &["/x/%3B%7B", "/*/;{"]);
    check("/a:b@c!$&'()+,=", &["/a:b@c!$&'()+,="], &["/a%3Ab@c!$&'()+,="]);
}

#[test]
fn pattern_that_no_path_can_match_is_refused() {
    refused("", "empty", "`/`");
    refused("api/*", "does not begin with a slash", "`/api/*`");
    refused("/a//b", "empty segment", "single slash");
    refused("/a/./b", "`.` segment", "path that it leads to");
    refused("/a/..", "`..` segment", "path that it leads to");
    refused("/a?b=c", "query", "without its query");
    refused("/a;b", "`;`", "leave it out");
    refused("/a#b", "`#`", "leave it out");
    refused("/a\\b", "`\\`", "leave it out");
    refused("/a b", "' '", "`%20`");
    refused("/é", "'é'", "`%C3%A9`");
    refused("/a\tb", "'\\t'", "leave it out");
    refused("/%zz", "two hexadecimal digits", "`%25`");
    refused("/a%4", "two hexadecimal digits", "`%25`");
    refused("/%é", "two hexadecimal digits", "`%25`");
    refused("/a%2Fb", "`%2F`", "leave it out");
    refused("/a%5cb", "`%5c`", "leave it out");
    refused("/a%00", "`%00`", "leave it out");
    refused("/%41", "decoded before", "`A`");
    refused("/%3a%40", "decoded before", "`:`");
    refused("/a|b", "canonical paths encode", "`%7C`");
    refused("/[a]", "canonical paths encode", "`%5B`");
    refused("/%c3%a9", "upper-case", "`%C3`");
    refused("/%2541", "doubly encoded", "leave it out");
    refused("/%C3", "not UTF-8", "UTF-8");
    refused("/%C3*", "not UTF-8", "UTF-8");
    refused("/%C3x", "not UTF-8", "UTF-8");
    refused("/%C3%20", "not UTF-8", "UTF-8");
    refused("/%C0%AF", "not UTF-8", "UTF-8");
    refused(&format!("/{}", "a".repeat(2048)), "2049 bytes", "shorter");
}

#[test]
fn wildcard_in_the_wrong_place_is_refused() {
    refused("/a**", "shares the segment", "segment of its own");
    refused("/x{id}", "no placeholder", "whole segment");
    refused("/{}", "no placeholder", "`{name}`");
    refused("/{a b}", "no placeholder", "`{name}`");
    refused("/{a", "no placeholder", "%7B");
}

#[test]
fn literal_prefix_is_what_every_match_begins_with() {
    for (pattern, len) in [
        ("/", 2),
        ("/*", 0),
        ("/a", 3),
        ("/a/", 4),
        ("/a/*", 2),
        ("/a*", 2),
        ("/a/{id}", 3),
        ("/a/b*c", 4),
        ("/a/**/b", 3),
    ] {
        assert_eq!(Glob::parse(pattern).unwrap().literal_prefix_len(), len, "{pattern}");
    }
}

#[test]
fn hostile_pattern_and_path_take_little_time() {
    let pattern = format!("{}/c", "/**/a*a*a*a".repeat(180));
    let path = "/aaaaaaaaaaaaaaaaaaaab".repeat(90);
    let glob = Glob::parse(&pattern).unwrap();
    assert!(!glob.matches(&path));
    let segment = format!("/{}b", "*a".repeat(1000));
    assert!(!Glob::parse(&segment).unwrap().matches(&format!("/{}", "a".repeat(2040))));
}

#[test]
fn containment_is_found() {
    for (wide, narrow) in [
        ("/*", "/"),
        ("/*", "/**/x"),
        ("/a/*", "/a"),
        ("/a/*", "/a/b/"),
        ("/a/{id}", "/a/b"),
        ("/a/{id}", "/a/b*"),
        ("/a/*/c", "/a/{id}/c"),
        ("/**/b", "/a/b"),
        ("/**/b", "/{x}/**/b"),
        ("/**/b/*", "/a/**/b/c"),
        ("/a*", "/a*b"),
        ("/a*", "/ab*"),
        ("/*a", "/*ba"),
        ("/*b*", "/ab*"),
        ("/{x}/*", "/**/a/b/c"),
    ] {
        let (wide, narrow) = (Glob::parse(wide).unwrap(), Glob::parse(narrow).unwrap());
        assert!(wide.contains(&narrow), "{wide} contains {narrow}");
        assert!(wide.overlaps(&narrow) && narrow.overlaps(&wide), "{wide} overlaps {narrow}");
    }
}

#[test]
fn disjoint_patterns_do_not_overlap() {
    for (a, b) in [("/a", "/a/"), ("/a/{x}", "/a/*/"), ("/a*", "/b*"), ("/**/a", "/*/b"), ("/a/*", "/ab")] {
        let (a, b) = (Glob::parse(a).unwrap(), Glob::parse(b).unwrap());
        assert!(!a.overlaps(&b), "{a} and {b}");
    }
}

static UNIVERSE: LazyLock<Vec<String>> = LazyLock::new(universe);

/// Every path of at most four segments over the words that tell the patterns of `pattern()` apart.
fn universe() -> Vec<String> {
    let words = ["a", "b", "ab", "ba", "aa", "aba"];
    let mut all = vec![String::new()];
    let mut last = all.clone();
    for _ in 0..4 {
        last = last.iter().flat_map(|path| words.map(|word| format!("{path}/{word}"))).collect();
        all.extend(last.iter().cloned());
    }
    let slashed: Vec<String> = all.iter().map(|path| format!("{path}/")).collect();
    all.into_iter().skip(1).chain(slashed).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]

    #[test]
    fn matching_agrees_with_the_definition(pattern in pattern(), path in path()) {
        let glob = Glob::parse(&pattern).unwrap();
        prop_assert_eq!(glob.matches(&path), naive_matches(&pattern, &path));
    }

    #[test]
    fn any_text_is_a_pattern_or_an_error(text in "[/a-c*{}%?2F.\\\\é ]{0,12}") {
        if let Ok(glob) = Glob::parse(&text) {
            prop_assert_eq!(glob.as_str(), text);
            prop_assert!(glob.contains(&glob) && glob.overlaps(&glob));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn overlap_is_exact(a in pattern(), b in pattern()) {
        let (a, b) = (Glob::parse(&a).unwrap(), Glob::parse(&b).unwrap());
        // Longer patterns may need longer witnesses than the universe holds.
        prop_assume!(a.segments().len() + b.segments().len() <= 4);
        let witness = UNIVERSE.iter().find(|path| a.matches(path) && b.matches(path));
        prop_assert_eq!(a.overlaps(&b), witness.is_some(), "{} and {}: {:?}", a, b, witness);
    }

    #[test]
    fn containment_is_sound(a in pattern(), b in pattern()) {
        let (a, b) = (Glob::parse(&a).unwrap(), Glob::parse(&b).unwrap());
        if a.contains(&b) {
            let outside = UNIVERSE.iter().find(|path| b.matches(path) && !a.matches(path));
            prop_assert_eq!(outside, None, "{} contains {}", a, b);
        }
    }
}
