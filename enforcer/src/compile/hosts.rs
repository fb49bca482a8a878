//! Host patterns of one port as an automaton over the reversed host: suffixes become prefixes.
//!
//! **Invariant:** an exact host beats every `*.suffix`, a longer suffix beats a shorter one.

use std::cmp::Reverse;

use portcullis_policy::HostPattern;

use super::classes::Census;
use super::nfa::{Nfa, On};

/// Sorts hosts with what they stand for, best first: the index is then the rank in the machine.
pub(super) fn rank<T>(hosts: &mut [(&HostPattern, T)]) {
    hosts.sort_by_key(|(host, _)| match host {
        HostPattern::Exact(name) => (0, Reverse(name.len())),
        HostPattern::Below(suffix) => (1, Reverse(suffix.len())),
    });
}

/// The machine of ranked hosts.
pub(super) fn nfa<'a>(hosts: impl Iterator<Item = &'a HostPattern>) -> Nfa {
    let mut nfa = Nfa::default();
    for host in hosts {
        let mut pattern = nfa.pattern(1);
        match host {
            HostPattern::Exact(name) => {
                pattern.bytes(&reversed(name));
                pattern.accept();
            }
            HostPattern::Below(suffix) => {
                pattern.bytes(&reversed(suffix));
                pattern.bytes(b".");
                pattern.one(On::Any);
                pattern.accept_forever();
            }
        }
    }
    nfa
}

/// Counts the bytes that the pattern names.
pub(super) fn count(census: &mut Census, host: &HostPattern) {
    match host {
        HostPattern::Exact(name) => census.add(name.as_bytes()),
        HostPattern::Below(suffix) => {
            census.add(suffix.as_bytes());
            census.add(b".");
        }
    }
}

fn reversed(name: &str) -> Vec<u8> {
    name.bytes().rev().collect()
}
