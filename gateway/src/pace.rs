//! Streams of HTTP/2 whose client takes nothing of its response: flow control would let it hold them for ever (RFC 9113
//! section 5.2).

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use tokio::time::{Instant, sleep, sleep_until};

use crate::body::{Broken, ResponseBody};

/// Runs streams, each for as long as its client takes something of its response every so often.
#[derive(Clone, Debug)]
pub(crate) struct Streams {
    pub(crate) patience: Duration,
}

/// How the client of one stream takes its response.
#[derive(Debug, Default)]
struct Pace {
    /// Since when a piece waits for the client; `None` while it waits for us.
    held_since: Mutex<Option<Instant>>,
}

/// The body of a response, in pieces, and what is held for as long as it is under way.
#[derive(Debug)]
pub(crate) struct Paced<T> {
    inner: ResponseBody,
    /// The rest of what the application's body gave.
    rest: Bytes,
    pace: Option<Arc<Pace>>,
    _held: T,
}

tokio::task_local! {
    /// Of the stream whose task it is.
    static PACE: Arc<Pace>;
}

/// A client that takes this much of a response within its patience is not let go.
const PIECE_BYTES_MAX: usize = 16 << 10;

// === impl Streams ===

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let (pace, patience) = (Arc::new(Pace::default()), self.patience);
        let stalled = Arc::clone(&pace);
        tokio::spawn(PACE.scope(pace, async move {
            // A stream that is dropped is reset.
            tokio::select! {
                () = stream => {}
                () = stalled.stalled(patience) => {}
            }
        }));
    }
}

// === impl Pace ===

impl Pace {
    fn held_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.held_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a piece was held for too long.
    async fn stalled(&self, patience: Duration) {
        loop {
            let since = *self.held_since();
            match since {
                None => sleep(patience).await,
                Some(since) if since.elapsed() < patience => sleep_until(since + patience).await,
                Some(_) => return,
            }
        }
    }
}

// === impl Paced ===

impl<T> Paced<T> {
    /// To be called by the task of the stream.
    pub(crate) fn new(inner: ResponseBody, held: T) -> Paced<T> {
        Paced { inner, rest: Bytes::new(), pace: PACE.try_with(Arc::clone).ok(), _held: held }
    }

    fn held_since(&self, since: Option<Instant>) {
        if let Some(pace) = &self.pace {
            *pace.held_since() = since;
        }
    }
}

impl<T: Unpin> Body for Paced<T> {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.held_since(None);
        if self.rest.is_empty() {
            match std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    // Trailers are under no flow control.
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                end => return Poll::Ready(end),
            }
        }
        // The stack asks for the next piece when the client has taken this one.
        self.held_since(Some(Instant::now()));
        let length = self.rest.len().min(PIECE_BYTES_MAX);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, rest) = (self.inner.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}
