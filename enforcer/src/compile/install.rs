//! How an image gets into the maps: into the half that nobody reads, which then becomes the one that everybody reads.
//!
//! Whatever an earlier agent left in the half, even an interrupted write, makes no difference: arrays are only read
//! through entries of `pc_names`, `pc_ports` and through each other, and stale entries of hash maps are deleted.
//!
//! **Invariant:** nothing of the other half is changed. Entries of `pc_ports` span both halves and keep the fields of
//! the other one; the generator's table in `pc_p256_g` is written once, before the first key that needs it.
//! **Invariant:** a half is written only when no run of a program can still be reading it.

use std::collections::BTreeMap;

use portcullis_bpf::{abi, limits, p256_tables};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use super::dfa::Accept;
use super::image::{Image, Meaning, Name, Policy, Port, Set};
use super::pack::Cell;
use super::revocations::Revoked;
use super::sink::{MapSink, SinkError};

// === impl Image ===

impl Image {
    /// Makes the image the current generation; the number must differ from the current one's.
    ///
    /// # Errors
    /// When a map refuses an operation, or the number is the current one's. The generation before stays in force, and
    /// installing may be tried again.
    pub fn install(&self, generation: u64, sink: &mut dyn MapSink) -> Result<(), SinkError> {
        let index = 0u32.to_ne_bytes();
        let active = sink.lookup("pc_active", &index)?.and_then(|value| u64::read_from_bytes(&value).ok());
        if active.is_some_and(|active| active >> 1 == generation && generation != 0) {
            // What the kernel remembers of the current one (tokens, requests) would hold for this one, too.
            let message =
                format!("generation {generation} is in force already: give this one another number");
            return Err(SinkError { map: "pc_active".to_owned(), message });
        }
        let idle = active.unwrap_or(0) as u32 & 1 ^ 1;
        // Runs that began before the last switch may still be reading what is idle since then.
        sink.wait_for_readers()?;
        self.write(idle, sink)?;
        sink.update("pc_active", &index, &Self::activate_word(generation, idle).to_ne_bytes())
    }

    /// Writes everything to `half`, which must be idle, without making it current.
    ///
    /// # Errors
    /// When a map refuses an operation; the half then holds a mixture that the next write puts right.
    pub fn write(&self, half: u32, sink: &mut dyn MapSink) -> Result<(), SinkError> {
        let at = Offsets::of(half);
        self.write_policies(&at, sink)?;
        self.write_keys(&at, sink)?;
        self.write_names(&at, sink)?;
        self.write_revocations(&at, sink)?;
        self.write_ports(&at, sink)
    }

    /// Value of `pc_active` that makes `half` current.
    pub fn activate_word(generation: u64, half: u32) -> u64 {
        generation << 1 | u64::from(half & 1)
    }

    fn write_policies(&self, at: &Offsets, sink: &mut dyn MapSink) -> Result<(), SinkError> {
        sink.update("pc_classes", &at.half.to_ne_bytes(), self.classes.as_bytes())?;
        let cells: Vec<_> = self.cells.iter().map(|cell| at.cell(*cell)).collect();
        array(sink, "pc_dfa", at.cells, &cells)?;
        let policies: Vec<_> = self.policies.iter().map(|policy| at.policy(*policy)).collect();
        array(sink, "pc_policies", at.policies, &policies)?;
        let sets: Vec<_> = self.sets.iter().map(|set| at.set(*set)).collect();
        array(sink, "pc_sets", at.sets, &sets)?;
        array(sink, "pc_rules", at.rules, &self.rules)
    }

    fn write_keys(&self, at: &Offsets, sink: &mut dyn MapSink) -> Result<(), SinkError> {
        array(sink, "pc_issuers", at.issuers, &self.issuers)?;
        array(sink, "pc_rsa2048", at.rsa_keys, &self.keys.rsa2048)?;
        array(sink, "pc_rsa3072", at.rsa_keys, &self.keys.rsa3072)?;
        array(sink, "pc_rsa4096", at.rsa_keys, &self.keys.rsa4096)?;
        if !self.keys.p256.is_empty() {
            write_generator(sink)?;
        }
        array(sink, "pc_p256_q", at.p256_keys * limits::P256_POINTS_Q as u32, &self.keys.p256)
    }

    fn write_names(&self, at: &Offsets, sink: &mut dyn MapSink) -> Result<(), SinkError> {
        let entries = self.names.iter().map(|name| {
            let (key, value) = at.name(name);
            (key, value.as_bytes().to_vec())
        });
        replace_half(sink, "pc_names", at.half, &entries.collect())
    }

    fn write_revocations(&self, at: &Offsets, sink: &mut dyn MapSink) -> Result<(), SinkError> {
        let entries = self.revocations.iter().map(|(Revoked { kind, issuer, value }, not_before)| {
            let not_before = abi::Revocation { not_before: *not_before };
            (at.name_key(*kind, at.issuers + issuer, value), not_before.as_bytes().to_vec())
        });
        replace_half(sink, "pc_revoked", at.half, &entries.collect())
    }

    fn write_ports(&self, at: &Offsets, sink: &mut dyn MapSink) -> Result<(), SinkError> {
        let mut ports = BTreeMap::new();
        for key in sink.keys("pc_ports")? {
            let value = sink.lookup("pc_ports", &key)?;
            let value = value.and_then(|value| abi::Port::read_from_bytes(&value).ok());
            if let (Ok(number), Some(value)) = (u32::read_from_bytes(&key), value) {
                ports.insert(number, value);
            }
        }
        for port in self.ports.keys() {
            ports.entry(u32::from(*port)).or_insert_with(abi::Port::new_zeroed);
        }
        for (number, mut value) in ports {
            at.port(&mut value, u16::try_from(number).ok().and_then(|port| self.ports.get(&port)));
            if value.policy == [0; limits::HALVES] && value.host_row == [0; limits::HALVES] {
                sink.delete("pc_ports", &number.to_ne_bytes())?;
            } else {
                sink.update("pc_ports", &number.to_ne_bytes(), value.as_bytes())?;
            }
        }
        Ok(())
    }
}

/// Entries of one half of a hash map whose keys are names.
fn replace_half(
    sink: &mut dyn MapSink,
    map: &str,
    half: u32,
    entries: &BTreeMap<Vec<u8>, Vec<u8>>,
) -> Result<(), SinkError> {
    // Stale ones go first: they may mean other keys by now, and the map has no more room than both halves need.
    for key in sink.keys(map)? {
        if key.first() == Some(&(half as u8)) && !entries.contains_key(&key) {
            sink.delete(map, &key)?;
        }
    }
    entries.iter().try_for_each(|(key, value)| sink.update(map, key, value))
}

/// The generator's table takes tens of milliseconds to make, and nothing ever changes it. Ranges are written in order, so
/// its last point says that it is complete.
fn write_generator(sink: &mut dyn MapSink) -> Result<(), SinkError> {
    let last = limits::P256_POINTS_G as u32 - 1;
    let there = sink.lookup("pc_p256_g", &last.to_ne_bytes())?;
    if there.is_some_and(|point| point.iter().any(|byte| *byte != 0)) {
        return Ok(());
    }
    array(sink, "pc_p256_g", 0, &p256_tables::generator_table())
}

fn array<T: Immutable + IntoBytes>(
    sink: &mut dyn MapSink,
    map: &str,
    first: u32,
    values: &[T],
) -> Result<(), SinkError> {
    sink.update_range(map, first, values.as_bytes(), size_of::<T>())
}

/// Where a half starts in each map.
struct Offsets {
    half: u32,
    cells: u32,
    policies: u32,
    sets: u32,
    rules: u32,
    issuers: u32,
    rsa_keys: u32,
    p256_keys: u32,
}

// === impl Offsets ===

impl Offsets {
    fn of(half: u32) -> Self {
        let half = half & 1;
        let start = |max: usize| half * max as u32;
        Self {
            half,
            cells: start(limits::DFA_CELLS_MAX),
            policies: start(limits::POLICIES_MAX),
            sets: start(limits::RULE_SETS_MAX),
            rules: start(limits::RULES_MAX),
            issuers: start(limits::ISSUERS_MAX),
            rsa_keys: start(limits::RSA_KEYS_MAX),
            p256_keys: start(limits::P256_KEYS_MAX),
        }
    }

    /// Row 0 is dead in either half.
    fn row(&self, row: u32) -> u32 {
        if row == 0 { 0 } else { self.cells + row }
    }

    fn cell(&self, cell: Cell) -> abi::Cell {
        match cell {
            Cell::Free => abi::Cell { row: 0, tag: 0 },
            Cell::State { default, accept } => {
                let tag = match accept {
                    Accept::Nothing => 0,
                    Accept::Set(set) => self.sets + set,
                    Accept::Policy(policy) => self.policies + policy + 1,
                };
                abi::Cell { row: self.row(default), tag }
            }
            Cell::Next { of, to } => abi::Cell { row: self.row(to), tag: abi::CELL_OF | self.row(of) },
        }
    }

    fn policy(&self, policy: Policy) -> abi::Policy {
        let Policy { id, mode, default_action, path_row } = policy;
        abi::Policy { id, mode, default_action, path_row: self.row(path_row), ..abi::Policy::zeroed() }
    }

    fn set(&self, set: Set) -> abi::Set {
        abi::Set { rule: set.map(|rule| if rule == 0 { 0 } else { self.rules + rule }) }
    }

    /// Sets the fields of this half: to "not covered" when it does not protect the port.
    fn port(&self, value: &mut abi::Port, port: Option<&Port>) {
        let half = self.half as usize;
        let Port { host_row, policy, enforce, upgrade, candidate } = port.copied().unwrap_or_default();
        value.host_row[half] = self.row(host_row);
        value.policy[half] = policy.map_or(0, |policy| self.policies + policy + 1);
        value.enforce[half] = u32::from(enforce);
        let (candidate_row, candidate_policy) = candidate.unwrap_or_default();
        value.candidate_host_row[half] = self.row(candidate_row);
        value.candidate_policy[half] = candidate_policy.map_or(0, |policy| self.policies + policy + 1);
        value.candidate[half] = u32::from(candidate.is_some());
        value.upgrade[half] = u32::from(upgrade);
        let flag = |halves: [u32; limits::HALVES], flag| if halves == [0; limits::HALVES] { 0 } else { flag };
        value.flags =
            flag(value.enforce, abi::port_flag::ENFORCE) | flag(value.upgrade, abi::port_flag::UPGRADE);
    }

    fn name(&self, name: &Name) -> (Vec<u8>, u32) {
        let (kind, scope, value) = match name.meaning {
            Meaning::Principal { kind, bit } => (kind, 0, bit),
            Meaning::Issuer { issuer } => (abi::name_kind::ISSUER, 0, self.issuers + issuer),
            Meaning::Audience { issuer } => (abi::name_kind::AUDIENCE, self.issuers + issuer, 1),
            Meaning::Kid { issuer, alg, key } => {
                let keys = if alg == abi::alg::ES256 { self.p256_keys } else { self.rsa_keys };
                (abi::name_kind::KID, self.issuers + issuer, alg << 16 | (keys + key))
            }
        };
        (self.name_key(kind, scope, &name.text), value)
    }

    fn name_key(&self, kind: u8, scope: u32, text: &str) -> Vec<u8> {
        let mut key = abi::Name { half: self.half as u8, kind, scope, ..abi::Name::zeroed() };
        // Lengths are checked when the image is built.
        key.len = text.len() as u16;
        key.s[..text.len()].copy_from_slice(text.as_bytes());
        key.as_bytes().to_vec()
    }
}

const _: () = assert!(
    limits::HALVES * limits::RSA_KEYS_MAX <= 1 << 16,
    "a key's index takes the low half of its name's value"
);
const _: () = assert!(
    limits::HALVES * limits::DFA_CELLS_MAX <= abi::CELL_OF as usize,
    "a tag is a row or an accept value"
);
const _: () = assert!(limits::HALVES * limits::P256_KEYS_MAX <= 1 << 16, "likewise");

#[cfg(test)]
mod tests;
