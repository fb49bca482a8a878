//! The test application: a small HTTP/1.1 server that counts requests and keeps the exact bytes that it read.
//!
//! It is driven over its standard input, one command a line, one JSON answer a line:
//! `count` → `{"requests":N,"bytes":N}`; `take` → `{"streams":[base64…]}`, one stream a connection since the last
//! `take`. The first line of output is `{"port":N}`. End of input ends the process, so it never outlives its runner.
//!
//! **Invariant:** the answer to a request depends on that request alone: two runs can be compared byte by byte.

use std::io::{self, BufRead, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the server has seen.
#[derive(Default)]
struct Seen {
    requests: u64,
    bytes: u64,
    streams: Vec<Vec<u8>>,
    /// Number of the first stream in `streams`: those taken before it are gone.
    first: usize,
}

/// What the next bytes of a connection are.
enum Next {
    /// Not a whole request yet.
    Partial,
    /// A request of this many bytes, and whether the connection stays open behind it.
    Request { length: usize, keep: bool, line: String },
    /// Not HTTP/1.1.
    Bad,
}

/// Serves on loopback until standard input ends. For the `main` of a process of its own.
pub fn main() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let seen = Arc::new(Mutex::new(Seen::default()));
    let listener = runtime.block_on(TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))?;
    let port = listener.local_addr()?.port();
    let control = Arc::clone(&seen);
    let ended = std::thread::spawn(move || answer_commands(port, &control));
    runtime.block_on(async {
        let mut ended = tokio::task::spawn_blocking(move || ended.join());
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    if let Ok((stream, _)) = accepted {
                        tokio::spawn(serve(stream, Arc::clone(&seen)));
                    }
                }
                _ = &mut ended => return Ok(()),
            }
        }
    })
}

fn answer_commands(port: u16, seen: &Mutex<Seen>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", json!({ "port": port }))?;
    out.flush()?;
    for line in io::stdin().lock().lines() {
        let answer = match line?.trim() {
            "count" => {
                let seen = lock(seen);
                json!({ "requests": seen.requests, "bytes": seen.bytes })
            }
            "take" => {
                let mut seen = lock(seen);
                let streams = std::mem::take(&mut seen.streams);
                seen.first += streams.len();
                let streams: Vec<String> =
                    streams.iter().filter(|s| !s.is_empty()).map(|s| STANDARD.encode(s)).collect();
                json!({ "streams": streams })
            }
            other => json!({ "error": format!("unknown command `{other}`") }),
        };
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

async fn serve(mut stream: TcpStream, seen: Arc<Mutex<Seen>>) {
    let id = {
        let mut seen = lock(&seen);
        seen.streams.push(Vec::new());
        seen.first + seen.streams.len() - 1
    };
    // Errors of a connection end that connection; the client sees them.
    drop(stream.set_nodelay(true));
    let mut pending = Vec::new();
    loop {
        let mut buffer = [0_u8; 16 << 10];
        let Ok(length @ 1..) = stream.read(&mut buffer).await else { return };
        pending.extend_from_slice(&buffer[..length]);
        lock(&seen).read(id, &buffer[..length]);
        loop {
            let (reply, keep) = match next(&pending) {
                Next::Partial => break,
                Next::Bad => (reply(400, "bad request\n", false), false),
                Next::Request { length, keep, line } => {
                    pending.drain(..length);
                    lock(&seen).requests += 1;
                    (reply(200, &format!("{line}\n"), keep), keep)
                }
            };
            if stream.write_all(reply.as_bytes()).await.is_err() || !keep {
                drop(stream.shutdown().await);
                return;
            }
        }
    }
}

fn next(bytes: &[u8]) -> Next {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut fields);
    let head = match request.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) => return Next::Partial,
        Err(_) => return Next::Bad,
    };
    let field = |name: &str| {
        let found = request.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name));
        found.map(|h| String::from_utf8_lossy(h.value).to_ascii_lowercase())
    };
    let body = match (field("transfer-encoding"), field("content-length")) {
        (Some(coding), _) if coding == "chunked" => match chunked(&bytes[head..]) {
            Some(Ok(length)) => length,
            Some(Err(())) => return Next::Bad,
            None => return Next::Partial,
        },
        (Some(_), _) => return Next::Bad,
        (None, Some(length)) => match length.trim().parse::<usize>() {
            Ok(length) if length <= 1 << 30 => length,
            _ => return Next::Bad,
        },
        (None, None) => 0,
    };
    if bytes.len() < head + body {
        return Next::Partial;
    }
    let keep = request.version == Some(1) && field("connection").is_none_or(|v| !v.contains("close"));
    let line = format!("{} {}", request.method.unwrap_or_default(), request.path.unwrap_or_default());
    Next::Request { length: head + body, keep, line }
}

/// Length of a whole chunked body; `None` while it is incomplete. Trailers are not supported.
fn chunked(bytes: &[u8]) -> Option<Result<usize, ()>> {
    let mut at = 0;
    loop {
        let line = at + bytes[at..].windows(2).position(|w| w == b"\r\n")?;
        let size = std::str::from_utf8(&bytes[at..line]).ok().and_then(|s| usize::from_str_radix(s, 16).ok());
        let Some(size) = size.filter(|size| *size <= 1 << 30) else { return Some(Err(())) };
        at = line + 2 + size + 2;
        if at > bytes.len() {
            return None;
        }
        if size == 0 {
            return Some(Ok(at));
        }
    }
}

fn reply(status: u16, body: &str, keep: bool) -> String {
    let reason = if status == 200 { "OK" } else { "Bad Request" };
    let connection = if keep { "keep-alive" } else { "close" };
    format!(
        "HTTP/1.1 {status} {reason}\r\nServer: portcullis-app\r\nContent-Type: text/plain\r\n\
         Content-Length: {}\r\nConnection: {connection}\r\n\r\n{body}",
        body.len()
    )
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Seen ===

impl Seen {
    fn read(&mut self, id: usize, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        match id.checked_sub(self.first).and_then(|n| self.streams.get_mut(n)) {
            Some(stream) => stream.extend_from_slice(bytes),
            // The connection's first part was taken: what follows is a stream of its own, so that nothing is lost.
            None => self.streams.push(bytes.to_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(bytes: &[u8]) -> Option<usize> {
        match next(bytes) {
            Next::Request { length, .. } => Some(length),
            Next::Partial | Next::Bad => None,
        }
    }

    #[test]
    fn requests_end_where_their_framing_says() {
        let plain = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(length(plain), Some(plain.len()));
        let body = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET";
        assert_eq!(length(body), Some(body.len() - 3));
        assert_eq!(length(&body[..body.len() - 4]), None);
        let chunks = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        assert_eq!(length(chunks), Some(chunks.len()));
        assert_eq!(length(&chunks[..chunks.len() - 1]), None);
    }
}
