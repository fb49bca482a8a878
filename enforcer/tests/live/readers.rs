//! Ways to read other than a plain one: what is allowed is served with each, and nothing else is read.

use std::fs;
use std::io::{self, IoSliceMut, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use portcullis_testkit::{emulated, eventually, need};
use portcullis_wire::Mode;

use crate::app::{App, take};
use crate::client::{Client, get, once};
use crate::fragments::is_readable;
use crate::servers::Server;
use crate::world::{World, policy};

/// Reads something into the buffer, in one way or another; how much. 0 is the end.
type How = fn(&mut TcpStream, &mut Vec<u8>) -> io::Result<usize>;

/// A server with a thread and a blocking socket for each connection.
struct Reader {
    addr: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    requests: usize,
    bytes: Vec<u8>,
    errors: Vec<io::ErrorKind>,
}

// === impl Reader ===

impl Reader {
    fn start(how: How) -> Reader {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binding");
        let reader = Reader { addr: listener.local_addr().expect("address"), seen: Arc::default() };
        let seen = reader.seen.clone();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let seen = seen.clone();
                thread::spawn(move || {
                    if let Err(error) = serve(&mut stream, how, &seen) {
                        seen.lock().expect("no thread panicked").errors.push(error.kind());
                    }
                });
            }
        });
        reader
    }

    fn seen(&self) -> Seen {
        self.seen.lock().expect("no thread panicked").clone()
    }
}

fn serve(stream: &mut TcpStream, how: How, seen: &Mutex<Seen>) -> io::Result<()> {
    let mut held = Vec::new();
    loop {
        let before = held.len();
        match how(stream, &mut held) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            // There a read ends for nothing now and then (docs/KERNELS.md).
            Err(error) if emulated() && error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        let mut requests = 0;
        {
            let mut seen = seen.lock().expect("no thread panicked");
            seen.bytes.extend(&held[before..]);
            while take(&mut held).is_some() {
                requests += 1;
            }
            seen.requests += requests;
        }
        stream.write_all("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".repeat(requests).as_bytes())?;
    }
}

/// Requests of several kinds, from before `accept` on, against a server that reads in one way.
fn suite(name: &str, how: How) {
    let mut world = World::new(name);
    world.expect_agent_mode();
    let server = Reader::start(how);
    world.apply(vec![policy(server.addr.port(), Mode::Enforce)]);
    let token = world.role("reader");
    let good = get("/a", Some(&token));
    let post = format!(
        "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\nAuthorization: Bearer {token}\r\n\r\n{}",
        "x".repeat(5000)
    );
    let bad = get("/a", None);
    let mut sent = 0;
    for n in 0..20 {
        let mut client = Client::connect(server.addr);
        if n % 2 == 0 {
            thread::sleep(Duration::from_millis(2));
        }
        for piece in [good.len(), 300, post.len(), 2000] {
            let request = if piece > 1000 { &post } else { &good };
            for piece in request.as_bytes().chunks(piece) {
                client.send(piece);
                thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(client.response().expect("an answer").status, 200, "{:?}", server.seen().errors);
            assert_eq!(client.ask(&bad).status, 401);
            sent += request.len();
        }
        client.send(&bad[..20]);
        // One that is denied from the start.
        assert_eq!(Client::connect(server.addr).ask(&bad).status, 401);
    }
    let mut seen = server.seen();
    // The client may have gone first.
    let ends = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset, io::ErrorKind::ConnectionAborted];
    seen.errors.retain(|kind| !ends.contains(kind));
    assert_eq!((seen.requests, seen.bytes.len(), seen.errors), (80, sent, vec![]));
}

/// recv(2), and what is new goes behind what is in the buffer.
fn recv(stream: &TcpStream, held: &mut Vec<u8>, room: usize, flags: i32) -> io::Result<usize> {
    let mut chunk = vec![0; room];
    // SAFETY: the buffer lives through the call, and its size is passed.
    let read = unsafe { libc::recv(stream.as_raw_fd(), chunk.as_mut_ptr().cast(), room, flags) };
    let read = usize::try_from(read).map_err(|_| io::Error::last_os_error())?;
    held.extend(&chunk[..read]);
    Ok(read)
}

fn option(stream: &TcpStream, level: i32, name: i32, value: i32) {
    // SAFETY: the value lives through the call, and its size is passed.
    let set = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
}

/// Looks first, and reads what it saw.
#[test]
fn a_server_that_peeks() {
    need!(Bpf, BpfFs, Cgroup2);
    suite("peek", |stream, held| {
        let mut peeked = Vec::new();
        recv(stream, &mut peeked, 4096, libc::MSG_PEEK)?;
        let (start, mut again) = (held.len(), Vec::new());
        recv(stream, &mut again, peeked.len(), libc::MSG_PEEK)?;
        let read = recv(stream, held, peeked.len(), 0)?;
        let same = held[start..] == peeked && again == peeked;
        if same { Ok(read) } else { Err(io::Error::other("another thing than was peeked")) }
    });
}

#[test]
fn a_server_that_reads_into_several_buffers() {
    need!(Bpf, BpfFs, Cgroup2);
    suite("readv", |stream, held| {
        let (mut small, mut large) = ([0; 100], [0; 4096]);
        let read = stream.read_vectored(&mut [IoSliceMut::new(&mut small), IoSliceMut::new(&mut large)])?;
        held.extend([&small[..], &large[..]].concat().iter().take(read));
        Ok(read)
    });
}

#[test]
fn a_server_that_receives_several_messages() {
    need!(Bpf, BpfFs, Cgroup2);
    suite("recvmmsg", |stream, held| {
        let mut chunks = [[0_u8; 300]; 4];
        let mut vectors =
            chunks.each_mut().map(|c| libc::iovec { iov_base: c.as_mut_ptr().cast(), iov_len: c.len() });
        let mut messages = vectors.each_mut().map(|vector| {
            // SAFETY: mmsghdr is plain data for which all-zero is valid.
            let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
            (message.msg_hdr.msg_iov, message.msg_hdr.msg_iovlen) = (vector, 1);
            message
        });
        let (fd, flags) = (stream.as_raw_fd(), libc::MSG_WAITFORONE);
        // SAFETY: headers, vectors and chunks live through the call, and the number of headers is passed.
        let got = unsafe { libc::recvmmsg(fd, messages.as_mut_ptr(), 4, flags as _, std::ptr::null_mut()) };
        let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
        let mut read = 0;
        for (chunk, message) in chunks.iter().zip(messages).take(got) {
            held.extend(&chunk[..message.msg_len as usize]);
            read += message.msg_len as usize;
        }
        Ok(read)
    });
}

/// Wants more bytes than there ever are: MSG_WAITALL would wait for them, on a connection that is not under control.
#[test]
fn a_server_that_waits_for_all() {
    need!(Bpf, BpfFs, Cgroup2);
    suite("waitall", |stream, held| recv(stream, held, 65_536, libc::MSG_WAITALL));
}

/// What is below the mark is decided when the rest comes.
#[test]
fn a_server_with_a_low_water_mark() {
    need!(Bpf, BpfFs, Cgroup2);
    suite("lowat", |stream, held| {
        option(stream, libc::SOL_SOCKET, libc::SO_RCVLOWAT, 30);
        recv(stream, held, 4096, 0)
    });
}

/// A read that waits for a time is told EAGAIN after it, and not at once.
#[test]
fn a_server_whose_reads_time_out() {
    need!(Bpf, BpfFs, Cgroup2);
    suite("timeout", |stream, held| {
        let limit = Duration::from_millis(20);
        stream.set_read_timeout(Some(limit))?;
        loop {
            let start = Instant::now();
            match recv(stream, held, 4096, 0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && start.elapsed() >= limit / 2 => {}
                other => return other,
            }
        }
    });
}

/// One thread that waits for all connections and then reads with a call that blocks.
fn selecting(listener: TcpListener, seen: &Mutex<Seen>) -> io::Result<()> {
    let mut clients: Vec<TcpStream> = Vec::new();
    loop {
        // SAFETY: fd_set is plain data for which all-zero is the empty set.
        let mut ready: libc::fd_set = unsafe { std::mem::zeroed() };
        let all: Vec<i32> = clients.iter().map(AsRawFd::as_raw_fd).chain([listener.as_raw_fd()]).collect();
        // SAFETY: a live set, and descriptors of a test's process are below 1024.
        all.iter().for_each(|fd| unsafe { libc::FD_SET(*fd, &mut ready) });
        let none = std::ptr::null_mut();
        let limit = all.iter().max().expect("the listener") + 1;
        // SAFETY: the set lives through the call.
        if unsafe { libc::select(limit, &mut ready, none, none, none.cast()) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the same.
        let is_ready = |fd: i32| unsafe { libc::FD_ISSET(fd, &ready) };
        let accept = is_ready(listener.as_raw_fd());
        clients.retain_mut(|client| {
            let mut held = Vec::new();
            if !is_ready(client.as_raw_fd()) {
                return true;
            }
            match recv(client, &mut held, 4096, 0) {
                Ok(1..) => {
                    let mut seen = seen.lock().expect("no thread panicked");
                    seen.bytes.extend(&held);
                    seen.requests += 1;
                    client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_ok()
                }
                _ => false,
            }
        });
        if accept {
            clients.push(listener.accept()?.0);
        }
    }
}

/// Denials do not make such a server wait. Half a head does, until it is whole or cut off: a limit.
#[test]
fn a_server_that_selects_and_then_reads() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::with("select", |config| config.head_within = Duration::from_secs(1));
    world.expect_agent_mode();
    let listener = TcpListener::bind("127.0.0.1:0").expect("binding");
    let addr = listener.local_addr().expect("address");
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let shared = seen.clone();
    thread::spawn(move || selecting(listener, &shared).expect("selecting"));
    world.apply(vec![policy(addr.port(), Mode::Enforce)]);
    let (good, bad) = (get("/a", Some(&world.role("reader"))), get("/a", None));
    let (mut denied, mut other) = (Client::connect(addr), Client::connect(addr));
    // Both are accepted: see below.
    assert_eq!((denied.ask(&good).status, other.ask(&good).status), (200, 200));
    for _ in 0..100 {
        // A server that is about to sleep can see the request in TCP's queue (docs/KERNELS.md): it sleeps by then.
        thread::sleep(Duration::from_millis(20));
        assert_eq!(denied.ask(&bad).status, 401);
        assert_eq!(other.ask(&good).status, 200);
    }
    assert_eq!(denied.ask(&good).status, 200);
    let (part, rest) = good.split_at(30);
    for finished in [true, false] {
        let mut half = Client::connect(addr);
        assert_eq!(half.ask(&good).status, 200);
        half.send(part);
        thread::sleep(Duration::from_millis(20));
        other.send(&good);
        if finished {
            half.send(rest);
            assert_eq!(half.response().expect("an answer").status, 200);
        }
        assert_eq!(other.response().expect("an answer").status, 200, "finished {finished}");
    }
    let seen = seen.lock().expect("no thread panicked").clone();
    assert_eq!((seen.requests, seen.bytes.len()), (108, 108 * good.len()));
}

/// What came before `accept` is decided by the first read. When that has taken a denied request off, the kernel forgets that
/// it did (tcp_bpf_recvmsg_parser writes `copied_seq` as it was when it began): the socket would show as readable for ever,
/// and a server that polls by level would go round in circles. What comes later shows as ever.
#[test]
fn a_denied_request_from_before_accept_is_gone_once_it_is_decided() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("early");
    world.expect_agent_mode();
    let listener = TcpListener::bind("127.0.0.1:0").expect("binding");
    let addr = listener.local_addr().expect("address");
    world.apply(vec![policy(addr.port(), Mode::Enforce)]);
    let (good, bad) = (get("/a", Some(&world.role("reader"))), get("/a", None));
    for denied in [1, 2, 5] {
        let mut client = Client::connect(addr);
        client.send(&bad);
        thread::sleep(Duration::from_millis(50));
        let mut stream = listener.accept().expect("a connection").0;
        assert!(is_readable(&stream));
        stream.set_nonblocking(true).expect("not blocking");
        let error = recv(&stream, &mut Vec::new(), 4096, 0).expect_err("nothing was allowed");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(client.response().expect("a denial").status, 401);
        let quiet = |stream: &TcpStream| {
            eventually("nothing to read", Duration::from_secs(1), || (!is_readable(stream)).then_some(()));
        };
        quiet(&stream);
        for _ in 1..denied {
            assert_eq!(client.ask(&bad).status, 401);
            quiet(&stream);
        }
        // Of one byte, of many, and in parts.
        let body = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n".to_owned();
        let body = body + good.split_once("\r\n").expect("lines").1.split_once("\r\n").expect("lines").1;
        for pieces in [vec![&*good], vec![&*body, "x"], vec![&good[..9], &good[9..]], vec![&*good]] {
            let mut held = Vec::new();
            for piece in &pieces {
                client.send(piece);
                eventually("something to read", Duration::from_secs(1), || {
                    is_readable(&stream).then_some(())
                });
                recv(&stream, &mut held, 4096, 0).expect("what shows can be read");
                assert!(!is_readable(&stream));
            }
            assert_eq!(held, pieces.concat().as_bytes());
            stream.write_all(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n").expect("answering");
            assert_eq!(client.response().expect("an answer").status, 204);
            assert_eq!(client.ask(&bad).status, 401);
            quiet(&stream);
        }
        drop(client);
        eventually("the end", Duration::from_secs(1), || is_readable(&stream).then_some(()));
        assert_eq!(stream.read(&mut [0; 64]).expect("the end"), 0);
    }
}

/// The same, by what it costs a server that is busy when its clients come.
#[test]
fn denied_requests_from_before_accept_keep_no_server_busy() {
    need!(Bpf, BpfFs, Cgroup2, Tool("node"));
    let mut world = World::new("busy");
    let server = Server::node();
    let process = server.process().expect("node is a process");
    world.apply(vec![policy(server.addr().port(), Mode::Enforce)]);
    // SAFETY: integers only; the process is ours and not reaped yet.
    let signal = |signal| assert_eq!(unsafe { libc::kill(process as i32, signal) }, 0);
    signal(libc::SIGSTOP);
    let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(server.addr())).collect();
    clients.iter_mut().for_each(|client| client.send(get("/a", None)));
    signal(libc::SIGCONT);
    clients.iter_mut().for_each(|client| assert_eq!(client.response().expect("a denial").status, 401));
    let on_cpu = || {
        let times = fs::read_to_string(format!("/proc/{process}/schedstat")).expect("its times");
        Duration::from_nanos(times.split(' ').next().and_then(|ns| ns.parse().ok()).expect("nanoseconds"))
    };
    thread::sleep(Duration::from_millis(1500));
    let start = on_cpu();
    thread::sleep(Duration::from_secs(1));
    let took = on_cpu() - start;
    assert!(took < Duration::from_millis(100), "{took:?} of a second on a CPU, for nothing");
}

/// What takes from TCP's own queue: what came before `accept` undecided, and of the rest nothing.
fn is_refused(name: &str, around: fn(&TcpStream) -> io::Result<usize>) {
    let mut world = World::new(name);
    let [listener, open] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("binding"));
    let addr = listener.local_addr().expect("address");
    let (good, bad) = (get("/a", Some(&world.role("reader"))), get("/a", None));
    let refused = |stream: &TcpStream| {
        let error = around(stream).expect_err("what goes around the programs");
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    };
    for mode in [Mode::Enforce, Mode::Monitor] {
        world.apply(vec![policy(addr.port(), mode)]);
        for early in [true, false] {
            let mut client = Client::connect(addr);
            let mut accepted = None;
            if !early {
                accepted = Some(listener.accept().expect("a connection").0);
            }
            client.send(&good);
            thread::sleep(Duration::from_millis(50));
            let mut stream = accepted.unwrap_or_else(|| listener.accept().expect("a connection").0);
            refused(&stream);
            assert_eq!(recv(&stream, &mut Vec::new(), 4096, 0).expect("a request"), good.len());
            stream.write_all(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n").expect("answering");
            assert_eq!(client.response().expect("an answer").status, 204);
            client.send(&bad);
            thread::sleep(Duration::from_millis(50));
            refused(&stream);
        }
    }
    world.apply(vec![policy(addr.port(), Mode::Enforce)]);
    let early = |listener: &TcpListener| {
        let mut client = Client::connect(listener.local_addr().expect("address"));
        client.send(&bad);
        thread::sleep(Duration::from_millis(50));
        (client, listener.accept().expect("a connection").0)
    };
    assert_eq!(around(&early(&open).1).expect("a port that is not protected"), bad.len());
    drop(world.datapath.take());
    refused(&early(&listener).1);
    world.restart();
    refused(&early(&listener).1);
    world.datapath.take().expect("running").detach().expect("detached");
    assert_eq!(around(&early(&listener).1).expect("no protection any more"), bad.len());
}

#[test]
fn a_splice_is_refused() {
    need!(Bpf, BpfFs, Cgroup2, BpfLsm);
    is_refused("splice", splice);
}

/// It splices when it writes to a pipe.
#[test]
fn a_sendfile_to_a_pipe_is_refused() {
    need!(Bpf, BpfFs, Cgroup2, BpfLsm);
    is_refused("sendfile", sendfile);
}

#[test]
fn a_receive_without_a_copy_is_refused() {
    need!(Bpf, BpfFs, Cgroup2, BpfLsm);
    is_refused("zerocopy", without_copy);
}

/// As Docker's proxy of published ports: Go splices between two connections, unless that is refused.
#[test]
fn a_proxy_that_would_splice_reads() {
    need!(Bpf, BpfFs, Cgroup2, BpfLsm, Go);
    let mut world = World::new("proxy");
    let (app, reader) = (App::local(), world.role("reader"));
    let proxy = Server::go_proxy(app.addr);
    world.apply(vec![policy(proxy.addr().port(), Mode::Enforce)]);
    let mut client = Client::connect(proxy.addr());
    for _ in 0..3 {
        assert_eq!(client.ask(get("/a", None)).status, 401);
        assert_eq!(client.ask(get("/a", Some(&reader))).status, 200);
    }
    for _ in 0..30 {
        assert_eq!(once(proxy.addr(), get("/a", None)).status, 401);
    }
    assert_eq!((app.requests(), app.anonymous()), (3, 0));
    world.apply(vec![policy(proxy.addr().port(), Mode::Monitor)]);
    assert_eq!(once(proxy.addr(), get("/a", None)).status, 200);
    assert_eq!(client.ask(get("/a", None)).status, 200);
}

fn splice(stream: &TcpStream) -> io::Result<usize> {
    let (read, write) = io::pipe()?;
    let (from, none) = (stream.as_raw_fd(), std::ptr::null_mut());
    // SAFETY: both descriptors are open, and no offsets are passed.
    let moved = unsafe { libc::splice(from, none, write.as_raw_fd(), none, 4096, libc::SPLICE_F_NONBLOCK) };
    drop(read);
    usize::try_from(moved).map_err(|_| io::Error::last_os_error())
}

fn sendfile(stream: &TcpStream) -> io::Result<usize> {
    let (read, write) = io::pipe()?;
    // It waits where the descriptor would.
    stream.set_nonblocking(true)?;
    // SAFETY: both descriptors are open, and no offset is passed.
    let moved = unsafe { libc::sendfile(write.as_raw_fd(), stream.as_raw_fd(), std::ptr::null_mut(), 4096) };
    let result = usize::try_from(moved).map_err(|_| io::Error::last_os_error());
    stream.set_nonblocking(false)?;
    drop(read);
    result
}

/// getsockopt(TCP_ZEROCOPY_RECEIVE), which copies what is less than a page.
fn without_copy(stream: &TcpStream) -> io::Result<usize> {
    /// `struct tcp_zerocopy_receive` of linux/tcp.h.
    #[repr(C)]
    #[derive(Default)]
    struct Receive {
        address: u64,
        length: u32,
        recv_skip_hint: u32,
        inq: u32,
        err: i32,
        copybuf_address: u64,
        copybuf_len: i32,
        flags: u32,
    }
    const TCP_ZEROCOPY_RECEIVE: i32 = 35;
    let mut room = vec![0_u8; 4096];
    let mut receive = Receive {
        copybuf_address: room.as_mut_ptr() as u64,
        copybuf_len: room.len() as i32,
        ..Receive::default()
    };
    let mut size = size_of::<Receive>() as libc::socklen_t;
    // SAFETY: the structure, of which the size is passed, and the room that it names live through the call.
    let got = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            TCP_ZEROCOPY_RECEIVE,
            (&raw mut receive).cast(),
            &raw mut size,
        )
    };
    match (got, receive.err) {
        (0, 0) => Ok(usize::try_from(receive.copybuf_len).unwrap_or(0)),
        (0, error) => Err(io::Error::from_raw_os_error(error.abs())),
        _ => Err(io::Error::last_os_error()),
    }
}
