//! All automata of a generation: one per policy over canonical paths, one per port over reversed hosts, in one table.
//!
//! **Invariant:** the accepted rule set of a path names, for each method, the first rule in evaluation order that
//! matches method and path.

use std::collections::HashMap;

use portcullis_bpf::{abi, limits};

use super::classes::Classes;
use super::dfa::{Accept, Bounds, Dfa, TooLarge};
use super::error::CompileError;
use super::image::Set;
use super::nfa::Nfa;
use super::pack::{Cell, pack};

/// The table under construction.
pub(super) struct Automata<'a> {
    classes: &'a Classes,
    dfa: Dfa,
    starts: Vec<u32>,
    sets: Vec<Set>,
    known_sets: HashMap<Set, u32>,
}

/// The table as cells, the rule sets, and where each automaton starts, in the order in which they were added.
pub(super) struct Table {
    pub(super) cells: Vec<Cell>,
    pub(super) sets: Vec<Set>,
    pub(super) rows: Vec<u32>,
    pub(super) states: usize,
}

/// What a ranked path pattern stands for.
#[derive(Clone, Copy, Debug)]
pub(super) struct RankedRule {
    /// Index of the rule in the image.
    pub(super) index: u32,
    /// Bit m: it decides requests of method m.
    pub(super) methods: u8,
}

// === impl Automata ===

impl<'a> Automata<'a> {
    pub(super) fn new(classes: &'a Classes) -> Self {
        // Set 0 stands for "accepts nothing".
        let sets = vec![Set::default()];
        Self { classes, dfa: Dfa::new(), starts: Vec::new(), sets, known_sets: HashMap::new() }
    }

    /// Adds the automaton of the paths of `policy`; `rules` are what the ranks of `nfa` stand for.
    pub(super) fn add_paths(
        &mut self,
        policy: &str,
        nfa: &Nfa,
        rules: &[RankedRule],
    ) -> Result<(), CompileError> {
        let Self { sets, known_sets, .. } = self;
        let start = self.dfa.add(nfa, self.classes, BOUNDS, |ranks| {
            let set = first_by_method(ranks.iter().map(|rank| rules[*rank as usize]));
            Accept::Set(*known_sets.entry(set).or_insert_with(|| {
                sets.push(set);
                sets.len() as u32 - 1
            }))
        });
        let start = start.map_err(|TooLarge| CompileError::Patterns { policy: policy.to_owned() })?;
        self.starts.push(start);
        Ok(())
    }

    /// Adds the automaton of a port's hosts; `policies` are what the ranks of `nfa` stand for.
    pub(super) fn add_hosts(&mut self, nfa: &Nfa, policies: &[u32]) -> Result<(), CompileError> {
        let accept = |ranks: &[u32]| Accept::Policy(policies[ranks[0] as usize]);
        // Exact names and suffixes are a tree of no more states than they have bytes.
        let start = self.dfa.add(nfa, self.classes, BOUNDS, accept);
        self.starts.push(start.map_err(|TooLarge| too_many_cells(BOUNDS.states_max))?);
        Ok(())
    }

    /// Minimises, lays out, checks the bounds.
    pub(super) fn finish(mut self) -> Result<Table, CompileError> {
        self.dfa.minimise(&mut self.starts);
        let packed = pack(&self.dfa, self.classes.count());
        if packed.cells.len() > limits::DFA_CELLS_MAX {
            return Err(too_many_cells(packed.cells.len()));
        }
        super::error::within(
            "PC_RULE_SETS_MAX",
            "different sets of rules that match one path",
            self.sets.len() - 1,
            limits::RULE_SETS_MAX - 1,
            "use fewer overlapping patterns, above all fewer with `**` inside",
        )?;
        Ok(Table {
            cells: packed.cells,
            sets: self.sets,
            rows: self.starts.iter().map(|start| packed.at[*start as usize]).collect(),
            states: self.dfa.states().len(),
        })
    }
}

fn first_by_method(rules: impl Iterator<Item = RankedRule> + Clone) -> Set {
    let mut set = Set::default();
    for (method, first) in set.iter_mut().enumerate() {
        let mut deciding = rules.clone().filter(|rule| rule.methods >> method & 1 == 1);
        *first = deciding.next().map_or(0, |rule| rule.index + 1);
    }
    set
}

fn too_many_cells(count: usize) -> CompileError {
    CompileError::Limit {
        bound: "PC_DFA_CELLS_MAX",
        what: "cells (or more) for the path and host patterns",
        count,
        max: limits::DFA_CELLS_MAX,
        remedy: "use fewer or shorter patterns, above all fewer with `**` inside, or split the policies over agents",
    }
}

/// Where the construction of one automaton stops, before it takes all memory (a member is 4 bytes) or minutes. Ten
/// thousand routes make a quarter of these states, and fewer members than a tenth.
const BOUNDS: Bounds = Bounds { states_max: limits::DFA_CELLS_MAX / 4, members_max: 8 << 20 };

const _: () = assert!(abi::method::COUNT == 8, "a set of methods is a byte");

#[cfg(test)]
mod tests;
