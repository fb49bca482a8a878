//! What the two ends of a connection's HTTP stack tell each other: the guard, which reads the client's bytes, and the
//! service, which is given the requests that the stack made of them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crate::gateway::Shared;
use crate::lease::Lease;
use crate::permit::Permit;

/// One connection's.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    permits: VecDeque<Permit>,
    /// Requests that were handed over and whose responses are not with the client's socket yet.
    outstanding: usize,
    /// Of them, those whose responses the stack holds whole.
    written: usize,
    /// The connection speaks HTTP no more.
    tunnel: bool,
    /// Of the tunnel.
    lease: Option<Arc<Lease>>,
    waker: Option<Waker>,
}

/// A response under way. Dropped when the HTTP stack has taken its last byte, or given it up.
#[derive(Debug)]
pub(crate) struct Ticket {
    lane: Arc<Lane>,
}

// === impl Lane ===

impl Lane {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The guard hands requests over.
    pub(crate) fn put(&self, permits: impl IntoIterator<Item = Permit>) {
        let mut state = self.state();
        let before = state.permits.len();
        state.permits.extend(permits);
        state.outstanding += state.permits.len() - before;
    }

    /// The service takes the next one.
    pub(crate) fn take(self: &Arc<Lane>) -> Option<(Permit, Ticket)> {
        let permit = self.state().permits.pop_front()?;
        Some((permit, Ticket { lane: Arc::clone(self) }))
    }

    /// Whether a response is owed to the client.
    pub(crate) fn is_owed(&self) -> bool {
        self.state().outstanding > 0
    }

    /// Everything that the stack held is with the client's socket.
    pub(crate) fn flushed(&self) {
        let mut state = self.state();
        state.outstanding -= state.written;
        state.written = 0;
        if state.outstanding == 0
            && let Some(waker) = state.waker.take()
        {
            waker.wake();
        }
    }

    /// Wakes the reader when no response is owed any more, or the connection becomes a tunnel.
    pub(crate) fn wake(&self, waker: &Waker) {
        self.state().waker = Some(waker.clone());
    }

    /// From the response that is being given on, the connection is a tunnel.
    pub(crate) fn open_tunnel(&self, lease: Option<Arc<Lease>>) {
        let mut state = self.state();
        (state.tunnel, state.lease) = (true, lease);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    /// Whether it is one.
    pub(crate) fn is_tunnel(&self) -> bool {
        self.state().tunnel
    }

    /// Whether it may go on.
    pub(crate) fn may_go_on(&self, shared: &Shared) -> bool {
        let lease = self.state().lease.clone();
        lease.is_none_or(|lease| lease.holds(shared))
    }
}

// === impl Ticket ===

impl Drop for Ticket {
    fn drop(&mut self) {
        self.lane.state().written += 1;
    }
}
