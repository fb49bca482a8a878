//! A TCP peer written by hand, which sends any segment in any order: raw sockets, no device.
//!
//! The kernel would answer the application's segments to an address of its own host with a reset. So the peer's port is
//! held by a listening socket whose filter drops everything: what is dropped there is not answered. A raw socket gets its
//! copy before that.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// One connection to an application on 127.0.0.1.
pub struct Peer {
    raw: OwnedFd,
    _swallows: OwnedFd,
    port: u16,
    to: u16,
    /// Sequence number of the first byte of each direction.
    first: u32,
    their_first: u32,
    /// Bytes of theirs, in order.
    got: Vec<u8>,
    /// Bytes of ours that they acknowledged, and how many more they want.
    pub acked: u32,
    pub window: u32,
    pub ended: bool,
}

/// What it sends from.
const ADDR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
/// No window scaling is offered, so this is all that it takes.
const WINDOW: u16 = 60_000;

// === impl Peer ===

impl Peer {
    pub fn connect(to: SocketAddr, first: u32) -> io::Result<Peer> {
        let mut peer = Peer::new(to, first)?;
        peer.segment(SYN, first, &[])?;
        for _ in 0..100 {
            if peer.take()? && peer.their_first != 0 {
                peer.segment(ACK, peer.first, &[])?;
                return Ok(peer);
            }
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "no answer to the SYN"))
    }

    /// Opens at the same time as the other end, which `connect` makes connect to this one (RFC 9293 section 3.5, figure 7).
    pub fn meet(to: SocketAddr, first: u32, connect: impl FnOnce(SocketAddr)) -> io::Result<Peer> {
        let mut peer = Peer::new(to, first)?;
        connect(SocketAddr::from((ADDR, peer.port)));
        for _ in 0..100 {
            if peer.take()? && peer.their_first != 0 {
                peer.segment(SYN, first, &[])?;
                // Their SYN again, with an acknowledgement this time.
                while !peer.take()? {}
                peer.segment(ACK, peer.first, &[])?;
                return Ok(peer);
            }
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "no SYN of the other end"))
    }

    fn new(to: SocketAddr, first: u32) -> io::Result<Peer> {
        let swallows = socket(libc::SOCK_STREAM, 0)?;
        // BPF_RET | BPF_K: no byte is kept.
        let code = [libc::sock_filter { code: 6, jt: 0, jf: 0, k: 0 }];
        let filter = libc::sock_fprog { len: 1, filter: code.as_ptr().cast_mut() };
        option(&swallows, libc::SO_ATTACH_FILTER, &filter)?;
        bind(&swallows)?;
        // SAFETY: an integer and a live descriptor.
        check(unsafe { libc::listen(swallows.as_raw_fd(), 1) })?;
        let raw = socket(libc::SOCK_RAW, libc::IPPROTO_TCP)?;
        bind(&raw)?;
        let wait = libc::timeval { tv_sec: 0, tv_usec: 20_000 };
        option(&raw, libc::SO_RCVTIMEO, &wait)?;
        let port = port(&swallows)?;
        Ok(Peer {
            raw,
            _swallows: swallows,
            port,
            to: to.port(),
            first: first.wrapping_add(1),
            their_first: 0,
            got: Vec::new(),
            acked: 0,
            window: 0,
            ended: false,
        })
    }

    /// Sends bytes as those from `at` on of the stream, whether that is their place or not.
    pub fn send(&mut self, at: u32, bytes: &[u8]) {
        self.segment(ACK, self.first.wrapping_add(at), bytes).expect("sending");
        self.drain();
    }

    /// As `send`, with the end of this side behind the bytes.
    pub fn send_last(&mut self, at: u32, bytes: &[u8]) {
        self.segment(ACK | FIN, self.first.wrapping_add(at), bytes).expect("sending");
        self.drain();
    }

    /// Ends this side at `at`.
    pub fn finish(&mut self, at: u32) {
        self.segment(ACK | FIN, self.first.wrapping_add(at), &[]).expect("sending");
        self.drain();
    }

    /// Handles what has arrived.
    pub fn drain(&mut self) {
        while self.receive(libc::MSG_DONTWAIT).expect("receiving") {}
    }

    /// What the application sent, when it holds `wanted`, or the connection has ended, or some time has passed.
    pub fn answer(&mut self, wanted: &str, limit: Duration) -> String {
        let rounds = limit.as_millis() / 20;
        for _ in 0..rounds {
            let text = String::from_utf8_lossy(&self.got).into_owned();
            if self.ended || text.contains(wanted) {
                return text;
            }
            self.take().expect("receiving");
        }
        String::from_utf8_lossy(&self.got).into_owned()
    }

    /// Waits a moment for a segment and handles it; `false`: there was none.
    pub fn take(&mut self) -> io::Result<bool> {
        self.receive(0)
    }

    fn receive(&mut self, flags: i32) -> io::Result<bool> {
        let mut packet = [0_u8; 65_536];
        // SAFETY: a live buffer and its size.
        let read =
            unsafe { libc::recv(self.raw.as_raw_fd(), packet.as_mut_ptr().cast(), packet.len(), flags) };
        if read < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::WouldBlock { Ok(false) } else { Err(error) };
        }
        let header = usize::from(packet[0] & 15) * 4;
        self.handle(&packet[header..read as usize])?;
        Ok(true)
    }

    fn handle(&mut self, tcp: &[u8]) -> io::Result<()> {
        let (half, word) = (
            |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]),
            |at: usize| u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]),
        );
        if half(0) != self.to || half(2) != self.port {
            return Ok(());
        }
        let (seq, ack, flags) = (word(4), word(8), tcp[13]);
        let payload = &tcp[usize::from(tcp[12] >> 4) * 4..];
        if flags & RST != 0 {
            self.ended = true;
            return Ok(());
        }
        if flags & SYN != 0 {
            self.their_first = seq.wrapping_add(1);
        }
        if flags & ACK != 0 {
            self.acked = ack.wrapping_sub(self.first);
            self.window = u32::from(half(14));
        }
        let next = self.their_first.wrapping_add(self.got.len() as u32);
        if seq == next && !payload.is_empty() {
            self.got.extend(payload);
            self.segment(ACK, self.first.wrapping_add(self.acked), &[])?;
        }
        if flags & FIN != 0 && seq.wrapping_add(payload.len() as u32) == self.next() {
            self.ended = true;
        }
        Ok(())
    }

    fn next(&self) -> u32 {
        self.their_first.wrapping_add(self.got.len() as u32)
    }

    fn segment(&self, flags: u8, seq: u32, payload: &[u8]) -> io::Result<()> {
        let mut tcp = Vec::with_capacity(20 + payload.len());
        tcp.extend(self.port.to_be_bytes());
        tcp.extend(self.to.to_be_bytes());
        tcp.extend(seq.to_be_bytes());
        tcp.extend(self.next().to_be_bytes());
        tcp.extend([5 << 4, flags]);
        tcp.extend(WINDOW.to_be_bytes());
        tcp.extend([0; 4]);
        tcp.extend(payload);
        let sum = checksum(&tcp);
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        let to = address(Ipv4Addr::LOCALHOST, 0);
        // SAFETY: live bytes and their number, a live address and its size.
        let sent = unsafe {
            libc::sendto(
                self.raw.as_raw_fd(),
                tcp.as_ptr().cast(),
                tcp.len(),
                0,
                (&raw const to).cast(),
                size_of_val(&to) as u32,
            )
        };
        if sent == tcp.len() as isize { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The application's side ends too. Nobody waits for it.
        drop(self.segment(RST, self.first.wrapping_add(self.acked), &[]));
    }
}

/// RFC 9293 section 3.1: with the pseudo-header.
fn checksum(tcp: &[u8]) -> u16 {
    let mut sum: u32 = u32::from(libc::IPPROTO_TCP as u16) + tcp.len() as u32;
    let words = |bytes: &[u8]| -> u32 {
        let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        bytes.chunks(2).map(word).sum()
    };
    sum += words(&ADDR.octets()) + words(&Ipv4Addr::LOCALHOST.octets()) + words(tcp);
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn address(ip: Ipv4Addr, port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(ip).to_be() },
        sin_zero: [0; 8],
    }
}

fn socket(kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: integers only.
    let fd = unsafe { libc::socket(libc::AF_INET, kind | libc::SOCK_CLOEXEC, protocol) };
    check(fd.min(0))?;
    // SAFETY: the call above made this descriptor and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bind(socket: &OwnedFd) -> io::Result<()> {
    let at = address(ADDR, 0);
    // SAFETY: a live address and its size.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const at).cast(), size_of_val(&at) as u32) })
}

/// Sets an option of SOL_SOCKET.
pub fn option<T>(socket: &impl AsRawFd, name: i32, value: &T) -> io::Result<()> {
    let (value, size) = (std::ptr::from_ref(value).cast(), size_of::<T>() as u32);
    // SAFETY: a live value and its size.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, value, size) })
}

fn port(socket: &OwnedFd) -> io::Result<u16> {
    let mut at = address(ADDR, 0);
    let mut size = size_of_val(&at) as u32;
    // SAFETY: a live address to write to, and its size.
    check(unsafe { libc::getsockname(socket.as_raw_fd(), (&raw mut at).cast(), &raw mut size) })?;
    Ok(u16::from_be(at.sin_port))
}

fn check(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
