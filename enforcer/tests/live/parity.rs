//! The live datapath against the model: the same bytes in the same segments come to the same verdicts, the same
//! records, and the same bytes at the application.
//!
//! Client, datapath and application move in step: each segment is sent once the one before it is dealt with, so that
//! none are merged on the way, and once all responses to it are there, so that the model knows what is owed.

use std::collections::BTreeMap;

use portcullis_testkit::{Rng, need, seed};
use portcullis_wire::{Action, Auth, Issuer, Mode, Policy, Rule};

use crate::corpus::policies::NOW_S;
use crate::corpus::requests::smuggled;
use crate::corpus::{Case, Corpus, Drawn, cases};
use crate::link::{Row, Stage};
use crate::world::World;

/// 100,000 cases in parts that run side by side; `PORTCULLIS_CASES` asks for another number in each.
const PARTS: u64 = 5;
const CASES: usize = 20_000;
/// Cases for each set of policies.
const CASES_EACH: usize = 500;

macro_rules! parts {
    ($($test:ident: $part:literal;)*) => {
        $(
            #[test]
            fn $test() {
                need!(Bpf, BpfFs, Cgroup2);
                corpus_is_decided_alike($part);
            }
        )*

        #[test]
        fn all_parts_are_taken() {
            assert_eq!([$($part),*].len() as u64, PARTS);
            assert_eq!(PARTS * CASES as u64, 100_000);
        }
    };
}
parts! {
    the_corpus_comes_to_the_same_verdicts_and_records_as_in_the_model_1: 1;
    the_corpus_comes_to_the_same_verdicts_and_records_as_in_the_model_2: 2;
    the_corpus_comes_to_the_same_verdicts_and_records_as_in_the_model_3: 3;
    the_corpus_comes_to_the_same_verdicts_and_records_as_in_the_model_4: 4;
    the_corpus_comes_to_the_same_verdicts_and_records_as_in_the_model_5: 5;
}

fn corpus_is_decided_alike(part: u64) {
    let cases = cases(CASES);
    let mut stage = Stage::new(World::new(&format!("corpus{part}")));
    let mut corpus = Corpus::new(seed().wrapping_add(part), stage.ports());
    let issuers = corpus.issuers();
    let mut reasons = BTreeMap::<String, usize>::new();
    let (mut done, mut requests, mut connections) = (0, 0, 0);
    for version in 1.. {
        if done >= cases {
            break;
        }
        let drawn = corpus.draw(version);
        stage.apply(&drawn, &issuers);
        let policies = drawn.wire();
        let mut expected: BTreeMap<String, Vec<Row>> = BTreeMap::new();
        let end = done + CASES_EACH;
        while done < end {
            let first = next(&mut corpus, &drawn, &policies, None);
            done += 1;
            let mut link = stage.connect(first.port);
            let mut bytes = first.bytes;
            let mut now_s = first.now_s;
            for _ in 0..1 + corpus.rng.below(8) {
                // Some are sent together with the next ones.
                while corpus.rng.one_in(5) && bytes.len() < 8000 {
                    bytes.extend(next(&mut corpus, &drawn, &policies, Some(link.port())).bytes);
                    done += 1;
                }
                for segment in segments(&mut corpus.rng, &bytes) {
                    link.send(segment, now_s);
                }
                if link.is_over() {
                    break;
                }
                let case = next(&mut corpus, &drawn, &policies, Some(link.port()));
                done += 1;
                (bytes, now_s) = (case.bytes, case.now_s);
            }
            connections += 1;
            let (source, rows) = link.end();
            expected.insert(source, rows);
        }
        requests += stage.compare_records(expected, &mut reasons);
    }
    println!("{done} cases, {connections} connections, {requests} records, {reasons:?}, {}", stage.summary());
    assert!(requests * 2 > done, "{requests} records of {done} cases");
    assert!(stage.withheld > 0 || done < CASES, "no part of a head was withheld");
}

/// The next case, of a connection's port when there is one.
fn next(corpus: &mut Corpus, drawn: &Drawn, policies: &[Policy], port: Option<u16>) -> Case {
    loop {
        let case = corpus.case(policies, &drawn.set);
        // The kernel's clock counts nanoseconds, and some tokens are of the year 500 billion.
        let has_come = (1_000_000_000..6_000_000_000).contains(&case.now_s);
        if has_come && port.is_none_or(|port| case.port == port) {
            return case;
        }
    }
}

/// Cuts bytes: not at all, in a few places, or into small pieces.
fn segments<'a>(rng: &mut Rng, bytes: &'a [u8]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = match rng.below(8) {
        0..5 => Vec::new(),
        5 | 6 => (0..1 + rng.below(3)).map(|_| rng.below(bytes.len() as u64) as usize).collect(),
        _ => {
            let size = 1 + rng.below(40) as usize;
            (0..bytes.len().min(size * 24)).step_by(size).collect()
        }
    };
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.dedup();
    cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

/// A policy whose requests differ by path, host, token and method.
fn policy(port: u16, host: Option<&str>, role: &str, mode: Mode) -> Policy {
    let rule = |method: &str, path: &str, auth, roles: &[&str]| Rule {
        method: method.into(),
        path_pattern: path.into(),
        auth,
        required_roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        ..Rule::default()
    };
    let rules = vec![
        rule("GET", "/health", Some(Auth::None), &[]),
        rule("*", "/maybe", Some(Auth::Optional), &[]),
        rule("*", "/admin/**", None, &["admin"]),
        rule("POST", "/**", None, &[role]),
        rule("GET", "/**", None, &[role]),
        rule("HEAD", "/**", None, &[role]),
    ];
    Policy {
        id: format!("of {role} at {port}"),
        name: role.into(),
        port_match: port,
        host_match: host.map(str::to_owned),
        mode,
        default_action: Action::Deny,
        rules,
    }
}

/// Of the applications of a stage, in their order.
#[derive(Clone, Copy)]
enum Reads {
    Block = 0,
    DoNot = 1,
}

/// The stage with policies of two hosts, and tokens of their roles.
struct Play {
    stage: Stage,
    /// Of the applications that take part.
    ports: Vec<u16>,
    doctor: String,
    admin: String,
    expired: String,
    /// Records that connections are to have, by source.
    expected: BTreeMap<String, Vec<Row>>,
}

// === impl Play ===

impl Play {
    fn new(name: &str) -> Play {
        Play::of(name, Mode::Enforce)
    }

    fn of(name: &str, mode: Mode) -> Play {
        let mut stage = Stage::new(World::new(name));
        let ports = stage.ports();
        let of = |port| [policy(port, None, "doctor", mode), policy(port, Some("b.example"), "nurse", mode)];
        let policies = ports.into_iter().flat_map(of).collect();
        let (issuers, sign) = signer();
        stage.apply_policies(policies, issuers);
        let [doctor, admin] =
            [&["doctor"][..], &["doctor", "nurse", "admin"]].map(|roles| sign(roles, NOW_S + 600));
        let expired = sign(&["doctor", "nurse", "admin"], NOW_S);
        Play { stage, ports: ports.to_vec(), doctor, admin, expired, expected: BTreeMap::new() }
    }

    /// Sends these segments over one connection to each application, and compares what comes of them.
    fn run<'a>(&mut self, segments: impl IntoIterator<Item = &'a [u8]> + Clone) {
        for port in self.ports.clone() {
            let mut link = self.stage.connect(port);
            for segment in segments.clone() {
                link.send(segment, NOW_S);
            }
            let (source, rows) = link.end();
            self.expected.insert(source, rows);
        }
    }

    /// Compares the records of all connections.
    fn finish(&mut self) {
        let expected = std::mem::take(&mut self.expected);
        let connections = expected.len();
        let mut reasons = BTreeMap::new();
        let records = self.stage.compare_records(expected, &mut reasons);
        println!("{connections} connections, {records} records, {reasons:?}, {}", self.stage.summary());
    }
}

/// An issuer, and what signs for it: roles and expiry.
fn signer() -> (Vec<Issuer>, impl Fn(&[&str], u64) -> String) {
    use portcullis_token::mint::SigningKey;
    use serde_json::json;

    let key = SigningKey::generate_es256().expect("key");
    let jwks = portcullis_wire::JwkSet { keys: vec![key.public_jwk("k")] };
    let issuer =
        Issuer { issuer: "https://i.example".into(), audiences: vec!["a".into()], leeway_s: 0, jwks };
    let sign = move |roles: &[&str], exp: u64| {
        let claims = json!({ "iss": "https://i.example", "aud": "a", "exp": exp, "roles": roles });
        key.sign(r#"{"alg":"ES256","kid":"k"}"#, &claims.to_string())
    };
    (vec![issuer], sign)
}

fn request(line: &str, fields: &[&str], token: Option<&str>, body: &[u8]) -> Vec<u8> {
    let mut text = format!("{line}\r\n");
    for field in fields {
        text += &format!("{field}\r\n");
    }
    if let Some(token) = token {
        text += &format!("Authorization: Bearer {token}\r\n");
    }
    text += "\r\n";
    [text.as_bytes(), body].concat()
}

/// Streams of every kind that HTTP/1 has: a name, and the bytes.
fn streams(play: &Play) -> Vec<(&'static str, Vec<u8>)> {
    let Play { doctor, admin, expired, .. } = play;
    let host = "Host: a.example";
    let get = |path: &str, token| request(&format!("GET {path} HTTP/1.1"), &[host], token, b"");
    let chunked =
        b"5;x=\"y\"\r\nhello\r\n1B\r\nGET /smuggled HTTP/1.1\r\n\r\n\r\n0\r\nTrailer: t\r\nOther:\r\n\r\n";
    let framed = |fields: &[&str], token, body: &[u8]| {
        request("POST /orders HTTP/1.1", &[&[host], fields].concat(), token, body)
    };
    vec![
        ("keep-alive", [get("/a", Some(doctor)), get("/health", None), get("/b", Some(doctor))].concat()),
        ("denied", get("/a", None)),
        ("denied, expired", get("/a", Some(expired))),
        ("denied behind allowed", [get("/health", None), get("/admin/a", Some(doctor))].concat()),
        ("allowed behind denied", [get("/a", None), get("/admin/a", Some(admin))].concat()),
        (
            "length",
            [framed(&["Content-Length: 43"], Some(doctor), &smuggled(43)), get("/health", None)].concat(),
        ),
        (
            "length, denied",
            [framed(&["Content-Length: 43"], None, &smuggled(43)), get("/health", None)].concat(),
        ),
        (
            "chunked",
            [framed(&["Transfer-Encoding: chunked"], Some(doctor), chunked), get("/a", None)].concat(),
        ),
        ("chunked, denied", framed(&["Transfer-Encoding: chunked"], None, chunked)),
        (
            "bad chunk",
            framed(&["Transfer-Encoding: chunked"], Some(doctor), b"5\r\nhello\r\n0\r\nno field\r\n\r\n"),
        ),
        (
            "expect",
            [framed(&["Expect: 100-continue", "Content-Length: 3"], Some(doctor), b"abc"), get("/a", None)]
                .concat(),
        ),
        (
            "head",
            [
                request("HEAD /a HTTP/1.1", &[host], None, b""),
                request("HEAD /health HTTP/1.1", &[host], Some(doctor), b""),
            ]
            .concat(),
        ),
        ("old", request("GET /maybe HTTP/1.0", &[], None, b"")),
        ("absolute", request("GET http://B.example:80/a?b HTTP/1.1", &["Host: b.example"], Some(admin), b"")),
        ("ambiguous", [get("/health", None), get("/health/../a", Some(admin))].concat()),
        ("two hosts", request("GET /health HTTP/1.1", &[host, host], None, b"")),
        ("tls", b"\x16\x03\x01\x00\x05hello".to_vec()),
    ]
}

#[test]
fn every_cut_of_a_stream_in_two_comes_to_the_same_verdicts_as_in_the_model() {
    need!(Bpf, BpfFs, Cgroup2);
    every_cut("cut", Reads::Block, Mode::Enforce);
}

#[test]
fn every_cut_is_decided_alike_for_an_application_whose_reads_do_not_block() {
    need!(Bpf, BpfFs, Cgroup2);
    every_cut("cutnonblocking", Reads::DoNot, Mode::Enforce);
}

/// All of it arrives, and the records say what would have become of it.
#[test]
fn every_cut_of_a_stream_that_is_only_monitored_comes_to_the_verdicts_of_the_model() {
    need!(Bpf, BpfFs, Cgroup2);
    every_cut("cutmonitored", Reads::Block, Mode::Monitor);
}

fn every_cut(name: &str, reads: Reads, mode: Mode) {
    let mut play = Play::of(name, mode);
    play.ports = vec![play.ports[reads as usize]];
    for (_, stream) in streams(&play) {
        for cut in 1..stream.len() {
            let (before, behind) = stream.split_at(cut);
            play.run([before, behind]);
        }
        play.run([&stream[..]]);
    }
    play.finish();
}

#[test]
fn random_segments_of_streams_come_to_the_same_verdicts_as_in_the_model() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut play = Play::new("segments");
    let mut rng = Rng::new(seed());
    let streams = streams(&play);
    for _ in 0..1500 {
        let stream: Vec<u8> =
            (0..1 + rng.below(3)).flat_map(|_| rng.pick(&streams).expect("streams").1.clone()).collect();
        let segments = segments(&mut rng, &stream);
        play.run(segments);
    }
    play.finish();
}

/// The last request of a connection is recognised by its bytes (bpf/lib/memo.h): what is nearly the same must not be.
#[test]
fn requests_that_nearly_repeat_are_decided_as_on_connections_of_their_own() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut play = Play::new("repeat");
    let mut rng = Rng::new(seed());
    let Play { doctor, admin, expired, .. } = &play;
    let mut changed = doctor.clone();
    // A bit of the signature, which is the last part.
    let last = if changed.ends_with('A') { "Q" } else { "A" };
    changed.replace_range(changed.len() - 1.., last);
    let tokens: [Option<&str>; 6] =
        [None, Some(doctor), Some(doctor), Some(admin), Some(expired), Some(&changed)];
    let lines = [
        "GET /a HTTP/1.1",
        "GET /a HTTP/1.1",
        "GET /b HTTP/1.1",
        "GET /a?b HTTP/1.1",
        "GET /%61 HTTP/1.1",
        "GET /a/ HTTP/1.1",
        "GET /admin/a HTTP/1.1",
        "GET /admin/aa HTTP/1.1",
        "GET /health HTTP/1.1",
        "GET /maybe HTTP/1.1",
        "GET /a HTTP/1.0",
        "PUT /a HTTP/1.1",
        "HEAD /a HTTP/1.1",
        "GET http://a.example/a HTTP/1.1",
        "GET http://b.example/a HTTP/1.1",
    ];
    let fields: [&[&str]; 10] = [
        &["Host: a.example"],
        &["Host: a.example"],
        &["Host: a.example"],
        &["Host: b.example"],
        &["Host: A.example"],
        &["Host: a.example", "X: y"],
        &["X: y", "Host: a.example"],
        &["Host: a.example", "Content-Length: 0"],
        &["Host: a.example", "Expect: 100-continue"],
        &[],
    ];
    // What one part of the request is changed to, from one request to the next.
    let mut sequences = Vec::new();
    for _ in 0..700 {
        let mut parts = (0, 1, 0);
        let mut sequence = Vec::new();
        for _ in 0..12 {
            match rng.below(6) {
                0 | 1 => parts.0 = rng.below(lines.len() as u64) as usize,
                2 => parts.1 = rng.below(tokens.len() as u64) as usize,
                3 => parts.2 = rng.below(fields.len() as u64) as usize,
                4 => parts = (0, 1, 0),
                _ => {}
            }
            sequence.push(request(lines[parts.0], fields[parts.2], tokens[parts.1], b""));
        }
        sequences.push(sequence);
    }
    let before = play.stage.recognised();
    for sequence in &sequences {
        play.run(sequence.iter().map(|request| &request[..]));
    }
    let recognised = play.stage.recognised() - before;
    println!("{recognised} recognised");
    play.finish();
    assert!(recognised > 500, "only {recognised} were recognised");
}
