//! Connections that cannot be brought under control: T1, T2.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use portcullis_testkit::{NetNs, need};
use portcullis_wire::Mode;

use crate::app::App;
use crate::client::{Client, get, once};
use crate::peer;
use crate::world::{World, policy};

#[test]
fn an_mptcp_connection_passes_nothing() {
    need!(Bpf, BpfFs, Cgroup2, Mptcp);
    let mut world = World::new("mptcp");
    let app = App::serve(mptcp_listener().expect("an MPTCP listener"));
    // Without the guard and the policy the application reads it: the test would notice if it did not.
    let mut client = Client::over(mptcp_connect(app.addr).expect("connecting"));
    assert_eq!(client.ask(get("/a", None)).status, 200);
    drop(client);

    world.apply(vec![policy(app.port(), Mode::Enforce)]);
    let read = app.bytes().len();
    let mut client = Client::over(mptcp_connect(app.addr).expect("connecting"));
    client.timeout(Duration::from_millis(300));
    client.send(get("/a", None));
    assert!(client.response().is_err());
    assert_eq!(app.bytes().len(), read);
    let stats = world.stats();
    assert!(stats.conn_refused >= 1 && stats.guard_dropped >= 1, "{stats:?}");
    // A client that speaks plain TCP to the same listener is served.
    assert_eq!(once(app.addr, get("/a", None)).status, 401);
}

#[test]
fn connections_beyond_a_full_table_pass_nothing() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::with("full", |config| config.limits.connections = 8);
    let app = App::local();
    world.apply(vec![policy(app.port(), Mode::Enforce)]);
    let mut clients: Vec<Client> = (0..64).map(|_| Client::connect(app.addr)).collect();
    let (mut denied, mut silent) = (0, 0);
    for client in &mut clients {
        client.timeout(Duration::from_millis(100));
        client.send(get("/a", None));
        match client.response() {
            Ok(response) => {
                assert_eq!(response.status, 401);
                denied += 1;
            }
            Err(_) => silent += 1,
        }
    }
    assert!(denied >= 1 && silent >= 40, "denied {denied}, silent {silent}");
    assert_eq!((app.requests(), app.bytes().len()), (0, 0));
    let stats = world.stats();
    assert!(stats.conn_refused >= 40 && stats.guard_dropped >= 40, "{stats:?}");
    // Room again: served again.
    drop(clients);
    let token = world.role("reader");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(once(app.addr, get("/a", Some(&token))).status, 200);
}

/// T4: what a handshake carries is in the connection's queue before anything can be known of the connection.
#[test]
fn data_in_a_handshake_does_not_get_around_a_full_table() {
    need!(Bpf, BpfFs, Cgroup2, NetNs);
    let mut world = World::with("fastopen", |config| config.limits.connections = 1);
    let ns = NetNs::enter().expect("a namespace");
    ns.sysctl("ipv4/tcp_fastopen", FAST_OPEN).expect("TCP Fast Open without cookies");
    let app = App::local();
    // Before the policy: the request arrives with the SYN, so the test is about what it says it is.
    let mut client = Client::over(fast_open(app.addr, &get("/a", None)).expect("connecting"));
    assert_eq!(client.response().expect("an answer").status, 200);
    drop(client);

    world.apply(vec![policy(app.port(), Mode::Enforce)]);
    let read = app.bytes().len();
    let holder = Client::connect(app.addr);
    let mut client = Client::over(fast_open(app.addr, &get("/a", None)).expect("connecting"));
    client.timeout(Duration::from_millis(2500));
    assert!(client.response().is_err());
    assert_eq!(app.bytes().len(), read);
    drop((holder, client));

    // With room, the same request meets the verdict, a moment later.
    std::thread::sleep(Duration::from_millis(500));
    let mut client = Client::over(fast_open(app.addr, &get("/a", None)).expect("connecting"));
    client.timeout(Duration::from_secs(10));
    assert_eq!(client.response().expect("an answer").status, 401);
    assert_eq!(app.bytes().len(), read);
}

/// A listener that hands connections out with their first data only lets none stand without it, and data that completes
/// a handshake is dropped: the option goes, whenever it was set.
#[test]
fn a_listener_that_defers_accept_serves_its_clients() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("deferring");
    let token = world.role("reader");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let set = listener.try_clone().expect("a copy");
    defer(&set);
    let app = App::serve(listener);
    // Deferred as long as there is no policy: a client that says nothing is not accepted.
    world.apply(vec![policy(app.port(), Mode::Monitor)]);
    assert_eq!(once(app.addr, get("/a", None)).status, 200);
    assert!(deferred(&set) > 0, "monitor mode changes nothing");
    world.apply(vec![policy(app.port(), Mode::Enforce)]);
    assert_eq!(deferred(&set), 0);
    for _ in 0..10 {
        assert_eq!(once(app.addr, get("/a", None)).status, 401);
        assert_eq!(once(app.addr, get("/a", Some(&token))).status, 200);
    }
    assert_eq!(world.stats().guard_dropped, 0);
    // The application is started anew, and sets it again.
    defer(&set);
    let mut client = Client::connect(app.addr);
    client.timeout(Duration::from_secs(30));
    assert_eq!(client.ask(get("/a", Some(&token))).status, 200);
    assert_eq!((deferred(&set), app.anonymous()), (0, 1));
    assert!(world.stats().guard_dropped > 0, "nothing was shown");
}

/// The kernel finds such a socket by its device only, also when it is to destroy it.
#[test]
fn a_connection_bound_to_a_device_is_destroyed_too() {
    need!(Root, Bpf, BpfFs, Cgroup2);
    let mut world = World::new("device");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    peer::option(&listener, libc::SO_BINDTODEVICE, b"lo\0").expect("binding to the device");
    let app = App::serve(listener);
    let mut older = Client::connect(app.addr);
    assert_eq!(older.ask(get("/a", None)).status, 200);
    world.apply(vec![policy(app.port(), Mode::Enforce)]);
    // What was there before.
    assert!(older.ends(), "an older connection stays");
    // What cannot be answered.
    let token = world.role("reader");
    let bearer = format!("Host: a\r\nAuthorization: Bearer {token}\r\n");
    let mut client = Client::connect(app.addr);
    client.send(format!("POST /a HTTP/1.1\r\n{bearer}Transfer-Encoding: chunked\r\n\r\n"));
    client.send("zz\r\n");
    assert!(client.ends(), "the connection hangs");
}

fn defer(listener: &TcpListener) {
    let seconds = 60;
    // SAFETY: a live integer and its size.
    let set = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const seconds).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}

fn deferred(listener: &TcpListener) -> libc::c_int {
    let (mut seconds, mut size) = (0, size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: a live integer and its size.
    let got = unsafe {
        libc::getsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw mut seconds).cast(),
            &raw mut size,
        )
    };
    assert_eq!(got, 0, "{}", std::io::Error::last_os_error());
    seconds
}

#[test]
fn a_connection_older_than_the_protection_is_reset() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("older");
    let app = App::local();
    let mut client = Client::connect(app.addr);
    assert_eq!(client.ask(get("/a", None)).status, 200);
    world.apply(vec![policy(app.port(), Mode::Enforce)]);
    let sent = client.try_send(get("/a", None));
    assert!(sent.is_err() || client.ends(), "the old connection lives on");
    assert_eq!(app.requests(), 1);
    assert_eq!(once(app.addr, get("/a", None)).status, 401);
}

#[test]
fn a_connection_older_than_monitoring_goes_on() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("oldmon");
    let app = App::local();
    let mut client = Client::connect(app.addr);
    assert_eq!(client.ask(get("/a", None)).status, 200);
    world.apply(vec![policy(app.port(), Mode::Monitor)]);
    assert_eq!(client.ask(get("/a", None)).status, 200);
    // Enforced from now on: it is not under control, so it ends.
    world.apply(vec![policy(app.port(), Mode::Enforce)]);
    assert!(client.try_send(get("/a", None)).is_err() || client.ends());
    assert_eq!(app.requests(), 2);
}

/// `tcp_fastopen`: clients (1) and all listeners (2, 0x400), data in the SYN without a cookie (4, 0x200).
const FAST_OPEN: &str = "1543";

/// A connection whose SYN carries `data`.
fn fast_open(to: SocketAddr, data: &str) -> io::Result<TcpStream> {
    let addr = address(to);
    // SAFETY: the descriptor is fresh and owned by `stream` from then on; data and address live through the call.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let stream = TcpStream::from(OwnedFd::from_raw_fd(fd));
        let size = size_of::<libc::sockaddr_in>() as u32;
        let (bytes, to) = (data.as_ptr().cast(), (&raw const addr).cast());
        let sent = libc::sendto(fd, bytes, data.len(), libc::MSG_FASTOPEN, to, size);
        if sent == data.len() as isize { Ok(stream) } else { Err(io::Error::last_os_error()) }
    }
}

fn mptcp_listener() -> io::Result<TcpListener> {
    let socket = mptcp_socket()?;
    let addr = address(SocketAddr::from(([127, 0, 0, 1], 0)));
    // SAFETY: a live sockaddr_in and its size; both calls only read.
    let result = unsafe {
        let bound =
            libc::bind(socket.as_raw_fd(), (&raw const addr).cast(), size_of::<libc::sockaddr_in>() as u32);
        if bound == 0 { libc::listen(socket.as_raw_fd(), 16) } else { bound }
    };
    if result == 0 { Ok(TcpListener::from(socket)) } else { Err(io::Error::last_os_error()) }
}

fn mptcp_connect(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = mptcp_socket()?;
    let addr = address(to);
    // SAFETY: a live sockaddr_in and its size.
    let result = unsafe {
        libc::connect(socket.as_raw_fd(), (&raw const addr).cast(), size_of::<libc::sockaddr_in>() as u32)
    };
    if result == 0 { Ok(TcpStream::from(socket)) } else { Err(io::Error::last_os_error()) }
}

fn mptcp_socket() -> io::Result<OwnedFd> {
    // SAFETY: integers only.
    let fd =
        unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, libc::IPPROTO_MPTCP) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call above made this descriptor and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn address(of: SocketAddr) -> libc::sockaddr_in {
    let SocketAddr::V4(of) = of else { panic!("an IPv4 address") };
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: of.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*of.ip()).to_be() },
        sin_zero: [0; 8],
    }
}
