//! How long a tunnel may live: as long as the token is good that its request came with, by the generation in force. It
//! is what the kernel's agent does to websockets.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use portcullis_token::{VerifiedToken, verify};

use crate::gateway::Shared;
use crate::rules::Rules;

/// The life of one tunnel.
pub(crate) struct Lease {
    token: Vec<u8>,
    /// Unix seconds from which on the token has expired, its issuer's leeway counted.
    until_s: u64,
    /// The last generation that the token was verified by, and whether it was good.
    verified: Mutex<Option<(Arc<Rules>, bool)>>,
}

// === impl Lease ===

impl Lease {
    /// For a token that `rules` found good.
    pub(crate) fn new(token: &[u8], verified: &VerifiedToken, rules: &Rules) -> Lease {
        let leeway_s = rules.keys.issuer(verified.issuer()).map_or(0, |issuer| issuer.leeway_s());
        let until_s = verified.claims().exp.saturating_add(u64::from(leeway_s));
        Lease { token: token.to_owned(), until_s, verified: Mutex::default() }
    }

    /// Whether the tunnel may go on. While the port does not enforce, it may.
    pub(crate) fn holds(&self, shared: &Shared) -> bool {
        let Some(rules) = shared.rules() else { return true };
        if rules.policies.port_enforces(shared.port()) != Some(true) {
            return true;
        }
        let now_s = shared.now().as_secs();
        now_s < self.until_s && self.is_good(rules, now_s)
    }

    /// Whether a generation finds the token good: revocations, keys and issuers. It is asked once.
    fn is_good(&self, rules: Arc<Rules>, now_s: u64) -> bool {
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((by, good)) = &*verified
            && Arc::ptr_eq(by, &rules)
        {
            return *good;
        }
        let good = verify(&self.token, &rules.keys, now_s).is_ok();
        *verified = Some((rules, good));
        good
    }
}

impl fmt::Debug for Lease {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("until_s", &self.until_s).finish_non_exhaustive()
    }
}
