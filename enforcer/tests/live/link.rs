//! One connection, driven through the live datapath and through the model at once.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use portcullis_enforcer::compile::{Compiled, compile};
use portcullis_http::{Event, Stream};
use portcullis_policy::PolicySet;
use portcullis_testkit::connect_from;
use portcullis_token::KeyStore;
use portcullis_verdict::{Connection, Fate, Record, decide};
use portcullis_wire::{AccessLog, Bundle, CandidateVerdict, Issuer, Mode, Policy, Verdict};

use crate::app::await_readable;
use crate::compiled::compiled;
use crate::corpus::Drawn;
use crate::world::{World, now_ns};

/// What the application answers, whatever is asked.
const RESPONSE: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
/// Where in a denial's text the decision id stands.
const DECISION_ID: &[u8] = b"\"decision_id\":\"";
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a segment may take to come to the programs; then it has been merged with another one, or is lost.
const SEGMENT_WAIT: Duration = Duration::from_millis(500);

/// The datapath with two applications, of which the reads of one block, and what decides in the model.
pub struct Stage {
    world: World,
    apps: [App; 2],
    rules: Option<Rules>,
    connections: u32,
    /// Denials that the kernel answered because the agent was late.
    answered_by_kernel: u64,
    merged: u64,
    /// Connections whose application did not get the part of a head that they ended with.
    pub withheld: u64,
}

struct Rules {
    set: PolicySet,
    candidate: PolicySet,
    keys: KeyStore,
}

/// A record, as far as the model says the same.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Row {
    reason: String,
    verdict: Verdict,
    mode: Option<Mode>,
    status: Option<u16>,
    policy: Option<String>,
    rule: Option<String>,
    user: Option<String>,
    kid: Option<String>,
    /// Of requests that could be read.
    resource: Option<(String, Option<String>, String)>,
    candidate: Option<CandidateVerdict>,
}

/// A connection.
pub struct Link<'a> {
    stage: &'a mut Stage,
    at: usize,
    stream: TcpStream,
    source: Ipv4Addr,
    model: Connection,
    /// What was to be passed, and its reading.
    passed: Vec<u8>,
    reading: Stream,
    rows: Vec<Row>,
    /// Nothing more can be sent.
    over: bool,
    sent: Vec<Vec<u8>>,
}

/// A server for one connection at a time. It says what it accepted and, at the end, all that it read.
struct App {
    addr: SocketAddrV4,
    blocking: bool,
    accepted: Receiver<()>,
    ended: Receiver<Vec<u8>>,
}

// === impl Stage ===

impl Stage {
    /// In a world whose applications are under control.
    pub fn new(world: World) -> Stage {
        let apps = [true, false].map(App::start);
        Stage { world, apps, rules: None, connections: 0, answered_by_kernel: 0, merged: 0, withheld: 0 }
    }

    pub fn ports(&self) -> [u16; 2] {
        [0, 1].map(|at: usize| self.apps[at].addr.port())
    }

    /// Puts what was drawn into force.
    pub fn apply(&mut self, drawn: &Drawn, issuers: &[Issuer]) {
        self.put(compiled(drawn), drawn.set.clone(), drawn.candidate.clone(), issuers);
    }

    /// Puts policies into force, without a candidate.
    pub fn apply_policies(&mut self, policies: Vec<Policy>, issuers: Vec<Issuer>) {
        let (set, none) = (PolicySet::new(policies.clone()), PolicySet::new(Vec::new()));
        let bundle = Bundle { version: 1, issuers: issuers.clone(), policies, ..Bundle::default() };
        let compiled = compile(&bundle).expect("a valid bundle");
        self.put(Arc::new(compiled), set.expect("valid policies"), none.expect("no policies"), &issuers);
    }

    fn put(&mut self, compiled: Arc<Compiled>, set: PolicySet, candidate: PolicySet, issuers: &[Issuer]) {
        let (keys, problems) = KeyStore::new(issuers);
        assert!(problems.is_empty(), "{problems:?}");
        let datapath = self.world.datapath.as_mut().expect("a running datapath");
        datapath.apply(compiled).expect("applied");
        self.rules = Some(Rules { set, candidate, keys });
    }

    /// A new connection to one of the ports, from an address of its own.
    pub fn connect(&mut self, port: u16) -> Link<'_> {
        let at = self.ports().iter().position(|known| *known == port).expect("a port of the stage");
        let (source, stream) = loop {
            let (source, stream) = self.dial(at);
            // The guard takes a connection by its local port, and that of a client can have the number of a protected
            // one while the application has bound it on another address only.
            let local = stream.local_addr().expect("address").port();
            if !self.ports().contains(&local) {
                break (source, stream);
            }
            drop(stream);
            self.apps[at].ended.recv_timeout(PATIENCE).expect("ended");
        };
        Link {
            stage: self,
            at,
            stream,
            source,
            model: Connection::new(port, 0),
            passed: Vec::new(),
            reading: Stream::new(),
            rows: Vec::new(),
            over: false,
            sent: Vec::new(),
        }
    }

    fn dial(&mut self, at: usize) -> (Ipv4Addr, TcpStream) {
        self.connections += 1;
        let [_, b, c, d] = (self.connections + 1).to_be_bytes();
        // 127.0.0.0/8 is all this host.
        let source = Ipv4Addr::new(127, b | 1, c, d);
        let stream = connect_from(source, self.apps[at].addr).expect("connecting");
        stream.set_nodelay(true).expect("nodelay");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        self.apps[at].accepted.recv_timeout(PATIENCE).expect("accepted");
        (source, stream)
    }

    /// Compares the records since the last time with what the model expects of each source; how many there were.
    pub fn compare_records(
        &mut self,
        mut expected: BTreeMap<String, Vec<Row>>,
        reasons: &mut BTreeMap<String, usize>,
    ) -> usize {
        self.world.datapath().flush();
        let records = std::mem::take(&mut *self.world.records.lock().expect("no thread panicked"));
        let mut found: BTreeMap<String, Vec<Row>> = BTreeMap::new();
        for record in &records {
            *reasons.entry(record.reason.clone()).or_default() += 1;
            found.entry(record.source_ip.clone()).or_default().push(told(record));
        }
        expected.retain(|_, rows| !rows.is_empty());
        for source in expected.keys().chain(found.keys()).collect::<BTreeSet<_>>() {
            assert_eq!(found.get(source), expected.get(source), "records of {source}: datapath, then model");
        }
        records.len()
    }

    pub fn verdicts(&self) -> u64 {
        self.world.stats().verdicts
    }

    /// Requests that were recognised by their bytes.
    pub fn recognised(&self) -> u64 {
        self.world.stats().memo_hit
    }

    /// What was left out of a comparison, in words.
    pub fn summary(&self) -> String {
        let Stage { answered_by_kernel, merged, withheld, .. } = self;
        format!(
            "{answered_by_kernel} denials answered by the kernel, {merged} segments merged, {withheld} ends withheld"
        )
    }
}

// === impl Row ===

/// Of a record of the datapath. A resource that is longer than records show is left out.
pub fn told(record: &AccessLog) -> Row {
    let refused = record.policy_id.is_none() && record.reason != "host_not_covered";
    let cut = record.path.ends_with('…') || record.host.as_deref().is_some_and(|host| host.ends_with('…'));
    let resource = (record.method.clone(), record.host.clone(), record.path.clone());
    Row {
        reason: record.reason.clone(),
        verdict: record.decision,
        mode: record.mode,
        status: record.status,
        policy: record.policy_id.clone(),
        rule: record.rule_id.clone(),
        user: record.user_id.as_deref().and_then(|text| shown(text, 63)),
        kid: record.kid.as_deref().and_then(|text| shown(text, 31)),
        resource: (!refused && !cut).then_some(resource),
        candidate: record.candidate.clone(),
    }
}

/// A text as far as it is compared: records cut what is longer than they have room for, and escape some characters.
fn shown(text: &str, room: usize) -> Option<String> {
    let plain = text.len() <= room && !text.contains(|c: char| c == '\\' || c == '…' || c.is_control());
    Some(if plain { text.to_owned() } else { "…".to_owned() }).filter(|text| !text.is_empty())
}

/// Of a decision of the model.
fn expected(record: &Record, port: u16, now_s: u64, rules: &Rules) -> Row {
    let Rules { set, candidate, keys } = rules;
    let Record { decision_id: _, decision, head } = record;
    let resource = decision.resource().zip(head.as_ref());
    let tried = resource.filter(|_| candidate.port_enforces(port).is_some()).map(|(_, head)| {
        let tried = decide(head, port, candidate, keys, now_s);
        let verdict = if tried.reason().is_allow() { Verdict::Allow } else { Verdict::Deny };
        CandidateVerdict {
            name: "tried".to_owned(),
            decision: verdict,
            reason: tried.reason().slug().to_owned(),
            policy_id: tried.policy_id(candidate).map(str::to_owned),
            rule_id: tried.rule_id(candidate).map(str::to_owned),
        }
    });
    let fits = resource.filter(|(resource, _)| {
        resource.path.len() <= PATH_SHOWN
            && resource.host.as_ref().is_none_or(|host| host.len() <= HOST_SHOWN)
    });
    let fits = fits.map(|(resource, head)| {
        let method = String::from_utf8_lossy(head.method_token()).chars().take(METHOD_SHOWN).collect();
        (method, resource.host.clone(), resource.path.clone())
    });
    let identity = decision.identity();
    Row {
        reason: decision.reason().slug().to_owned(),
        verdict: decision.verdict(),
        mode: Some(decision.mode()),
        status: decision.status(),
        policy: decision.policy_id(set).map(str::to_owned),
        rule: decision.rule_id(set).map(str::to_owned),
        user: identity.and_then(|token| shown(token.claims().sub.as_deref()?, 63)),
        kid: identity.and_then(|token| shown(token.kid(), 31)),
        resource: fits,
        candidate: tried,
    }
}

const PATH_SHOWN: usize = portcullis_bpf::limits::EVENT_PATH_MAX;
const HOST_SHOWN: usize = portcullis_bpf::limits::EVENT_HOST_MAX;
const METHOD_SHOWN: usize = portcullis_bpf::limits::EVENT_METHOD_MAX;

// === impl Link ===

impl Link<'_> {
    pub fn port(&self) -> u16 {
        self.stage.ports()[self.at]
    }

    /// Whether the datapath has ended the connection.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Sends a segment at a time of the judgement's, and sees it come to what the model says. Nothing is sent once the
    /// connection is over.
    pub fn send(&mut self, segment: &[u8], now_s: u64) {
        if self.over {
            return;
        }
        self.sent.push(segment.to_vec());
        let rules = self.stage.rules.as_ref().expect("policies in force");
        let handled = self.model.segment(segment, &rules.set, &rules.keys, now_s);
        let port = self.port();
        self.rows.extend(handled.records.iter().map(|record| expected(record, port, now_s, rules)));
        let before = self.stage.verdicts();
        // A little after the second begins, so that it does not end on the way.
        let offset = i128::from(now_s) * 1_000_000_000 + 100_000_000 - now_ns();
        let offset = i64::try_from(offset).expect("a time near the present");
        self.stage.world.datapath().set_clock_offset(offset).expect("the clock is set");
        if let Err(error) = self.stream.write_all(segment) {
            panic!("{error}, sending {}", self.history());
        }
        self.seen(before);
        match handled.fate {
            Fate::Pass => self.pass(segment),
            Fate::Answer { text, close } => self.answer(&text, close),
            Fate::Destroy => self.expect_end(),
            Fate::Drop => panic!("the model had closed: {}", self.history()),
        }
    }

    /// Waits until the programs have seen the segment.
    fn seen(&mut self, before: u64) {
        let start = Instant::now();
        while self.stage.verdicts() == before {
            if start.elapsed() > SEGMENT_WAIT {
                self.stage.merged += 1;
                return;
            }
            thread::yield_now();
        }
    }

    /// The application answers each request that is complete.
    fn pass(&mut self, segment: &[u8]) {
        self.passed.extend_from_slice(segment);
        let responses = completed(&mut self.reading, segment);
        for _ in 0..responses {
            let mut response = [0; RESPONSE.len()];
            if let Err(error) = self.stream.read_exact(&mut response) {
                panic!("{error} instead of a response to {}", self.history());
            }
            assert_eq!(response.escape_ascii().to_string(), RESPONSE.escape_ascii().to_string());
        }
        if responses > 0 {
            self.model.application_wrote(b"HTTP/1.1 200 OK\r\n");
        }
    }

    /// The client is told what the model says, but for the decision's id.
    fn answer(&mut self, text: &[u8], close: bool) {
        let kernel = self.stage.world.stats().replies_kernel;
        let mut answer = vec![0; text.len()];
        let read = self.stream.read_exact(&mut answer);
        if read.is_err() || without_id(&answer) != without_id(text) {
            if self.stage.world.stats().replies_kernel > kernel {
                // The agent was late, and the kernel's reply has the length of the request. What comes now is not
                // compared any further; that nothing passed is.
                self.stage.answered_by_kernel += 1;
                self.over = true;
                return;
            }
            panic!(
                "{read:?}: {} instead of {} to {}",
                answer.escape_ascii(),
                text.escape_ascii(),
                self.history()
            );
        }
        if close {
            // The client may take its time to close; what it goes on sending must not pass.
            self.over = true;
            let _ = self.stream.write_all(b"GET /health HTTP/1.1\r\nHost: a.example\r\n\r\n");
        }
    }

    fn expect_end(&mut self) {
        self.over = true;
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(0) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            other => panic!("{other:?} instead of the end, {byte:?}: {}", self.history()),
        }
    }

    /// Ends the connection; where it came from, and the records that it is to have.
    ///
    /// The application must have read what passed, and nothing else; one whose reads block may lack the part of a head
    /// that came last. When the datapath ended the connection, what it had not read by then is lost.
    pub fn end(self) -> (String, Vec<Row>) {
        drop(self.stream.shutdown(std::net::Shutdown::Write));
        let app = &self.stage.apps[self.at];
        let read = app.ended.recv_timeout(PATIENCE);
        let read = read.unwrap_or_else(|error| panic!("{error}: {}", self.history()));
        let part = self.reading.held();
        let withheld = app.blocking && part > 0 && self.passed[..self.passed.len() - part] == read;
        let alike = withheld || if self.over { self.passed.starts_with(&read) } else { self.passed == read };
        assert!(
            alike,
            "the application read {} instead of {} of {}",
            read.escape_ascii(),
            self.passed.escape_ascii(),
            self.history()
        );
        self.stage.withheld += u64::from(withheld);
        (self.source.to_string(), self.rows)
    }

    /// The segments that were sent.
    fn history(&self) -> String {
        let lines = self.sent.iter().map(|segment| format!("\n  {}", segment.escape_ascii()));
        let datapath = self.stage.world.datapath();
        let (stats, responder) = (self.stage.world.stats(), datapath.responder_counts());
        format!(
            "port {}, {:?}, {stats:?}, responder {responder:?}{}",
            self.port(),
            self.rows.last(),
            lines.collect::<String>()
        )
    }
}

/// How many requests end in these bytes.
fn completed(reading: &mut Stream, bytes: &[u8]) -> usize {
    let mut count = 0;
    for event in reading.feed(bytes) {
        count += match event {
            Event::Head(head) => usize::from(head.framing() == portcullis_http::Framing::Length(0)),
            Event::Body { last, .. } => usize::from(last),
            Event::Refused(_) => 0,
        };
    }
    count
}

/// The text of a denial without its decision id.
fn without_id(text: &[u8]) -> Vec<u8> {
    let mut text = text.to_vec();
    let at = text.windows(DECISION_ID.len()).position(|window| window == DECISION_ID);
    if let Some(at) = at {
        let from = at + DECISION_ID.len();
        let to = text.len().min(from + 16);
        text[from..to].fill(b'0');
    }
    text
}

// === impl App ===

impl App {
    fn start(blocking: bool) -> App {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binding the application");
        let Ok(SocketAddr::V4(addr)) = listener.local_addr() else { panic!("an address of IPv4") };
        let ((accepted, is_accepted), (ended, has_ended)) = (channel(), channel());
        thread::spawn(move || serve(&listener, blocking, &accepted, &ended));
        App { addr, blocking, accepted: is_accepted, ended: has_ended }
    }
}

fn serve(listener: &TcpListener, blocking: bool, accepted: &Sender<()>, ended: &Sender<Vec<u8>>) {
    for stream in listener.incoming() {
        let stream = stream.and_then(|stream| stream.set_nonblocking(!blocking).map(|()| stream));
        let _ = accepted.send(());
        let mut read = Vec::new();
        if let Ok(stream) = stream {
            // How it ends is seen by the client.
            let _ = connection(stream, &mut read);
        }
        if ended.send(read).is_err() {
            return;
        }
    }
}

fn connection(mut stream: TcpStream, read: &mut Vec<u8>) -> io::Result<()> {
    let mut chunk = vec![0; 65_536];
    let mut reading = Stream::new();
    stream.set_nodelay(true)?;
    loop {
        let count = match stream.read(&mut chunk) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                await_readable(&stream)?;
                continue;
            }
            count => count?,
        };
        if count == 0 {
            return Ok(());
        }
        read.extend_from_slice(&chunk[..count]);
        for _ in 0..completed(&mut reading, &chunk[..count]) {
            stream.write_all(RESPONSE)?;
        }
    }
}
