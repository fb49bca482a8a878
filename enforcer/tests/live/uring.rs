//! A server on io_uring: accepts, reads and answers through its ring, on sockets that block, as such servers have them.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::{io, thread};

use io_uring::squeue::Entry;
use io_uring::types::Fd;
use io_uring::{IoUring, cqueue, opcode};

use crate::app::take;
use crate::servers::Seen;

/// How the server reads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reads {
    /// One RECV at a time.
    Recv,
    /// One RECV that goes on, into buffers that the ring picks.
    Multishot,
    /// READ, as of a file.
    Read,
}

/// A running server. It takes the end of the stream, and a read that fails with EAGAIN, for the end of a head of which
/// it holds a part, as some do.
pub struct Uring {
    pub addr: SocketAddr,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    bytes: AtomicU64,
    failures: Mutex<Vec<i32>>,
}

// === impl Uring ===

impl Uring {
    pub fn start(reads: Reads) -> Uring {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binding");
        let addr = listener.local_addr().expect("address");
        let counts: Arc<Counts> = Arc::default();
        let shared = counts.clone();
        thread::Builder::new()
            .name(THREAD.to_owned())
            .spawn(move || Ring::new(listener, reads, shared).serve())
            .expect("a thread");
        Uring { addr, counts }
    }

    pub fn seen(&self) -> Seen {
        Seen {
            requests: self.counts.requests.load(Ordering::SeqCst),
            bytes: Some(self.counts.bytes.load(Ordering::SeqCst)),
        }
    }

    /// Errors that reads and writes ended with.
    pub fn failures(&self) -> Vec<i32> {
        self.counts.failures.lock().expect("no thread panicked").clone()
    }
}

/// Whether a thread of this name is the server's, or one that the kernel made for its ring.
pub fn is_its_thread(name: &str) -> bool {
    name == THREAD || name.starts_with("iou-")
}

/// The name of the thread that waits for completions.
pub const THREAD: &str = "uring";
/// Bytes of a read.
const CHUNK: usize = 16_384;
/// Buffers that the ring picks from, and the name of their group.
const BUFFERS: usize = 64;
const GROUP: u16 = 1;

/// What an operation's user data says; the rest of it is the connection's number.
const ACCEPT: u64 = 0;
const READ: u64 = 1;
const WRITE: u64 = 2;
const PROVIDE: u64 = 3;

struct Ring {
    ring: IoUring,
    listener: TcpListener,
    reads: Reads,
    counts: Arc<Counts>,
    connections: HashMap<u64, Connection>,
    next: u64,
    /// What the ring picks from.
    buffers: Vec<u8>,
}

struct Connection {
    socket: OwnedFd,
    /// Where a read puts what it reads, when the ring does not pick.
    chunk: Vec<u8>,
    /// What was read and is no whole request yet.
    held: Vec<u8>,
    /// What is being written, how much of it was, and what comes behind it.
    writing: Option<(Vec<u8>, usize)>,
    queued: Vec<u8>,
    /// Nothing is read any more.
    ended: bool,
}

// === impl Ring ===

impl Ring {
    fn new(listener: TcpListener, reads: Reads, counts: Arc<Counts>) -> Ring {
        Ring {
            ring: IoUring::new(256).expect("a ring"),
            listener,
            reads,
            counts,
            connections: HashMap::new(),
            next: 0,
            buffers: vec![0; BUFFERS * CHUNK],
        }
    }

    fn serve(mut self) {
        for n in 0..BUFFERS {
            self.provide(n as u16);
        }
        self.accept();
        loop {
            match self.ring.submit_and_wait(1) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                submitted => submitted.expect("submitting"),
            };
            let done: Vec<cqueue::Entry> = self.ring.completion().collect();
            for entry in done {
                let connection = entry.user_data() >> 8;
                match entry.user_data() & 255 {
                    ACCEPT => self.accepted(entry.result()),
                    READ => self.read(connection, entry.result(), entry.flags()),
                    WRITE => self.wrote(connection, entry.result()),
                    _ => assert!(entry.result() >= 0, "providing a buffer: {}", entry.result()),
                }
            }
        }
    }

    fn push(&mut self, entry: Entry, kind: u64, connection: u64) {
        let entry = entry.user_data(connection << 8 | kind);
        // SAFETY: what the entries point to is the heap's, and is kept in `self` until they complete.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.ring.submit().expect("submitting");
        }
    }

    fn accept(&mut self) {
        let entry = opcode::Accept::new(Fd(self.listener.as_raw_fd()), null_mut(), null_mut());
        self.push(entry.flags(libc::SOCK_CLOEXEC).build(), ACCEPT, 0);
    }

    fn accepted(&mut self, result: i32) {
        assert!(result >= 0, "accept: {result}");
        // SAFETY: accept made this descriptor, and nothing else owns it.
        let socket = unsafe { OwnedFd::from_raw_fd(result) };
        self.next += 1;
        let connection = Connection {
            socket,
            chunk: vec![0; CHUNK],
            held: Vec::new(),
            writing: None,
            queued: Vec::new(),
            ended: false,
        };
        self.connections.insert(self.next, connection);
        self.start_read(self.next);
        self.accept();
    }

    fn provide(&mut self, n: u16) {
        let start = &raw mut self.buffers[usize::from(n) * CHUNK];
        let entry = opcode::ProvideBuffers::new(start, CHUNK as i32, 1, GROUP, n).build();
        self.push(entry, PROVIDE, 0);
    }

    fn start_read(&mut self, n: u64) {
        let Some(connection) = self.connections.get_mut(&n) else { return };
        let (fd, chunk) = (Fd(connection.socket.as_raw_fd()), connection.chunk.as_mut_ptr());
        let entry = match self.reads {
            Reads::Recv => opcode::Recv::new(fd, chunk, CHUNK as u32).build(),
            Reads::Multishot => opcode::RecvMulti::new(fd, GROUP).build(),
            Reads::Read => opcode::Read::new(fd, chunk, CHUNK as u32).build(),
        };
        self.push(entry, READ, n);
    }

    fn read(&mut self, n: u64, result: i32, flags: u32) {
        let Some(connection) = self.connections.get_mut(&n) else { return };
        let picked = cqueue::buffer_select(flags);
        let length = usize::try_from(result).unwrap_or(0);
        let bytes = match picked {
            Some(buffer) => &self.buffers[usize::from(buffer) * CHUNK..][..length],
            None => &connection.chunk[..length],
        };
        self.counts.bytes.fetch_add(length as u64, Ordering::SeqCst);
        connection.held.extend(bytes);
        if let Some(buffer) = picked {
            self.provide(buffer);
        }
        // Another connection has the last buffer: its own comes back with this round.
        let again = result > 0 || result == -libc::ENOBUFS;
        if again {
            self.answer(n);
        } else {
            self.ended(n, result);
        }
        if again && !cqueue::more(flags) {
            self.start_read(n);
        }
    }

    /// Takes whole requests off what was read.
    fn answer(&mut self, n: u64) {
        let Some(connection) = self.connections.get_mut(&n) else { return };
        while let Some(request) = take(&mut connection.held) {
            self.counts.requests.fetch_add(1, Ordering::SeqCst);
            let body = format!("{} bytes\n", request.body);
            let length = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            connection.queued.extend(length.into_bytes());
            connection.queued.extend(body.into_bytes());
        }
        self.start_write(n);
    }

    /// Nothing more is read: what is held may count as a request.
    fn ended(&mut self, n: u64, result: i32) {
        if result != 0 {
            self.counts.failures.lock().expect("no thread panicked").push(-result);
        }
        let Some(connection) = self.connections.get_mut(&n) else { return };
        if matches!(-result, 0 | libc::EAGAIN) && !connection.held.is_empty() {
            self.counts.requests.fetch_add(1, Ordering::SeqCst);
        }
        connection.ended = true;
        self.start_write(n);
    }

    fn start_write(&mut self, n: u64) {
        let Some(connection) = self.connections.get_mut(&n) else { return };
        if connection.writing.is_none() && !connection.queued.is_empty() {
            connection.writing = Some((std::mem::take(&mut connection.queued), 0));
        } else if connection.writing.is_none() && connection.ended {
            self.connections.remove(&n);
        } else {
            return;
        }
        self.go_on_writing(n);
    }

    fn go_on_writing(&mut self, n: u64) {
        let Some(connection) = self.connections.get(&n) else { return };
        let Some((bytes, written)) = &connection.writing else { return };
        let rest = &bytes[*written..];
        let entry = opcode::Send::new(Fd(connection.socket.as_raw_fd()), rest.as_ptr(), rest.len() as u32);
        self.push(entry.flags(libc::MSG_NOSIGNAL).build(), WRITE, n);
    }

    fn wrote(&mut self, n: u64, result: i32) {
        let Some(connection) = self.connections.get_mut(&n) else { return };
        let Ok(more) = usize::try_from(result) else {
            self.counts.failures.lock().expect("no thread panicked").push(-result);
            (connection.writing, connection.queued) = (None, Vec::new());
            return self.start_write(n);
        };
        if let Some((bytes, written)) = &mut connection.writing {
            *written += more;
            if *written < bytes.len() {
                return self.go_on_writing(n);
            }
        }
        connection.writing = None;
        self.start_write(n);
    }
}
