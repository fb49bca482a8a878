//! A gateway, an application behind it, a client before it, and tokens.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portcullis_gateway::{Clock, Config, Gateway, Local, Source, Status, Upstream};
use portcullis_token::mint::SigningKey;
use portcullis_wire::{AccessLog, Action, Auth, Bundle, Issuer, JwkSet, Mode, Policy, Rule};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Longest time for anything on loopback: a bound on hanging, not a measure.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Now, Unix seconds, until a test moves it.
pub const NOW_S: u64 = 1_800_000_000;

/// An application: a listener that gives each connection to a task.
pub struct App {
    pub addr: SocketAddr,
    pub connections: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

/// An application that answers every request with 200 and its request line, and keeps what it was sent.
pub struct Recorder {
    pub app: App,
    requests: Arc<Mutex<Vec<Request>>>,
}

/// A message head and its body.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Request {
    /// Method and target; for a response, the status.
    pub what: String,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// A gateway before an application.
pub struct World {
    pub gateway: Gateway,
    pub key: Arc<SigningKey>,
    pub bundle: Arc<Mutex<Result<Bundle, String>>>,
    pub now_s: Arc<AtomicU64>,
    log: Sink,
}

/// Access records, read from the lines that are written.
#[derive(Clone, Default)]
pub struct Sink(Arc<Mutex<Vec<AccessLog>>>);

/// A client's connection.
pub struct Client {
    pub stream: TcpStream,
    ahead: Vec<u8>,
}

// === impl App ===

impl App {
    pub async fn start<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> App
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream));
            }
        });
        App { addr, connections, task }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Recorder ===

impl Recorder {
    pub async fn start() -> Recorder {
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let kept = Arc::clone(&requests);
        let app = App::start(move |stream| {
            let kept = Arc::clone(&kept);
            async move {
                let mut client = Client::of(stream);
                while let Some(request) = client.request().await {
                    let is_head = request.what.starts_with("HEAD ");
                    let text = format!("{}\n", request.what);
                    kept.lock().unwrap().push(request);
                    let head =
                        format!("HTTP/1.1 200 OK\r\nServer: test\r\nContent-Length: {}\r\n\r\n", text.len());
                    let reply = if is_head { head } else { head + &text };
                    if client.stream.write_all(reply.as_bytes()).await.is_err() {
                        return;
                    }
                }
            }
        })
        .await;
        Recorder { app, requests }
    }

    /// What it was sent since the last call.
    pub fn take(&self) -> Vec<Request> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }
}

// === impl World ===

impl World {
    /// A gateway with the usual policy, and what `change` makes of its settings.
    pub async fn before(app: SocketAddr, change: impl FnOnce(&mut Config)) -> World {
        World::with(app, policy(app.port(), Mode::Enforce), change).await
    }

    pub async fn with(app: SocketAddr, policy: Policy, change: impl FnOnce(&mut Config)) -> World {
        let key = Arc::new(SigningKey::generate_es256().unwrap());
        let issuer = Issuer {
            issuer: "https://id.example".to_owned(),
            audiences: vec!["api".to_owned()],
            leeway_s: 0,
            jwks: JwkSet { keys: vec![key.public_jwk("k1")] },
        };
        let bundle = Bundle { issuers: vec![issuer], policies: vec![policy], ..Bundle::default() };
        let bundle = Arc::new(Mutex::new(Ok(bundle)));
        let (now_s, log) = (Arc::new(AtomicU64::new(NOW_S)), Sink::default());
        let (read, clock) = (Arc::clone(&bundle), Arc::clone(&now_s));
        let load = move || read.lock().unwrap().clone();
        let source = Source::Local(Local { load: Box::new(load), watched: Vec::new() });
        let upstream = Upstream::parse(&app.to_string()).unwrap();
        let mut config = Config::new((Ipv4Addr::LOCALHOST, 0).into(), upstream, source);
        config.clock = Clock::from_fn(move || Duration::from_secs(clock.load(Ordering::SeqCst)));
        config.log = Some(Box::new(log.clone()));
        change(&mut config);
        let gateway = Gateway::start(config).await.unwrap();
        World { gateway, key, bundle, now_s, log }
    }

    /// Changes the configuration, and returns when it is in force.
    pub async fn publish(&self, change: impl FnOnce(&mut Bundle)) {
        change(self.bundle.lock().unwrap().as_mut().unwrap());
        let before = self.gateway.status().version;
        self.gateway.reload();
        self.until(|status| status.version > before).await;
    }

    pub async fn until(&self, holds: impl Fn(&Status) -> bool) {
        let wait = async {
            while !holds(&self.gateway.status()) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let waited = timeout(PATIENCE, wait).await;
        assert!(waited.is_ok(), "{:?}", self.gateway.status());
    }

    pub async fn connect(&self) -> Client {
        Client::of(TcpStream::connect(self.gateway.addr()).await.unwrap())
    }

    /// A token of user `u1` that says this too: `"roles":["admin"]`.
    pub fn token(&self, more: &str) -> String {
        let more = if more.is_empty() { String::new() } else { format!(",{more}") };
        let exp = NOW_S + 3600;
        let claims = format!(r#"{{"iss":"https://id.example","aud":"api","sub":"u1","exp":{exp}{more}}}"#);
        self.key.sign(r#"{"alg":"ES256","kid":"k1"}"#, &claims)
    }

    pub fn bearer(&self) -> String {
        format!("Authorization: Bearer {}", self.token(r#""email":"u1@example","roles":["a","b"]"#))
    }

    /// How many access records were written so far.
    pub fn decided(&self) -> usize {
        self.log.count()
    }

    /// All access records since the last call; they must be `count`.
    pub async fn take_records(&self, count: usize) -> Vec<AccessLog> {
        let records = self.records(count).await;
        self.log.0.lock().unwrap().clear();
        records
    }

    /// The first `count` access records, which must be all.
    pub async fn records(&self, count: usize) -> Vec<AccessLog> {
        let wait = async {
            while self.log.count() < count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let waited = timeout(PATIENCE, wait).await;
        let records = self.log.0.lock().unwrap().clone();
        assert!(waited.is_ok() && records.len() == count, "{} records, expected {count}", records.len());
        records
    }
}

/// `/open/*` is public, `/closed/*` needs a token, `/admin/*` the role admin; all else is denied.
pub fn policy(port: u16, mode: Mode) -> Policy {
    let rule = |path: &str| Rule {
        id: path.trim_matches(['/', '*']).to_owned(),
        method: "*".to_owned(),
        path_pattern: path.to_owned(),
        ..Rule::default()
    };
    let rules = vec![
        rule("/open/*"),
        Rule { auth: Some(Auth::Required), ..rule("/closed/*") },
        Rule { required_roles: vec!["admin".to_owned()], ..rule("/admin/*") },
    ];
    let (id, name) = ("p".to_owned(), "Policy".to_owned());
    Policy { id, name, port_match: port, host_match: None, mode, default_action: Action::Deny, rules }
}

/// A request without body; `fields` are whole lines.
pub fn request(line: &str, fields: &[&str]) -> String {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    format!("{line} HTTP/1.1\r\nHost: h\r\n{fields}\r\n")
}

// === impl Sink ===

impl Sink {
    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // Whole lines are written at once.
        let text = std::str::from_utf8(bytes).unwrap();
        assert!(text.ends_with('\n'), "{text}");
        self.0
            .lock()
            .unwrap()
            .extend(text.lines().map(|line| serde_json::from_str::<AccessLog>(line).unwrap()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

// === impl Client ===

impl Client {
    pub fn of(stream: TcpStream) -> Client {
        stream.set_nodelay(true).unwrap();
        Client { stream, ahead: Vec::new() }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await.expect("the peer reads").unwrap();
    }

    /// Sends a request and reads its response.
    pub async fn ask(&mut self, bytes: impl AsRef<[u8]>) -> Request {
        self.send(bytes).await;
        self.response(false).await.expect("a response")
    }

    /// The next response; `None` at the end of the connection.
    pub async fn response(&mut self, to_head: bool) -> Option<Request> {
        timeout(PATIENCE, self.message(false, to_head)).await.expect("a response in time")
    }

    /// The next request; `None` at the end of the connection.
    pub async fn request(&mut self) -> Option<Request> {
        self.message(true, false).await
    }

    /// Whether the connection has ended, with nothing more behind it.
    pub async fn ended(&mut self) -> bool {
        let mut rest = std::mem::take(&mut self.ahead);
        let read = timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await;
        // A reset is an end too.
        assert!(read.is_ok(), "the connection stays open");
        assert_eq!(rest.escape_ascii().to_string(), "", "bytes behind the last response");
        true
    }

    /// Reads to the end of the connection, whatever comes.
    pub async fn drain(&mut self) {
        let mut rest = Vec::new();
        let read = timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await;
        assert!(read.is_ok(), "the connection stays open");
    }

    async fn more(&mut self) -> bool {
        matches!(self.stream.read_buf(&mut self.ahead).await, Ok(length) if length > 0)
    }

    async fn message(&mut self, is_request: bool, to_head: bool) -> Option<Request> {
        let (length, mut message) = loop {
            if let Some(found) = head(&self.ahead, is_request) {
                break found;
            }
            if !self.more().await {
                return None;
            }
        };
        self.ahead.drain(..length);
        let interim = ["100", "101", "103"].contains(&message.what.as_str());
        let field = |name: &str| message.field(name).map(str::to_owned);
        if to_head || interim || message.what == "204" || message.what == "304" {
            return Some(message);
        }
        if field("transfer-encoding").is_some() {
            message.body = self.chunks().await?;
        } else if let Some(length) = field("content-length") {
            let length: usize = length.parse().unwrap();
            while self.ahead.len() < length {
                if !self.more().await {
                    return None;
                }
            }
            message.body = self.ahead.drain(..length).collect();
        } else if !is_request {
            while self.more().await {}
            message.body = std::mem::take(&mut self.ahead);
        }
        Some(message)
    }

    /// A chunked body; trailer lines stand behind it as they came.
    async fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line().await?;
            let size = usize::from_str_radix(line.split(';').next().unwrap(), 16).unwrap();
            if size == 0 {
                loop {
                    let line = self.line().await?;
                    if line.is_empty() {
                        return Some(body);
                    }
                    body.extend_from_slice(format!("[{line}]").as_bytes());
                }
            }
            while self.ahead.len() < size + 2 {
                if !self.more().await {
                    return None;
                }
            }
            body.extend(self.ahead.drain(..size));
            self.ahead.drain(..2);
        }
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.ahead.windows(2).position(|two| two == b"\r\n") {
                let line = self.ahead.drain(..end + 2).collect::<Vec<u8>>();
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if !self.more().await {
                return None;
            }
        }
    }
}

fn head(bytes: &[u8], is_request: bool) -> Option<(usize, Request)> {
    let mut lines = [httparse::EMPTY_HEADER; 256];
    let (length, what, lines) = if is_request {
        let mut head = httparse::Request::new(&mut lines);
        let httparse::Status::Complete(length) = head.parse(bytes).unwrap() else { return None };
        (length, format!("{} {}", head.method.unwrap(), head.path.unwrap()), head.headers)
    } else {
        let mut head = httparse::Response::new(&mut lines);
        let httparse::Status::Complete(length) = head
            .parse(bytes)
            .unwrap_or_else(|error| panic!("{error}: {}", bytes[..bytes.len().min(400)].escape_ascii()))
        else {
            return None;
        };
        (length, head.code.unwrap().to_string(), head.headers)
    };
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let fields = lines.iter().map(|line| (line.name.to_ascii_lowercase(), text(line.value))).collect();
    Some((length, Request { what, fields, body: Vec::new() }))
}

// === impl Request ===

impl Request {
    /// The value of the only field of that name, in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().filter(|(field, _)| field == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} twice: {self:?}");
        value
    }

    pub fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(field, _)| field == name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}
