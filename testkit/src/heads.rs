//! Request heads that are good, nearly good, and long: for comparing readers of HTTP/1.x.

use crate::seed::Rng;

/// The longest head that is read (bytes): `PC_HEAD_MAX`.
pub const HEAD_BYTES: usize = 16384;

/// Heads between them with every construct that the parser knows.
pub const SAMPLES: &[&[u8]] = &[
    b"GET /a/.b/c%20d?e HTTP/1.1\r\nHost: Ex.am:80\r\nAuthorization: Bearer a.b.c\r\nX: y\r\n\r\n",
    b"POST http://h.x:1/a%C3%A9 HTTP/1.1\r\nHost: H.x\r\nContent-Length: 12\r\nUpgrade: h2c\r\n\r\n",
    b"PROPFIND /%25 HTTP/1.0\r\nAuthorization: Basic YQ==\r\nConnection: close\r\nExpect: 100-continue \r\n\r\n",
    b"DELETE / HTTP/1.1\r\nHost: [::1]:8\r\nTransfer-Encoding:\tchunked\r\nConnection: keep-alive\r\n\r\n",
    b"GET /ws HTTP/1.0\r\nConnection: keep-alive\r\nX: y\r\n\r\n",
    b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
];

/// A head with one part that can be of any length.
#[derive(Clone, Copy, Debug)]
pub struct Long {
    before: &'static str,
    fill: &'static str,
    after: &'static str,
}

/// Every place that can be long.
pub const LONG_PARTS: &[Long] = &[
    Long { before: "", fill: "A", after: " / HTTP/1.1\r\nHost: h\r\n\r\n" },
    Long { before: "GET /", fill: "a", after: " HTTP/1.1\r\nHost: h\r\n\r\n" },
    Long { before: "GET /%41", fill: "a", after: " HTTP/1.1\r\nHost: h\r\n\r\n" },
    Long { before: "GET /", fill: "%20", after: " HTTP/1.1\r\nHost: h\r\n\r\n" },
    Long { before: "GET /", fill: "a", after: "{ HTTP/1.1\r\nHost: h\r\n\r\n" },
    Long { before: "GET /", fill: "a", after: "/. HTTP/1.1\r\nHost: h\r\n\r\n" },
    Long { before: "GET /", fill: "a", after: "%4?x HTTP/1.1\r\nHost: h\r\n\r\n" },
    Long { before: "GET /?", fill: "a", after: " HTTP/1.1\r\nHost: h\r\n\r\n" },
    Long { before: "GET http://", fill: "a", after: "/ HTTP/1.1\r\nHost: a\r\n\r\n" },
    Long { before: "GET / HTTP/1.1\r\nHost: ", fill: "h", after: "\r\n\r\n" },
    Long { before: "GET / HTTP/1.1\r\nHost: h:", fill: "0", after: "\r\n\r\n" },
    Long { before: "GET / HTTP/1.1\r\nHost:", fill: " ", after: "h\r\n\r\n" },
    Long { before: "GET / HTTP/1.1\r\nHost: h", fill: " ", after: "\r\n\r\n" },
    Long { before: "GET / HTTP/1.1\r\nHost: h\r\nX: ", fill: "v", after: "\r\n\r\n" },
    Long { before: "GET / HTTP/1.1\r\nHost: h\r\nX: ", fill: "v", after: "\u{e9}\tw\r\n\r\n" },
    Long { before: "GET / HTTP/1.1\r\nHost: h\r\nX: ", fill: "\u{e9}", after: "\r\n\r\n" },
    Long { before: "GET / HTTP/1.0\r\nX: ", fill: "v", after: "\r\n\r\n" },
    Long { before: "GET / HTTP/1.1\r\nHost: h\r\n", fill: "n", after: ": v\r\n\r\n" },
    Long { before: "GET / HTTP/1.1\r\nHost: h\r\n!", fill: "n", after: ": v\r\n\r\n" },
    Long { before: "GET / HTTP/1.1\r\nHost: h\r\n", fill: "n", after: "!!: v\r\n\r\n" },
    Long { before: "GET / HTTP/1.1\r\nHost: h\r\n", fill: "_", after: ": v\r\n\r\n" },
    Long { before: "GET / HTTP/1.1\r\nHost: h\r\n", fill: "X: y\r\n", after: "\r\n" },
    Long { before: "GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer ", fill: "t", after: "\r\n\r\n" },
    Long { before: "GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Basic ", fill: "t", after: "\r\n\r\n" },
    Long { before: "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: ", fill: "1", after: "\r\n\r\n" },
    Long { before: "GET / HTTP/1.1\r\nHost: h\r\nConnection: close", fill: " ", after: "\r\n\r\n" },
    Long { before: "GET / HTTP/1.1\r\nHost: h\r\nConnection: a", fill: "\u{e9}", after: " \r\n\r\n" },
];

/// Lengths around what is a bound somewhere.
pub fn lengths() -> impl Iterator<Item = usize> {
    (0..80).chain(120..136).chain(186..200).chain(250..262).chain(2030..2064)
}

// === impl Long ===

impl Long {
    /// With so many repetitions of the part.
    pub fn with_length(&self, length: usize) -> Vec<u8> {
        [self.before, &self.fill.repeat(length), self.after].concat().into_bytes()
    }

    /// With so many bytes in all, or a few less.
    pub fn with_total(&self, total: usize) -> Vec<u8> {
        self.with_length((total - self.before.len() - self.after.len()) / self.fill.len())
    }
}

const METHODS: &[&str] =
    &["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "M-SEARCH", "PRI", "A_B"];
const BAD_METHODS: &[&str] =
    &["CONNECT", "get", "Get", "GET ", "", "G3T", "G\0T", "\r\nGET", "GETGETGETGETGETGETGETGET"];
const SEGMENTS: &[&str] = &[
    "a",
    "bc",
    "v1",
    "..",
    ".",
    "...",
    ".well-known",
    "",
    "%2e",
    "%2E%2e",
    "a%20b",
    "%c3%a9",
    "%C3%A9x",
    "%e2%82%ac",
    "%f0%9f%98%80",
    "@me",
    "%40me",
    "x:y",
    "x%3ay",
    "a*b",
    "%2a",
    "{id}",
    "%7Bid%7d",
    "a|b",
    "~u",
    "%7e",
    "%41",
    "(1)",
    "a=b&c",
    "%2B",
    "100%25",
];
const BAD_SEGMENTS: &[&str] = &[
    "%2f",
    "%5c",
    "\\",
    "a;b",
    "#",
    "%",
    "%4",
    "%zz",
    "%00",
    "%0d",
    "%7f",
    "%c0%af",
    "%ed%a0%80",
    "%80",
    "%c3",
    "%252e",
    "%25%32e",
    "%25%34%31",
    "%2541",
    "%25a",
    "%25%",
    "%fe",
];
const QUERIES: &[&str] = &["", "", "", "?", "?a=b", "?/../x", "?%zz", "??", "?a b"];
const HOSTS: &[&str] = &[
    "h",
    "example.com",
    "EXAMPLE.com:8080",
    "example.com.",
    "a_b.c-d",
    "127.0.0.1:1",
    "[::1]",
    "[2001:DB8::1]:80",
    "h:",
];
const BAD_HOSTS: &[&str] = &[
    "", ".", ".a", "a..b", "a..", ":80", "a:x", "a:1:2", "[::1", "[::1].", "[[a]]", "a[b]", "u@h", "a,b",
    "a b", "a/b", "a%2eb", "\u{e9}",
];
const FIELDS: &[&str] = &[
    "Accept: */*",
    "X-Empty:",
    "X-Tab: a\tb",
    "X-Text: \u{e9}\u{e8}",
    "x_y: z",
    "Cookie: a=b; c=d",
    "User-Agent: curl/8.0",
    "!#$%&'*+.^`|~: x",
    "Authorization: Bearer aaaa.bbbb.cccc",
    "authorization: bEARER x",
    "AUTHORIZATION: Basic YTpi",
    "Authorization: Bearer",
    "Authorization: Bearers x",
    "Content-Length: 0",
    "Content-Length: 5",
    "content-length:12 ",
    "Content-Length: 000000000000007",
    "Transfer-Encoding: chunked",
    "transfer-encoding: CHUNKED  ",
    "Connection: close",
    "Connection: keep-alive",
    "Connection: Upgrade, x",
    "Upgrade: websocket",
    "Upgrade: h2c\t",
    "Expect: 100-continue",
    "X-Hosts: h",
    "Hos: h",
    "Hosts: h",
    "Content-Lengths: 1",
    "Authorizations: x",
];
const BAD_FIELDS: &[&str] = &[
    "Authorization: Bearer a b",
    "Authorization: Bearer a,b",
    "Authorization: Bearer  a",
    "Authorization: Bearer\ta",
    "Authorization: Bearer \u{e9}",
    "Content-Length: +1",
    "Content-Length: 1,1",
    "Content-Length:",
    "Content-Length: 0x1",
    "Content-Length: 1234567890123456",
    "Content-Length : 1",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: chunked\t",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding:",
    " folded",
    "\tfolded",
    ": x",
    "no colon",
    "X\u{e9}: a",
    "X: a\0b",
    "X: a\rb",
    "X: a\nb",
    "X: a\x7f",
    "X(: a",
    "\r",
    "",
    "Host",
    "X:\x0b",
    "Host: h\t",
];

/// A head that is well formed, three in four times; else with something wrong in a few places.
pub fn head(rng: &mut Rng) -> Vec<u8> {
    let wrong = rng.one_in(4);
    let mut pick = |good: &[&'static str], bad: &[&'static str]| -> &'static str {
        let list = if wrong && rng.one_in(4) { bad } else { good };
        rng.pick(list).copied().unwrap_or_default()
    };
    let mut text = String::new();
    text += pick(METHODS, BAD_METHODS);
    text += pick(&[" "], &["  ", "\t", ""]);
    let host = pick(HOSTS, BAD_HOSTS);
    text += match pick(&["", "", "", "", "abs"], &["https://h", "HTTP://", "http:/", "*", "http"]) {
        "abs" => ["http://", host].concat(),
        other => other.to_owned(),
    }
    .as_str();
    for _ in 0..=pick(&["", "a", "aa", "aaa", "aaaaa"], &[""]).len() {
        text += "/";
        // A dot segment or an empty one is wrong in the middle, so good lists have them seldom enough.
        text += pick(SEGMENTS, BAD_SEGMENTS);
    }
    text += pick(QUERIES, QUERIES);
    text += pick(
        &[" HTTP/1.1", " HTTP/1.1", " HTTP/1.1", " HTTP/1.0"],
        &[" HTTP/1.2", " HTTP/2.0", " http/1.1", "", " HTTP/1.1 ", "  HTTP/1.1"],
    );
    let mut lines = vec![format!("Host:{}{host}", pick(&[" ", "", "\t", "  "], &["\0"]))];
    for _ in 0..pick(&["", "a", "aa", "aaa", "aaaaaa"], &["aaaaaaaaaa"]).len() {
        lines.push(pick(FIELDS, BAD_FIELDS).to_owned());
    }
    if pick(&[""], &["host"]) == "host" {
        lines.remove(0);
    }
    let swap = pick(&["", "a", "aa", "aaa"], &[""]).len();
    let last = lines.len().saturating_sub(1);
    if last > 0 {
        lines.swap(0, swap.min(last));
    }
    for line in lines {
        text += pick(&["\r\n"], &["\n", "\r", "\r\r\n"]);
        text += &line;
    }
    text += "\r\n\r\n";
    text += pick(&["", "", "body", "GET / HTTP/1.1\r\n"], &["\r\n"]);
    text.into_bytes()
}

/// Bytes at which readers part.
const EDGES: &[u8] = b"\0\t\n\r \x1f!\"#%,./0:;?@AZ[\\]^_`az{|}~\x7f\x80\xff\x0b\x0c\x0d\x1a\x0f";

/// Changes a few bytes.
pub fn mutate(rng: &mut Rng, head: &mut Vec<u8>) {
    for _ in 0..=rng.below(3) {
        let at = rng.below(head.len() as u64 + 1) as usize;
        let edge = rng.pick(EDGES).copied().unwrap_or_default();
        let end = head.len().min(at + rng.below(12) as usize);
        match rng.below(9) {
            0 | 1 => {
                head.get_mut(at).into_iter().for_each(|byte| *byte = edge);
            }
            2 => head.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << (edge & 7)),
            3 => head.insert(at, edge),
            4 => drop(head.drain(at..end)),
            5 => {
                let again = head[at..end].to_vec();
                head.splice(at..at, again);
            }
            6 => head.truncate(at),
            // To another place of a word, or over a bound.
            7 => drop(head.splice(at..at, vec![b'a'; rng.below(300) as usize])),
            _ if rng.one_in(20) => drop(head.splice(at..at, vec![edge; HEAD_BYTES])),
            _ => drop(head.splice(at..at, vec![edge; rng.below(70) as usize])),
        }
    }
}
