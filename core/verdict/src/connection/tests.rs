use portcullis_wire::{Mode, Verdict};
use proptest::prelude::*;

use super::*;
use crate::testing::{NOW_S, PORT, Tokens, policies, request};

/// A connection, and both of its ends.
struct Wire {
    connection: Connection,
    policies: PolicySet,
    keys: KeyStore,
    /// What the application was given.
    passed: Vec<u8>,
    /// Reasons in the order of decision.
    reasons: Vec<Reason>,
}

impl Wire {
    fn new(mode: Mode) -> Wire {
        let (keys, _) = KeyStore::new(&[]);
        let connection = Connection::new(PORT, 7);
        Wire { connection, policies: policies(mode), keys, passed: Vec::new(), reasons: Vec::new() }
    }

    /// Sends a segment and tells what became of it: `pass`, `drop`, `destroy`, or the status of the answer, with
    /// `c` when it is the last one.
    fn send(&mut self, bytes: impl AsRef<[u8]>) -> String {
        let bytes = bytes.as_ref();
        let Handled { fate, records } = self.connection.segment(bytes, &self.policies, &self.keys, NOW_S);
        self.reasons.extend(records.iter().map(|record| record.decision.reason()));
        match fate {
            Fate::Pass => {
                self.passed.extend_from_slice(bytes);
                "pass".to_owned()
            }
            Fate::Drop => "drop".to_owned(),
            Fate::Destroy => "destroy".to_owned(),
            Fate::Answer { text, close } => {
                let text = String::from_utf8(text).unwrap();
                assert_eq!(text.contains("Connection: close"), close, "{text}");
                format!("{}{}", &text["HTTP/1.1 ".len()..][..3], if close { "c" } else { "" })
            }
        }
    }

    /// Sends a segment and has the application write what it owes.
    fn exchange(&mut self, bytes: impl AsRef<[u8]>) -> String {
        let fate = self.send(bytes);
        self.connection.application_wrote(b"HTTP/1.1 200 OK\r\n");
        fate
    }
}

/// What becomes of segments that are each sent after what the one before led to.
fn fates(mode: Mode, segments: &[&str]) -> Vec<String> {
    let mut wire = Wire::new(mode);
    segments.iter().map(|segment| wire.exchange(segment)).collect()
}

fn good() -> String {
    request("GET /open/a", &[])
}

fn bad() -> String {
    request("GET /closed/a", &[])
}

fn post(path: &str, body: &str) -> String {
    request(&format!("POST {path}"), &[&format!("Content-Length: {}", body.len())]) + body
}

#[test]
fn a_denied_request_alone_is_answered_and_the_connection_goes_on() {
    assert_eq!(fates(Mode::Enforce, &[&bad(), &good(), &bad(), &good()]), ["401", "pass", "401", "pass"]);
}

#[test]
fn a_denied_request_with_its_whole_body_is_answered_and_the_connection_goes_on() {
    assert_eq!(fates(Mode::Enforce, &[&post("/closed/a", "hello"), &good()]), ["401", "pass"]);
    let chunked = request("POST /closed/a", &["Transfer-Encoding: chunked"]) + "5\r\nhello\r\n0\r\n\r\n";
    assert_eq!(fates(Mode::Enforce, &[&chunked, &good()]), ["401", "pass"]);
}

#[test]
fn a_denied_request_whose_body_is_to_come_ends_the_connection() {
    let whole = post("/closed/a", "hello");
    let (first, rest) = whole.split_at(whole.len() - 1);
    assert_eq!(fates(Mode::Enforce, &[first, rest, &good()]), ["401c", "drop", "drop"]);
}

#[test]
fn a_denied_request_in_two_segments_ends_the_connection() {
    let whole = bad();
    for cut in 1..whole.len() {
        let (first, rest) = whole.split_at(cut);
        let mut wire = Wire::new(Mode::Enforce);
        assert_eq!([wire.send(first), wire.send(rest), wire.send(good())], ["pass", "401c", "drop"], "{cut}");
        assert_eq!(wire.passed, first.as_bytes());
    }
}

#[test]
fn an_allowed_request_in_many_segments_passes() {
    let mut wire = Wire::new(Mode::Enforce);
    let whole = post("/open/a", "hello") + &good();
    for byte in whole.as_bytes() {
        assert_eq!(wire.send([*byte]), "pass");
    }
    assert_eq!((wire.passed, wire.reasons), (whole.into_bytes(), vec![Reason::Public; 2]));
}

#[test]
fn a_request_behind_a_denied_one_in_its_segment_is_not_looked_at() {
    let mut wire = Wire::new(Mode::Enforce);
    assert_eq!(wire.exchange(bad() + &good()), "401c");
    assert_eq!(wire.reasons, [Reason::TokenMissing]);
    assert_eq!(wire.send(good()), "drop");
    assert!(wire.connection.is_closed());
}

#[test]
fn a_denied_request_behind_an_allowed_one_in_its_segment_destroys_the_connection() {
    let mut wire = Wire::new(Mode::Enforce);
    assert_eq!(wire.exchange(good() + &bad() + &good()), "destroy");
    assert_eq!(wire.reasons, [Reason::Public, Reason::TokenMissing]);
    assert_eq!(wire.passed, b"");
    assert_eq!(wire.send(good()), "drop");
}

#[test]
fn the_body_of_a_request_that_destroys_the_connection_is_not_looked_at() {
    let mut wire = Wire::new(Mode::Enforce);
    let chunked = request("POST /closed/a", &["Transfer-Encoding: chunked"]) + "no chunk\r\n";
    assert_eq!(wire.exchange(good() + &chunked), "destroy");
    assert_eq!(wire.reasons, [Reason::Public, Reason::TokenMissing]);
}

#[test]
fn a_denied_request_behind_the_end_of_a_body_destroys_the_connection() {
    let whole = post("/open/a", "hello");
    let (first, rest) = whole.split_at(whole.len() - 1);
    let behind = rest.to_owned() + &bad();
    assert_eq!(fates(Mode::Enforce, &[first, &behind]), ["pass", "destroy"]);
}

#[test]
fn an_answer_never_overtakes_a_response() {
    let mut wire = Wire::new(Mode::Enforce);
    assert_eq!([wire.send(good()), wire.send(bad())], ["pass", "destroy"]);
    let mut wire = Wire::new(Mode::Enforce);
    assert_eq!([wire.exchange(good()), wire.send(bad())], ["pass", "401"]);
}

#[test]
fn behind_requests_that_did_not_wait_nothing_is_answered() {
    // In one segment, in two, and behind the end of a body.
    let (first, rest) = (post("/open/a", "hello"), good());
    let (begin, end) = first.split_at(first.len() - 1);
    for segments in
        [vec![good() + &good()], vec![good(), good()], vec![begin.to_owned(), end.to_owned() + &rest]]
    {
        let mut wire = Wire::new(Mode::Enforce);
        for segment in &segments[..segments.len() - 1] {
            assert_eq!(wire.send(segment.clone()), "pass");
        }
        assert_eq!(wire.exchange(segments[segments.len() - 1].clone()), "pass");
        assert_eq!(wire.exchange(good()), "pass");
        assert_eq!(wire.send(bad()), "destroy");
    }
    // Who knows that all responses were given may say so.
    let mut wire = Wire::new(Mode::Enforce);
    assert_eq!([wire.send(good() + &good()), wire.send(good())], ["pass", "pass"]);
    wire.connection.responses_given();
    assert_eq!(wire.send(bad()), "401");
    // Those that waited are no obstacle, nor is a body that comes in pieces.
    let mut wire = Wire::new(Mode::Enforce);
    assert_eq!([wire.exchange(good()), wire.send(begin), wire.exchange(end)], ["pass"; 3]);
    assert_eq!([wire.exchange(good()), wire.send(bad())], ["pass", "401"]);
}

#[test]
fn requests_that_are_allowed_may_share_a_segment() {
    let mut wire = Wire::new(Mode::Enforce);
    assert_eq!(wire.send(good() + &post("/open/b", "body") + &good()), "pass");
    assert_eq!(wire.reasons, [Reason::Public; 3]);
}

#[test]
fn a_segment_holds_only_so_many_requests() {
    let mut wire = Wire::new(Mode::Enforce);
    assert_eq!(wire.send(good().repeat(REQUESTS_PER_SEGMENT_MAX)), "pass");
    assert_eq!(wire.send(good().repeat(REQUESTS_PER_SEGMENT_MAX + 1)), "destroy");
    assert_eq!(wire.reasons.last(), Some(&Reason::PipelineRefused));
    let mut wire = Wire::new(Mode::Monitor);
    assert_eq!(wire.send(good().repeat(REQUESTS_PER_SEGMENT_MAX + 1)), "pass");
}

#[test]
fn the_bound_is_that_of_the_kernel_side() {
    let limits = include_str!("../../../../bpf/include/limits.h");
    assert!(limits.contains(&format!("\n#define PC_MSGS_PER_SKB_MAX {REQUESTS_PER_SEGMENT_MAX}\n")));
}

#[test]
fn what_cannot_be_read_is_answered_once() {
    for (bytes, status) in [
        ("get /open/a HTTP/1.1\r\nHost: h\r\n\r\n", "400c"),
        ("\x16\x03\x01\x02\x00", "400c"),
        ("GET /open/a HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", "400c"),
        ("GET /open/../closed HTTP/1.1\r\nHost: h\r\n\r\n", "400c"),
    ] {
        assert_eq!(fates(Mode::Enforce, &[bytes, &good()]), [status, "drop"], "{bytes:?}");
        assert_eq!(fates(Mode::Enforce, &[&(good() + bytes), &good()]), ["destroy", "drop"], "{bytes:?}");
    }
    let long = format!("GET / HTTP/1.1\r\nX: {}", "v".repeat(20_000));
    assert_eq!(fates(Mode::Enforce, &[&long]), ["431c"]);
}

#[test]
fn a_malformed_body_destroys_the_connection() {
    let head = |path: &str| request(&format!("POST {path}"), &["Transfer-Encoding: chunked"]);
    let mut wire = Wire::new(Mode::Enforce);
    assert_eq!(
        [wire.send(head("/open/a")), wire.send("5\r\nhello"), wire.send("0\r\n\r\n")],
        ["pass", "pass", "destroy"]
    );
    assert_eq!(wire.reasons, [Reason::Public, Reason::BadChunk]);
    assert_eq!(fates(Mode::Enforce, &[&(head("/closed/a") + "x")]), ["destroy"]);
}

#[test]
fn monitor_mode_changes_nothing() {
    let broken = "get / HTTP/1.1\r\n\r\n".to_owned();
    let mut wire = Wire::new(Mode::Monitor);
    let segments = [bad(), good() + &bad(), request("GET /a//b", &[]) + &bad(), broken, bad()];
    for segment in &segments {
        assert_eq!(wire.send(segment), "pass");
    }
    assert_eq!(wire.passed, segments.concat().as_bytes());
    let expected = [
        Reason::TokenMissing,
        Reason::Public,
        Reason::TokenMissing,
        // Its framing is known, so what follows is still read ...
        Reason::PathAmbiguous,
        Reason::TokenMissing,
        // ... and behind this nothing is.
        Reason::MethodRefused,
    ];
    assert_eq!(wire.reasons, expected);
}

#[test]
fn a_head_request_is_answered_without_a_body() {
    let mut connection = Connection::new(PORT, 1);
    let (keys, _) = KeyStore::new(&[]);
    let bytes = request("HEAD /closed/a", &[]);
    let Handled { fate, records } =
        connection.segment(bytes.as_bytes(), &policies(Mode::Enforce), &keys, NOW_S);
    let Fate::Answer { text, .. } = fate else { panic!("{fate:?}") };
    assert!(text.ends_with(b"\r\n\r\n"));
    assert_eq!(records[0].decision_id, 1);
    assert_eq!(records[0].decision.verdict(), Verdict::Deny);
    assert_eq!(records[0].head.as_ref().unwrap().method(), Method::Head);
}

/// RFC 9110 section 9.3.2: a client that has sent HEAD reads no content, whatever is wrong with the rest.
#[test]
fn a_head_request_that_cannot_be_read_is_answered_without_a_body() {
    let (keys, _) = KeyStore::new(&[]);
    for (text, content) in [
        ("HEAD /a HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", false),
        ("HEAD /a b HTTP/1.1\r\n\r\n", false),
        ("HEAD /a HTTP/1.1\r\nHost: a\r\nno field\r\n\r\n", false),
        ("HEADER /a HTTP/1.1\r\nHost: a\r\nno field\r\n\r\n", true),
        ("GET /a HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", true),
    ] {
        for cut in 1..text.len() {
            let mut connection = Connection::new(PORT, 1);
            let policies = policies(Mode::Enforce);
            let (before, behind) = text.split_at(cut);
            let mut fate = connection.segment(before.as_bytes(), &policies, &keys, NOW_S).fate;
            if fate == Fate::Pass {
                fate = connection.segment(behind.as_bytes(), &policies, &keys, NOW_S).fate;
            }
            let Fate::Answer { text: answer, close: true } = fate else { panic!("{fate:?}, {text:?}") };
            assert_eq!(!answer.ends_with(b"\r\n\r\n"), content, "{text:?} cut at {cut}");
        }
    }
}

#[test]
fn decisions_are_numbered_as_they_are_answered() {
    let mut wire = Wire::new(Mode::Enforce);
    wire.exchange(good());
    let Handled { fate, records } =
        wire.connection.segment(bad().as_bytes(), &wire.policies, &wire.keys, NOW_S);
    let Fate::Answer { text, .. } = fate else { panic!("{fate:?}") };
    assert_eq!(records[0].decision_id, 8);
    assert!(String::from_utf8(text).unwrap().contains("\"decision_id\":\"0000000000000008\""));
}

#[test]
fn another_token_on_the_same_connection_is_judged_anew() {
    let tokens = Tokens::new();
    let mut wire = Wire::new(Mode::Enforce);
    wire.keys = tokens.keys.clone();
    let with = |token: &str| request("GET /closed/a", &[&format!("Authorization: Bearer {token}")]);
    let (first, second) = (with(&tokens.token("")), with("x.y.z"));
    assert_eq!(
        [wire.exchange(&first), wire.exchange(&second), wire.exchange(&first)],
        ["pass", "401", "pass"]
    );
}

#[test]
fn a_port_that_is_protected_no_more_is_left_alone() {
    let mut wire = Wire::new(Mode::Enforce);
    assert_eq!(wire.exchange(bad()), "401");
    wire.policies = PolicySet::default();
    assert_eq!([wire.send(bad()), wire.send("anything")], ["pass", "pass"]);
}

/// A message, and whether the application may see it.
#[derive(Clone, Debug)]
enum Message {
    Allowed(String),
    Denied(String),
    Unreadable(String),
}

impl Message {
    fn text(&self) -> &str {
        match self {
            Message::Allowed(text) | Message::Denied(text) | Message::Unreadable(text) => text,
        }
    }
}

fn message() -> impl Strategy<Value = Message> {
    // Bodies that look like requests, whole ones and parts.
    let body = prop_oneof![
        Just(String::new()),
        "[a-z\r\n]{1,20}",
        (0usize..60).prop_map(|length| bad().repeat(2)[..length].to_owned()),
    ];
    let framed = |path: &'static str| {
        (body.clone(), any::<bool>()).prop_map(move |(body, chunked)| match (chunked, body.as_str()) {
            (false, "") => request(&format!("GET {path}"), &[]),
            (false, body) => post(path, body),
            (true, "") => request(&format!("POST {path}"), &["Transfer-Encoding: chunked"]) + "0\r\n\r\n",
            (true, body) => {
                let head = request(&format!("POST {path}"), &["Transfer-Encoding: chunked"]);
                format!("{head}{:x};x\r\n{body}\r\n0\r\nT: y\r\n\r\n", body.len())
            }
        })
    };
    let unreadable = prop::sample::select(vec![
        "get / HTTP/1.1\r\n\r\n",
        "GET /open/a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        "GET /open//a HTTP/1.1\r\nHost: h\r\n\r\n",
        "\0",
    ]);
    prop_oneof![
        4 => framed("/open/a").prop_map(Message::Allowed),
        2 => framed("/closed/a").prop_map(Message::Denied),
        1 => unreadable.prop_map(|text| Message::Unreadable(text.to_owned())),
    ]
}

/// Segments of a stream, cut anywhere.
fn segments<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> =
        cuts.iter().map(|cut| cut.index(bytes.len() + 1)).chain([0, bytes.len()]).collect();
    cuts.sort_unstable();
    cuts.dedup();
    cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect()
}

proptest! {
    /// However the stream is cut and whenever the application answers: it sees a beginning of what was sent, and
    /// no whole head that is to be denied.
    #[test]
    fn no_cut_lets_a_denied_request_through(
        messages in prop::collection::vec(message(), 1..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        writes in prop::collection::vec(any::<bool>(), 8),
    ) {
        let bytes = messages.iter().map(Message::text).collect::<String>().into_bytes();
        let mut wire = Wire::new(Mode::Enforce);
        let mut held_back = false;
        for (number, segment) in segments(&bytes, &cuts).into_iter().enumerate() {
            let passed = wire.send(segment) == "pass";
            held_back |= !passed;
            if writes[number % writes.len()] {
                wire.connection.application_wrote(b"HTTP/1.1 200 OK\r\n");
            }
        }
        if !held_back {
            prop_assert_eq!(&wire.passed, &bytes);
        }
        for event in Stream::new().feed(&wire.passed) {
            match event {
                Event::Head(head) => prop_assert!(head.target().starts_with(b"/open/a"), "{:?}", head),
                Event::Body { .. } => {}
                Event::Refused(reason) => prop_assert!(false, "the application was given {}", reason),
            }
        }
    }

    /// Requests sent one by one, each after the answer to the one before: all are decided as they deserve.
    #[test]
    fn serial_requests_each_get_their_own(messages in prop::collection::vec(message(), 1..6)) {
        let mut wire = Wire::new(Mode::Enforce);
        let mut closed = false;
        for message in &messages {
            let expected = match (closed, message) {
                (true, _) => "drop",
                (false, Message::Allowed(_)) => "pass",
                (false, Message::Denied(_)) => "401",
                (false, Message::Unreadable(_)) => "400c",
            };
            prop_assert_eq!(wire.exchange(message.text()), expected);
            closed |= matches!(message, Message::Unreadable(_));
        }
    }

    #[test]
    fn monitor_mode_passes_every_byte(
        messages in prop::collection::vec(message(), 1..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let bytes = messages.iter().map(Message::text).collect::<String>().into_bytes();
        let mut wire = Wire::new(Mode::Monitor);
        for segment in segments(&bytes, &cuts) {
            prop_assert_eq!(wire.send(segment), "pass");
        }
        prop_assert_eq!(wire.passed, bytes);
    }

    /// The decisions are the first ones of those that one request a segment gets.
    #[test]
    fn cuts_change_no_decision(
        messages in prop::collection::vec(message(), 1..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut serial = Wire::new(Mode::Enforce);
        for message in &messages {
            serial.exchange(message.text());
        }
        let bytes = messages.iter().map(Message::text).collect::<String>().into_bytes();
        let mut cut = Wire::new(Mode::Enforce);
        for segment in segments(&bytes, &cuts) {
            cut.exchange(segment);
        }
        prop_assert!(serial.reasons.starts_with(&cut.reasons), "{:?} {:?}", serial.reasons, cut.reasons);
    }
}

/// The policies of the other tests, and `/ws`, which may switch.
fn with_websocket(mode: Mode) -> Wire {
    let mut wire = Wire::new(mode);
    let mut list: Vec<_> = wire.policies.policies().iter().map(|policy| policy.wire().clone()).collect();
    let rule = |path: &str, upgrade: &[&str]| portcullis_wire::Rule {
        method: "GET".to_owned(),
        path_pattern: path.to_owned(),
        upgrade: upgrade.iter().map(|protocol| (*protocol).to_owned()).collect(),
        priority: 99,
        ..portcullis_wire::Rule::default()
    };
    list[0].rules.extend([rule("/ws", &["websocket"]), rule("/plain", &[])]);
    wire.policies = PolicySet::new(list).unwrap();
    wire
}

const ASK: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

#[test]
fn a_connection_that_switched_is_left_alone() {
    let mut wire = with_websocket(Mode::Enforce);
    assert_eq!(wire.send(ASK), "pass");
    wire.connection.application_wrote(b"HTTP/1.1 101 Switching Protocols\r\n\r\n");
    assert_eq!(wire.send("anything"), "pass");
}

#[test]
fn an_application_that_does_not_switch_gets_requests() {
    for answer in [
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 10",
        "HTTP/1.0 101 \r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101",
    ] {
        let mut wire = with_websocket(Mode::Enforce);
        assert_eq!(wire.send(ASK), "pass");
        wire.connection.application_wrote(answer.as_bytes());
        assert_eq!(wire.send("anything"), "400c", "{answer:?}");
    }
}

#[test]
fn only_a_first_plain_request_with_a_rule_that_says_so_can_switch() {
    let asks = [
        ASK.replace("/ws", "/plain"),
        ASK.replace("websocket", "h2c"),
        ASK.replace("websocket", "websocket, h2c"),
        ASK.replace("HTTP/1.1", "HTTP/1.0"),
        ASK.replace("Upgrade: w", "Content-Length: 0\r\nUpgrade: w"),
    ];
    for ask in asks {
        let mut wire = with_websocket(Mode::Enforce);
        assert_eq!(wire.send(&ask), "pass", "{ask}");
        wire.connection.application_wrote(b"HTTP/1.1 101 Switching Protocols\r\n\r\n");
        assert_eq!(wire.send("anything"), "400c", "{ask}");
    }
    let mut wire = with_websocket(Mode::Enforce);
    wire.exchange(ASK.replace("Upgrade: websocket\r\n", ""));
    assert_eq!(wire.send(ASK), "pass");
    wire.connection.application_wrote(b"HTTP/1.1 101 Switching Protocols\r\n\r\n");
    assert_eq!(wire.send("anything"), "400c", "behind another request");
}

#[test]
fn bytes_before_the_answer_end_the_connection() {
    let mut wire = with_websocket(Mode::Enforce);
    assert_eq!(wire.send(format!("{ASK}early")), "destroy");
    let mut wire = with_websocket(Mode::Enforce);
    assert_eq!(wire.send(ASK), "pass");
    assert_eq!(wire.send("early"), "destroy");
    assert_eq!(wire.reasons.last(), Some(&Reason::UpgradeRefused));
    let mut wire = with_websocket(Mode::Monitor);
    assert_eq!(wire.send(format!("{ASK}early")), "pass");
    assert_eq!(wire.send("more"), "pass");
}

#[test]
fn a_connection_that_monitor_mode_lost_ends_when_the_port_enforces() {
    let mut wire = Wire::new(Mode::Monitor);
    assert_eq!(wire.exchange("no request at all\r\n\r\n"), "pass");
    assert_eq!(wire.exchange(bad()), "pass", "nothing is read any more");
    wire.policies = policies(Mode::Enforce);
    assert_eq!(wire.exchange(bad()), "destroy");
    assert_eq!(wire.exchange(good()), "drop");
    // One that switched did so by a rule.
    let mut wire = with_websocket(Mode::Monitor);
    wire.send(ASK);
    wire.connection.application_wrote(b"HTTP/1.1 101 Switching Protocols\r\n\r\n");
    wire.policies = policies(Mode::Enforce);
    assert_eq!(wire.send("frames"), "pass");
}
