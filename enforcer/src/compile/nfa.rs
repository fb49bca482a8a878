//! The patterns of one automaton side by side, as a nondeterministic machine over bytes.
//!
//! Patterns are ranked: when several accept the same input, the lower rank comes first in evaluation order.
//!
//! **Invariant:** pure; states are only added, so numbers stay valid.

/// What an edge consumes: one byte.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum On {
    /// This byte.
    Byte(u8),
    /// Any byte but `/`.
    NotSlash,
    /// Any byte.
    Any,
}

/// One state; it belongs to the pattern `rank`.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) rank: u32,
    /// The input so far matches the pattern.
    pub(super) accepts: bool,
    /// The pattern matches whatever follows.
    pub(super) forever: bool,
    pub(super) edges: Vec<(On, u32)>,
    /// Entered together with this state, without input.
    pub(super) also: Vec<u32>,
}

/// The machine: `starts` are entered together.
#[derive(Debug, Default)]
pub(super) struct Nfa {
    pub(super) states: Vec<State>,
    pub(super) starts: Vec<u32>,
    /// By rank: what the pattern can decide, as a bit mask (methods of a rule). A pattern is useless where earlier
    /// ones match forever and decide all that it could.
    pub(super) decides: Vec<u8>,
}

// === impl Nfa ===

impl Nfa {
    /// Starts the next pattern; its first state is a start of the machine.
    pub(super) fn pattern(&mut self, decides: u8) -> Pattern<'_> {
        let rank = self.decides.len() as u32;
        self.decides.push(decides);
        let mut pattern = Pattern { nfa: self, rank, at: 0 };
        pattern.at = pattern.state();
        pattern.nfa.starts.push(pattern.at);
        pattern
    }

    /// `states` with everything entered together with them, sorted, without what cannot matter.
    pub(super) fn closure(&self, states: &mut Vec<u32>) {
        // It ends: what is entered together with a state is made later, or enters nothing itself (`segments`).
        let mut next = 0;
        while let Some(&state) = states.get(next) {
            states.extend(&self.states[state as usize].also);
            next += 1;
        }
        states.sort_unstable();
        states.dedup();
        self.prune(states);
    }

    /// Drops the states of patterns behind ones that match forever and decide the same.
    fn prune(&self, states: &mut Vec<u32>) {
        // States are made pattern by pattern, so sorted states are in rank order.
        let mut decided = 0u8;
        let mut done = None;
        states.retain(|&state| {
            let State { rank, forever, .. } = self.states[state as usize];
            if done == Some(rank) || self.decides[rank as usize] & !decided == 0 {
                return false;
            }
            // A pattern may be in several states at once: one that matches forever makes its others useless. Those
            // before it in the order stay, which costs memory, not meaning.
            if forever {
                decided |= self.decides[rank as usize];
                done = Some(rank);
            }
            true
        });
    }
}

/// A pattern under construction: a chain of states with a current end.
pub(super) struct Pattern<'a> {
    nfa: &'a mut Nfa,
    rank: u32,
    at: u32,
}

// === impl Pattern ===

impl Pattern<'_> {
    /// Literal bytes.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.one(On::Byte(byte));
        }
    }

    /// One byte.
    pub(super) fn one(&mut self, on: On) {
        let next = self.state();
        self.edge(self.at, on, next);
        self.at = next;
    }

    /// Zero or more bytes.
    pub(super) fn many(&mut self, on: On) {
        // A state of its own: the loop must not be entered again by what loops back to the current end.
        let next = self.state();
        self.edge(next, on, next);
        self.nfa.states[self.at as usize].also.push(next);
        self.at = next;
    }

    /// Zero or more of: a slash and a non-empty segment.
    pub(super) fn segments(&mut self) {
        let (head, slash, inside, after) = (self.state(), self.state(), self.state(), self.state());
        self.nfa.states[self.at as usize].also.extend([head, after]);
        self.edge(head, On::Byte(b'/'), slash);
        self.edge(slash, On::NotSlash, inside);
        self.edge(inside, On::NotSlash, inside);
        self.nfa.states[inside as usize].also.extend([head, after]);
        self.at = after;
    }

    /// The input may end here.
    pub(super) fn accept(&mut self) {
        self.nfa.states[self.at as usize].accepts = true;
    }

    /// The input may end here, or go on with a slash and anything.
    pub(super) fn accept_rest(&mut self) {
        self.accept();
        self.one(On::Byte(b'/'));
        self.accept_forever();
    }

    /// The input may end here or go on with anything.
    pub(super) fn accept_forever(&mut self) {
        let State { accepts, forever, .. } = &mut self.nfa.states[self.at as usize];
        (*accepts, *forever) = (true, true);
        self.edge(self.at, On::Any, self.at);
    }

    fn edge(&mut self, from: u32, on: On, to: u32) {
        self.nfa.states[from as usize].edges.push((on, to));
    }

    fn state(&mut self) -> u32 {
        let number = self.nfa.states.len() as u32;
        self.nfa.states.push(State {
            rank: self.rank,
            accepts: false,
            forever: false,
            edges: Vec::new(),
            also: Vec::new(),
        });
        number
    }
}
