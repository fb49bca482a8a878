//! Lays automata out as cells of `pc_dfa` (abi.h, `struct pc_cell`).
//!
//! Most states of a set of paths go on with one or two characters and are dead or alike for all others, so a state has
//! one cell for itself, with where it leads by default, and one for each class that leads elsewhere. A cell of a class
//! stands at a fixed distance from its state's and says whose it is; that of one state fits into the gaps of others
//! (row displacement, Tarjan and Yao, "Storing a sparse table", 1979).
//!
//! **Invariant:** for every state and class, following the cells as bpf/lib/policy.h does leads where the automaton
//! does.
//! **Invariant:** every cell that any state and class can lead the kernel to is among those returned, so that none of
//! an earlier generation is ever read.

use std::collections::HashMap;

use super::dfa::{Accept, DEAD, Dfa, State};

/// One cell.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Cell {
    /// Belongs to no state.
    #[default]
    Free,
    /// A state: where it leads but for the classes with cells of their own, and what it accepts.
    State { default: u32, accept: Accept },
    /// Where the state at `of` leads for the class of this distance.
    Next { of: u32, to: u32 },
}

/// The cells, and where each state stands among them.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) cells: Vec<Cell>,
    pub(super) at: Vec<u32>,
}

/// Lays out all states for `classes` classes; the dead one stands at 0 and has no cells.
pub(super) fn pack(dfa: &Dfa, classes: usize) -> Packed {
    let states = dfa.states();
    let mut order: Vec<usize> = (DEAD as usize + 1..states.len()).collect();
    // The widest first, while there is room; those with few cells fill the gaps.
    order.sort_by_key(|state| (std::cmp::Reverse(states[*state].others.len()), *state));
    let mut places = Places::new();
    let mut at = vec![0; states.len()];
    for &state in &order {
        at[state] = places.take(states[state].others.iter().map(|(class, _)| *class).collect());
    }
    let last = at.iter().max().map_or(0, |max| *max as usize);
    let mut cells = vec![Cell::Free; last + 1 + classes];
    for &state in &order {
        let State { default, others, accept } = &states[state];
        let place = at[state];
        cells[place as usize] = Cell::State { default: at[*default as usize], accept: *accept };
        for (class, next) in others {
            cells[place as usize + 1 + usize::from(*class)] =
                Cell::Next { of: place, to: at[*next as usize] };
        }
    }
    Packed { cells, at }
}

/// Which places are taken.
struct Places {
    taken: Vec<bool>,
    /// Where the search goes on for states with cells for these classes: what did not fit them once never will.
    next: HashMap<Vec<u8>, usize>,
}

// === impl Places ===

impl Places {
    fn new() -> Self {
        Self { taken: vec![true], next: HashMap::new() }
    }

    /// The first place with room for a state and its classes.
    fn take(&mut self, classes: Vec<u8>) -> u32 {
        let mut place = self.next.get(&classes).copied().unwrap_or(1);
        let cells = |place: usize| classes.iter().map(move |class| place + 1 + usize::from(*class));
        while self.is_taken(place) || cells(place).any(|cell| self.is_taken(cell)) {
            place += 1;
        }
        let end = cells(place).max().unwrap_or(place);
        if self.taken.len() <= end {
            self.taken.resize(end + 1, false);
        }
        for cell in [place].into_iter().chain(cells(place)) {
            self.taken[cell] = true;
        }
        self.next.insert(classes, place + 1);
        place as u32
    }

    fn is_taken(&self, cell: usize) -> bool {
        self.taken.get(cell).is_some_and(|taken| *taken)
    }
}
