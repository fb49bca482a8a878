//! A client that sends exactly the bytes it is told to and reads whole responses.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Response {
    pub status: u16,
    /// Head, as received.
    pub head: String,
    pub body: String,
}

impl Client {
    pub fn connect(addr: SocketAddr) -> Client {
        Client::over(TcpStream::connect_timeout(&addr, Duration::from_secs(5)).expect("connecting"))
    }

    pub fn over(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
        stream.set_nodelay(true).expect("nodelay");
        Client { stream, buffer: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("sending");
    }

    /// Sends one byte as urgent data (RFC 9293 section 3.8.5).
    pub fn send_urgent(&mut self, byte: u8) {
        // SAFETY: the byte lives through the call, and it is one.
        let sent = unsafe {
            libc::send(
                self.stream.as_raw_fd(),
                (&raw const byte).cast(),
                1,
                libc::MSG_OOB | libc::MSG_NOSIGNAL,
            )
        };
        assert_eq!(sent, 1, "{}", io::Error::last_os_error());
    }

    /// Sends the last bytes of this side; the FIN is in the same segment.
    pub fn send_last(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.stream.set_nodelay(false).expect("delay");
        // SAFETY: the bytes live through the call, and their number is passed.
        let sent = unsafe {
            libc::send(self.stream.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), libc::MSG_MORE)
        };
        assert_eq!(sent, bytes.len() as isize, "{}", io::Error::last_os_error());
        self.finish();
    }

    /// Shuts this side down.
    pub fn finish(&self) {
        self.stream.shutdown(Shutdown::Write).expect("shutting down");
    }

    /// Ends the connection with RST.
    pub fn abort(&self) {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        // SAFETY: the option lives through the call, and its size is passed.
        let set = unsafe {
            libc::setsockopt(
                self.stream.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                (&raw const linger).cast(),
                size_of::<libc::linger>() as libc::socklen_t,
            )
        };
        assert_eq!(set, 0, "{}", io::Error::last_os_error());
    }

    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    pub fn timeout(&mut self, limit: Duration) {
        self.stream.set_read_timeout(Some(limit)).expect("timeout");
    }

    /// Sends and reads one response.
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Response {
        let request = request.as_ref();
        self.send(request);
        self.response()
            .unwrap_or_else(|e| panic!("{e} instead of a response to {:?}", String::from_utf8_lossy(request)))
    }

    /// The next response; an error also when the connection ends before one.
    pub fn response(&mut self) -> io::Result<Response> {
        self.read_response(false)
    }

    /// The next response, to a HEAD request.
    pub fn head_response(&mut self) -> io::Result<Response> {
        self.read_response(true)
    }

    /// The next bytes, whatever they are.
    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        while self.buffer.len() < n {
            self.more().expect("more bytes");
        }
        self.buffer.drain(..n).collect()
    }

    /// Whether the connection ends, by FIN or RST, within the timeout and without another byte.
    pub fn ends(&mut self) -> bool {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(read) => read == 0 && self.buffer.is_empty(),
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    fn read_response(&mut self, no_body: bool) -> io::Result<Response> {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break end + 4;
            }
            self.more()?;
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        let lower = head.to_ascii_lowercase();
        let length =
            lower.split("\ncontent-length:").nth(1).and_then(|v| v.lines().next()?.trim().parse().ok());
        let length: usize =
            if no_body || status < 200 { 0 } else { length.ok_or(io::ErrorKind::InvalidData)? };
        while self.buffer.len() < end + length {
            self.more()?;
        }
        let body = String::from_utf8_lossy(&self.buffer[end..end + length]).into_owned();
        self.buffer.drain(..end + length);
        Ok(Response { status, head, body })
    }

    fn more(&mut self) -> io::Result<()> {
        let mut chunk = [0; 16_384];
        match self.stream.read(&mut chunk)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.buffer.extend(&chunk[..read]);
                Ok(())
            }
        }
    }
}

impl Response {
    pub fn has(&self, field: &str) -> bool {
        self.head.contains(&format!("\r\n{field}"))
    }
}

/// A GET request.
pub fn get(path: &str, token: Option<&str>) -> String {
    let bearer = token.map(|t| format!("Authorization: Bearer {t}\r\n")).unwrap_or_default();
    format!("GET {path} HTTP/1.1\r\nHost: app.example\r\n{bearer}\r\n")
}

/// One request on a connection of its own.
pub fn once(addr: SocketAddr, request: impl AsRef<[u8]>) -> Response {
    Client::connect(addr).ask(request)
}
