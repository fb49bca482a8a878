//! The head parser, natively: what is accepted, what is refused and why (THREATS T8, T11 to T17).

#![cfg(feature = "host")]

use portcullis_bpf::{
    abi::method,
    host::{Host, HostFn, SlotField},
    limits::{HEAD_LINES_MAX, HEAD_MAX},
    reason::REASONS,
};

const MORE: i32 = -1000;

/// Result of the parser in words: "ok", "more" or the slug of the refusal.
fn parse(host: &mut Host, bytes: &[u8]) -> String {
    host.load_head(bytes);
    match host.call(HostFn::HEAD) {
        MORE => "more".into(),
        code if code > 0 => "ok".into(),
        code => slug(-code),
    }
}

fn slug(code: i32) -> String {
    let row = REASONS.iter().find(|row| i32::from(row.code) == code);
    row.unwrap_or_else(|| panic!("unknown reason {code}")).slug.into()
}

/// A request with the given field lines, each without its CRLF.
fn with_fields(fields: &[&str]) -> Vec<u8> {
    let mut head = b"GET /a HTTP/1.1\r\nHost: h\r\n".to_vec();
    for field in fields {
        head.extend_from_slice(field.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

fn check(bytes: impl AsRef<[u8]>, expected: &str) {
    let mut host = Host::new();
    let bytes = bytes.as_ref();
    assert_eq!(parse(&mut host, bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
}

macro_rules! heads {
    ($($test:ident: $bytes:expr => $expected:literal),* $(,)?) => {
        $(#[test]
        fn $test() {
            check($bytes, $expected);
        })*
    };
}

heads! {
    plain_get: "GET / HTTP/1.1\r\nHost: a\r\n\r\n" => "ok",
    http_10_needs_no_host: "GET / HTTP/1.0\r\n\r\n" => "ok",
    empty_input_is_incomplete: "" => "more",
    field_names_in_any_case: "GET / HTTP/1.1\r\nhOsT: a\r\n\r\n" => "ok",
    http_09: "GET /\r\n" => "bad_request_line",
    http_12: "GET / HTTP/1.2\r\nHost: a\r\n\r\n" => "bad_request_line",
    http_20: "GET / HTTP/2.0\r\nHost: a\r\n\r\n" => "bad_request_line",
    lower_case_protocol: "GET / http/1.1\r\nHost: a\r\n\r\n" => "bad_request_line",
    two_spaces: "GET  / HTTP/1.1\r\nHost: a\r\n\r\n" => "bad_request_line",
    space_in_target: "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n" => "bad_request_line",
    leading_crlf: "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n" => "not_http1",
    lower_case_method: "get / HTTP/1.1\r\nHost: a\r\n\r\n" => "method_refused",
    mixed_case_method: "Get / HTTP/1.1\r\nHost: a\r\n\r\n" => "method_refused",
    connect: "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n" => "method_refused",
    other_method: "PROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n" => "ok",
    over_long_method: format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "A".repeat(30)) => "bad_request_line",
    http2_preface: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" => "not_http1",
    asterisk_form: "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n" => "bad_request_line",
    absolute_form: "GET http://h/a HTTP/1.1\r\nHost: h\r\n\r\n" => "ok",
    absolute_form_with_control_bytes: "GET http\x1a\x0f\x0fh/a HTTP/1.1\r\nHost: h\r\n\r\n" => "bad_request_line",
    absolute_form_https: "GET https://h/a HTTP/1.1\r\nHost: h\r\n\r\n" => "bad_request_line",
    absolute_form_without_path: "GET http://h HTTP/1.1\r\nHost: h\r\n\r\n" => "bad_request_line",
    tls_client_hello: [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3] => "not_http1",
    binary: [0u8, 1, 2, 3, 4, 5, 6, 7, 8] => "not_http1",
    http_09_with_a_space: "GET / \r\n" => "bad_request_line",
    http_09_with_two_spaces: "GET  /\r\n" => "bad_request_line",
    bare_lf_behind_the_version: "GET / HTTP/1.1\n" => "bad_request_line",
    no_host: "GET / HTTP/1.1\r\n\r\n" => "bad_host",
    empty_host: "GET / HTTP/1.1\r\nHost: \r\n\r\n" => "bad_host",
    two_hosts: with_fields(&["Host: h"]) => "bad_host",
    two_authorizations: with_fields(&["Authorization: Bearer a", "Authorization: Bearer a"]) => "bad_authorization",
    two_authorization_schemes: with_fields(&["Authorization: Basic a", "Authorization: Bearer a"]) => "bad_authorization",
    joined_authorizations: with_fields(&["Authorization: Bearer a, Bearer b"]) => "bad_authorization",
    comma_in_token: with_fields(&["Authorization: Bearer a,b"]) => "bad_authorization",
    two_spaces_before_token: with_fields(&["Authorization: Bearer  a"]) => "bad_authorization",
    space_behind_token: with_fields(&["Authorization: Bearer a "]) => "bad_authorization",
    basic_scheme: with_fields(&["Authorization: Basic dXNlcjpwYXNz"]) => "ok",
    length: with_fields(&["Content-Length: 5"]) => "ok",
    length_twice: with_fields(&["Content-Length: 5", "Content-Length: 5"]) => "bad_framing",
    length_list: with_fields(&["Content-Length: 5, 5"]) => "bad_framing",
    length_sign: with_fields(&["Content-Length: +5"]) => "bad_framing",
    length_negative: with_fields(&["Content-Length: -5"]) => "bad_framing",
    length_hex: with_fields(&["Content-Length: 0x5"]) => "bad_framing",
    length_empty: with_fields(&["Content-Length: "]) => "bad_framing",
    length_huge: with_fields(&["Content-Length: 1234567890123456"]) => "bad_framing",
    length_surrounded_by_spaces: with_fields(&["Content-Length:   5  "]) => "ok",
    length_with_inner_space: with_fields(&["Content-Length: 5 5"]) => "bad_framing",
    chunked: with_fields(&["Transfer-Encoding: chunked"]) => "ok",
    chunked_in_any_case: with_fields(&["transfer-encoding: ChunkeD"]) => "ok",
    coding_twice: with_fields(&["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"]) => "bad_framing",
    coding_list: with_fields(&["Transfer-Encoding: gzip, chunked"]) => "bad_framing",
    coding_identity: with_fields(&["Transfer-Encoding: identity"]) => "bad_framing",
    coding_xchunked: with_fields(&["Transfer-Encoding: xchunked"]) => "bad_framing",
    coding_with_tab: with_fields(&["Transfer-Encoding:\tchunked"]) => "ok",
    coding_with_trailing_tab: with_fields(&["Transfer-Encoding: chunked\t"]) => "bad_header",
    length_and_coding: with_fields(&["Content-Length: 5", "Transfer-Encoding: chunked"]) => "bad_framing",
    coding_and_length: with_fields(&["Transfer-Encoding: chunked", "Content-Length: 5"]) => "bad_framing",
    coding_in_http_10: "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" => "bad_framing",
    obs_fold: with_fields(&["X: a", " b"]) => "bad_header",
    obs_fold_tab: with_fields(&["X: a", "\tb"]) => "bad_header",
    obs_fold_of_length: with_fields(&["Content-Length:", " 5"]) => "bad_framing",
    space_before_colon: with_fields(&["Content-Length : 5"]) => "bad_header",
    tab_before_colon: with_fields(&["Content-Length\t: 5"]) => "bad_header",
    empty_name: with_fields(&[": x"]) => "bad_header",
    no_colon: with_fields(&["nocolon"]) => "bad_header",
    non_token_name: with_fields(&["X(y): a"]) => "bad_header",
    underscore_name: with_fields(&["X_y: a"]) => "ok",
    obs_text_name: with_fields(&["X\u{e9}: a"]) => "bad_header",
    obs_text_value: with_fields(&["X: \u{e9}"]) => "ok",
    tab_in_value: with_fields(&["X: a\tb"]) => "ok",
    bare_lf_line: "GET / HTTP/1.1\nHost: a\n\n" => "bad_request_line",
    bare_lf_in_fields: "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n" => "bad_header",
    bare_cr_in_value: with_fields(&["X: a\rb"]) => "bad_header",
    nul_in_value: with_fields(&["X: a\0b"]) => "bad_header",
    del_in_value: with_fields(&["X: a\x7fb"]) => "bad_header",
    escape_in_value: with_fields(&["X: a\x1b[0m"]) => "bad_header",
    cr_cr_lf: "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n" => "bad_header",
    upgrade_is_not_refused_here: with_fields(&["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c"]) => "ok",
    expect: with_fields(&["Expect: 100-continue", "Content-Length: 5"]) => "ok",
    many_fields: with_fields(&vec!["X: y"; HEAD_LINES_MAX - 1]) => "ok",
    too_many_fields: with_fields(&vec!["X: y"; 1000]) => "head_too_large",
    long_value: with_fields(&[&format!("X: {}", "v".repeat(15_000))]) => "ok",
}

#[test]
fn every_control_byte_in_a_value_is_refused() {
    let mut host = Host::new();
    for byte in (0..0x20u8).chain([0x7f]).filter(|byte| *byte != b'\t') {
        let mut head = b"GET / HTTP/1.1\r\nHost: a\r\nX: a".to_vec();
        head.push(byte);
        head.extend_from_slice(b"b\r\n\r\n");
        assert_ne!(parse(&mut host, &head), "ok", "byte {byte:#x}");
    }
}

#[test]
fn every_byte_in_a_field_name_is_judged_as_rfc_9110_says() {
    let mut host = Host::new();
    for byte in 0..=255u8 {
        let token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        for name in [vec![byte], vec![b'x', byte], vec![b'x', b'x', byte, b'x']] {
            let mut head = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
            head.extend_from_slice(&name);
            head.extend_from_slice(b"q: v\r\n\r\n");
            // a colon ends the name early; an empty name is the one with the colon in front
            let expected = token || (byte == b':' && name.len() > 1);
            assert_eq!(parse(&mut host, &head) == "ok", expected, "byte {byte:#x} in {name:?}");
        }
    }
}

#[test]
fn every_byte_in_the_target_is_judged() {
    let mut host = Host::new();
    for byte in 0..=255u8 {
        let mut head = b"GET /a".to_vec();
        head.push(byte);
        head.extend_from_slice(b"b HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(parse(&mut host, &head) == "ok", (0x21..=0x7e).contains(&byte), "byte {byte:#x}");
    }
}

#[test]
fn every_prefix_of_a_head_is_incomplete_and_the_whole_is_not() {
    let mut host = Host::new();
    let heads: [&[u8]; 4] = [
        b"GET /path?query HTTP/1.1\r\nHost: example.com\r\nAuthorization: Bearer aa.bb.cc\r\nX-Y: z\r\n\r\n",
        b"POST http://example.com/p HTTP/1.1\r\nHost: example.com\r\nContent-Length: 12\r\n\r\n",
        b"PROPFIND / HTTP/1.0\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\nExpect: 100-continue\r\n\r\n",
    ];
    for head in heads {
        for cut in 0..head.len() {
            assert_eq!(
                parse(&mut host, &head[..cut]),
                "more",
                "cut {cut} of {:?}",
                String::from_utf8_lossy(head)
            );
        }
        assert_eq!(parse(&mut host, head), "ok");
    }
}

#[test]
fn fields_are_found_where_they_stand() {
    let mut host = Host::new();
    let head = b"POST /p?q HTTP/1.1\r\nhost: h:80\r\nAUTHORIZATION: bEARER a.b.c\r\nContent-Length: 0012\r\n\r\nbody";
    host.load_head(head);
    let length = host.call(HostFn::HEAD);
    assert_eq!(length as usize, head.len() - 4);
    assert_eq!(host.get_u32(SlotField::METHOD) as usize, method::POST);
    assert_eq!(span(&mut host, head, SlotField::TARGET, SlotField::TARGET_LEN), b"/p?q");
    assert_eq!(span(&mut host, head, SlotField::TOKEN, SlotField::TOKEN_LEN), b"a.b.c");
    assert_eq!(host.get_u32(SlotField::CONTENT_LENGTH), 12);
    assert_eq!(host.get_u32(SlotField::MINOR), 1);
}

fn span<'a>(host: &mut Host, head: &'a [u8], at: SlotField, len: SlotField) -> &'a [u8] {
    let (at, len) = (host.get_u32(at) as usize, host.get_u32(len) as usize);
    &head[at..at + len]
}

#[test]
fn bearer_without_a_token_is_an_empty_token() {
    let mut host = Host::new();
    assert_eq!(parse(&mut host, &with_fields(&["Authorization: Bearer"])), "ok");
    assert_ne!(host.get_u32(SlotField::TOKEN), 0);
    assert_eq!(host.get_u32(SlotField::TOKEN_LEN), 0);
}

#[test]
fn a_head_that_fills_the_buffer_is_incomplete() {
    let mut host = Host::new();
    // Whatever the scan's steps of 8 and 16 bytes end on.
    for start in
        ["GET / HTTP/1.1\r\nHost: a\r\nX: ", "GET /", "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer "]
    {
        for fill in 0..32 {
            let (before, after) = start.split_at(5);
            let mut head = format!("{before}{}{after}", "a".repeat(fill)).into_bytes();
            head.resize(HEAD_MAX + 100, b'v');
            assert_eq!(parse(&mut host, &head), "more", "{start} {fill}");
        }
    }
}

/// Canonical path or slug of the refusal.
fn path(host: &mut Host, target: &str) -> String {
    let head = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(parse(host, head.as_bytes()), "ok", "{target}");
    match host.call(HostFn::PATH) {
        0 => {
            let len = host.get_u32(SlotField::PATH_LEN) as usize;
            String::from_utf8(host.get_bytes(SlotField::PATH, len)).expect("ASCII")
        }
        code => slug(-code),
    }
}

macro_rules! paths {
    ($($test:ident: $target:literal => $expected:literal),* $(,)?) => {
        $(#[test]
        fn $test() {
            assert_eq!(path(&mut Host::new(), $target), $expected);
        })*
    };
}

paths! {
    root: "/" => "/",
    root_with_query: "/?a=b" => "/",
    query_is_cut: "/a/b?c=/../d" => "/a/b",
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
    percent_25_then_one_digit: "/100%252" => "/100%252",
    percent_25_then_text: "/100%25x" => "/100%25x",
    bad_hex: "/a%zz" => "path_ambiguous",
    short_hex: "/a%4" => "path_ambiguous",
    hex_cut_by_query: "/a%4?1" => "path_ambiguous",
    overlong_slash: "/a%c0%afb" => "path_ambiguous",
    overlong_three: "/a%e0%80%af" => "path_ambiguous",
    surrogate: "/%ed%a0%80" => "path_ambiguous",
    lone_continuation: "/%80" => "path_ambiguous",
    cut_utf8: "/%c3" => "path_ambiguous",
    cut_utf8_by_slash: "/%c3/x" => "path_ambiguous",
    utf8_four_bytes: "/%f0%9f%98%80" => "/%F0%9F%98%80",
    beyond_unicode: "/%f4%90%80%80" => "path_ambiguous",
    percent_in_query_is_not_read: "/a?%zz" => "/a",
}

#[test]
fn path_length_limit() {
    let mut host = Host::new();
    let fits = format!("/{}", "a".repeat(2047));
    assert_eq!(path(&mut host, &fits), fits);
    assert_eq!(path(&mut host, &format!("/{}", "a".repeat(2048))), "path_too_long");
    assert_eq!(path(&mut host, &format!("/%41{}", "a".repeat(2046))).len(), 2048);
    assert_eq!(path(&mut host, &format!("/%41{}", "a".repeat(2047))), "path_too_long");
    assert_eq!(path(&mut host, &format!("/%20{}", "a".repeat(2045))), "path_too_long");
}

/// Normalised host or slug of the refusal.
fn host_of(value: &str, target: &str) -> String {
    let mut host = Host::new();
    let head = format!("GET {target} HTTP/1.1\r\nHost: {value}\r\n\r\n");
    match parse(&mut host, head.as_bytes()).as_str() {
        "ok" => {}
        other => return other.into(),
    }
    match host.call(HostFn::HOST) {
        0 => {
            let len = host.get_u32(SlotField::HOST_LEN) as usize;
            String::from_utf8(host.get_bytes(SlotField::HOST, len)).expect("ASCII")
        }
        code => slug(-code),
    }
}

macro_rules! hosts {
    ($($test:ident: $value:literal, $target:literal => $expected:literal),* $(,)?) => {
        $(#[test]
        fn $test() {
            assert_eq!(host_of($value, $target), $expected);
        })*
    };
}

hosts! {
    host_plain: "example.com", "/" => "example.com",
    host_case_and_port: "EXAMPLE.com:8080", "/" => "example.com",
    host_trailing_dot: "example.com.", "/" => "example.com",
    host_ipv6: "[::1]:80", "/" => "[::1]",
    host_ipv6_open: "[::1", "/" => "bad_host",
    host_two_colons: "a:1:2", "/" => "bad_host",
    host_bad_port: "a:x", "/" => "bad_host",
    host_two_trailing_dots: "example.com..", "/" => "bad_host",
    host_empty_label: "a..example", "/" => "bad_host",
    host_leading_dot: ".example", "/" => "bad_host",
    host_userinfo: "u@a", "/" => "bad_host",
    host_list: "a, b", "/" => "bad_host",
    host_path: "a/b", "/" => "bad_host",
    host_only_port: ":80", "/" => "bad_host",
    host_only_dot: ".", "/" => "bad_host",
    host_percent: "a%2eb", "/" => "bad_host",
    absolute_agrees: "a.example", "http://A.example:80/x" => "a.example",
    absolute_differs: "a.example", "http://b.example/x" => "bad_host",
    absolute_longer: "a.example", "http://a.example.evil/x" => "bad_host",
    absolute_userinfo: "a.example", "http://u@a.example/x" => "bad_host",
}
