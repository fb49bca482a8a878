//! Bodies on their way through, piece by piece.
//!
//! **Invariant:** a piece is held until the other side takes it, and no second one is read meanwhile.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep};

use crate::fields;
use crate::lane::Ticket;

/// Why a body is broken off.
pub(crate) type Broken = io::Error;

/// The body of a request, for the application.
#[derive(Debug)]
pub(crate) struct RequestBody {
    inner: Patient,
    sending: Arc<Sending>,
}

/// How the body of a request fares.
#[derive(Debug, Default)]
pub(crate) struct Sending {
    /// Notified when all of it is read, or it is given up.
    pub(crate) done: Notify,
    pieces: AtomicU64,
    /// The application waits for the client.
    wanted: AtomicBool,
    broken: AtomicBool,
}

/// The body of a response, for the client.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    inner: Source,
    /// Held until the last byte is taken.
    _ticket: Option<Ticket>,
}

#[derive(Debug)]
enum Source {
    /// Our own words.
    Own(Full<Bytes>),
    /// The application's.
    Application(Patient),
}

/// A body that is given up when nothing of it comes for too long.
#[derive(Debug)]
struct Patient {
    inner: Incoming,
    idle: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

// === impl RequestBody ===

impl RequestBody {
    pub(crate) fn new(inner: Incoming, idle: Duration, sending: Arc<Sending>) -> RequestBody {
        RequestBody { inner: Patient::new(inner, idle), sending }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Poll::Ready(frame) = self.inner.poll(cx) else {
            self.sending.wanted.store(true, Ordering::Release);
            return Poll::Pending;
        };
        self.sending.wanted.store(false, Ordering::Release);
        self.sending.pieces.fetch_add(1, Ordering::Release);
        if let Some(Err(_)) = &frame {
            self.sending.broken.store(true, Ordering::Release);
        }
        Poll::Ready(frame.map(|frame| frame.map(without_identity)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.inner.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.sending.done.notify_one();
    }
}

// === impl Sending ===

impl Sending {
    /// How many pieces of it were taken; `None` while the next one is waited for.
    pub(crate) fn taken(&self) -> Option<u64> {
        (!self.wanted.load(Ordering::Acquire)).then(|| self.pieces.load(Ordering::Acquire))
    }

    /// Whether the client did not send all of it.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }
}

// === impl ResponseBody ===

impl ResponseBody {
    /// The application's.
    pub(crate) fn application(inner: Incoming, idle: Duration) -> ResponseBody {
        ResponseBody { inner: Source::Application(Patient::new(inner, idle)), _ticket: None }
    }

    /// Our own words.
    pub(crate) fn own(text: impl Into<Bytes>) -> ResponseBody {
        ResponseBody { inner: Source::Own(Full::new(text.into())), _ticket: None }
    }

    /// The same; the ticket is given back at its end.
    pub(crate) fn with_ticket(self, ticket: Ticket) -> ResponseBody {
        ResponseBody { _ticket: Some(ticket), ..self }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut self.inner {
            Source::Own(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            Source::Application(body) => body.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Source::Own(body) => body.is_end_stream(),
            Source::Application(body) => body.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Source::Own(body) => body.size_hint(),
            Source::Application(body) => body.inner.size_hint(),
        }
    }
}

// === impl Patient ===

impl Patient {
    fn new(inner: Incoming, idle: Duration) -> Patient {
        Patient { inner, idle, timer: None }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.timer = None;
                Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)))
            }
            Poll::Pending => {
                let idle = self.idle;
                let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(idle)));
                std::task::ready!(timer.as_mut().poll(cx));
                Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())))
            }
        }
    }
}

fn without_identity(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            fields::trailers(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

/// A timer that begins anew.
#[derive(Debug)]
pub(crate) struct Timer {
    sleep: Pin<Box<Sleep>>,
}

// === impl Timer ===

impl Timer {
    pub(crate) fn new(time: Duration) -> Timer {
        Timer { sleep: Box::pin(sleep(time)) }
    }

    pub(crate) fn reset(&mut self, time: Duration) {
        self.sleep.as_mut().reset(Instant::now() + time);
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sleep.as_mut().poll(cx)
    }
}
