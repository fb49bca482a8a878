use proptest::prelude::*;

use super::*;

macro_rules! paths {
    ($($test:ident: $target:literal => $expected:literal),* $(,)?) => {
        $(#[test]
        fn $test() {
            let found = canonical($target.as_bytes());
            assert_eq!(found.as_deref().unwrap_or_else(|reason| reason.slug()), $expected);
        })*
    };
}

paths! {
    root: "/" => "/",
    root_with_query: "/?a=b" => "/",
    query_is_cut: "/a/b?c=/../d" => "/a/b",
    percent_in_query_is_not_read: "/a?%zz" => "/a",
    trailing_slash_stays: "/a/" => "/a/",
    unreserved_is_decoded: "/%61%2D%2e%5f%7E" => "/a-._~",
    sub_delimiters_are_decoded: "/%21%24%26%27%28%29%2B%2C%3D" => "/!$&'()+,=",
    colon_and_at_are_decoded: "/%3aa/%40me" => "/:a/@me",
    sub_delimiters_stand_for_themselves: "/!$&'()+,=:@" => "/!$&'()+,=:@",
    what_no_path_may_hold_is_encoded: "/\"<>[]^`{|}*" => "/%22%3C%3E%5B%5D%5E%60%7B%7C%7D%2A",
    and_stays_encoded: "/%22%3c%3E%5b%5D%5E%60%7b%7C%7D%2a" => "/%22%3C%3E%5B%5D%5E%60%7B%7C%7D%2A",
    delimiters_stay_encoded: "/%3b%3F%23" => "/%3B%3F%23",
    hex_is_upper_cased: "/a%c3%a9" => "/a%C3%A9",
    space_stays_encoded: "/a%20b" => "/a%20b",
    well_known: "/.well-known/x" => "/.well-known/x",
    three_dots: "/..." => "/...",
    dot_file: "/.a/..b" => "/.a/..b",
    dot_segment: "/a/./b" => "path_ambiguous",
    dot_dot_segment: "/a/../b" => "path_ambiguous",
    last_dot_segment: "/a/." => "path_ambiguous",
    last_dot_dot_segment: "/a/.." => "path_ambiguous",
    encoded_dot_dot: "/a/%2e%2e/b" => "path_ambiguous",
    half_encoded_dot_dot: "/a/.%2e/b" => "path_ambiguous",
    encoded_dot_dot_at_end: "/a/%2E%2E?x" => "path_ambiguous",
    double_slash: "/a//b" => "path_ambiguous",
    leading_double_slash: "//a" => "path_ambiguous",
    double_slash_at_end: "/a//" => "path_ambiguous",
    encoded_slash: "/a%2fb" => "path_ambiguous",
    encoded_backslash: "/a%5Cb" => "path_ambiguous",
    backslash: "/a\\b" => "path_ambiguous",
    semicolon: "/a;b=c" => "path_ambiguous",
    fragment: "/a#b" => "path_ambiguous",
    encoded_nul: "/a%00" => "path_ambiguous",
    encoded_lf: "/a%0A" => "path_ambiguous",
    encoded_del: "/a%7f" => "path_ambiguous",
    double_encoding: "/a%252fb" => "path_ambiguous",
    double_encoding_in_pieces: "/a%25%32%66b" => "path_ambiguous",
    double_encoding_half_in_pieces: "/a%252%66b" => "path_ambiguous",
    lone_percent_25: "/100%25" => "/100%25",
    percent_25_then_text: "/100%25x" => "/100%25x",
    percent_25_then_one_digit: "/100%252" => "/100%252",
    percent_25_then_another: "/%25%25" => "/%25%25",
    bad_hex: "/a%zz" => "path_ambiguous",
    signed_hex: "/a%+4" => "path_ambiguous",
    short_hex: "/a%4" => "path_ambiguous",
    hex_cut_by_query: "/a%4?1" => "path_ambiguous",
    overlong_slash: "/a%c0%afb" => "path_ambiguous",
    overlong_three: "/a%e0%80%af" => "path_ambiguous",
    surrogate: "/%ed%a0%80" => "path_ambiguous",
    lone_continuation: "/%80" => "path_ambiguous",
    cut_utf8: "/%c3" => "path_ambiguous",
    cut_utf8_by_slash: "/%c3/x" => "path_ambiguous",
    cut_utf8_by_encoded_letter: "/%c3%61" => "path_ambiguous",
    utf8_four_bytes: "/%f0%9f%98%80" => "/%F0%9F%98%80",
    beyond_unicode: "/%f4%90%80%80" => "path_ambiguous",
}

#[test]
fn length_limit_is_that_of_the_canonical_form() {
    let long = |head: &str, fill: usize| canonical(format!("{head}{}", "a".repeat(fill)).as_bytes());
    assert_eq!(long("/", 2047).map(|path| path.len()), Ok(2048));
    assert_eq!(long("/", 2048), Err(Reason::PathTooLong));
    assert_eq!(long("/%41", 2046).map(|path| path.len()), Ok(2048));
    assert_eq!(long("/%41", 2047), Err(Reason::PathTooLong));
    assert_eq!(long("/%20", 2044).map(|path| path.len()), Ok(2048));
    assert_eq!(long("/%20", 2045), Err(Reason::PathTooLong));
    assert_eq!(canonical(format!("/{}{{", "a".repeat(2045)).as_bytes()), Err(Reason::PathTooLong));
    assert_eq!(canonical(format!("/a?{}", "a".repeat(9000)).as_bytes()).as_deref(), Ok("/a"));
}

/// What a server sees that decodes every `%XX` once.
fn decoded(path: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        match octet(tail).filter(|_| *first == b'%') {
            Some(octet) => {
                out.push(octet);
                rest = &tail[2..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

proptest! {
    #[test]
    fn a_canonical_path_is_its_own_canonical_form(target in "/([a-c0-9/.%2-7@:*{]|%2[0-9a-fA-F]|%[2-7][0-9a-f]){0,12}") {
        if let Ok(path) = canonical(target.as_bytes()) {
            prop_assert_eq!(canonical(path.as_bytes()), Ok(path));
        }
    }

    #[test]
    fn a_server_that_decodes_finds_the_same_path(target in "/([a-c0-9/.%@:*{?]|%[2-7][0-9a-fA-F]|%c3%a9){0,12}") {
        if let Ok(path) = canonical(target.as_bytes()) {
            let sent = target.split('?').next().unwrap();
            prop_assert_eq!(decoded(&path), decoded(sent));
        }
    }

    #[test]
    fn spellings_that_decode_alike_have_one_form(
        segments in prop::collection::vec("[a-zA-Z0-9._~!$&'()+,=:@-]{3,8}", 1..4),
        spell in prop::collection::vec(any::<bool>(), 40),
    ) {
        let plain = format!("/{}", segments.join("/"));
        let mut spell = spell.into_iter().cycle();
        let spelt: String = plain
            .chars()
            .map(|c| if c != '/' && spell.next().unwrap() { format!("%{:02x}", c as u8) } else { c.to_string() })
            .collect();
        prop_assert_eq!(canonical(spelt.as_bytes()), canonical(plain.as_bytes()));
    }

    #[test]
    fn no_target_makes_it_panic(target in prop::collection::vec(any::<u8>(), 0..40)) {
        let _ = canonical(&target);
    }
}
