//! One client connection that sends a request, waits for the whole answer, and knows how long that took.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::FromRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A connection.
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

// === impl Client ===

impl Client {
    /// Connects.
    pub fn connect(addr: SocketAddr) -> Result<Client> {
        let stream = TcpStream::connect(addr).with_context(|| format!("connecting to {addr}"))?;
        Client::over(stream).context("setting up a connection")
    }

    /// Over a connection that is there.
    pub fn over(stream: TcpStream) -> io::Result<Client> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Client { stream, buffer: vec![0; 65536] })
    }

    /// Sends `request` and waits for the answer: its status, and nanoseconds from the first byte sent to the last read.
    pub fn round_trip(&mut self, request: &[u8]) -> Result<(u16, u64)> {
        let start = Instant::now();
        self.stream.write_all(request).context("sending a request")?;
        let mut n = 0;
        loop {
            let got = self.stream.read(&mut self.buffer[n..]).context("waiting for an answer")?;
            if got == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof)).context("waiting for an answer");
            }
            n += got;
            if let Some(status) = whole(&self.buffer[..n]) {
                let took = start.elapsed();
                return Ok((status, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)));
            }
        }
    }

    /// `count` round trips that must all be answered with `status`; the durations, nanoseconds.
    pub fn round(&mut self, request: &[u8], count: usize, status: u16) -> Result<Vec<u64>> {
        let mut took = Vec::with_capacity(count);
        for _ in 0..count {
            let (got, ns) = self.round_trip(request)?;
            if got != status {
                bail!(
                    "a request was answered {got}, expected {status}: the figures would be of something else"
                );
            }
            took.push(ns);
        }
        Ok(took)
    }
}

/// A connection from a chosen address of this machine.
pub fn connect_from(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let SocketAddr::V4(to) = to else { return Err(io::Error::from(io::ErrorKind::Unsupported)) };
    let address = |ip: Ipv4Addr, port: u16| libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(ip).to_be() },
        sin_zero: [0; 8],
    };
    let check = |result: libc::c_int| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) };
    let size = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    // SAFETY: the descriptor is fresh and owned by the stream from then on; addresses and flag live through the calls.
    unsafe {
        let fd = check(libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0))?;
        let stream = TcpStream::from_raw_fd(fd);
        let on: libc::c_int = 1;
        // The port is chosen at connect, per destination.
        let option = (&raw const on).cast();
        check(libc::setsockopt(
            fd,
            libc::SOL_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            option,
            size_of_val(&on) as u32,
        ))?;
        let local = address(from, 0);
        check(libc::bind(fd, (&raw const local).cast(), size))?;
        let remote = address(*to.ip(), to.port());
        check(libc::connect(fd, (&raw const remote).cast(), size))?;
        Ok(stream)
    }
}

/// Status of the answer when `bytes` hold all of it.
fn whole(bytes: &[u8]) -> Option<u16> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let status = head.get(9..12)?.parse().ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    (bytes.len() >= end + length.unwrap_or(0)).then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_with_its_body() {
        assert_eq!(whole(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no"), None);
        assert_eq!(whole(b"HTTP/1.1 401 x\r\ncontent-length: 2\r\n\r\nok"), Some(401));
        assert_eq!(whole(b"HTTP/1.1 200 OK\r\n"), None);
    }
}
