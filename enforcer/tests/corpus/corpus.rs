//! One corpus of (policies, raw request, token) for every implementation: the model, the C built natively, the C in the
//! kernel's test run, the live datapath, and the proxy.
//!
//! **Invariant:** what is drawn is a function of the seed; keys are fresh, so the octets of signatures are not.

#![expect(clippy::unwrap_used, reason = "helpers of tests; what cannot be set up is a failed test")]

use portcullis_policy::PolicySet;
use portcullis_testkit::Rng;
use portcullis_wire::{Bundle, Candidate, Issuer, Policy};

pub mod policies;
pub mod requests;
mod tokens;

pub use tokens::Tokens;

/// Policies that are valid together, and others that are tried beside them.
pub struct Drawn {
    pub set: PolicySet,
    pub candidate: PolicySet,
    /// Both as a control plane says it.
    pub bundle: Bundle,
}

/// A request as it is sent, its body included.
#[derive(Debug)]
pub struct Case {
    pub port: u16,
    pub bytes: Vec<u8>,
    /// When it is judged, Unix seconds.
    pub now_s: u64,
}

/// An endless sequence of policies and cases.
pub struct Corpus {
    pub rng: Rng,
    tokens: Tokens,
    /// What the ports of policies are in this run.
    ports: [u16; 2],
}

// === impl Drawn ===

impl Drawn {
    pub fn wire(&self) -> Vec<Policy> {
        wire(&self.set)
    }
}

// === impl Corpus ===

impl Corpus {
    pub fn new(seed: u64, ports: [u16; 2]) -> Corpus {
        Corpus { rng: Rng::new(seed), tokens: Tokens::new(seed), ports }
    }

    /// Who signs.
    pub fn issuers(&self) -> Vec<Issuer> {
        self.tokens.issuers()
    }

    /// The next policies.
    pub fn draw(&mut self, version: u64) -> Drawn {
        draw(&mut self.rng, &self.ports, version, self.tokens.issuers())
    }

    /// The next request of a port that the policies protect.
    pub fn case(&mut self, policies: &[Policy], set: &PolicySet) -> Case {
        loop {
            let request = policies::request(&mut self.rng, policies);
            // Ports of the vocabulary that no policy here names do not reach the programs.
            if set.port_enforces(request.port).is_none() {
                continue;
            }
            let (token, now_s) = self.tokens.next(&mut self.rng);
            let bytes = requests::render(&mut self.rng, &request, token.as_deref());
            return Case { port: request.port, bytes, now_s };
        }
    }
}

/// Random policies; `ports` stand for those of the vocabulary.
pub fn draw(rng: &mut Rng, ports: &[u16; 2], version: u64, issuers: Vec<Issuer>) -> Drawn {
    let policies = |rng: &mut Rng| {
        let mut policies = policies::policies(rng);
        for policy in &mut policies {
            let known = policies::PORTS.iter().position(|port| *port == policy.port_match);
            policy.port_match = ports[known.unwrap()];
        }
        policies
    };
    loop {
        let (live, tried) = (policies(rng), policies(rng));
        if let (Ok(set), Ok(candidate)) = (PolicySet::new(live.clone()), PolicySet::new(tried.clone())) {
            // All of them may be disabled, and then there is nothing to ask.
            if ports.iter().all(|port| set.port_enforces(*port).is_none()) {
                continue;
            }
            let tried = Some(Candidate { name: "tried".to_owned(), policies: tried });
            let bundle =
                Bundle { version, issuers, policies: live, candidate: tried, revocations: Vec::new() };
            return Drawn { set, candidate, bundle };
        }
    }
}

pub fn wire(set: &PolicySet) -> Vec<Policy> {
    set.policies().iter().map(|policy| policy.wire().clone()).collect()
}

/// The number of cases: `PORTCULLIS_CASES`, or this many.
pub fn cases(default: usize) -> usize {
    match std::env::var("PORTCULLIS_CASES") {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("PORTCULLIS_CASES={text} is no number of cases")),
        Err(_) => default,
    }
}
