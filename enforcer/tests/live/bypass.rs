//! Other ways to the application: bytes out of band, other listeners of the port, programs that somebody took away, and a
//! CPU that is kept busy.

use std::ffi::CString;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::thread;
use std::time::Duration;

use portcullis_bpf::limits;
use portcullis_testkit::{connect_from, eventually, need};
use portcullis_wire::{Mode, Verdict};
use serde_json::json;

use crate::app::App;
use crate::client::{Client, get, once};
use crate::world::{World, policy};

/// `enum bpf_attach_type`
const STREAM_VERDICT: u32 = 5;
pub const MSG_VERDICT: u32 = 7;

/// A byte that a server would read out of band, and would miss in the head, is in line for the programs and for the server
/// (THREATS T7).
#[test]
fn an_urgent_byte_is_read_where_it_is_decided() {
    need!(Bpf, BpfFs, Cgroup2);
    for app in [App::patient, App::nonblocking] {
        let mut world = World::new("urgent");
        let app = app();
        world.apply(vec![policy(app.port(), Mode::Enforce)]);
        for (path, allowed) in [("/health", true), ("/healthh", false), ("/secret", false)] {
            let request = get(path, None);
            for at in 0..request.len() - 1 {
                let before = app.bytes().len();
                let mut client = Client::connect(app.addr);
                thread::sleep(Duration::from_millis(1));
                client.send(&request[..at]);
                client.send_urgent(request.as_bytes()[at]);
                client.send(&request[at + 1..]);
                let response = client.response().expect("an answer");
                assert_eq!(response.status, if allowed { 200 } else { 401 }, "{path} at {at}");
                let read = app.bytes()[before..].to_vec();
                assert!(
                    if allowed { read == request.as_bytes() } else { !read.ends_with(b"\r\n\r\n") },
                    "{path} at {at}: {}",
                    read.escape_ascii()
                );
            }
        }
        let records = world.records();
        assert!(
            records.iter().all(|record| (record.path == "/health") == (record.decision == Verdict::Allow))
        );
    }
}

/// All listeners of a port are covered, whenever they came (THREATS T19).
#[test]
fn listeners_that_share_a_port_are_covered() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("reuseport");
    let first = listen_shared(0).expect("a listener");
    let port = first.local_addr().expect("an address").port();
    let mut apps = vec![App::serve(first), App::serve(listen_shared(port).expect("another"))];
    world.apply(vec![policy(port, Mode::Enforce)]);
    apps.extend([1, 2].map(|_| App::serve(listen_shared(port).expect("one more"))));
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    for _ in 0..200 {
        assert_eq!(once(addr, get("/a", None)).status, 401);
    }
    assert!(apps.iter().all(|app| app.bytes().is_empty()), "a request without a token was read");
    let good = get("/a", Some(&world.role("reader")));
    for _ in 0..100 {
        assert_eq!(once(addr, &good).status, 200);
    }
    let served = apps.iter().filter(|app| app.requests() > 0).count();
    assert!(served > 1, "one listener got everything: nothing was shown about the others");
}

/// Whatever somebody with the right to do it takes away shows, and without the program that takes connections in nothing
/// of a new one passes (THREATS T20).
#[test]
fn each_program_that_was_taken_away_is_named() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("taken");
    let app = App::local();
    let mut switching = policy(app.port(), Mode::Enforce);
    switching.rules[1].upgrade = vec!["websocket".to_owned()];
    world.apply(vec![switching]);
    let pins = world.config.pins.clone();
    let missing = |world: &World| world.datapath().health().expect("health").missing;
    detach_link(&pins.join("links/sockops")).expect("detaching");
    assert_eq!(missing(&world), ["pc_sockops was detached from its cgroup"]);
    let mut client = Client::connect(app.addr);
    client.send(get("/health", None));
    client.timeout(Duration::from_millis(500));
    client.response().expect_err("nobody took it in");
    assert_eq!(app.bytes(), b"");
    detach_link(&pins.join("links/egress")).expect("detaching");
    detach_link(&pins.join("links/guard")).expect("detaching");
    let of_cgroup =
        ["pc_guard", "pc_sockops", "pc_egress"].map(|name| format!("{name} was detached from its cgroup"));
    assert_eq!(missing(&world), of_cgroup);
    for (map, program, kind) in
        [("pc_socks", "pc_entry", STREAM_VERDICT), ("pc_injectors", "pc_inject", MSG_VERDICT)]
    {
        detach_program(&pins, map, program, kind).expect("detaching");
        let said = format!("{program} was detached from {map}");
        assert!(missing(&world).contains(&said), "{said}: {:?}", missing(&world));
    }
    // The next agent puts it right.
    world.restart();
    assert_eq!(missing(&world), [] as [String; 0]);
    world.expect_agent_mode();
    assert_eq!(once(app.addr, get("/a", None)).status, 401);
    assert_eq!(once(app.addr, get("/a", Some(&world.role("reader")))).status, 200);
    assert_eq!(app.anonymous(), 0);
}

/// One source's bad signatures are not checked any more when it has sent too many of them; others go on
/// (THREATS T39).
#[test]
fn a_source_of_forged_tokens_is_answered_503_and_others_are_not() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("forged");
    let app = App::local();
    world.apply(vec![policy(app.port(), Mode::Enforce)]);
    let SocketAddr::V4(addr) = app.addr else { panic!("an address of IPv4") };
    let good = world.role("reader");
    let (signed, signature) = good.rsplit_once('.').expect("a token");
    // Each is new to the programs and takes a whole verification.
    let forged =
        |n: usize| get("/a", Some(&format!("{signed}.{}{n:06}{}", &signature[..20], &signature[26..])));
    let from = |source: [u8; 4]| {
        let stream = connect_from(Ipv4Addr::from(source), SocketAddrV4::new(*addr.ip(), addr.port()));
        Client::over(stream.expect("connecting"))
    };
    let mut forger = from([127, 0, 9, 9]);
    let mut refused = 0;
    for n in 0..limits::SOURCE_BURST + 400 {
        let response = forger.ask(forged(n));
        match response.status {
            401 => {}
            503 => refused += 1,
            other => panic!("{other} to a forged token"),
        }
        if refused == 20 {
            break;
        }
    }
    assert_eq!(refused, 20, "no bound for a source");
    // Tokens that nobody has verified yet, from elsewhere. What bad signatures may take of a CPU is given back in time; how
    // soon depends on how long one takes there.
    let mut other = from([127, 0, 9, 10]);
    eventually("the CPU's share", Duration::from_secs(5), || {
        let token = world.token(json!({ "jti": "first" }));
        (other.ask(get("/a", Some(&token))).status == 200).then_some(())
    });
    for n in 0..49 {
        let token = world.token(json!({ "jti": format!("good-{n}") }));
        assert_eq!(other.ask(get("/a", Some(&token))).status, 200);
    }
    assert_eq!(app.requests(), 50);
    eventually("records", Duration::from_secs(5), || {
        (world.reasons().get("no_capacity").copied().unwrap_or(0) >= 20).then_some(())
    });
}

/// A listener of 127.0.0.1 with SO_REUSEPORT.
fn listen_shared(port: u16) -> io::Result<TcpListener> {
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(Ipv4Addr::LOCALHOST.octets()) },
        sin_zero: [0; 8],
    };
    let one: libc::c_int = 1;
    let check = |result: i32| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) };
    // SAFETY: no pointers.
    let fd = check(unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the descriptor is new, and nobody else has it.
    let listener = unsafe { TcpListener::from_raw_fd(fd) };
    // SAFETY: what is pointed to lives through the calls, and its size is passed.
    unsafe {
        let size = size_of_val(&one) as libc::socklen_t;
        check(libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, (&raw const one).cast(), size))?;
        let size = size_of_val(&address) as libc::socklen_t;
        check(libc::bind(fd, (&raw const address).cast(), size))?;
        check(libc::listen(fd, 128))?;
    }
    Ok(listener)
}

/// BPF_LINK_DETACH of a pinned link.
pub fn detach_link(pin: &Path) -> io::Result<()> {
    const LINK_DETACH: libc::c_long = 34;
    let link = open_pin(pin)?;
    bpf(LINK_DETACH, &[link.as_raw_fd() as u32]).map(drop)
}

/// BPF_PROG_DETACH of a pinned program from a pinned socket map.
pub fn detach_program(pins: &Path, map: &str, program: &str, kind: u32) -> io::Result<()> {
    const PROG_DETACH: libc::c_long = 9;
    let map = open_pin(&pins.join("maps").join(map))?;
    let program = open_pin(&pins.join("progs").join(program))?;
    bpf(PROG_DETACH, &[map.as_raw_fd() as u32, program.as_raw_fd() as u32, kind]).map(drop)
}

fn open_pin(pin: &Path) -> io::Result<OwnedFd> {
    const OBJ_GET: libc::c_long = 7;
    let path = CString::new(pin.as_os_str().as_encoded_bytes()).expect("no NUL");
    let attr = [path.as_ptr() as u64, 0];
    let fd = bpf(OBJ_GET, &attr)?;
    // SAFETY: the call above made this descriptor and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// A call of bpf(2) with the beginning of union bpf_attr.
fn bpf<T>(command: libc::c_long, attr: &[T]) -> io::Result<i64> {
    // SAFETY: the attribute lives through the call, and so does what it points to; its size is passed.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_ptr(), size_of_val(attr)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
