//! The guard in front of the HTTP/1 stack: every byte of the client goes through [`Judge`] before the stack sees it.
//!
//! A segment that begins with a head is judged when no response is owed any more, so that an answer of the guard never
//! stands within a response of the application. What comes earlier waits, one segment of it; more is not read.
//!
//! **Invariant:** records are reported before the client or the application sees anything of their decisions.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::body::Timer;
use crate::gateway::Shared;
use crate::judge::{Judge, Judged, Outcome};
use crate::lane::Lane;
use crate::prefix::Socket;
use crate::serve::{Peer, Slot};

/// A client's connection, as the HTTP stack sees it.
pub(crate) struct Guard<S> {
    io: S,
    peer: SocketAddr,
    shared: Arc<Shared>,
    lane: Arc<Lane>,
    /// Room for a connection. A tunnel keeps the guard, and with it the room.
    _slot: Slot,
    judge: Judge,
    /// For the stack, and how much of it was taken.
    passed: (Vec<u8>, usize),
    /// A segment that came while a response was owed.
    ahead: Option<Vec<u8>>,
    /// For the client, how much of it was written, and whether it is the last.
    answer: Option<(Vec<u8>, usize, bool)>,
    end: End,
    phase: Phase,
    timer: Timer,
    /// By [`Writer`]: how long the client has taken nothing.
    stalled: [Option<Timer>; 2],
    linger: Option<Timer>,
}

/// Whether the stack is given anything more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// It is.
    Open,
    /// No: the client was answered for the last time, and may not have read that yet.
    Answered,
    /// No: the client sends no more.
    Read,
    /// No, and the client is not to take anything for an answer.
    Reset,
}

/// Who writes to the client.
#[derive(Clone, Copy, Debug)]
enum Writer {
    /// The guard, answers of its own.
    Guard = 0,
    /// The HTTP stack, responses.
    Stack = 1,
}

/// What the client is waited for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// The first head of a connection.
    First,
    /// A next head.
    Idle,
    /// The rest of a head.
    Head,
    /// The rest of a body.
    Body,
    /// Nothing: it waits for a response itself, or speaks another protocol.
    Nothing,
}

/// More than a head may have, so that one that arrives whole is read whole.
const SEGMENT_BYTES_MAX: usize = 64 << 10;
/// A client that was answered for the last time may take this long to hang up.
const LINGER_MAX: Duration = Duration::from_secs(1);
const TIMED_OUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\nCache-Control: no-store\r\n\r\n";

// === impl Guard ===

impl<S: Socket> Guard<S> {
    pub(crate) fn new(io: S, peer: &Peer, lane: Arc<Lane>) -> Guard<S> {
        let Peer { shared, addr, slot, .. } = peer.clone();
        Guard {
            io,
            peer: addr,
            _slot: slot,
            judge: Judge::new(shared.port(), shared.decision_ids()),
            timer: Timer::new(shared.timeouts().head),
            shared,
            lane,
            passed: (Vec::new(), 0),
            ahead: None,
            answer: None,
            end: End::Open,
            phase: Phase::First,
            stalled: [None, None],
            linger: None,
        }
    }

    /// Gives the stack what passed.
    fn give(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let (bytes, taken) = &mut self.passed;
        if *taken == bytes.len() {
            return false;
        }
        let some = (bytes.len() - *taken).min(buf.remaining());
        buf.put_slice(&bytes[*taken..*taken + some]);
        *taken += some;
        if *taken == bytes.len() {
            self.passed = (Vec::new(), 0);
        }
        true
    }

    /// Gives the client what it is answered.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some((text, written, close)) = &mut self.answer {
            if *written < text.len() {
                let some = Pin::new(&mut self.io).poll_write(cx, &text[*written..]);
                let some = ready!(self.within_patience(cx, some, Writer::Guard))?;
                if let Some((_, written, _)) = &mut self.answer {
                    *written += some;
                }
            } else {
                let close = *close;
                let flushed = Pin::new(&mut self.io).poll_flush(cx);
                ready!(self.within_patience(cx, flushed, Writer::Guard))?;
                if close {
                    self.end = End::Answered;
                }
                self.answer = None;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// What became of writing, for a client that may take only so long to read what it was given.
    fn within_patience<T>(
        &mut self,
        cx: &mut Context<'_>,
        done: Poll<io::Result<T>>,
        writer: Writer,
    ) -> Poll<io::Result<T>> {
        let idle = self.shared.timeouts().idle;
        // The stack may flush nothing while an answer of the guard's waits.
        let stalled = &mut self.stalled[writer as usize];
        // A tunnel is as slow as its ends like, but the 101 before it is a response.
        if done.is_ready() || (self.lane.is_tunnel() && !self.lane.is_owed()) {
            *stalled = None;
            return done;
        }
        ready!(stalled.get_or_insert_with(|| Timer::new(idle)).poll(cx));
        self.reset();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// The next segment; an empty one at the end.
    fn poll_segment(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Vec<u8>>> {
        let waits = !self.lane.is_tunnel() && self.judge.is_in_head() && self.lane.is_owed();
        if let Some(segment) = self.ahead.take_if(|_| !waits) {
            return Poll::Ready(Ok(segment));
        }
        if waits {
            self.lane.wake(cx.waker());
            if self.ahead.is_none() {
                // To see whether the client is still there.
                let segment = ready!(self.poll_socket(cx))?;
                if segment.is_empty() {
                    return Poll::Ready(Ok(segment));
                }
                self.ahead = Some(segment);
            }
            // The response may have gone meanwhile.
            return if self.lane.is_owed() { Poll::Pending } else { self.poll_segment(cx) };
        }
        self.poll_socket(cx)
    }

    fn poll_socket(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Vec<u8>>> {
        let mut space = [MaybeUninit::uninit(); SEGMENT_BYTES_MAX];
        let mut read = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut read))?;
        Poll::Ready(Ok(read.filled().to_vec()))
    }

    fn judge(&mut self, segment: &[u8]) {
        let rules = self.shared.rules();
        if !self.lane.is_owed() {
            self.judge.responses_given();
        }
        let begin = Instant::now();
        let now = self.shared.now();
        let Some(rules) = rules else {
            self.answer = Some((crate::problem::unconfigured(), 0, true));
            return;
        };
        let Judged { outcome, records } = self.judge.segment(segment, &rules, now.as_secs());
        self.shared.record(&records, &rules, self.peer, now, begin.elapsed());
        match outcome {
            Outcome::Pass(bytes, permits) => {
                self.lane.put(permits);
                self.passed = (bytes, 0);
            }
            Outcome::Answer { text, close } => self.answer = Some((text, 0, close)),
            Outcome::Destroy => self.reset(),
        }
    }

    fn reset(&mut self) {
        self.io.reset();
        self.end = End::Reset;
    }

    fn phase(&self) -> Phase {
        if self.lane.is_tunnel() || (self.judge.is_in_head() && self.lane.is_owed()) {
            Phase::Nothing
        } else if !self.judge.is_in_head() {
            Phase::Body
        } else if self.phase == Phase::First {
            Phase::First
        } else if self.judge.is_within_head() {
            Phase::Head
        } else {
            Phase::Idle
        }
    }

    /// Starts the time of a new phase. Each piece of a body has a time of its own, and so has the wait behind each
    /// request; a head has one for all of it.
    fn wait(&mut self, anew: bool) {
        let phase = self.phase();
        if phase != self.phase || (anew && matches!(phase, Phase::Body | Phase::Idle)) {
            self.phase = phase;
            let timeouts = self.shared.timeouts();
            self.timer.reset(match phase {
                Phase::First | Phase::Head => timeouts.head,
                Phase::Idle | Phase::Body | Phase::Nothing => timeouts.idle,
            });
        }
    }

    /// The client took too long.
    fn late(&mut self) -> io::Result<()> {
        match self.phase {
            Phase::Head | Phase::First if self.judge.is_within_head() => {
                self.answer = Some((TIMED_OUT.to_vec(), 0, true));
            }
            Phase::Head | Phase::First | Phase::Idle => self.end = End::Read,
            Phase::Body => return Err(io::ErrorKind::TimedOut.into()),
            Phase::Nothing => {}
        }
        Ok(())
    }
}

impl<S: Socket> AsyncRead for Guard<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            ready!(this.poll_answer(cx))?;
            match this.end {
                End::Open => {
                    if this.give(buf) {
                        return Poll::Ready(Ok(()));
                    }
                }
                End::Answered | End::Read => return Poll::Ready(Ok(())),
                End::Reset => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            }
            match this.poll_segment(cx) {
                Poll::Ready(Ok(segment)) if segment.is_empty() => {
                    this.end = End::Read;
                }
                Poll::Ready(Ok(segment)) if this.lane.is_tunnel() => {
                    // What came when the token was not good any more is nobody's.
                    if this.lane.may_go_on(&this.shared) {
                        this.passed = (segment, 0);
                    } else {
                        this.reset();
                    }
                }
                Poll::Ready(Ok(segment)) => {
                    this.judge(&segment);
                    if this.phase == Phase::First && !this.judge.is_within_head() {
                        this.phase = Phase::Nothing;
                    }
                    this.wait(true);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    this.wait(false);
                    if this.phase == Phase::Nothing {
                        return Poll::Pending;
                    }
                    ready!(this.timer.poll(cx));
                    this.late()?;
                }
            }
        }
    }
}

impl<S: Socket> AsyncWrite for Guard<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, buf);
        this.within_patience(cx, written, Writer::Stack)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.io).poll_flush(cx);
        ready!(this.within_patience(cx, flushed, Writer::Stack))?;
        this.lane.flushed();
        Poll::Ready(Ok(()))
    }

    /// Ends what goes to the client. What it still sends behind its last answer is read, or a reset would overtake
    /// that.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let ended = Pin::new(&mut this.io).poll_shutdown(cx);
        ready!(this.within_patience(cx, ended, Writer::Stack))?;
        if this.end != End::Answered {
            return Poll::Ready(Ok(()));
        }
        while this.linger.get_or_insert_with(|| Timer::new(LINGER_MAX)).poll(cx).is_pending() {
            match ready!(this.poll_socket(cx)) {
                Ok(segment) if !segment.is_empty() => {}
                Ok(_) | Err(_) => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}
