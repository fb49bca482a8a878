//! Applications: servers that note what they read.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use portcullis_testkit::emulated;

/// How a connection is served.
#[derive(Clone, Copy, Default)]
pub struct Manner {
    /// Reads on after a wake-up for nothing.
    pub patient: bool,
    /// Its reads do not block.
    pub nonblocking: bool,
    /// How long after it has accepted it sees to that.
    pub sets_after: Duration,
    /// How long it works on a request whose path begins with `/slow`, and how long it keeps a connection open after the
    /// client's end.
    pub pause: Duration,
}

impl Manner {
    pub fn nonblocking() -> Manner {
        Manner { patient: true, nonblocking: true, ..Manner::default() }
    }
}

/// One thread for a connection, blocking reads: the kind of server that a spurious wake-up breaks.
pub struct App {
    pub addr: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    requests: AtomicU64,
    errors: AtomicU64,
    /// Reads that ended for nothing and were repeated.
    woken: AtomicU64,
    /// Requests whose head has no Authorization field.
    anonymous: AtomicU64,
    bytes: Mutex<Vec<u8>>,
}

impl App {
    pub fn start(addr: &str) -> App {
        App::serve(TcpListener::bind(addr).expect("binding the application"))
    }

    pub fn local() -> App {
        App::start("127.0.0.1:0")
    }

    /// One that reads on after a wake-up for nothing, as servers on epoll do: what it takes to be sure of the reply when
    /// the kernel answers alone.
    pub fn patient() -> App {
        App::mannered(Manner { patient: true, ..Manner::default() })
    }

    /// One whose reads do not block.
    pub fn nonblocking() -> App {
        App::mannered(Manner::nonblocking())
    }

    /// The same at an address.
    pub fn polling(addr: &str) -> App {
        let listener = TcpListener::bind(addr).expect("binding the application");
        App::run(listener, Manner::nonblocking())
    }

    pub fn mannered(manner: Manner) -> App {
        App::run(TcpListener::bind("127.0.0.1:0").expect("binding the application"), manner)
    }

    pub fn serve(listener: TcpListener) -> App {
        App::run(listener, Manner::default())
    }

    fn run(listener: TcpListener, manner: Manner) -> App {
        let addr = listener.local_addr().expect("address");
        let seen: Arc<Seen> = Arc::default();
        let shared = seen.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = shared.clone();
                // Not set in the call that accepts: what comes in between finds a socket that blocks.
                thread::sleep(manner.sets_after);
                stream.set_nonblocking(manner.nonblocking).expect("blocking or not");
                thread::spawn(move || {
                    if connection(stream, manner, &seen).is_err() {
                        seen.errors.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        App { addr, seen }
    }

    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// Complete requests that it read.
    pub fn requests(&self) -> u64 {
        self.seen.requests.load(Ordering::SeqCst)
    }

    /// Complete requests without Authorization that it read.
    pub fn anonymous(&self) -> u64 {
        self.seen.anonymous.load(Ordering::SeqCst)
    }

    /// Reads or writes that failed.
    pub fn errors(&self) -> u64 {
        self.seen.errors.load(Ordering::SeqCst)
    }

    /// Reads that ended for nothing, where those are repeated.
    pub fn woken(&self) -> u64 {
        self.seen.woken.load(Ordering::SeqCst)
    }

    /// All bytes that it read, in the order of its reads.
    pub fn bytes(&self) -> Vec<u8> {
        self.seen.bytes.lock().expect("no thread panicked").clone()
    }
}

fn connection(mut stream: TcpStream, manner: Manner, seen: &Seen) -> io::Result<()> {
    let mut continued = false;
    let mut buffer = Vec::new();
    let mut chunk = vec![0; 65_536];
    loop {
        let read = match stream.read(&mut chunk) {
            Err(error) if manner.patient && error.kind() == io::ErrorKind::WouldBlock => {
                await_readable(&stream)?;
                continue;
            }
            // There it happens now and then (docs/KERNELS.md), and is not what most tests are about.
            Err(error) if emulated() && error.kind() == io::ErrorKind::WouldBlock => {
                seen.woken.fetch_add(1, Ordering::SeqCst);
                continue;
            }
            read => read?,
        };
        if read == 0 {
            thread::sleep(manner.pause);
            return Ok(());
        }
        seen.bytes.lock().expect("no thread panicked").extend(&chunk[..read]);
        buffer.extend(&chunk[..read]);
        while let Some(request) = take(&mut buffer) {
            seen.requests.fetch_add(1, Ordering::SeqCst);
            continued = false;
            let head = request.head.to_ascii_lowercase();
            if !head.contains("\r\nauthorization:") {
                seen.anonymous.fetch_add(1, Ordering::SeqCst);
            }
            if head.contains(" /slow") {
                thread::sleep(manner.pause);
            }
            let body = format!("{} bytes\n", request.body);
            let mut response = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            if !head.starts_with("head ") {
                response += &body;
            }
            stream.write_all(response.as_bytes())?;
            if head.lines().next().is_some_and(|line| line.ends_with("http/1.0")) {
                return Ok(());
            }
        }
        if !continued && find(&buffer, b"\r\nExpect: 100-continue\r\n").is_some() {
            continued = true;
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
    }
}

/// Waits until a read returns something.
pub fn await_readable(stream: &TcpStream) -> io::Result<()> {
    let mut poll = libc::pollfd { fd: stream.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: the structure lives through the call, and it is one.
    match unsafe { libc::poll(&mut poll, 1, -1) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

pub struct Request {
    pub head: String,
    pub body: usize,
}

/// The first complete request of the buffer: enough of HTTP for the tests' own requests.
pub fn take(buffer: &mut Vec<u8>) -> Option<Request> {
    let end = find(buffer, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let lower = head.to_ascii_lowercase();
    let (body, len) = if lower.contains("\r\ntransfer-encoding: chunked\r\n") {
        let rest = &buffer[end..];
        let last = if rest.starts_with(b"0\r\n") { 0 } else { find(rest, b"\r\n0\r\n")? + 2 };
        let stop = last + find(&rest[last..], b"\r\n\r\n")? + 4;
        (stop, stop)
    } else {
        let len =
            lower.split("\r\ncontent-length: ").nth(1).and_then(|v| v.lines().next()?.trim().parse().ok());
        (len.unwrap_or(0), len.unwrap_or(0))
    };
    if buffer.len() < end + len {
        return None;
    }
    buffer.drain(..end + len);
    Some(Request { head, body })
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
