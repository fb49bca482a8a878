//! Connections that processes of the cgroup open themselves, from a local port that is protected, and ways to make an
//! accepted connection look like one.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use portcullis_testkit::need;
use portcullis_wire::Mode;

use crate::app::App;
use crate::client::{Client, get, once};
use crate::peer::Peer;
use crate::world::{World, policy};

/// How long nothing must arrive.
const SILENCE: Duration = Duration::from_millis(300);

/// The ephemeral port of a connection may be one that is protected: for those who connect to it, not for those who
/// answer to it.
#[test]
fn an_outgoing_connection_from_a_protected_port_is_left_alone() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("outgoing");
    let (remote, port) = (App::local(), free_port());
    world.apply(vec![policy(port, Mode::Enforce)]);
    let mut client = Client::over(connect_from(port, remote.addr));
    for _ in 0..3 {
        assert_eq!(client.ask(get("/a", None)).status, 200);
    }
    // The next configuration leaves it alone, too.
    world.apply(vec![policy(port, Mode::Enforce)]);
    assert_eq!(client.ask(get("/a", None)).status, 200);
    assert_eq!(world.stats().guard_dropped, 0);
    // Whoever listens on the port is protected.
    drop(client);
    let app = App::start(&format!("127.0.0.1:{port}"));
    assert_eq!(once(app.addr, get("/a", None)).status, 401);
    assert_eq!((app.requests(), app.bytes().len()), (0, 0));
}

/// Both ends send a SYN: who connected to whom cannot be told, so it counts as accepted.
#[test]
fn a_simultaneous_open_is_controlled() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("meet");
    let port = free_port();
    world.apply(vec![policy(port, Mode::Enforce)]);
    let socket = bound(port);
    let mut peer = Peer::meet(at(port), 1000, |to| {
        nonblocking(&socket);
        assert_eq!(connect(&socket, to).expect_err("no answer yet").raw_os_error(), Some(libc::EINPROGRESS));
    })
    .expect("a connection");
    let request = get("/a", None);
    peer.send(0, request.as_bytes());
    assert!(peer.answer("401", Duration::from_secs(2)).contains("401"));
    assert_eq!(peer.acked as usize, request.len());
    assert_eq!(read(&socket).expect_err("nothing to read").kind(), io::ErrorKind::WouldBlock);
}

/// A process that checkpoints and restores connections (CRIU) makes accepted ones anew as if it had connected.
#[test]
fn a_restored_connection_passes_nothing() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("repair");
    // Without a policy its data arrives: the test would notice if it did not.
    let (here, there) = restored(free_port());
    write(&there, b"GET /a HTTP/1.1\r\n").expect("sent");
    std::thread::sleep(SILENCE);
    assert_eq!(read(&here).expect("bytes"), b"GET /a HTTP/1.1\r\n");

    let port = free_port();
    world.apply(vec![policy(port, Mode::Enforce)]);
    let (here, there) = restored(port);
    write(&there, b"GET /a HTTP/1.1\r\n").expect("sent");
    std::thread::sleep(SILENCE);
    assert_eq!(read(&here).expect_err("nothing to read").kind(), io::ErrorKind::WouldBlock);
    assert!(world.stats().guard_dropped >= 1);
}

/// A socket that connected from a protected port and listens on it afterwards.
#[test]
fn a_socket_that_connected_before_it_listened_is_no_exception() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("turned");
    let (remote, port) = (App::local(), free_port());
    world.apply(vec![policy(port, Mode::Enforce)]);
    let socket = bound(port);
    connect(&socket, remote.addr).expect("connected");
    disconnect(&socket).expect("disconnected");
    // SAFETY: integers only.
    check(unsafe { libc::listen(socket.as_raw_fd(), 8) }).expect("listening");
    let app = App::serve(TcpListener::from(socket));
    assert_eq!(once(app.addr, get("/a", None)).status, 401);
    assert_eq!((app.requests(), app.bytes().len()), (0, 0));
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    TcpListener::bind(at(0)).and_then(|listener| listener.local_addr()).expect("a port").port()
}

fn connect_from(port: u16, to: SocketAddr) -> TcpStream {
    let socket = bound(port);
    connect(&socket, to).expect("connected");
    TcpStream::from(socket)
}

/// Both ends of a connection that was never opened, as CRIU makes them. The first one has the port.
fn restored(port: u16) -> (OwnedFd, OwnedFd) {
    const TCP_REPAIR: i32 = 19;
    const TCP_REPAIR_QUEUE: i32 = 20;
    const TCP_QUEUE_SEQ: i32 = 21;
    let other = free_port();
    let ends = [(port, other, [7000, 9000]), (other, port, [9000, 7000])].map(|(from, to, sequences)| {
        let socket = socket();
        option(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1).expect("an option");
        option(&socket, libc::IPPROTO_TCP, TCP_REPAIR, 1).expect("the right to repair");
        // TCP_RECV_QUEUE is 1, TCP_SEND_QUEUE is 2.
        for (queue, sequence) in [1, 2].into_iter().zip(sequences) {
            option(&socket, libc::IPPROTO_TCP, TCP_REPAIR_QUEUE, queue).expect("a queue");
            option(&socket, libc::IPPROTO_TCP, TCP_QUEUE_SEQ, sequence).expect("a number");
        }
        bind(&socket, port_at(from));
        connect(&socket, at(to)).expect("connected");
        socket
    });
    for socket in &ends {
        option(socket, libc::IPPROTO_TCP, TCP_REPAIR, 0).expect("repaired");
        nonblocking(socket);
    }
    ends.into()
}

fn socket() -> OwnedFd {
    // SAFETY: integers only.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    assert!(fd >= 0, "{}", io::Error::last_os_error());
    // SAFETY: the call above made this descriptor and nothing else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn bound(port: u16) -> OwnedFd {
    let socket = socket();
    option(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1).expect("an option");
    bind(&socket, port_at(port));
    socket
}

fn bind(socket: &OwnedFd, to: libc::sockaddr_in) {
    // SAFETY: a live address and its size.
    let done = unsafe { libc::bind(socket.as_raw_fd(), (&raw const to).cast(), size_of_val(&to) as u32) };
    check(done).expect("bound");
}

fn port_at(port: u16) -> libc::sockaddr_in {
    address(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
}

fn address(of: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: of.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*of.ip()).to_be() },
        sin_zero: [0; 8],
    }
}

fn connect(socket: &OwnedFd, to: SocketAddr) -> io::Result<()> {
    let SocketAddr::V4(to) = to else { panic!("an IPv4 address") };
    let to = address(to);
    // SAFETY: a live address and its size.
    check(unsafe { libc::connect(socket.as_raw_fd(), (&raw const to).cast(), size_of_val(&to) as u32) })
}

/// Connecting to no address family ends a connection, and the socket can be used for another one: connect(2).
fn disconnect(socket: &OwnedFd) -> io::Result<()> {
    let nobody = libc::sockaddr { sa_family: libc::AF_UNSPEC as u16, sa_data: [0; 14] };
    // SAFETY: a live address and its size.
    check(unsafe { libc::connect(socket.as_raw_fd(), &raw const nobody, size_of_val(&nobody) as u32) })
}

fn nonblocking(socket: &OwnedFd) {
    // SAFETY: integers only.
    check(unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) }).expect("a flag");
}

fn option(socket: &OwnedFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    let (value, size) = ((&raw const value).cast(), size_of::<i32>() as u32);
    // SAFETY: a live integer and its size.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value, size) })
}

fn read(socket: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4096];
    // SAFETY: a live buffer and its size.
    let read = unsafe { libc::recv(socket.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    bytes.truncate(usize::try_from(read).map_err(|_| io::Error::last_os_error())?);
    Ok(bytes)
}

fn write(socket: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: live bytes and their number.
    let sent = unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
    if sent == bytes.len() as isize { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn check(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
