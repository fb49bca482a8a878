//! The gateway against the model (`portcullis_verdict`), request by request: the same answers, the same records.

use std::sync::atomic::Ordering;

use portcullis_http::{Event, Stream};
use portcullis_policy::PolicySet;
use portcullis_testkit::{Rng, seed};
use portcullis_token::KeyStore;
use portcullis_token::corpus::{Generator, Party};
use portcullis_verdict::{Connection, Fate, Handled, REQUESTS_PER_SEGMENT_MAX, Record};
use portcullis_wire::{AccessLog, Action, Auth, Bundle, Method, Mode, Policy, Requirements, Rule, Verdict};

use crate::corpus::{Case, Corpus, Drawn, cases};
use crate::world::{NOW_S, Recorder, Request, World};

/// What the model says of the only segment of a connection.
struct Expected {
    fate: Fate,
    records: Vec<Record>,
    /// The segment ends between two requests: it can be answered whole.
    whole: bool,
    /// In monitor mode the model passes what cannot be read; a proxy cannot.
    unreadable: bool,
}

fn model(segment: &[u8], port: u16, policies: &PolicySet, keys: &KeyStore, now_s: u64) -> Expected {
    let Handled { fate, records } = Connection::new(port, 0).segment(segment, policies, keys, now_s);
    let mut stream = Stream::new();
    let refused = stream.feed(segment).iter().any(|event| matches!(event, Event::Refused(_)));
    let unreadable = refused && fate == Fate::Pass;
    Expected { fate, records, whole: stream.is_between_requests(), unreadable }
}

/// Whether one of the heads is of HTTP/1.0.
fn is_old(records: &[Record]) -> bool {
    records.iter().filter_map(|record| record.head.as_ref()).any(|head| head.minor() == 0)
}

/// Without the decision's number.
fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).split("\"decision_id\"").next().unwrap_or_default().to_owned()
}

/// Sends the segment on a connection of its own and compares what comes back with what the model says.
async fn compare(world: &World, segment: &[u8], expected: &Expected) -> Result<(), String> {
    let mut client = world.connect().await;
    client.send(segment).await;
    let is_head = |n: usize| {
        let head = expected.records.get(n).and_then(|record| record.head.as_ref());
        head.is_some_and(|head| head.method() == Method::Head)
    };
    match &expected.fate {
        Fate::Answer { text: wanted, close } => {
            let wanted = String::from_utf8_lossy(wanted).into_owned();
            let (head, body) = wanted.split_once("\r\n\r\n").unwrap();
            // A HEAD request that cannot be read gets no content either, and is no head in the record.
            let got = client.response(body.is_empty()).await.ok_or("no answer")?;
            if !head.starts_with(&format!("HTTP/1.1 {} ", got.what))
                || text(&got.body) != text(body.as_bytes())
            {
                return Err(format!("answered {got:?}, the model {wanted:?}"));
            }
            let challenge = head.lines().find_map(|line| line.strip_prefix("WWW-Authenticate: "));
            if got.field("www-authenticate") != challenge {
                return Err(format!("challenge {got:?}, the model {wanted:?}"));
            }
            if *close && !client.ended().await {
                return Err("left open".to_owned());
            }
        }
        Fate::Pass if expected.unreadable => {
            // Refused whole: what was readable before it in the segment is not forwarded either.
            if let Some(Request { what, .. }) = client.response(segment.starts_with(b"HEAD ")).await
                && what != "400"
                && what != "431"
            {
                return Err(format!("answered {what} to what cannot be read"));
            }
        }
        Fate::Pass if expected.whole => {
            for n in 0..expected.records.len() {
                let mut response = client.response(is_head(n)).await;
                // Of a request that expects 100-continue.
                if response.as_ref().is_some_and(|response| response.what == "100") {
                    response = client.response(is_head(n)).await;
                }
                match response {
                    Some(got) if got.what == "200" => {}
                    // RFC 9112 section 9.3: without keep-alive the first response of HTTP/1.0 is the last.
                    None if n > 0 && is_old(&expected.records[..n]) => break,
                    other => return Err(format!("response {n} is {other:?}, the model passes it")),
                }
            }
        }
        // The rest of the request is missing.
        Fate::Pass => {
            use tokio::io::AsyncWriteExt;
            client.stream.shutdown().await.unwrap();
            client.drain().await;
        }
        Fate::Destroy | Fate::Drop => {
            if let Some(got) = client.response(false).await {
                return Err(format!("answered {got:?}, the model destroys the connection"));
            }
        }
    }
    Ok(())
}

/// Where a record differs from the model's decision.
fn differs(record: &AccessLog, of: &Record, policies: &PolicySet, unreadable: bool) -> Option<String> {
    let Record { decision, head, .. } = of;
    let verdict = if unreadable && head.is_none() { Verdict::Deny } else { decision.verdict() };
    let resource = decision.resource();
    let claims = decision.identity().map(|token| token.claims());
    let got = (
        (record.reason.as_str(), record.decision, record.status, record.mode),
        (record.policy_id.as_deref(), record.rule_id.as_deref()),
        (record.host.as_deref(), record.path.as_str()),
        (record.user_id.as_deref(), record.user_email.as_deref(), record.kid.as_deref()),
    );
    let wanted = (
        (decision.reason().slug(), verdict, decision.status(), Some(decision.mode())),
        (decision.policy_id(policies), decision.rule_id(policies)),
        (resource.and_then(|r| r.host.as_deref()), resource.map_or("", |r| r.path.as_str())),
        (
            claims.and_then(|claims| claims.sub.as_deref()),
            claims.and_then(|claims| claims.email.as_deref()),
            decision.identity().map(|token| token.kid()),
        ),
    );
    (got != wanted).then(|| format!("record {got:?}, the model {wanted:?}"))
}

/// Compares all segments, and fails with all disagreements.
async fn check(world: &World, port: u16, cases: Vec<(Vec<u8>, u64)>, tally: &mut Tally) {
    let bundle = world.bundle.lock().unwrap().clone().unwrap();
    let policies = PolicySet::new(bundle.policies).unwrap();
    let (keys, _) = KeyStore::new(&bundle.issuers);
    let keys = keys.with_revocations(&bundle.revocations);
    let mut disagreements = Vec::new();
    for (segment, now_s) in cases {
        world.now_s.store(now_s, Ordering::SeqCst);
        let expected = model(&segment, port, &policies, &keys, now_s);
        if expected.fate == Fate::Pass && expected.records.len() > REQUESTS_PER_SEGMENT_MAX {
            // Where it monitors the kernel passes the rest of them unread; a proxy decides each.
            tally.left_out += 1;
            continue;
        }
        if let Err(what) = compare(world, &segment, &expected).await {
            disagreements.push(format!("{what}\n    {}", segment.escape_ascii()));
        }
        let records = world.take_records(expected.records.len()).await;
        for (record, of) in records.iter().zip(&expected.records) {
            if let Some(what) = differs(record, of, &policies, expected.unreadable) {
                disagreements.push(format!("{what}\n    {}", segment.escape_ascii()));
            }
            *tally.reasons.entry(record.reason.clone()).or_insert(0) += 1;
        }
        tally.records += expected.records.len();
        tally.requests += 1;
        tally.forwarded += usize::from(expected.fate == Fate::Pass && expected.whole);
    }
    assert!(disagreements.is_empty(), "{} disagreements:\n{}", disagreements.len(), disagreements.join("\n"));
}

#[derive(Debug, Default)]
struct Tally {
    requests: usize,
    records: usize,
    forwarded: usize,
    left_out: usize,
    reasons: std::collections::BTreeMap<String, usize>,
}

#[tokio::test]
async fn tokens_of_the_corpus_are_judged_alike() {
    let seed = seed();
    let mut generator = Generator::new(seed, Party::three().unwrap());
    let recorder = Recorder::start().await;
    let port = recorder.app.addr.port();
    let world = World::before(recorder.app.addr, |_| {}).await;
    let issuers = generator.issuers();
    world.publish(|bundle| bundle.issuers = issuers).await;
    let mut cases = Vec::new();
    while cases.len() < 2_500 {
        let case = generator.case();
        // Line ends within a token are for the generated heads; here the token is one.
        if !case.token.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
            let head = [
                b"GET /closed/a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer ",
                &case.token[..],
                b"\r\n\r\n",
            ];
            cases.push((head.concat(), case.now_s));
        }
    }
    let mut tally = Tally::default();
    check(&world, port, cases, &mut tally).await;
    eprintln!("{tally:?}");
    assert!(tally.forwarded > 100 && tally.reasons.len() > 10, "{tally:?}");
    assert_eq!(world.gateway.status().disagreements, 0);
}

#[tokio::test]
async fn generated_policies_and_requests_are_decided_alike() {
    let mut rng = Rng::new(seed());
    let recorder = Recorder::start().await;
    let port = recorder.app.addr.port();
    let world = World::before(recorder.app.addr, |_| {}).await;
    let tokens = tokens(&world);
    let mut tally = Tally::default();
    for _ in 0..100 {
        let policies = loop {
            let policies = policies(&mut rng, port);
            if PolicySet::new(policies.clone()).is_ok() {
                break policies;
            }
        };
        world.publish(|bundle: &mut Bundle| bundle.policies = policies).await;
        let cases = (0..50).map(|_| (segment(&mut rng, &tokens), NOW_S)).collect();
        check(&world, port, cases, &mut tally).await;
    }
    eprintln!("{tally:?}");
    assert!(tally.forwarded > 1_000 && tally.reasons.len() > 20, "{tally:?}");
    assert_eq!(world.gateway.status().disagreements, 0);
    drop(recorder.take());
}

/// What the programs of the kernel are compared by, natively, in test runs and live: each case, or some that come together,
/// is a connection here.
#[tokio::test]
async fn the_corpus_of_the_kernel_is_decided_alike() {
    let recorder = Recorder::start().await;
    let port = recorder.app.addr.port();
    let world = World::before(recorder.app.addr, |_| {}).await;
    // Some policies are of another port, which is no concern of this gateway.
    let mut corpus = Corpus::new(seed(), [port, port ^ 1]);
    let mut tally = Tally::default();
    let wanted = cases(5_000);
    while tally.requests + tally.left_out < wanted {
        let drawn = corpus.draw(1);
        if drawn.set.port_enforces(port).is_none() {
            continue;
        }
        let policies = drawn.wire();
        world.publish(|bundle| *bundle = drawn.bundle.clone()).await;
        let mut segments = Vec::new();
        for _ in 0..200.min(wanted - tally.requests - tally.left_out) {
            let Case { mut bytes, now_s, .. } = next(&mut corpus, &drawn, &policies, port);
            while corpus.rng.one_in(5) && bytes.len() < 8000 {
                bytes.extend(next(&mut corpus, &drawn, &policies, port).bytes);
            }
            segments.push((bytes, now_s));
        }
        check(&world, port, segments, &mut tally).await;
        drop(recorder.take());
    }
    eprintln!("{tally:?}");
    assert!(tally.left_out * 50 < wanted, "{tally:?}");
    assert!(tally.forwarded * 10 > wanted && tally.reasons.len() > 30, "{tally:?}");
    assert_eq!(world.gateway.status().disagreements, 0);
}

/// The next case of this port.
fn next(corpus: &mut Corpus, drawn: &Drawn, policies: &[Policy], port: u16) -> Case {
    loop {
        let case = corpus.case(policies, &drawn.set);
        if case.port == port {
            return case;
        }
    }
}

/// Good tokens, and some that are not.
fn tokens(world: &World) -> Vec<String> {
    let fresh = NOW_S - 10;
    let mut tokens: Vec<String> = [
        "",
        r#""roles":["a"]"#,
        r#""roles":["a","b"],"permissions":["p"],"groups":["g"],"org_id":"o""#,
        r#""roles":["b"],"org_id":"other","mfa_verified":true"#,
    ]
    .map(|more| world.token(more))
    .into();
    tokens.push(world.token(&format!(r#""roles":["a","b"],"mfa_verified":true,"auth_time":{fresh}"#)));
    tokens.push(tokens[1].replace('.', "..") + "x");
    let mut flipped = tokens[1].clone();
    flipped.truncate(flipped.len() - 4);
    tokens.push(flipped + "AAAA");
    tokens
}

fn some(rng: &mut Rng, names: &[&str]) -> Vec<String> {
    names.iter().filter(|_| rng.one_in(3)).map(|name| (*name).to_owned()).collect()
}

fn one<'a>(rng: &mut Rng, items: &[&'a str]) -> &'a str {
    rng.pick(items).copied().unwrap_or_default()
}

fn policies(rng: &mut Rng, port: u16) -> Vec<Policy> {
    let hosts = [None, Some("h"), Some("*.example"), Some("a.example")];
    let mut policies = Vec::new();
    for (n, host) in hosts.into_iter().enumerate() {
        if n > 0 && rng.one_in(2) {
            continue;
        }
        let mode = if rng.one_in(3) { Mode::Monitor } else { Mode::Enforce };
        policies.push(Policy {
            id: format!("p{n}"),
            name: format!("p{n}"),
            port_match: port,
            host_match: host.map(str::to_owned),
            mode,
            default_action: if rng.one_in(4) { Action::Allow } else { Action::Deny },
            rules: (0..1 + rng.below(6)).map(|n| rule(rng, n)).collect(),
        });
    }
    policies
}

fn rule(rng: &mut Rng, n: u64) -> Rule {
    let patterns = ["/*", "/a/*", "/a/{x}", "/a/b", "/**", "/b", "/a/*/c", "/a*", "/"];
    let mut rule = Rule {
        id: format!("r{n}"),
        method: one(rng, &["*", "GET", "GET", "POST", "HEAD", "DELETE"]).to_owned(),
        path_pattern: one(rng, &patterns).to_owned(),
        priority: rng.below(3) as i32,
        ..Rule::default()
    };
    match rng.below(4) {
        0 => {
            let auths = [Auth::None, Auth::Optional, Auth::Required];
            rule.auth = rng.pick(&auths).copied();
            return rule;
        }
        1 => return rule,
        _ => {}
    }
    rule.required_roles = some(rng, &["a", "b", "c"]);
    rule.required_permissions = some(rng, &["p"]);
    rule.required_groups = if rng.one_in(4) { some(rng, &["g", "h"]) } else { Vec::new() };
    if rng.one_in(4) {
        rule.required_org = Some(one(rng, &["o", "other"]).to_owned());
    }
    if rng.one_in(5) {
        rule.none_of = Some(Requirements { roles: vec!["b".to_owned()], ..Requirements::default() });
    }
    if rng.one_in(4) {
        rule.require_mfa = true;
        rule.mfa_max_age_s = rng.one_in(2).then_some(300);
    }
    rule.mode = rng.one_in(5).then_some(Mode::Monitor);
    rule
}

/// One to three requests, some of them damaged.
fn segment(rng: &mut Rng, tokens: &[String]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..1 + rng.below(3) * u64::from(rng.one_in(4)) {
        bytes.extend_from_slice(request(rng, tokens).as_bytes());
    }
    for _ in 0..rng.below(3) * u64::from(rng.one_in(4)) {
        let at = rng.below(bytes.len() as u64) as usize;
        match rng.below(3) {
            0 => bytes[at] = rng.next_u64() as u8,
            1 => drop(bytes.remove(at)),
            _ => bytes.insert(at, b"\r\n :%/\0\x80"[rng.below(8) as usize]),
        }
    }
    bytes
}

fn request(rng: &mut Rng, tokens: &[String]) -> String {
    let mut lines = Vec::new();
    let host = one(rng, &["h", "h", "h", "H:80", "a.example", "b.a.example.", "other", "[::1]:1", ""]);
    if !rng.one_in(30) {
        lines.push(format!("{}: {host}", one(rng, &["Host", "host", "HOST"])));
    }
    if !rng.one_in(3)
        && let Some(token) = rng.pick(tokens)
    {
        lines.push(format!("Authorization: {} {token}", one(rng, &["Bearer", "Bearer", "bearer", "Basic"])));
    }
    let odd = [
        "X-AuthFI-User-ID: root",
        "Accept: */*",
        "Connection: keep-alive",
        "Expect: 100-continue-not",
        "Upgrade: websocket",
        "Host: twice",
        "Authorization: Bearer x",
        "Content-Length: 0",
        "Content-Length: 3",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip",
        "X : space",
        "Bad\x01: x",
        "X: caf\u{e9}",
        "Accept: a\tb",
    ];
    for _ in 0..rng.below(3) {
        let at = rng.below(lines.len() as u64 + 1) as usize;
        let some = if rng.one_in(6) { &odd[..] } else { &odd[..5] };
        lines.insert(at, one(rng, some).to_owned());
    }
    let body = match rng.below(5) {
        0 => {
            lines.push("Content-Length: 5".to_owned());
            "hello"
        }
        1 => {
            lines.push("Transfer-Encoding: chunked".to_owned());
            "5;x=y\r\nhello\r\n0\r\nT: 1\r\n\r\n"
        }
        _ => "",
    };
    let usual = [
        "/",
        "/a",
        "/a/b",
        "/a/b/c",
        "/a/",
        "/b",
        "/ab",
        "/%61/b",
        "/a/%7B",
        "/a/<b>",
        "/a?x=../..",
        "http://h/a/b",
    ];
    let odd =
        ["/a//b", "/a/../b", "/a%2fb", "/a;b", "/c", "/a/*", "http://other/a", "*", "/a/%zz", "/a/|`^\""];
    // One in ten of each part is odd, or hardly a request would be read to its end.
    let mut part = |usual: &[&'static str], odd: &[&'static str]| {
        let from = if rng.one_in(10) { odd } else { usual };
        one(rng, from)
    };
    let method = part(&["GET", "GET", "GET", "POST", "HEAD", "DELETE"], &["PURGE", "get", "CONNECT"]);
    let target = part(&usual, &odd);
    let version = part(&["HTTP/1.1"], &["HTTP/1.0", "HTTP/1.2"]);
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let head = format!("{method} {target} {version}\r\n{lines}");
    format!("{head}\r\n{body}")
}
