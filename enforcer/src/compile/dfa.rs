//! Deterministic automata over byte classes: subset construction, then minimisation across all of them.
//!
//! **Invariant:** state 0 is dead: it accepts nothing and leads nowhere else.
//! **Invariant:** minimisation changes no answer: the partition is checked to be a bisimulation before it is used.
//! **Invariant:** what construction takes is bounded, whatever the patterns are: deterministic automata can be
//! exponentially larger than they.

use std::collections::HashMap;
use std::rc::Rc;

use super::classes::Classes;
use super::nfa::{Nfa, On};

/// What a state accepts.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Accept {
    /// Nothing.
    #[default]
    Nothing,
    /// A path: the rule set with this number, from 1.
    Set(u32),
    /// A host: the policy with this index.
    Policy(u32),
}

/// Several automata in one table.
#[derive(Debug)]
pub(super) struct Dfa {
    states: Vec<State>,
}

/// One state.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct State {
    /// Next state for every class but those in `others`; class 0 is never among these.
    pub(super) default: u32,
    /// Next states by class, ascending, where they are not the default.
    pub(super) others: Vec<(u8, u32)>,
    pub(super) accept: Accept,
}

/// Bounds of one construction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// States.
    pub(super) states_max: usize,
    /// States of the nondeterministic machine that these stand for, together.
    pub(super) members_max: usize,
}

/// The patterns make an automaton beyond the bounds.
#[derive(Debug)]
pub(super) struct TooLarge;

/// The one state that leads nowhere.
pub(super) const DEAD: u32 = 0;

// === impl Dfa ===

impl Dfa {
    pub(super) fn new() -> Self {
        Self { states: vec![State::default()] }
    }

    /// Adds the automaton of `nfa`; its start state. `accept` names what an input accepts that matches the patterns
    /// of these ranks (ascending, at least one).
    pub(super) fn add(
        &mut self,
        nfa: &Nfa,
        classes: &Classes,
        bounds: Bounds,
        accept: impl FnMut(&[u32]) -> Accept,
    ) -> Result<u32, TooLarge> {
        let mut subsets = Subsets::new(nfa, &mut self.states, accept);
        let start = subsets.state(nfa.starts.clone());
        while let Some((state, members)) = subsets.pending.pop() {
            let Moves { default, others } = Moves::of(nfa, classes, &members);
            let default = subsets.state(default);
            let others = others.into_iter().map(|(class, targets)| (class, subsets.state(targets)));
            let others = others.filter(|(_, target)| *target != default).collect();
            let State { default: to, others: to_by_class, accept: _ } = &mut subsets.states[state as usize];
            (*to, *to_by_class) = (default, others);
            if subsets.states.len() > bounds.states_max || subsets.members > bounds.members_max {
                return Err(TooLarge);
            }
        }
        Ok(start)
    }

    /// Every state; the first one is dead.
    pub(super) fn states(&self) -> &[State] {
        &self.states
    }

    /// Merges states that answer alike for every continuation; `starts` are renumbered.
    pub(super) fn minimise(&mut self, starts: &mut [u32]) {
        let part = self.partition();
        if !self.is_bisimulation(&part) {
            // Two signatures collided. What stands is right, only larger.
            return;
        }
        let count = part.iter().max().map_or(0, |max| *max as usize + 1);
        let mut merged = vec![State::default(); count];
        for (state, &block) in self.states.iter().zip(&part) {
            merged[block as usize] = state.in_blocks(&part);
        }
        for start in starts {
            *start = part[*start as usize];
        }
        self.states = merged;
    }

    /// Moore's algorithm with hashed signatures: the block of each state; the dead state's is 0.
    fn partition(&self) -> Vec<u32> {
        let mut part = number(self.states.iter().map(|state| state.accept));
        let mut blocks = 0;
        loop {
            let signature = |(state, block): (&State, &u32)| {
                let seed = mix(mix(SEED, u64::from(*block)), u64::from(part[state.default as usize]));
                let others = state.others_in_blocks(&part);
                others.fold(seed, |hash, (class, block)| mix(hash, u64::from(class) << 32 | u64::from(block)))
            };
            let refined = number(self.states.iter().zip(&part).map(signature));
            let count = refined.iter().max().map_or(0, |max| *max as usize + 1);
            part = refined;
            // Fewer: signatures collided.
            if count <= blocks {
                return part;
            }
            blocks = count;
        }
    }

    /// Whether states of one block accept alike and lead to the same blocks.
    fn is_bisimulation(&self, part: &[u32]) -> bool {
        let mut of_block: HashMap<u32, State> = HashMap::new();
        self.states.iter().zip(part).all(|(state, block)| {
            let merged = state.in_blocks(part);
            *of_block.entry(*block).or_insert_with(|| merged.clone()) == merged
        })
    }
}

// === impl State ===

impl State {
    /// The same state with blocks for states.
    fn in_blocks(&self, part: &[u32]) -> Self {
        Self {
            default: part[self.default as usize],
            others: self.others_in_blocks(part).collect(),
            accept: self.accept,
        }
    }

    fn others_in_blocks<'a>(&'a self, part: &'a [u32]) -> impl Iterator<Item = (u8, u32)> + 'a {
        let default = part[self.default as usize];
        let blocks = self.others.iter().map(|(class, next)| (*class, part[*next as usize]));
        blocks.filter(move |(_, block)| *block != default)
    }
}

/// Sets of states of a nondeterministic machine, each a state of the deterministic one.
struct Subsets<'a, F> {
    nfa: &'a Nfa,
    states: &'a mut Vec<State>,
    accept: F,
    known: HashMap<Rc<[u32]>, u32>,
    pending: Vec<(u32, Rc<[u32]>)>,
    members: usize,
}

// === impl Subsets ===

impl<'a, F: FnMut(&[u32]) -> Accept> Subsets<'a, F> {
    fn new(nfa: &'a Nfa, states: &'a mut Vec<State>, accept: F) -> Self {
        let known = HashMap::from([(Rc::from([]), DEAD)]);
        Self { nfa, states, accept, known, pending: Vec::new(), members: 0 }
    }

    /// The state for these members and all that are entered together with them.
    fn state(&mut self, mut members: Vec<u32>) -> u32 {
        self.nfa.closure(&mut members);
        if let Some(&state) = self.known.get(members.as_slice()) {
            return state;
        }
        let number = self.states.len() as u32;
        let accepting = members.iter().map(|member| &self.nfa.states[*member as usize]).filter(|m| m.accepts);
        let mut ranks: Vec<u32> = accepting.map(|member| member.rank).collect();
        ranks.dedup();
        let accept = if ranks.is_empty() { Accept::Nothing } else { (self.accept)(&ranks) };
        self.states.push(State { accept, ..State::default() });
        self.members += members.len();
        let members: Rc<[u32]> = members.into();
        self.known.insert(Rc::clone(&members), number);
        self.pending.push((number, members));
        number
    }
}

/// Where members lead: for classes that none of them names, and for each class that one does.
struct Moves {
    default: Vec<u32>,
    others: Vec<(u8, Vec<u32>)>,
}

// === impl Moves ===

impl Moves {
    fn of(nfa: &Nfa, classes: &Classes, members: &[u32]) -> Self {
        let slash = classes.class(b'/');
        let (mut any, mut not_slash, mut named) = (Vec::new(), Vec::new(), Vec::new());
        for (on, to) in members.iter().flat_map(|member| &nfa.states[*member as usize].edges) {
            match on {
                On::Any => any.push(*to),
                On::NotSlash => not_slash.push(*to),
                On::Byte(byte) => named.push((classes.class(*byte), *to)),
            }
        }
        named.sort_unstable();
        let mut others: Vec<(u8, Vec<u32>)> = Vec::new();
        if !not_slash.is_empty() && named.binary_search_by_key(&slash, |(class, _)| *class).is_err() {
            others.push((slash, any.clone()));
        }
        for run in named.chunk_by(|a, b| a.0 == b.0) {
            let class = run[0].0;
            let mut targets: Vec<u32> = run.iter().map(|(_, to)| *to).collect();
            targets.extend(&any);
            if class != slash {
                targets.extend(&not_slash);
            }
            others.push((class, targets));
        }
        others.sort_unstable_by_key(|(class, _)| *class);
        any.extend(not_slash);
        Self { default: any, others }
    }
}

/// Numbers equal items alike, in order of appearance: the first item is 0.
fn number<T: Eq + std::hash::Hash>(items: impl Iterator<Item = T>) -> Vec<u32> {
    let mut numbers = HashMap::new();
    items
        .map(|item| {
            let fresh = numbers.len() as u32;
            *numbers.entry(item).or_insert(fresh)
        })
        .collect()
}

/// The next hash; `hash` must be spread over its bits already, for words are small.
fn mix(hash: u64, word: u64) -> u64 {
    let product = u128::from(hash ^ word) * 0xd6e8_feb8_6659_fd93_u128;
    ((product >> 64) as u64 ^ product as u64).wrapping_add(0x9e37_79b9_7f4a_7c15)
}

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
