use super::*;
use crate::limits::{HEAD_LINES_MAX, NAME_MORE_MAX, NAME_PLAIN_MAX, SPACE_BEFORE_MAX, SPACE_BEHIND_MAX};

/// Result of the parser in words: "ok", "more" or the slug of the refusal.
fn judged(bytes: &[u8]) -> &'static str {
    match parse(bytes) {
        Ok(Some(_)) => "ok",
        Ok(None) => "more",
        Err(reason) => reason.slug(),
    }
}

fn check(bytes: impl AsRef<[u8]>, expected: &str) {
    let bytes = bytes.as_ref();
    assert_eq!(judged(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
}

/// A request with the given field lines, each without its CRLF.
fn with_fields(fields: &[&str]) -> Vec<u8> {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    format!("GET /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n").into_bytes()
}

fn head(bytes: impl AsRef<[u8]>) -> Head {
    parse(bytes.as_ref()).unwrap().unwrap()
}

macro_rules! heads {
    ($($test:ident: $bytes:expr => $expected:literal),* $(,)?) => {
        $(#[test]
        fn $test() {
            check($bytes, $expected);
        })*
    };
}

//= https://www.rfc-editor.org/rfc/rfc9112#section-3
//= type=test
//# request-line   = method SP request-target SP HTTP-version
heads! {
    plain_get: "GET / HTTP/1.1\r\nHost: a\r\n\r\n" => "ok",
    http_10_needs_no_host: "GET / HTTP/1.0\r\n\r\n" => "ok",
    empty_input_is_incomplete: "" => "more",
    http_09: "GET /\r\n" => "bad_request_line",
    http_12: "GET / HTTP/1.2\r\nHost: a\r\n\r\n" => "bad_request_line",
    http_20: "GET / HTTP/2.0\r\nHost: a\r\n\r\n" => "bad_request_line",
    lower_case_protocol: "GET / http/1.1\r\nHost: a\r\n\r\n" => "bad_request_line",
    two_spaces: "GET  / HTTP/1.1\r\nHost: a\r\n\r\n" => "bad_request_line",
    tab_for_space: "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n" => "not_http1",
    space_in_target: "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n" => "bad_request_line",
    space_behind_version: "GET / HTTP/1.1 \r\nHost: a\r\n\r\n" => "bad_request_line",
    leading_space: " GET / HTTP/1.1\r\nHost: a\r\n\r\n" => "bad_request_line",
    leading_crlf: "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n" => "not_http1",
    lower_case_method: "get / HTTP/1.1\r\nHost: a\r\n\r\n" => "method_refused",
    mixed_case_method: "Get / HTTP/1.1\r\nHost: a\r\n\r\n" => "method_refused",
    connect: "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n" => "method_refused",
    other_method: "PROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n" => "ok",
    method_with_punctuation: "M-SEARCH / HTTP/1.1\r\nHost: a\r\n\r\n" => "ok",
    longest_method: format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "A".repeat(23)) => "ok",
    over_long_method: format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "A".repeat(24)) => "bad_request_line",
    http2_preface: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" => "not_http1",
    asterisk_form: "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n" => "bad_request_line",
    authority_form: "GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n" => "bad_request_line",
    absolute_form: "GET http://h/a HTTP/1.1\r\nHost: h\r\n\r\n" => "ok",
    absolute_form_in_capitals: "GET HTTP://h/a HTTP/1.1\r\nHost: h\r\n\r\n" => "ok",
    absolute_form_https: "GET https://h/a HTTP/1.1\r\nHost: h\r\n\r\n" => "bad_request_line",
    absolute_form_without_path: "GET http://h HTTP/1.1\r\nHost: h\r\n\r\n" => "bad_request_line",
    absolute_form_without_host: "GET http:///a HTTP/1.1\r\nHost: h\r\n\r\n" => "bad_request_line",
    absolute_form_with_control_bytes: "GET http\x1a\x0f\x0fh/a HTTP/1.1\r\nHost: h\r\n\r\n" => "bad_request_line",
    over_long_authority: format!("GET http://{}/ HTTP/1.1\r\nHost: h\r\n\r\n", "h".repeat(256)) => "bad_request_line",
    tls_client_hello: [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3] => "not_http1",
    binary: [0u8, 1, 2, 3, 4, 5, 6, 7, 8] => "not_http1",
    bare_lf_line: "GET / HTTP/1.1\nHost: a\n\n" => "bad_request_line",
    bare_cr_line: "GET / HTTP/1.1\rHost: a\r\r" => "bad_request_line",
    http_09_with_a_space: "GET / \r\n" => "bad_request_line",
    http_09_with_a_space_and_lf: "GET / \n" => "bad_request_line",
    http_09_with_two_spaces: "GET  /\r\n" => "bad_request_line",
    bare_lf_behind_the_version: "GET / HTTP/1.1\n" => "bad_request_line",
    end_of_line_in_the_version: "GET / HTTP/1.\r\n" => "bad_request_line",
    end_of_line_in_the_scheme: "GET http:\r\n" => "bad_request_line",
}

//= https://www.rfc-editor.org/rfc/rfc9112#section-5.1
//= type=test
//# No whitespace is allowed between the field name and colon.
heads! {
    names_in_any_case: "GET / HTTP/1.1\r\nhOsT: a\r\n\r\n" => "ok",
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
    empty_value: with_fields(&["X:"]) => "ok",
    bare_lf_in_fields: "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n" => "bad_header",
    bare_cr_in_value: with_fields(&["X: a\rb"]) => "bad_header",
    nul_in_value: with_fields(&["X: a\0b"]) => "bad_header",
    del_in_value: with_fields(&["X: a\x7fb"]) => "bad_header",
    escape_in_value: with_fields(&["X: a\x1b[0m"]) => "bad_header",
    cr_cr_lf: "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n" => "bad_header",
    upgrade_is_no_refusal: with_fields(&["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c"]) => "ok",
    two_upgrades: with_fields(&["Upgrade: h2c", "Upgrade: websocket"]) => "bad_header",
    two_connections: with_fields(&["Connection: close", "Connection: X-Other"]) => "ok",
    expect: with_fields(&["Expect: 100-continue", "Content-Length: 5"]) => "ok",
    most_fields: with_fields(&vec!["X: y"; HEAD_LINES_MAX - 1]) => "ok",
    too_many_fields: with_fields(&vec!["X: y"; HEAD_LINES_MAX]) => "head_too_large",
    long_value: with_fields(&[&format!("X: {}", "v".repeat(15_000))]) => "ok",
}

//= https://www.rfc-editor.org/rfc/rfc9112#section-3.2
//= type=test
//# A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request message that lacks a Host header
//# field and to any request message that contains more than one Host header field line
heads! {
    no_host: "GET / HTTP/1.1\r\n\r\n" => "bad_host",
    empty_host: "GET / HTTP/1.1\r\nHost: \r\n\r\n" => "bad_host",
    two_hosts: with_fields(&["Host: h"]) => "bad_host",
    tab_in_host: with_fields(&["Host: h\th"]) => "bad_host",
}

heads! {
    two_authorizations: with_fields(&["Authorization: Bearer a", "Authorization: Bearer a"]) => "bad_authorization",
    two_schemes: with_fields(&["Authorization: Basic a", "Authorization: Bearer a"]) => "bad_authorization",
    joined_authorizations: with_fields(&["Authorization: Bearer a, Bearer b"]) => "bad_authorization",
    comma_in_token: with_fields(&["Authorization: Bearer a,b"]) => "bad_authorization",
    two_spaces_before_token: with_fields(&["Authorization: Bearer  a"]) => "bad_authorization",
    space_behind_token: with_fields(&["Authorization: Bearer a "]) => "bad_authorization",
    tab_behind_scheme: with_fields(&["Authorization: Bearer\ta"]) => "bad_header",
    obs_text_in_token: with_fields(&["Authorization: Bearer \u{e9}"]) => "bad_header",
    basic_scheme: with_fields(&["Authorization: Basic dXNlcjpwYXNz"]) => "ok",
}

//= https://www.rfc-editor.org/rfc/rfc9112#section-6.3
//= type=test
//# If a message is received without Transfer-Encoding and with an invalid Content-Length header field, then the message
//# framing is invalid and the recipient MUST treat it as an unrecoverable error
heads! {
    length: with_fields(&["Content-Length: 5"]) => "ok",
    length_twice: with_fields(&["Content-Length: 5", "Content-Length: 5"]) => "bad_framing",
    length_list: with_fields(&["Content-Length: 5, 5"]) => "bad_framing",
    length_sign: with_fields(&["Content-Length: +5"]) => "bad_framing",
    length_negative: with_fields(&["Content-Length: -5"]) => "bad_framing",
    length_hex: with_fields(&["Content-Length: 0x5"]) => "bad_framing",
    length_empty: with_fields(&["Content-Length: "]) => "bad_framing",
    longest_length: with_fields(&["Content-Length: 000000000000005"]) => "ok",
    length_huge: with_fields(&["Content-Length: 1234567890123456"]) => "bad_framing",
    length_surrounded_by_spaces: with_fields(&["Content-Length:   5  "]) => "ok",
    length_with_inner_space: with_fields(&["Content-Length: 5 5"]) => "bad_framing",
    length_with_trailing_tab: with_fields(&["Content-Length: 5\t"]) => "bad_header",
    chunked: with_fields(&["Transfer-Encoding: chunked"]) => "ok",
    chunked_in_any_case: with_fields(&["transfer-encoding: ChunkeD"]) => "ok",
    coding_twice: with_fields(&["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"]) => "bad_framing",
    coding_list: with_fields(&["Transfer-Encoding: gzip, chunked"]) => "bad_framing",
    coding_empty: with_fields(&["Transfer-Encoding:"]) => "bad_framing",
    coding_identity: with_fields(&["Transfer-Encoding: identity"]) => "bad_framing",
    coding_xchunked: with_fields(&["Transfer-Encoding: xchunked"]) => "bad_framing",
    coding_quoted: with_fields(&["Transfer-Encoding: \"chunked\""]) => "bad_framing",
    coding_with_tab: with_fields(&["Transfer-Encoding:\tchunked"]) => "ok",
    coding_with_trailing_tab: with_fields(&["Transfer-Encoding: chunked\t"]) => "bad_header",
    coding_with_vertical_tab: with_fields(&["Transfer-Encoding: \x0bchunked"]) => "bad_header",
    length_and_coding: with_fields(&["Content-Length: 5", "Transfer-Encoding: chunked"]) => "bad_framing",
    coding_and_length: with_fields(&["Transfer-Encoding: chunked", "Content-Length: 5"]) => "bad_framing",
    coding_in_http_10: "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" => "bad_framing",
}

#[test]
fn every_byte_in_the_target_is_judged() {
    for byte in 0..=255u8 {
        let head = [b"GET /a", &[byte][..], b"b HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        assert_eq!(judged(&head) == "ok", (0x21..=0x7e).contains(&byte), "byte {byte:#x}");
    }
}

#[test]
fn every_byte_in_a_field_name_is_judged() {
    for byte in 0..=255u8 {
        let token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        for name in [vec![byte], vec![b'x', byte], vec![b'x', b'x', byte, b'x']] {
            let head = [b"GET / HTTP/1.1\r\nHost: a\r\n", &name[..], b"q: v\r\n\r\n"].concat();
            // a colon ends the name early; an empty name is the one with the colon in front
            let expected = token || (byte == b':' && name.len() > 1);
            assert_eq!(judged(&head) == "ok", expected, "byte {byte:#x} in {name:?}");
        }
    }
}

#[test]
fn every_byte_in_a_value_is_judged() {
    for byte in (0..=255u8).filter(|byte| *byte != b'\r') {
        let expected = matches!(byte, b'\t' | 0x20..=0x7e | 0x80..);
        let head = [b"GET / HTTP/1.1\r\nHost: a\r\nX: a", &[byte][..], b"b\r\n\r\n"].concat();
        assert_eq!(judged(&head) == "ok", expected, "byte {byte:#x}");
    }
}

#[test]
fn every_prefix_of_a_head_is_incomplete_and_the_whole_is_not() {
    let heads: [&[u8]; 4] = [
        b"GET /path?query HTTP/1.1\r\nHost: example.com\r\nAuthorization: Bearer aa.bb.cc\r\nX-Y: z\r\n\r\n",
        b"POST http://example.com/p HTTP/1.1\r\nHost: example.com\r\nContent-Length: 12\r\n\r\n",
        b"PROPFIND / HTTP/1.0\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\nExpect: 1\r\n\r\n",
    ];
    for head in heads {
        for cut in 0..head.len() {
            check(&head[..cut], "more");
        }
        check(head, "ok");
    }
}

/// A server may act on a line that ends where ours goes on (HTTP/0.9, bare LF): so no part of one may wait for more unless
/// more can make it whole.
#[test]
fn a_request_line_is_refused_at_its_first_wrong_byte() {
    let lines = ["GET /a?b HTTP/1.1\r\n", "GET http://h/a HTTP/1.0\r\n", "M-SEARCH / HTTP/1.0\r\n"];
    let rest = b"Host: h\r\n\r\n";
    let can_be_whole = |part: &[u8]| {
        let mut ends = lines.iter().flat_map(|line| (0..line.len()).map(|from| &line.as_bytes()[from..]));
        ends.any(|end| judged(&[part, end, rest].concat()) == "ok")
    };
    for line in lines {
        for cut in 0..line.len() - 1 {
            for byte in 0..=255 {
                let part = [&line.as_bytes()[..cut], &[byte]].concat();
                let (said, whole) = (judged(&part), can_be_whole(&part));
                assert_eq!(said == "more", whole, "{said}: {}", part.escape_ascii());
            }
        }
    }
}

#[test]
fn what_a_head_says_is_found() {
    let bytes =
        b"POST /p?q HTTP/1.1\r\nhost: H:80\r\nAUTHORIZATION: bEARER a.b.c\r\nContent-Length: 0012\r\n\r\nbody";
    let head = head(bytes);
    assert_eq!(head.bytes().len(), bytes.len() - 4);
    assert_eq!((head.method(), head.method_token(), head.minor()), (Method::Post, &b"POST"[..], 1));
    assert_eq!((head.target(), head.token()), (&b"/p?q"[..], Some(&b"a.b.c"[..])));
    assert_eq!(head.framing(), Framing::Length(12));
    assert_eq!(head.resource(), Ok(Resource { host: Some("h".to_owned()), path: "/p".to_owned() }));
}

#[test]
fn a_bearer_scheme_may_have_an_empty_token() {
    for field in ["Authorization: Bearer", "Authorization: Bearer ", "authorization:bearer"] {
        assert_eq!(head(with_fields(&[field])).token(), Some(&b""[..]), "{field}");
    }
    for field in
        ["Authorization: Bearers a", "Authorization: Bear a", "Authorization: Basic a", "X: Bearer a"]
    {
        assert_eq!(head(with_fields(&[field])).token(), None, "{field}");
    }
}

#[test]
fn a_second_field_is_refused_before_its_value_has_come() {
    check("GET / HTTP/1.1\r\nHost: a\r\nHost:", "bad_host");
    check("GET / HTTP/1.1\r\nHost: a\r\nHost", "more");
}

#[test]
fn bounds_of_names_and_white_space() {
    let name =
        |plain: usize, more: usize| with_fields(&[&format!("{}{}: x", "a".repeat(plain), "!".repeat(more))]);
    check(name(NAME_PLAIN_MAX, NAME_MORE_MAX), "ok");
    check(name(NAME_PLAIN_MAX + NAME_MORE_MAX, 0), "ok");
    check(name(NAME_PLAIN_MAX, NAME_MORE_MAX + 1), "bad_header");
    check(name(0, NAME_MORE_MAX + 1), "bad_header");
    let before = |count: usize| with_fields(&[&format!("X:{}x", " ".repeat(count))]);
    check(before(SPACE_BEFORE_MAX), "ok");
    check(before(SPACE_BEFORE_MAX + 1), "bad_header");
    let behind = |name: &str, count: usize| with_fields(&[&format!("{name}: 1{}", " ".repeat(count))]);
    check(behind("Content-Length", SPACE_BEHIND_MAX), "ok");
    check(behind("Content-Length", SPACE_BEHIND_MAX + 1), "bad_header");
    check(behind("X", SPACE_BEHIND_MAX + 1), "ok");
}

#[test]
fn a_head_has_a_greatest_size() {
    let with_size = |size: usize| {
        let rest = b"GET / HTTP/1.1\r\nHost: a\r\nX: ".len() + b"\r\n\r\n".len();
        format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "v".repeat(size - rest))
    };
    check(with_size(HEAD_MAX), "ok");
    check(with_size(HEAD_MAX + 1), "head_too_large");
    check(&with_size(HEAD_MAX)[..HEAD_MAX - 1], "more");
    // Whatever part of it grows.
    check(format!("GET /{}", "a".repeat(HEAD_MAX)), "head_too_large");
    check(format!("GET / HTTP/1.1\r\nAuthorization: Bearer {}", "a".repeat(HEAD_MAX)), "head_too_large");
}

/// Host and path, or the slug of the refusal.
fn resource(bytes: &str) -> String {
    match head(bytes).resource() {
        Ok(Resource { host, path }) => host.unwrap_or_default() + &path,
        Err(reason) => reason.slug().to_owned(),
    }
}

#[test]
fn an_absolute_target_names_the_same_host() {
    let with = |target: &str| resource(&format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n"));
    assert_eq!(with("http://A.example:80/x?y"), "a.example/x");
    assert_eq!(with("http://b.example/x"), "bad_host");
    assert_eq!(with("http://a.example.evil/x"), "bad_host");
    assert_eq!(with("http://u@a.example/x"), "bad_host");
    assert_eq!(with("http://a.example?q/x"), "bad_host");
    assert_eq!(resource("GET http://a.example/x HTTP/1.0\r\n\r\n"), "bad_host");
    assert_eq!(resource("GET /x HTTP/1.0\r\n\r\n"), "/x");
}
