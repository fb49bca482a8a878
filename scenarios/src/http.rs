//! A small HTTP/1.1 client that keeps the exact bytes of every answer.
//!
//! **Invariant:** nothing is normalised: what [`Answer::raw`] holds is what the socket gave.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// One answer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Answer {
    /// Status code.
    pub status: u16,
    /// Header fields, names as they came.
    pub headers: Vec<(String, String)>,
    /// Body, transfer coding removed.
    pub body: Vec<u8>,
    /// Every byte.
    pub raw: Vec<u8>,
    /// Whether the connection can carry another request.
    pub reusable: bool,
}

/// What came back for one text that was sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    /// Answers, in order.
    pub answers: Vec<Answer>,
    /// Bytes behind them, when the end of the connection was waited for.
    pub extra: Vec<u8>,
    /// Whether the server closed the connection; `None` when that was not looked at.
    pub closed: Option<bool>,
    /// Why there are fewer answers than were wanted.
    pub error: Option<String>,
}

/// A connection to one address.
pub(crate) struct Connection {
    stream: TcpStream,
    /// Bytes read behind the end of the last answer.
    ahead: Vec<u8>,
}

/// Longest time for one exchange. Loopback answers in microseconds; this is a bound on hanging.
const EXCHANGE_MAX: Duration = Duration::from_secs(10);
/// Longest time for the server to close behind its last answer.
const CLOSE_MAX: Duration = Duration::from_secs(3);
const SEGMENT_PAUSE: Duration = Duration::from_micros(300);
const HEADERS_MAX: usize = 64;
const HEAD_BYTES_MAX: usize = 64 << 10;

// === impl Connection ===

impl Connection {
    /// Connects.
    pub(crate) async fn open(addr: SocketAddr) -> io::Result<Connection> {
        let stream =
            timeout(EXCHANGE_MAX, TcpStream::connect(addr)).await.map_err(|_| timed_out("connect"))??;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, ahead: Vec::new() })
    }

    /// The client's port: how a record of the access log is known to be about this connection.
    pub(crate) fn local_port(&self) -> io::Result<u16> {
        Ok(self.stream.local_addr()?.port())
    }

    /// Sends `bytes`, in pieces of `segment_bytes` if given, and reads `wanted` answers; then, with `to_end`, waits
    /// for the server to close.
    pub(crate) async fn converse(
        &mut self,
        bytes: &[u8],
        segment_bytes: Option<u32>,
        wanted: usize,
        to_end: bool,
    ) -> Reply {
        let head = bytes.starts_with(b"HEAD ");
        let mut reply = Reply::default();
        // A server that answers early and closes makes the rest of the text undeliverable: what it said counts.
        let sent = self.send(bytes, segment_bytes).await;
        while reply.answers.len() < wanted {
            match timeout(EXCHANGE_MAX, self.read_answer(head)).await {
                Ok(Ok(answer)) => reply.answers.push(answer),
                Ok(Err(error)) => {
                    reply.error =
                        Some(sent.err().map_or(error.to_string(), |e| format!("{error}; sending: {e}")));
                    return reply;
                }
                Err(_) => {
                    reply.error = Some(timed_out("no whole answer").to_string());
                    return reply;
                }
            }
        }
        if to_end {
            let mut rest = std::mem::take(&mut self.ahead);
            let end = timeout(CLOSE_MAX, self.stream.read_to_end(&mut rest)).await;
            // A reset is an end too: the server had bytes of ours that it never read.
            reply.closed = Some(end.is_ok());
            reply.extra = rest;
        }
        reply
    }

    async fn send(&mut self, bytes: &[u8], segment_bytes: Option<u32>) -> io::Result<()> {
        let size = segment_bytes.map_or(bytes.len(), |n| n as usize).max(1);
        for piece in bytes.chunks(size) {
            timeout(EXCHANGE_MAX, self.stream.write_all(piece)).await.map_err(|_| timed_out("sent"))??;
            if piece.len() < bytes.len() {
                // Without Nagle every write is a segment; the pause keeps the kernel from joining them in a queue.
                tokio::time::sleep(SEGMENT_PAUSE).await;
            }
        }
        Ok(())
    }

    /// Sends `request` and reads one answer. `head` tells that the request's method is HEAD.
    pub(crate) async fn exchange(&mut self, request: &[u8], head: bool) -> io::Result<Answer> {
        let work = async {
            self.stream.write_all(request).await?;
            self.read_answer(head).await
        };
        timeout(EXCHANGE_MAX, work).await.map_err(|_| timed_out("no whole answer"))?
    }

    async fn read_answer(&mut self, head: bool) -> io::Result<Answer> {
        let mut raw = std::mem::take(&mut self.ahead);
        let mut answer = loop {
            match parse_head(&raw)? {
                Some(answer) => break answer,
                None if raw.len() > HEAD_BYTES_MAX => return Err(bad("answer head is too long")),
                None => self.more(&mut raw).await?,
            }
        };
        let start = answer.raw.len();
        let end = if head || matches!(answer.status, 100..=199 | 204 | 304) {
            start
        } else if answer.field("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
            self.read_chunks(&mut raw, start, &mut answer.body).await?
        } else if let Some(length) = answer.field("content-length") {
            let length: usize = length.trim().parse().map_err(|_| bad("bad Content-Length"))?;
            while raw.len() < start + length {
                self.more(&mut raw).await?;
            }
            answer.body = raw[start..start + length].to_vec();
            start + length
        } else {
            answer.reusable = false;
            self.stream.read_to_end(&mut raw).await?;
            answer.body = raw[start..].to_vec();
            raw.len()
        };
        self.ahead = raw.split_off(end);
        answer.raw = raw;
        Ok(answer)
    }

    async fn read_chunks(
        &mut self,
        raw: &mut Vec<u8>,
        mut at: usize,
        body: &mut Vec<u8>,
    ) -> io::Result<usize> {
        loop {
            let line = loop {
                match raw[at..].windows(2).position(|w| w == b"\r\n") {
                    Some(n) => break at + n,
                    None => self.more(raw).await?,
                }
            };
            let size = std::str::from_utf8(&raw[at..line])
                .ok()
                .and_then(|s| usize::from_str_radix(s.trim(), 16).ok());
            let size = size.ok_or_else(|| bad("bad chunk size"))?;
            let end = line + 2 + size + 2;
            while raw.len() < end {
                self.more(raw).await?;
            }
            body.extend_from_slice(&raw[line + 2..line + 2 + size]);
            at = end;
            if size == 0 {
                return Ok(at);
            }
        }
    }

    async fn more(&mut self, raw: &mut Vec<u8>) -> io::Result<()> {
        let had = raw.len();
        raw.reserve(4096);
        if self.stream.read_buf(raw).await? == 0 {
            let message = format!("connection closed after {had} bytes of the answer");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        Ok(())
    }
}

// === impl Answer ===

impl Answer {
    /// Value of the first field of that name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
}

/// Head of an answer, with `raw` as its bytes; `None` while incomplete.
fn parse_head(bytes: &[u8]) -> io::Result<Option<Answer>> {
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(e) => return Err(bad(&format!("answer is not HTTP/1.x: {e}"))),
    };
    let text = |v: &[u8]| String::from_utf8_lossy(v).into_owned();
    let headers: Vec<_> = response.headers.iter().map(|h| (h.name.to_owned(), text(h.value))).collect();
    let mut answer = Answer {
        status: response.code.unwrap_or_default(),
        headers,
        body: Vec::new(),
        raw: bytes[..length].to_vec(),
        reusable: response.version == Some(1),
    };
    if answer.field("connection").is_some_and(|v| v.to_ascii_lowercase().contains("close")) {
        answer.reusable = false;
    }
    Ok(Some(answer))
}

fn bad(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

fn timed_out(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{what} within {} s", EXCHANGE_MAX.as_secs()))
}
