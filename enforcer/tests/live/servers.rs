//! Servers of other kinds than the tests' own, each with what it says that it read.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use std::{env, thread};

use axum::Router;
use portcullis_testkit::{GO_SERVER, eventually, free_port};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use crate::app::App;
use crate::client::{get, once};
use crate::uring::{self, Reads, Uring};

/// A running server, and how to ask what reached it.
pub enum Server {
    /// A blocking read and a thread for each connection.
    Threads(App),
    /// hyper, under axum.
    Hyper(SocketAddr, Arc<Counts>),
    /// Reads through io_uring.
    Uring(Uring),
    /// Its access log tells.
    Logs(Process),
    /// One that tells in its answers.
    Teller(Process),
}

/// What an application says that it read.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Seen {
    pub requests: u64,
    /// `None`: this kind of server does not show it.
    pub bytes: Option<u64>,
}

/// A server in a process of its own.
pub struct Process {
    child: Child,
    dir: PathBuf,
    addr: SocketAddr,
    /// Questions that it was asked about itself.
    asked: AtomicU64,
    /// The process that serves.
    worker: u32,
    reads_block: bool,
    /// Whether a thread of it is one that waits for requests.
    waits: fn(process: u32, thread: u32, name: &str) -> bool,
}

#[derive(Default)]
pub struct Counts {
    requests: AtomicU64,
    bytes: AtomicU64,
}

// === impl Server ===

impl Server {
    pub fn threads() -> Server {
        Server::Threads(App::local())
    }

    pub fn hyper() -> Server {
        let counts: Arc<Counts> = Arc::default();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binding");
        listener.set_nonblocking(true).expect("non-blocking");
        let addr = listener.local_addr().expect("address");
        let shared = counts.clone();
        let serve = move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
            runtime.block_on(async {
                let listener =
                    Counting { listener: TcpListener::from_std(listener).expect("listener"), counts: shared };
                let counts = listener.counts.clone();
                let router = Router::new().fallback(move || async move {
                    counts.requests.fetch_add(1, Ordering::SeqCst);
                    "ok\n"
                });
                axum::serve(listener, router).await.expect("serving");
            });
        };
        thread::Builder::new().name(HYPER.to_owned()).spawn(serve).expect("a thread");
        Server::Hyper(addr, counts)
    }

    pub fn io_uring(reads: Reads) -> Server {
        Server::Uring(Uring::start(reads))
    }

    pub fn nginx() -> Server {
        let dir = directory("nginx");
        let addr = SocketAddr::from(([127, 0, 0, 1], free_port().expect("a port")));
        let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {}/{name};\n", dir.display()))
            .concat();
        let config = format!(
            "daemon off;\nmaster_process off;\npid {dir}/pid;\nerror_log {dir}/error.log;\n\
             events {{ worker_connections 1024; }}\nhttp {{\n{temp}keepalive_requests 100000;\n\
             log_format seen '$uri $status $request_length';\naccess_log {dir}/access.log seen;\n\
             server {{ listen {addr} backlog=512; location / {{ return 200 'ok\\n'; }} }}\n}}\n",
            dir = dir.display(),
        );
        let path = dir.join("nginx.conf");
        fs::write(&path, config).expect("a configuration");
        let program =
            ["/usr/sbin/nginx", "/usr/local/sbin/nginx"].into_iter().find(|p| Path::new(p).exists());
        let mut command = Command::new(program.unwrap_or("nginx"));
        command.arg("-p").arg(&dir).arg("-c").arg(&path).args(["-e", "stderr"]).stdout(Stdio::null());
        let child = command.stderr(Stdio::null()).spawn().expect("starting nginx");
        eventually("nginx to listen", Duration::from_secs(10), || {
            std::net::TcpStream::connect(addr).ok().map(drop)
        });
        Server::Logs(Process::listening(child, dir, addr, |process, thread, _| process == thread))
    }

    pub fn node() -> Server {
        let dir = directory("node");
        let mut command = Command::new("node");
        command.arg(source("server.js"));
        Server::Teller(Process::start(command, dir, |process, thread, _| process == thread))
    }

    pub fn python() -> Server {
        let dir = directory("python");
        let mut command = Command::new("python3");
        command.arg(source("server.py"));
        // The main thread looks around every half second; the others belong to connections.
        Server::Teller(Process::start(command, dir, |process, thread, _| process != thread).blocking())
    }

    pub fn java() -> Server {
        let dir = directory("java");
        let mut command = Command::new("java");
        // Its answers come in two writes.
        command.args(["-Xmx64m", "-XX:+UseSerialGC", "-Dsun.net.httpserver.nodelay=true"]);
        command.arg(source("Server.java"));
        Server::Teller(Process::start(command, dir, |_, _, name| name.starts_with("HTTP-Dispatcher")))
    }

    pub fn go() -> Server {
        let dir = directory("go");
        Server::Teller(Process::start(go_program(&dir), dir, |_, _, _| true))
    }

    /// Gives out the files of a directory.
    pub fn go_files(files: &Path) -> Server {
        let dir = directory("go-files");
        let mut command = go_program(&dir);
        command.arg("files").arg(files);
        Server::Teller(Process::start(command, dir, |_, _, _| true))
    }

    /// Passes connections on to another server.
    pub fn go_proxy(to: SocketAddr) -> Server {
        let dir = directory("go-proxy");
        let mut command = go_program(&dir);
        command.arg(to.to_string());
        Server::Teller(Process::start(command, dir, |_, _, _| true))
    }

    pub fn addr(&self) -> SocketAddr {
        match self {
            Server::Threads(app) => app.addr,
            Server::Hyper(addr, _) => *addr,
            Server::Uring(server) => server.addr,
            Server::Logs(process) | Server::Teller(process) => process.addr,
        }
    }

    /// Whether it takes a read that ends for nothing for an error.
    pub fn reads_block(&self) -> bool {
        match self {
            Server::Threads(_) | Server::Uring(_) => true,
            Server::Teller(process) => process.reads_block,
            _ => false,
        }
    }

    /// The process of a server that has one of its own.
    pub fn process(&self) -> Option<u32> {
        match self {
            Server::Threads(_) | Server::Hyper(..) | Server::Uring(_) => None,
            Server::Logs(process) | Server::Teller(process) => Some(process.worker),
        }
    }

    /// What reached it. Where it takes a request to ask, that one is not counted.
    pub fn seen(&self) -> Seen {
        match self {
            Server::Threads(app) => Seen { requests: app.requests(), bytes: Some(app.bytes().len() as u64) },
            Server::Hyper(_, counts) => Seen {
                requests: counts.requests.load(Ordering::SeqCst),
                bytes: Some(counts.bytes.load(Ordering::SeqCst)),
            },
            Server::Uring(server) => server.seen(),
            Server::Logs(process) => process.logged(),
            Server::Teller(process) => process.told(),
        }
    }

    /// How often the threads that wait for requests went to sleep: once more each time that they are woken.
    pub fn sleeps(&self) -> u64 {
        let counted = match self {
            // A read that finds nothing is an error of this server.
            Server::Threads(app) => return app.errors() + app.woken(),
            Server::Hyper(..) => switches(std::process::id(), |_, _, name| name == HYPER),
            // Threads of the kernel's own, in which some reads wait, come and go.
            Server::Uring(_) => switches(std::process::id(), |_, _, name| name == uring::THREAD),
            Server::Logs(process) | Server::Teller(process) => switches(process.worker, process.waits),
        };
        counted.expect("its threads")
    }
}

// === impl Process ===

impl Process {
    /// Starts one that prints `port N`.
    fn start(mut command: Command, dir: PathBuf, waits: fn(u32, u32, &str) -> bool) -> Process {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("starting the server");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("its port");
        let port = line.trim().strip_prefix("port ").and_then(|port| port.parse().ok());
        let Some(port) = port else {
            drop((child.kill(), child.wait()));
            panic!("the server printed {line:?}");
        };
        Process::listening(child, dir, SocketAddr::from(([127, 0, 0, 1], port)), waits)
    }

    /// One that listens.
    pub fn listening(
        child: Child,
        dir: PathBuf,
        addr: SocketAddr,
        waits: fn(u32, u32, &str) -> bool,
    ) -> Process {
        let worker = child.id();
        Process { child, dir, addr, asked: AtomicU64::new(0), worker, reads_block: false, waits }
    }

    /// The same, of which another process serves.
    pub fn at_work(mut self, worker: u32) -> Process {
        self.worker = worker;
        self
    }

    /// The same, with reads that block.
    pub fn blocking(mut self) -> Process {
        self.reads_block = true;
        self
    }

    /// `requests N bytes N` of an answer.
    fn told(&self) -> Seen {
        let body = self.ask();
        let number = |name| {
            let mut words = body.split_whitespace().skip_while(|word| *word != name);
            words.nth(1).map(|n| n.parse::<u64>().expect("a number"))
        };
        self.others(number("requests").expect("requests"), number("bytes"))
    }

    /// Lines of the log, when the question's is there and no other comes: threads may log what they answered before later.
    fn logged(&self) -> Seen {
        let log = || fs::read_to_string(self.dir.join("access.log")).unwrap_or_default();
        let questions = |text: &str| text.lines().filter(|line| line.starts_with(QUESTION)).count() as u64;
        self.ask();
        let mut last = String::new();
        let text = eventually("the log to be written", Duration::from_secs(5), || {
            let before = std::mem::replace(&mut last, log());
            thread::sleep(Duration::from_millis(10));
            (before == last && questions(&last) == self.asked.load(Ordering::SeqCst)).then(|| last.clone())
        });
        let answered = text.lines().filter_map(|line| Some(line.split_once(" 200 ")?.1));
        // `-`: it does not count them.
        self.others(answered.clone().count() as u64, answered.map(|bytes| bytes.parse::<u64>().ok()).sum())
    }

    /// Asks the question; the answer's body.
    fn ask(&self) -> String {
        self.asked.fetch_add(1, Ordering::SeqCst);
        once(self.addr, get(QUESTION, None)).body
    }

    /// What it read without the questions.
    fn others(&self, requests: u64, bytes: Option<u64>) -> Seen {
        let asked = self.asked.load(Ordering::SeqCst);
        let length = get(QUESTION, None).len() as u64;
        Seen { requests: requests - asked, bytes: bytes.map(|bytes| bytes - asked * length) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.worker != self.child.id() {
            // SAFETY: no memory is involved. It was made by the child, which has not waited for it and lives.
            unsafe { libc::kill(self.worker.cast_signed(), libc::SIGKILL) };
        }
        drop((self.child.kill(), self.child.wait()));
        drop(fs::remove_dir_all(&self.dir));
    }
}

/// That of `server.go`, built unless somebody else has.
fn go_program(dir: &Path) -> Command {
    if let Some(built) = env::var_os(GO_SERVER) {
        return Command::new(built);
    }
    let program = dir.join("server");
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go");
    let mut build = Command::new("go");
    build.arg("build").arg("-o").arg(&program).arg(source("server.go"));
    build.env("GOCACHE", cache).env("GO111MODULE", "off").env("CGO_ENABLED", "0");
    assert!(build.status().expect("starting go").success(), "go build");
    Command::new(program)
}

/// The thread of the server in this process.
const HYPER: &str = "hyper";
/// An open path.
const QUESTION: &str = "/health";

/// How often threads of a process gave up the CPU by themselves: those that `waits` picks.
fn switches(process: u32, waits: impl Fn(u32, u32, &str) -> bool) -> io::Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let path = task?.path();
        // A thread may end while it is looked at.
        let Ok(status) = fs::read_to_string(path.join("status")) else { continue };
        let field = |name: &str| status.lines().find_map(|line| Some(line.strip_prefix(name)?.trim()));
        let thread = field("Pid:").and_then(|n| n.parse().ok()).unwrap_or_default();
        if waits(process, thread, field("Name:").unwrap_or_default()) {
            let count = field("voluntary_ctxt_switches:").and_then(|n| n.parse::<u64>().ok());
            sum += count.unwrap_or_default();
        }
    }
    Ok(sum)
}

/// A file beside these tests.
pub fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/live/servers").join(name)
}

/// A directory of this process.
pub fn directory(name: &str) -> PathBuf {
    let dir = env::temp_dir().join(format!("portcullis-{name}-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a directory");
    dir
}

/// hyper's view of a socket, counted.
struct Counting {
    listener: TcpListener,
    counts: Arc<Counts>,
}

struct Counted {
    stream: TcpStream,
    counts: Arc<Counts>,
}

// === impl Counting ===

impl axum::serve::Listener for Counting {
    type Io = Counted;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Counted, SocketAddr) {
        let (stream, addr) = axum::serve::Listener::accept(&mut self.listener).await;
        (Counted { stream, counts: self.counts.clone() }, addr)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

// === impl Counted ===

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = to.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, to);
        self.counts.bytes.fetch_add((to.filled().len() - before) as u64, Ordering::SeqCst);
        result
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
