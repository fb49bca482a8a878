//! The right to forward one request.
//!
//! **Invariant:** permits are made here alone, from a decision that passes or for a port that is not protected.

use http::uri::PathAndQuery;
use portcullis_http::Head;
use portcullis_policy::PolicySet;
use portcullis_verdict::Decision;
use portcullis_wire::Mode;

use crate::identity::Caller;
use crate::target;

/// The right to forward one request, and what is forwarded of its head in our own words.
#[derive(Clone, Debug)]
pub(crate) struct Permit {
    method: Vec<u8>,
    target: PathAndQuery,
    caller: Caller,
    decision_id: Option<u64>,
    upgrades: bool,
}

// === impl Permit ===

impl Permit {
    /// For a request that was decided. `None` when the decision denies it, or when it cannot be written for the
    /// application.
    pub(crate) fn decided(
        head: &Head,
        decision: &Decision,
        policies: &PolicySet,
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
        let upgrades =
            head.upgrades() && (decision.allows_websocket(policies) || decision.mode() != Mode::Enforce);
        Permit::new(head, caller, Some(decision_id), upgrades)
    }

    /// For a request to a port that no policy protects.
    pub(crate) fn unprotected(head: &Head) -> Option<Permit> {
        Permit::new(head, Caller::default(), None, head.upgrades())
    }

    fn new(head: &Head, caller: Caller, decision_id: Option<u64>, upgrades: bool) -> Option<Permit> {
        let target = target::of(head.target())?;
        Some(Permit { method: head.method_token().to_owned(), target, caller, decision_id, upgrades })
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

    /// Whether the request may switch its connection to another protocol.
    pub(crate) fn upgrades(&self) -> bool {
        self.upgrades
    }
}
