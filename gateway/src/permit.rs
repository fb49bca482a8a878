//! The right to forward one request.
//!
//! **Invariant:** permits are made here alone, from a decision that passes or for a port that is not protected.

use std::sync::Arc;

use http::uri::PathAndQuery;
use portcullis_http::Head;
use portcullis_verdict::Decision;
use portcullis_wire::Mode;

use crate::identity::Caller;
use crate::lease::Lease;
use crate::rules::Rules;
use crate::target;

/// The right to forward one request, and what is forwarded of its head in our own words.
#[derive(Clone, Debug)]
pub(crate) struct Permit {
    method: Vec<u8>,
    target: PathAndQuery,
    caller: Caller,
    decision_id: Option<u64>,
    upgrade: Option<Upgrade>,
}

/// The right to switch the connection of a request to websocket.
#[derive(Clone, Debug)]
pub(crate) struct Upgrade {
    /// Absent: nobody's token stands for the request, and nothing ends the tunnel.
    pub(crate) lease: Option<Arc<Lease>>,
}

// === impl Permit ===

impl Permit {
    /// For a request that was decided. `None` when the decision denies it, or when it cannot be written for the
    /// application.
    pub(crate) fn decided(
        head: &Head,
        decision: &Decision,
        rules: &Rules,
        decision_id: u64,
    ) -> Option<Permit> {
        if !decision.passes() {
            return None;
        }
        // In monitor mode a request that would be denied is passed on, but nobody vouches for its caller.
        let caller = match decision.identity() {
            Some(token) if decision.reason().is_allow() => Caller::of(token),
            Some(_) | None => Caller::default(),
        };
        // In monitor mode nothing is kept from the application.
        let allowed = decision.allows_websocket(&rules.policies) || decision.mode() != Mode::Enforce;
        let upgrade = (allowed && head.asks_for_websocket()).then(|| {
            let token = head.token().zip(decision.identity());
            Upgrade { lease: token.map(|(token, verified)| Arc::new(Lease::new(token, verified, rules))) }
        });
        Permit::new(head, caller, Some(decision_id), upgrade)
    }

    /// For a request to a port that no policy protects.
    pub(crate) fn unprotected(head: &Head) -> Option<Permit> {
        let upgrade = head.asks_for_websocket().then_some(Upgrade { lease: None });
        Permit::new(head, Caller::default(), None, upgrade)
    }

    fn new(
        head: &Head,
        caller: Caller,
        decision_id: Option<u64>,
        upgrade: Option<Upgrade>,
    ) -> Option<Permit> {
        let target = target::of(head.target())?;
        Some(Permit { method: head.method_token().to_owned(), target, caller, decision_id, upgrade })
    }

    /// Whether an HTTP stack read the same request.
    pub(crate) fn is_for(&self, request: &http::request::Parts) -> bool {
        request.method.as_str().as_bytes() == self.method
            && request.uri.path_and_query() == Some(&self.target)
    }

    /// Path and query, as they are forwarded.
    pub(crate) fn target(&self) -> &PathAndQuery {
        &self.target
    }

    /// Who is asking.
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Number of the decision, for error answers.
    pub(crate) fn decision_id(&self) -> Option<u64> {
        self.decision_id
    }

    /// The right to switch the connection to websocket, if the request asks for that and may.
    pub(crate) fn upgrade(&self) -> Option<&Upgrade> {
        self.upgrade.as_ref()
    }
}
