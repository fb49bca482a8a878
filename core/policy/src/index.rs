//! Indices that keep a decision from looking at every policy and every rule.

use std::collections::HashMap;

use portcullis_wire::{Method, Mode};

use crate::glob::{Glob, Segment};
use crate::host::HostPattern;
use crate::policy::{Policy, Rule};

/// Policies in force by port and host.
#[derive(Clone, Debug, Default)]
pub(crate) struct PortIndex {
    ports: HashMap<u16, Port>,
}

#[derive(Clone, Debug, Default)]
struct Port {
    enforces: bool,
    /// The policy without host.
    any: Option<usize>,
    exact: HashMap<String, usize>,
    below: HashMap<String, usize>,
}

/// Rules in force of one policy, as a tree over the segments of their globs: what their beginnings share is looked at
/// once.
#[derive(Clone, Debug)]
pub(crate) struct RuleIndex {
    /// The first one is the root.
    nodes: Vec<Node>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    literal: HashMap<String, usize>,
    one: Option<usize>,
    /// Sorted.
    partial: Vec<(Segment, usize)>,
    deep: Option<usize>,
    /// Reached by `Deep`: takes any number of segments without being left.
    is_deep: bool,
    /// Rules whose globs end here, in evaluation order.
    whole: Vec<usize>,
    /// The same, of globs that anything may follow.
    rest: Vec<usize>,
}

/// What is walked with: the segments of a path, or those of a glob for the globs that contain it.
pub(crate) trait Symbol: Copy {
    /// The literal that it is.
    fn literal(&self) -> Option<&str>;
    /// Whether it is never empty.
    fn nonempty(self) -> bool;
    /// Whether a partial segment matches all of it.
    fn within(self, partial: &Segment) -> bool;
}

impl Symbol for &str {
    fn literal(&self) -> Option<&str> {
        Some(self)
    }

    fn nonempty(self) -> bool {
        !self.is_empty()
    }

    fn within(self, partial: &Segment) -> bool {
        partial.matches(self)
    }
}

impl Symbol for &Segment {
    fn literal(&self) -> Option<&str> {
        match self {
            Segment::Literal(text) => Some(text),
            Segment::One | Segment::Partial(_) | Segment::Deep => None,
        }
    }

    fn nonempty(self) -> bool {
        Segment::nonempty(self)
    }

    fn within(self, partial: &Segment) -> bool {
        partial.contains(self)
    }
}

// === impl PortIndex ===

impl PortIndex {
    pub(crate) fn new(policies: &[Policy]) -> PortIndex {
        let mut ports: HashMap<u16, Port> = HashMap::new();
        for (index, policy) in policies.iter().enumerate() {
            if policy.mode() == Mode::Disabled {
                continue;
            }
            let port = ports.entry(policy.port()).or_default();
            port.enforces |= policy.mode() == Mode::Enforce;
            match policy.host() {
                None => port.any = Some(index),
                Some(HostPattern::Exact(name)) => {
                    port.exact.insert(name.clone(), index);
                }
                Some(HostPattern::Below(suffix)) => {
                    port.below.insert(suffix.clone(), index);
                }
            }
        }
        PortIndex { ports }
    }

    /// Whether some policy of the port enforces; `None` when no policy protects it.
    pub(crate) fn enforces(&self, port: u16) -> Option<bool> {
        Some(self.ports.get(&port)?.enforces)
    }

    /// The policy of a host: an exact one before the longest suffix before the one without host.
    pub(crate) fn select(&self, port: u16, host: Option<&str>) -> Option<usize> {
        let port = self.ports.get(&port)?;
        let named = host.and_then(|host| {
            port.exact.get(host).or_else(|| {
                // From the left: the longest suffix first. A dot in front of everything is below nothing.
                let dots = host.match_indices('.').filter(|(at, _)| *at > 0);
                dots.map(|(at, _)| &host[at + 1..]).find_map(|suffix| port.below.get(suffix))
            })
        });
        named.copied().or(port.any)
    }
}

// === impl RuleIndex ===

impl RuleIndex {
    /// Of rules in evaluation order.
    pub(crate) fn new(rules: &[Rule]) -> RuleIndex {
        let mut index = RuleIndex { nodes: vec![Node::default()] };
        for (number, rule) in rules.iter().enumerate() {
            if rule.mode == Mode::Disabled {
                continue;
            }
            let at = rule.glob.segments().iter().fold(0, |at, segment| index.child(at, segment));
            let Node { whole, rest, .. } = &mut index.nodes[at];
            if rule.glob.rest() { rest } else { whole }.push(number);
        }
        index
    }

    fn child(&mut self, parent: usize, segment: &Segment) -> usize {
        let next = self.nodes.len();
        let Node { literal, one, partial, deep, .. } = &mut self.nodes[parent];
        let child = match segment {
            Segment::Literal(text) => *literal.entry(text.clone()).or_insert(next),
            Segment::One => *one.get_or_insert(next),
            Segment::Deep => *deep.get_or_insert(next),
            Segment::Partial(_) => match partial.binary_search_by_key(&segment, |(known, _)| known) {
                Ok(at) => partial[at].1,
                Err(at) => {
                    partial.insert(at, (segment.clone(), next));
                    next
                }
            },
        };
        if child == next {
            self.nodes.push(Node { is_deep: *segment == Segment::Deep, ..Node::default() });
        }
        child
    }

    /// The first rule in evaluation order that is about the method and the path.
    pub(crate) fn first(&self, rules: &[Rule], method: Method, path: &str) -> Option<usize> {
        let mut best: Option<usize> = None;
        let segments = path.strip_prefix('/')?.split('/');
        self.walk(segments, |found| {
            let earlier = found.iter().copied().take_while(|number| best.is_none_or(|best| *number < best));
            best = earlier.into_iter().find(|number| rules[*number].covers_method(method)).or(best);
        });
        best
    }

    /// Rules whose globs may contain a glob; all that do are among them.
    pub(crate) fn candidates(&self, glob: &Glob) -> Vec<usize> {
        let mut candidates = Vec::new();
        // Whatever contains it contains what it matches where its runs of segments are empty.
        let segments = glob.segments().iter().filter(|segment| **segment != Segment::Deep);
        self.walk(segments, |found| candidates.extend_from_slice(found));
        candidates.sort_unstable();
        candidates
    }

    /// Shows the rules whose globs match all that the symbols stand for, node by node.
    pub(crate) fn walk<S: Symbol>(&self, symbols: impl Iterator<Item = S>, mut show: impl FnMut(&[usize])) {
        let mut here = vec![0];
        self.enter_runs(&mut here);
        for symbol in symbols {
            here.iter().for_each(|at| show(&self.nodes[*at].rest));
            here = here.iter().flat_map(|at| self.step(*at, symbol)).collect();
            self.enter_runs(&mut here);
        }
        for node in here.iter().map(|at| &self.nodes[*at]) {
            show(&node.whole);
            show(&node.rest);
        }
    }

    /// Nodes behind one symbol.
    fn step<S: Symbol>(&self, at: usize, symbol: S) -> impl Iterator<Item = usize> {
        let Node { literal, one, partial, is_deep, .. } = &self.nodes[at];
        let literal = symbol.literal().and_then(|text| literal.get(text)).copied();
        let partial =
            partial.iter().filter(move |(segment, _)| symbol.within(segment)).map(|(_, child)| *child);
        let nonempty = symbol.nonempty();
        let stay = is_deep.then_some(at).filter(|_| nonempty);
        literal.into_iter().chain(one.filter(|_| nonempty)).chain(stay).chain(partial)
    }

    /// Adds the runs of segments that begin behind these nodes, each node once.
    fn enter_runs(&self, nodes: &mut Vec<usize>) {
        let runs: Vec<usize> = nodes.iter().filter_map(|at| self.nodes[*at].deep).collect();
        nodes.extend(runs);
        nodes.sort_unstable();
        nodes.dedup();
    }
}
