//! The memo of a connection's last request: it never says of a head what reading the head would not say.

use portcullis_bpf::abi::{CELL_OF, Cell, Classes, Identity, Issuer};
use portcullis_bpf::host::SlotField;
use portcullis_bpf::limits::{MEMO_HEAD_MAX, MEMO_LINE_MAX};
use portcullis_testkit::{Rng, seed};
use zerocopy::IntoBytes;

use crate::engine::{Engine, on_both};

on_both! {
    "memo_read memo_learn memo_try": another_path_is_recognised_and_the_same_one_is_decided,
    "memo_read memo_learn memo_try": what_is_said_is_what_reading_says,
    "memo_read memo_learn memo_try": heads_that_are_not_kept,
    "memo_read memo_learn memo_try": times_and_generations,
    "memo_read memo_learn memo_try": a_path_that_is_written_differently_is_decided_anew,
    "walk": a_path_that_begins_like_the_one_before_is_read_from_there_on,
}

const READ: usize = 0;
const LEARN: usize = 1;
const TRY: usize = 2;
const MISS: i32 = 0;
const SECTION: i32 = 1;
const WHOLE: i32 = 2;
const NOW: u64 = 1_700_000_000;
const ISSUER: u32 = 5;
/// Size of `struct pc_head`.
const PARSED: usize = 72;
const NONE: u32 = 0;
const VALID: u32 = 1;

const HEAD: &[u8] = b"GET /a/b?c HTTP/1.1\r\nHost: Ex.am:80\r\nAuthorization: Bearer a.b.c\r\nX: y\r\n\r\n";

/// Reads a head and keeps it; whether it was kept.
fn learn(engine: &mut Engine, head: &[u8], token_state: u32) -> bool {
    engine.update("pc_issuers", &ISSUER.to_ne_bytes(), Issuer { id: 0, leeway_s: 0 }.as_bytes());
    let id = Identity { exp: NOW + 60, issuer: ISSUER, ..Identity::zeroed() };
    engine.set_head(head);
    let length = engine.run_step(READ);
    assert_eq!(length, head.len() as i32, "{:?}", String::from_utf8_lossy(head));
    engine.set_u64(SlotField::GENERATION, 7);
    engine.set_u64(SlotField::JWT_NOW, NOW);
    engine.set_u32(SlotField::POLICY, 3);
    engine.set_u32(SlotField::RULE, 9);
    engine.set_u32(SlotField::REASON, 1);
    engine.set_u32(SlotField::MODE, 2);
    engine.set_u32(SlotField::MFA_MAX_AGE, 0);
    engine.set_u32(SlotField::TOKEN_STATE, token_state);
    engine.set_bytes(SlotField::ID, id.as_bytes());
    engine.run_step(LEARN) == 1
}

/// What the memo says of a head. Everything that it sets is something else before.
fn recognise(engine: &mut Engine, head: &[u8]) -> i32 {
    engine.set_head(head);
    engine.set_bytes(SlotField::PARSED, &[0xee; PARSED]);
    engine.set_bytes(SlotField::ID, &[0xee; size_of::<Identity>()]);
    for field in [SlotField::POLICY, SlotField::RULE, SlotField::REASON, SlotField::MODE] {
        engine.set_u32(field, 0xeeee);
    }
    engine.set_u32(SlotField::HOST_LEN, 0xeeee);
    engine.set_u32(SlotField::TOKEN_STATE, 0xeeee);
    engine.run_step(TRY)
}

fn parsed(engine: &Engine) -> (Vec<u8>, Vec<u8>) {
    let host_len = engine.u32(SlotField::HOST_LEN) as usize;
    (engine.bytes(SlotField::PARSED, PARSED).to_vec(), engine.bytes(SlotField::HOST, host_len).to_vec())
}

fn another_path_is_recognised_and_the_same_one_is_decided(engine: &mut Engine) {
    assert_eq!(recognise(engine, HEAD), MISS, "nothing was kept");
    assert!(learn(engine, HEAD, VALID));
    assert_eq!(recognise(engine, HEAD), WHOLE);
    assert_eq!((engine.u32(SlotField::POLICY), engine.u32(SlotField::RULE)), (3, 9));
    assert_eq!((engine.u32(SlotField::REASON), engine.u32(SlotField::MODE)), (1, 2));
    assert_eq!(engine.u32(SlotField::TOKEN_STATE), VALID);
    let path_len = engine.u32(SlotField::PATH_LEN) as usize;
    assert_eq!(engine.bytes(SlotField::PATH, path_len), b"/a/b");
    let other = [b"POST /other/path".as_slice(), &HEAD[10..]].concat();
    assert_eq!(recognise(engine, &other), SECTION);
    assert_eq!(engine.u32(SlotField::TOKEN_STATE), VALID);
    // More requests behind it are none of its business.
    assert_eq!(recognise(engine, &[HEAD, b"GET / HT"].concat()), WHOLE);
    let minor = [b"GET /a/b?c HTTP/1.0".as_slice(), &HEAD[19..]].concat();
    assert_eq!(recognise(engine, &minor), MISS, "field lines may mean something else in another version");
    let absolute = [b"GET http://ex.am/a/b?c".as_slice(), &HEAD[10..]].concat();
    assert_eq!(recognise(engine, &absolute), MISS, "the target names a host of its own");
}

/// The claim of the memo, on random heads that are nearly the same.
fn what_is_said_is_what_reading_says(engine: &mut Engine) {
    let mut rng = Rng::new(seed());
    let heads: [&[u8]; 4] = [
        HEAD,
        b"GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\n\r\n",
        b"HEAD /a%20b HTTP/1.0\r\nHost: h\r\nAccept: */*\r\nAuthorization: Bearer abc\r\n\r\n",
        b"DELETE /x/y/z?q=1 HTTP/1.1\r\nAuthorization: Basic YQ==\r\nHost: [::1]:8\r\nConnection: close\r\n\r\n",
    ];
    let mut hits = [0; 3];
    for round in 0..4000 {
        let head = heads[round % heads.len()];
        let bearer = head.windows(6).any(|w| w == b"Bearer");
        assert!(learn(engine, head, if bearer { VALID } else { NONE }));
        let mut other = head.to_vec();
        for _ in 0..rng.below(3) {
            // Half of the time within the request line, which may change.
            let line = other.windows(2).position(|w| w == b"\r\n").unwrap_or(1).max(1);
            let end = if rng.below(2) == 0 { line } else { other.len() };
            let at = rng.below(end as u64) as usize;
            let byte = b"a/. \r\n%?:x1P"[rng.below(12) as usize];
            match rng.below(3) {
                0 => other[at] = byte,
                1 => other.insert(at, byte),
                _ => drop(other.remove(at)),
            }
        }
        if rng.below(4) == 0 {
            other.truncate(rng.below(other.len() as u64 + 1) as usize);
        }
        let said = recognise(engine, &other);
        hits[said as usize] += 1;
        if said == MISS {
            assert_ne!(other, head);
            continue;
        }
        let memo = parsed(engine);
        let path = (said == WHOLE).then(|| {
            let n = engine.u32(SlotField::PATH_LEN) as usize;
            engine.bytes(SlotField::PATH, n).to_vec()
        });
        engine.set_head(&other);
        let length = engine.run_step(READ);
        let text = String::from_utf8_lossy(&other).into_owned();
        // A path that is refused is refused in either case: with only the section known it is still to be read.
        assert!(length > 0 || (said == SECTION && length > -1000 && length < 0), "{text:?} gives {length}");
        assert_eq!(memo, parsed(engine), "{text:?}");
        if let Some(path) = path {
            let n = engine.u32(SlotField::PATH_LEN) as usize;
            assert_eq!(path, engine.bytes(SlotField::PATH, n), "{text:?}");
        }
    }
    assert!(hits.iter().all(|n| *n > 80), "misses, sections, whole heads: {hits:?}");
}

fn heads_that_are_not_kept(engine: &mut Engine) {
    let with = |field: &str| format!("GET / HTTP/1.1\r\nHost: h\r\n{field}\r\n\r\n").into_bytes();
    for field in ["Content-Length: 0", "Transfer-Encoding: chunked", "Upgrade: x", "Expect: 100-continue"] {
        assert!(!learn(engine, &with(field), NONE), "{field}");
    }
    assert!(!learn(engine, b"GET http://h/ HTTP/1.1\r\nHost: h\r\n\r\n", NONE), "absolute form");
    assert!(!learn(engine, b"GET / HTTP/1.0\r\n\r\n", NONE), "no host");
    assert!(!learn(engine, HEAD, NONE), "a token that was not verified");
    let of_length = |n: usize| with(&format!("X: {}", "v".repeat(n - with("X: ").len())));
    assert!(learn(engine, &of_length(MEMO_HEAD_MAX), NONE));
    assert_eq!(recognise(engine, &of_length(MEMO_HEAD_MAX)), WHOLE);
    let mut other = of_length(MEMO_HEAD_MAX);
    other[MEMO_HEAD_MAX - 5] = b'w';
    assert_eq!(recognise(engine, &other), MISS);
    assert!(!learn(engine, &of_length(MEMO_HEAD_MAX + 1), NONE));
    let line = |n: usize| format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "p".repeat(n - 16)).into_bytes();
    assert!(learn(engine, &line(MEMO_LINE_MAX - 1), NONE));
    assert_eq!(recognise(engine, &line(MEMO_LINE_MAX - 1)), WHOLE);
    assert_eq!(recognise(engine, &line(MEMO_LINE_MAX + 700)), SECTION);
    assert!(!learn(engine, &line(MEMO_LINE_MAX), NONE));
}

fn times_and_generations(engine: &mut Engine) {
    assert!(learn(engine, HEAD, VALID));
    engine.set_u64(SlotField::JWT_NOW, NOW + 60);
    assert_eq!(recognise(engine, HEAD), MISS, "expired");
    engine.set_u64(SlotField::JWT_NOW, NOW + 59);
    assert_eq!(recognise(engine, HEAD), WHOLE);
    engine.set_u64(SlotField::GENERATION, 8);
    assert_eq!(recognise(engine, HEAD), MISS, "other keys, policies or revocations");
    // What depends on the age of the authentication is decided anew, the rest is known.
    assert!(learn(engine, HEAD, VALID));
    engine.set_u32(SlotField::MFA_MAX_AGE, 300);
    engine.set_head(HEAD);
    engine.run_step(READ);
    assert_eq!(engine.run_step(LEARN), 1);
    assert_eq!(recognise(engine, HEAD), SECTION);
}

fn a_path_that_is_written_differently_is_decided_anew(engine: &mut Engine) {
    for (path, expected) in [("/a%20b", WHOLE), ("/%61", SECTION), ("/a%c3%a9", SECTION), ("/a%C3%A9", WHOLE)]
    {
        let head = format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes();
        assert!(learn(engine, &head, NONE));
        assert_eq!(recognise(engine, &head), expected, "{path}");
    }
}

/// Walks the automaton over the path: 1 when it has an even number of `a`, else 2.
fn walk(engine: &mut Engine, path: &[u8], policy: u32, known: bool) -> i32 {
    engine.set_bytes(SlotField::PATH, path);
    engine.set_u32(SlotField::PATH_LEN, path.len() as u32);
    engine.set_u32(SlotField::POLICY, policy);
    engine.set_u32(SlotField::MINOR, known.into());
    engine.run()
}

fn a_path_that_begins_like_the_one_before_is_read_from_there_on(engine: &mut Engine) {
    let classes = |letter: u8| {
        let mut classes = Classes { c: [0; 256] };
        classes.c[usize::from(letter)] = 1;
        classes
    };
    // Two states, at rows 1 and 4: each stays for class 0 and leads to the other for class 1.
    for (row, other, accepts) in [(1_u32, 4, 1), (4, 1, 2)] {
        let cells = [(row, Cell { row, tag: accepts }), (row + 2, Cell { row: other, tag: CELL_OF | row })];
        for (at, cell) in cells {
            engine.update("pc_dfa", &at.to_ne_bytes(), cell.as_bytes());
        }
    }
    engine.update("pc_classes", &0_u32.to_ne_bytes(), classes(b'a').as_bytes());
    let mut rng = Rng::new(seed());
    for _ in 0..600 {
        let path: Vec<u8> = (0..rng.below(120)).map(|_| b"ab/"[rng.below(3) as usize]).collect();
        let mut other = path[..rng.below(path.len() as u64 + 1) as usize].to_vec();
        other.extend((0..rng.below(40)).map(|_| b"ab/"[rng.below(3) as usize]));
        let says = |path: &[u8]| 1 + path.iter().filter(|c| **c == b'a').count() as i32 % 2;
        assert_eq!(walk(engine, &path, 3, false), says(&path));
        let policy = if rng.below(4) == 0 { 5 } else { 3 };
        assert_eq!(walk(engine, &other, policy, true), says(&other), "{path:?}, then {other:?}");
    }
    // It is from there on: what the letters mean now does not matter to the words that are known, and to them only.
    let path = b"/a/b/a/b/a/b/b/b/a/b";
    assert_eq!(walk(engine, path, 3, false), 1, "four");
    engine.update("pc_classes", &0_u32.to_ne_bytes(), classes(b'x').as_bytes());
    assert_eq!(walk(engine, path, 3, true), 2, "three: the last is behind the second word");
    assert_eq!(walk(engine, path, 3, false), 1, "none");
}
