//! Raw requests: what a policy's request looks like on the wire, well spelt, oddly spelt, and wrong.

use portcullis_testkit::{Rng, heads};

use super::policies::Request;

const FIELDS: [&str; 8] = [
    "Accept: */*",
    "X-Empty:",
    "X-Tab: a\tb",
    "Cookie: a=b; c=d",
    "User-Agent: curl/8.0",
    "x_y: z",
    "Connection: keep-alive",
    "X-Hosts: h",
];
const AUTHORIZATION: [&str; 4] =
    ["Authorization: Bearer ", "authorization: bearer ", "AUTHORIZATION:Bearer ", "Authorization:\tBEARER "];
const QUERIES: [&str; 5] = ["?", "?a=b", "?/../x", "?%zz", "?roles=admin&x=/a"];
/// Bodies are made of this: were one read as a head, it would be a request without a token.
const SMUGGLED: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n";

/// What follows the head.
enum Framing {
    None,
    Length(usize),
    Chunked,
}

/// The bytes of a request with its body, as a client would send them; one in four has something wrong.
pub fn render(rng: &mut Rng, request: &Request, token: Option<&[u8]>) -> Vec<u8> {
    if rng.one_in(12) {
        return wild(rng, token);
    }
    let framing = match rng.below(16) {
        0 | 1 => Framing::Length(1 + rng.below(60) as usize),
        2 => Framing::Length(rng.below(3000) as usize),
        3 | 4 => Framing::Chunked,
        _ => Framing::None,
    };
    let mut head = head(rng, request, token, &framing);
    if rng.one_in(6) {
        heads::mutate(rng, &mut head);
    }
    let body = match framing {
        Framing::None => Vec::new(),
        Framing::Length(length) => smuggled(length),
        Framing::Chunked => chunked(rng),
    };
    [head, body].concat()
}

fn head(rng: &mut Rng, request: &Request, token: Option<&[u8]>, framing: &Framing) -> Vec<u8> {
    let Request { port: _, host, method, path } = request;
    let old = if host.is_empty() { !rng.one_in(4) } else { rng.one_in(16) };
    let mut text = format!("{method} ").into_bytes();
    if !host.is_empty() && rng.one_in(10) {
        text.extend(format!("http://{}", spell_host(rng, host)).bytes());
    }
    if rng.one_in(200) {
        // Around the bound of a path.
        text.extend(format!("/{}", "a".repeat(1950 + rng.below(120) as usize)).bytes());
    }
    text.extend(spell_path(rng, path).bytes());
    if rng.one_in(6) {
        text.extend(rng.pick(&QUERIES).unwrap().bytes());
    }
    text.extend(if old { b" HTTP/1.0" } else { b" HTTP/1.1" });
    let mut lines: Vec<Vec<u8>> = Vec::new();
    if !host.is_empty() {
        lines.push(format!("Host: {}", spell_host(rng, host)).into_bytes());
    }
    if let Some(token) = token {
        lines.push([rng.pick(&AUTHORIZATION).unwrap().as_bytes(), token].concat());
    }
    match framing {
        Framing::None if rng.one_in(30) => lines.push(b"Content-Length: 0".to_vec()),
        Framing::None => {}
        Framing::Length(length) => lines.push(format!("Content-Length: {length}").into_bytes()),
        Framing::Chunked => lines.push(b"Transfer-Encoding: chunked".to_vec()),
    }
    if rng.one_in(24) {
        lines.push(b"Expect: 100-continue".to_vec());
    }
    if rng.one_in(24) {
        lines.extend([b"Connection: Upgrade".to_vec(), b"Upgrade: websocket".to_vec()]);
    }
    lines.extend((0..rng.below(4)).map(|_| rng.pick(&FIELDS).unwrap().as_bytes().to_vec()));
    for at in (1..lines.len()).rev() {
        lines.swap(at, rng.below(at as u64 + 1) as usize);
    }
    for line in lines {
        text.extend(b"\r\n");
        text.extend(line);
    }
    text.extend(b"\r\n\r\n");
    text
}

/// A head of the parser's corpus, with a token.
fn wild(rng: &mut Rng, token: Option<&[u8]>) -> Vec<u8> {
    let mut head = heads::head(rng);
    let end = head.windows(2).position(|pair| pair == b"\r\n");
    if let (Some(end), Some(token)) = (end, token) {
        let line = [b"\r\nAuthorization: Bearer ", token].concat();
        head.splice(end..end, line);
    }
    head
}

/// The same host in another spelling.
fn spell_host(rng: &mut Rng, host: &str) -> String {
    let mut host = host.to_owned();
    if rng.one_in(8) {
        host.make_ascii_uppercase();
    }
    if rng.one_in(16) && !host.ends_with(']') {
        host += ".";
    }
    if rng.one_in(6) {
        host += rng.pick(&[":80", ":8080", ":"]).unwrap();
    }
    host
}

/// The same path in another spelling.
fn spell_path(rng: &mut Rng, path: &str) -> String {
    let encode = rng.one_in(4);
    let mut text = String::new();
    for character in path.chars() {
        if encode && character != '/' && rng.one_in(4) {
            text += &format!("%{:02x}", u32::from(character));
        } else {
            text.push(character);
        }
    }
    text
}

pub fn smuggled(length: usize) -> Vec<u8> {
    SMUGGLED.iter().copied().cycle().take(length).collect()
}

/// A chunked body; one in ten has something wrong.
fn chunked(rng: &mut Rng) -> Vec<u8> {
    let mut body = Vec::new();
    for _ in 0..rng.below(4) {
        let most = if rng.one_in(10) { 5000 } else { 60 };
        let length = 1 + rng.below(most) as usize;
        let extension = if rng.one_in(4) { ";a=\"b\"" } else { "" };
        body.extend(format!("{length:x}{extension}\r\n").bytes());
        body.extend(smuggled(length));
        body.extend(b"\r\n");
    }
    body.extend(b"0\r\n");
    for _ in 0..rng.below(3) / 2 {
        body.extend(b"Trailer: value\r\n");
    }
    body.extend(b"\r\n");
    if rng.one_in(10) {
        heads::mutate(rng, &mut body);
    }
    body
}
