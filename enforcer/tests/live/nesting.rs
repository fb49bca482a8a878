//! Verdict runs that interrupt each other on one CPU, and what would become of them in one scratch (THREATS T26).
//!
//! Data that arrived before its connection was accepted is looked at when the application reads, in process context. The
//! interrupt that brings a packet for another connection runs the programs again, in the middle of that. Packets of the
//! loopback device arrive in such an interrupt when they are steered to another CPU (RPS).

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use libbpf_rs::{MapCore, MapFlags, MapHandle, ObjectBuilder, ProgramAttachType};
use portcullis_bpf::limits;
use portcullis_testkit::{NetNs, Rng, need, seed};
use portcullis_wire::Mode;
use serde_json::json;

use crate::app::App;
use crate::client::{Client, get};
use crate::world::{World, policy};

/// The application and all interrupts.
const SERVER: usize = 0;
/// The clients.
const OTHER: usize = 1;
const CLIENTS: usize = 6;
/// Valid tokens, half of them with the role.
const TOKENS: usize = 32;
/// Whom forged tokens come from: what they cost is charged to their source.
const FORGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// What clients were told.
#[derive(Debug, Default)]
struct Told {
    requests: usize,
    /// Valid tokens with another answer than theirs: what was sent, and the answer.
    wrong: Vec<String>,
    /// Forged tokens that passed.
    passed: usize,
    forged: usize,
}

struct Stress {
    world: World,
    app: App,
    /// With their numbers: those that are odd have the role.
    tokens: Vec<String>,
}

/// Tells the clients to end.
struct Ended<'a>(&'a AtomicBool);

// === impl Ended ===

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

// === impl Stress ===

impl Stress {
    fn new(name: &str) -> (Stress, NetNs) {
        // So few that each token is verified, mostly.
        let mut world = World::with(name, |config| config.limits.tokens = 2);
        let ns = NetNs::enter().expect("a namespace");
        steer(SERVER).expect("steering packets of lo");
        pin_to(SERVER);
        let app = App::local();
        world.apply(vec![policy(app.port(), Mode::Enforce)]);
        let token = |n: usize| {
            let role = if n.is_multiple_of(2) { "guest" } else { "reader" };
            // Too long to be kept with its connection.
            let long = "x".repeat(2048);
            world.token(json!({ "sub": format!("user-{n}"), "roles": [role], "note": long }))
        };
        let tokens = (0..TOKENS).map(token).collect();
        (Stress { world, app, tokens }, ns)
    }

    /// Clients with valid and forged tokens until `enough`, which is asked again and again.
    fn run(&self, mut enough: impl FnMut(&Told) -> bool) -> Told {
        let seed = seed();
        let (stop, next) = (AtomicBool::new(false), AtomicUsize::new(0));
        let told = Mutex::new(Told::default());
        thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (stop, next, told) = (&stop, &next, &told);
                let mut rng = Rng::new(seed ^ client as u64);
                scope.spawn(move || {
                    pin_to(OTHER);
                    while !stop.load(Ordering::SeqCst) {
                        let n = next.fetch_add(1, Ordering::SeqCst);
                        if client == 0 { self.forge(n, &mut rng, told) } else { self.ask(n, &mut rng, told) }
                    }
                });
            }
            // Also when a look at the kernel fails.
            let _ended = Ended(&stop);
            while !enough(&told.lock().expect("no thread panicked")) {
                thread::sleep(Duration::from_millis(1));
            }
        });
        told.into_inner().expect("no thread panicked")
    }

    /// A valid token on a new connection, and sometimes more on the same one.
    fn ask(&self, n: usize, rng: &mut Rng, told: &Mutex<Told>) {
        let mut client = Client::connect(self.app.addr);
        for _ in 0..1 + rng.below(3) {
            let index = rng.below(TOKENS as u64) as usize;
            let request = get(&format!("/{n}/{index}"), Some(&self.tokens[index]));
            let status = client.try_send(request).and_then(|()| client.response()).map(|r| r.status);
            let mut told = told.lock().expect("no thread panicked");
            told.requests += 1;
            let right = if index.is_multiple_of(2) { 403 } else { 200 };
            if !matches!(status, Ok(status) if status == right) {
                told.wrong.push(format!("{status:?} instead of {right}"));
                return;
            }
        }
    }

    fn forge(&self, n: usize, rng: &mut Rng, told: &Mutex<Told>) {
        let index = 2 * rng.below(TOKENS as u64 / 2) as usize + 1;
        let mut token = self.tokens[index].clone().into_bytes();
        let at = token.len() - 2 - rng.below(300) as usize;
        token[at] = if token[at] == b'A' { b'B' } else { b'A' };
        let token = String::from_utf8(token).expect("ASCII");
        let mut client = Client::over(connect_from(FORGER, self.app.addr));
        let request = get(&format!("/forged/{n}"), Some(&token));
        let start = Instant::now();
        let status = client.try_send(request).and_then(|()| client.response()).map(|r| r.status);
        let mut told = told.lock().expect("no thread panicked");
        told.forged += 1;
        told.passed += usize::from(matches!(status, Ok(200)));
        drop(told);
        // Within its source's allowance for bad signatures, and within the CPU's, however slow that is.
        thread::sleep((start.elapsed() * 10).clamp(Duration::from_millis(5), Duration::from_secs(1)));
    }

    /// Slots beyond the first of each CPU that runs have claimed, each time of a claim once: these runs were nested.
    fn nested(&self, seen: &mut BTreeSet<(u32, u64)>) {
        let slots = MapHandle::from_pinned_path(self.world.config.pins.join("maps/pc_slots")).expect("slots");
        let (count, per_cpu) = (slots.info().expect("slots").info.max_entries, limits::SLOTS_PER_CPU as u32);
        for key in (0..count).filter(|key| key % per_cpu != 0) {
            let slot = slots.lookup(&key.to_ne_bytes(), MapFlags::ANY).expect("a slot").expect("a slot");
            // struct pc_slot: u32 busy, u32 n, and the time of entry.
            let entry = u64::from_ne_bytes(slot[8..16].try_into().expect("eight bytes"));
            if entry != 0 {
                seen.insert((key, entry));
            }
        }
    }
}

#[test]
fn runs_that_interrupt_each_other_decide_as_others() {
    need!(Bpf, BpfFs, Cgroup2, NetNs, TwoCpus);
    let (stress, _ns) = Stress::new("nesting");
    let mut nested = BTreeSet::new();
    let start = Instant::now();
    let told = stress.run(|told| {
        stress.nested(&mut nested);
        let shown = nested.len() >= 10 && told.requests > 1000;
        match start.elapsed().as_secs() {
            ..4 => false,
            4..12 => shown,
            // A slow machine takes longer to show one.
            12..120 => !nested.is_empty(),
            _ => true,
        }
    });
    eprintln!("{} requests, {} forged, {} nested runs at least", told.requests, told.forged, nested.len());
    let stats = stress.world.stats();
    assert_eq!(told.wrong, [] as [String; 0], "of {}; {stats:?}", told.requests);
    assert_eq!(stats.no_slot, 0);
    assert_eq!(told.passed, 0, "of {} forged tokens", told.forged);
    assert!(!nested.is_empty(), "no run was nested in {} requests: the test shows nothing", told.requests);
}

/// The same load with programs whose runs take the first slot of their CPU, claimed or not: the test above can fail.
#[test]
fn without_the_claim_runs_spoil_each_other() {
    need!(Bpf, BpfFs, Cgroup2, NetNs, TwoCpus);
    let (stress, _ns) = Stress::new("noclaim");
    unclaim(&stress.world);
    let start = Instant::now();
    let told = stress.run(|told| !told.wrong.is_empty() || start.elapsed() > Duration::from_secs(15));
    eprintln!("{} requests, {} forged, wrong: {:?}", told.requests, told.forged, told.wrong);
    assert!(!told.wrong.is_empty(), "{} requests, none of them wrong", told.requests);
}

/// Puts a pc_http into the chain that takes a slot without looking whether it is free.
fn unclaim(world: &World) {
    let object = edited(portcullis_bpf::OBJECT);
    let mut open = ObjectBuilder::default().open_memory(&object).expect("the object");
    for mut map in open.maps_mut() {
        let path = world.config.pins.join("maps").join(map.name());
        if path.exists() {
            map.reuse_pinned_map(&path).expect("a map of the instance");
        }
    }
    for mut program in open.progs_mut() {
        let wanted = program.name() == "pc_http";
        program.set_autoload(wanted);
        // aya gives none to this kind of program, and programs of a chain must agree.
        program.set_attach_type(ProgramAttachType::CgroupInetIngress);
    }
    let object = open.load().expect("loaded programs");
    let program = object.progs().find(|program| program.name() == "pc_http").expect("pc_http");
    let chain = MapHandle::from_pinned_path(world.config.pins.join("maps/pc_progs")).expect("the chain");
    let fd = program.as_fd().as_raw_fd();
    chain.update(&0_u32.to_ne_bytes(), &fd.to_ne_bytes(), MapFlags::ANY).expect("replaced");
}

/// The object with the one compare-and-swap of 32 bits replaced: its result is always that the slot was free.
fn edited(object: &[u8]) -> Vec<u8> {
    // BPF_STX | BPF_ATOMIC | BPF_W with BPF_CMPXCHG, of any registers; r0 = 0.
    // At offset 0, where `busy` stands.
    let claims = |insn: &[u8]| insn[0] == 0xc3 && insn[2..8] == [0, 0, 0xf1, 0, 0, 0];
    let found: Vec<usize> =
        object.chunks_exact(8).enumerate().filter(|(_, i)| claims(i)).map(|(n, _)| n).collect();
    assert_eq!(found.len(), 1, "pc_slot_claim has one compare-and-swap, in the object: {found:?}");
    let mut object = object.to_vec();
    object[found[0] * 8..][..8].copy_from_slice(&[0xb7, 0, 0, 0, 0, 0, 0, 0]);
    object
}

/// The calling thread and those that it starts run on one CPU.
pub fn pin_to(cpu: usize) {
    // SAFETY: cpu_set_t is plain data; the call reads it, and its size is passed.
    let done = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set)
    };
    assert_eq!(done, 0, "CPU {cpu}: {}", std::io::Error::last_os_error());
}

/// A connection from an address of this host.
fn connect_from(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let addr = |ip: Ipv4Addr, port: u16| libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(ip).to_be() },
        sin_zero: [0; 8],
    };
    let (from, to) = (addr(from, 0), addr(Ipv4Addr::LOCALHOST, to.port()));
    let size = size_of::<libc::sockaddr_in>() as u32;
    // SAFETY: the descriptor is checked; both addresses live through the calls, which read them.
    let (socket, done) = unsafe {
        let socket = owned(libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0).into());
        let socket = socket.expect("a socket");
        let bound = libc::bind(socket.as_raw_fd(), (&raw const from).cast(), size);
        let done =
            if bound == 0 { libc::connect(socket.as_raw_fd(), (&raw const to).cast(), size) } else { bound };
        (socket, done)
    };
    assert_eq!(done, 0, "connecting: {}", std::io::Error::last_os_error());
    TcpStream::from(socket)
}

/// Packets of lo are handled by one CPU, whichever sends them.
fn steer(cpu: usize) -> std::io::Result<()> {
    // A sysfs of this namespace, mounted nowhere.
    let sysfs = sysfs()?;
    let path = c"class/net/lo/queues/rx-0/rps_cpus";
    // SAFETY: a live string; the descriptor is checked.
    let fd = unsafe { libc::openat(sysfs.as_raw_fd(), path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
    let mut file = fs::File::from(owned(fd.into())?);
    write!(file, "{:x}", 1_u64 << cpu)
}

fn sysfs() -> std::io::Result<OwnedFd> {
    const CMD_CREATE: libc::c_long = 6;
    let name: &CStr = c"sysfs";
    // SAFETY: live strings and integers; each descriptor is checked before it is used.
    unsafe {
        let context = owned(libc::syscall(libc::SYS_fsopen, name.as_ptr(), 1))?;
        let none = std::ptr::null::<libc::c_char>();
        if libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), CMD_CREATE, none, none, 0) < 0 {
            return Err(std::io::Error::last_os_error());
        }
        owned(libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), 1, 0))
    }
}

fn owned(fd: libc::c_long) -> std::io::Result<OwnedFd> {
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: a call of the caller made this descriptor and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
