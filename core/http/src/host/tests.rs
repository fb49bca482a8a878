use super::*;

macro_rules! hosts {
    ($($test:ident: $value:expr => $expected:expr),* $(,)?) => {
        $(#[test]
        fn $test() {
            let found = normalise($value.as_bytes());
            assert_eq!(found.as_deref().unwrap_or_else(|reason| reason.slug()), $expected);
        })*
    };
}

hosts! {
    plain: "example.com" => "example.com",
    case_and_port: "EXAMPLE.com:8080" => "example.com",
    empty_port: "example.com:" => "example.com",
    trailing_dot: "example.com." => "example.com",
    trailing_dot_and_port: "example.com.:80" => "example.com",
    underscore: "a_b.example" => "a_b.example",
    ipv4: "127.0.0.1:1" => "127.0.0.1",
    ipv6: "[::1]:80" => "[::1]",
    ipv6_in_capitals: "[2001:DB8::1]" => "[2001:db8::1]",
    ipv6_open: "[::1" => "bad_host",
    ipv6_with_trailing_dot: "[::1]." => "bad_host",
    ipv6_bare: "::1" => "bad_host",
    nested_brackets: "[[::1]]" => "bad_host",
    bracket_inside: "a[::1]" => "bad_host",
    closing_bracket_only: "a]" => "bad_host",
    two_trailing_dots: "example.com.." => "bad_host",
    empty_label: "a..example" => "bad_host",
    leading_dot: ".example" => "bad_host",
    two_colons: "a:1:2" => "bad_host",
    bad_port: "a:x" => "bad_host",
    userinfo: "u@a" => "bad_host",
    list: "a, b" => "bad_host",
    path: "a/b" => "bad_host",
    only_port: ":80" => "bad_host",
    only_dot: "." => "bad_host",
    empty: "" => "bad_host",
    percent: "a%2eb" => "bad_host",
    longest: "a".repeat(255) => "a".repeat(255),
    too_long: "a".repeat(256) => "bad_host",
}
