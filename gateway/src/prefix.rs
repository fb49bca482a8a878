//! A socket, and what was read of it already.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// What a connection is made of.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// From now on its end is a reset (RFC 9293 section 3.10.7): the client gets nothing that it could mistake for an
    /// answer.
    fn reset(&self);
}

impl Socket for TcpStream {
    fn reset(&self) {
        // Without it the client sees an end of stream instead.
        drop(self.set_zero_linger());
    }
}

impl Socket for TlsStream<TcpStream> {
    fn reset(&self) {
        self.get_ref().0.reset();
    }
}

/// A socket whose first bytes were read to see what it speaks.
#[derive(Debug)]
pub(crate) struct Prefixed<S> {
    read: Vec<u8>,
    inner: S,
}

/// RFC 9113 section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// === impl Prefixed ===

impl<S: Socket> Prefixed<S> {
    /// Reads until it is known whether the client speaks HTTP/2.
    pub(crate) async fn sniff(mut inner: S) -> io::Result<(Prefixed<S>, bool)> {
        let mut read = Vec::with_capacity(SNIFF);
        loop {
            let begins = read.len().min(PREFACE.len());
            if read[..begins] != PREFACE[..begins] {
                return Ok((Prefixed { read, inner }, false));
            }
            if begins == PREFACE.len() {
                return Ok((Prefixed { read, inner }, true));
            }
            if inner.read_buf(&mut read).await? == 0 {
                return Ok((Prefixed { read, inner }, false));
            }
        }
    }
}

/// A request head that arrives whole is read whole.
const SNIFF: usize = 64 << 10;

impl<S: Socket> Socket for Prefixed<S> {
    fn reset(&self) {
        self.inner.reset();
    }
}

impl<S: Socket> AsyncRead for Prefixed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        let taken = self.read.len().min(buf.remaining());
        buf.put_slice(&self.read[..taken]);
        self.read.drain(..taken);
        Poll::Ready(Ok(()))
    }
}

impl<S: Socket> AsyncWrite for Prefixed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
