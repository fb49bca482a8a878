//! Contents of the configuration maps for one generation.
//!
//! **Invariant:** the numbers here are local to a generation; only `install.rs` adds the offset of a half.

use std::collections::BTreeMap;

use portcullis_bpf::abi;

use super::pack::Cell;
use super::revocations::Revoked;

/// Everything that the kernel programs read of one generation.
#[derive(Clone, Debug)]
pub struct Image {
    pub(super) classes: abi::Classes,
    pub(super) cells: Vec<Cell>,
    pub(super) policies: Vec<Policy>,
    /// Rule sets; number 0 is never accepted.
    pub(super) sets: Vec<Set>,
    pub(super) rules: Vec<abi::Rule>,
    pub(super) names: Vec<Name>,
    /// With the second before which a token's `iat` is refused.
    pub(super) revocations: BTreeMap<Revoked, u64>,
    pub(super) issuers: Vec<abi::Issuer>,
    pub(super) keys: Keys,
    pub(super) ports: BTreeMap<u16, Port>,
    pub(super) states: usize,
}

/// Public keys by algorithm: the index of a key is its place in its list.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    pub(super) rsa2048: Vec<abi::Rsa2048Key>,
    pub(super) rsa3072: Vec<abi::Rsa3072Key>,
    pub(super) rsa4096: Vec<abi::Rsa4096Key>,
    /// `limits::P256_POINTS_Q` points a key, one key after the other.
    pub(super) p256: Vec<abi::P256Point>,
}

/// First matching rule by method: index + 1, 0 = none.
pub(super) type Set = [u32; abi::method::COUNT];

#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    pub(super) id: u32,
    pub(super) mode: u8,
    pub(super) default_action: u8,
    pub(super) path_row: u32,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Port {
    pub(super) host_row: u32,
    /// Policy without host, index.
    pub(super) policy: Option<u32>,
    pub(super) enforce: bool,
    /// Some rule lets a connection switch to websocket.
    pub(super) upgrade: bool,
    /// As `host_row` and `policy`, of the candidate; `None`: it has no policy for the port.
    pub(super) candidate: Option<(u32, Option<u32>)>,
}

/// One string that the kernel must recognise.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Name {
    pub(super) meaning: Meaning,
    pub(super) text: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Meaning {
    /// A principal of this kind, with its bit.
    Principal {
        kind: u8,
        bit: u32,
    },
    Issuer {
        issuer: u32,
    },
    Audience {
        issuer: u32,
    },
    /// A key: its algorithm and its index in the algorithm's map.
    Kid {
        issuer: u32,
        alg: u32,
        key: u32,
    },
}

/// Sizes of an image, for people and benchmarks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sizes {
    /// States of all automata after minimisation.
    pub states: usize,
    /// Cells of `pc_dfa` that they take.
    pub cells: usize,
    /// Rule sets.
    pub sets: usize,
    /// Rules.
    pub rules: usize,
    /// Names.
    pub names: usize,
}

// === impl Image ===

impl Image {
    /// Ports that this generation protects.
    pub fn ports(&self) -> impl Iterator<Item = u16> + '_ {
        self.ports.keys().copied()
    }

    /// Whether a rule lets something switch to websocket.
    pub fn switches(&self) -> bool {
        self.ports.values().any(|port| port.upgrade)
    }

    /// How large it is.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            states: self.states,
            cells: self.cells.len(),
            sets: self.sets.len() - 1,
            rules: self.rules.len(),
            names: self.names.len(),
        }
    }
}
