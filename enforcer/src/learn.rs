//! Endpoints, learnt from traffic: method and path, with `{id}` in the place of what varies, and how often.
//!
//! Only requests that passed count: whatever a scanner tries and is refused is no endpoint. A segment that looks like an
//! identifier is one; others are taken to be identifiers when there are too many of them beside each other.
//!
//! **Invariant:** memory is bounded, whatever the traffic; what does not fit is counted.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_wire::{AccessLog, Verdict};

/// What was learnt.
#[derive(Clone, Debug, Default)]
pub struct Learner {
    ports: BTreeMap<u16, Node>,
    /// Places in the trees of all ports.
    places: usize,
    beyond: u64,
}

/// An endpoint.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// Port.
    pub port: u16,
    /// Method.
    pub method: String,
    /// Path; `{id}` stands for one segment.
    pub pattern: String,
    /// Who used it.
    pub usage: Usage,
}

/// Who used an endpoint.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    /// Requests.
    pub hits: u64,
    /// Of them, those without a verified token.
    pub anonymous: u64,
    /// Sets of roles that verified tokens had; only roles that some policy names are known. An empty one: none of them.
    pub roles: BTreeSet<Vec<String>>,
    /// There were more sets than are kept.
    pub more_roles: bool,
}

#[derive(Clone, Debug, Default)]
struct Node {
    children: BTreeMap<String, Node>,
    /// Segments that vary.
    varying: Option<Box<Node>>,
    /// All segments vary, whatever they look like.
    collapsed: bool,
    methods: BTreeMap<String, Usage>,
}

/// Places in the trees, of all ports together.
const PLACES_MAX: usize = 20_000;
/// Different segments at one place; more of them are identifiers.
const SIBLINGS_MAX: usize = 40;
const DEPTH_MAX: usize = 16;
/// Methods at one place: those that policies can name, and a few.
const METHODS_MAX: usize = 12;
const ROLE_SETS_MAX: usize = 16;
/// What stands for a segment that varies.
const VARYING: &str = "{id}";

// === impl Learner ===

impl Learner {
    /// Takes a decision.
    pub fn observe(&mut self, record: &AccessLog) {
        let AccessLog { destination_port, method, path, user_id, kid, roles, decision, .. } = record;
        let passed = matches!(decision, Verdict::Allow | Verdict::WouldDeny);
        // A path that could not be read, or of which only the beginning was recorded, names nothing.
        if !passed || !path.starts_with('/') || path.contains(['\\', '…']) || method.is_empty() {
            return;
        }
        let segments: Vec<&str> = path[1..].split('/').collect();
        if segments.len() > DEPTH_MAX || !self.place(*destination_port) {
            self.beyond += 1;
            return;
        }
        let mut node = self.ports.entry(*destination_port).or_default();
        for segment in segments {
            let Some(next) = node.step(segment, &mut self.places) else {
                self.beyond += 1;
                return;
            };
            node = next;
        }
        if node.methods.len() >= METHODS_MAX && !node.methods.contains_key(method) {
            self.beyond += 1;
            return;
        }
        let usage = node.methods.entry(method.clone()).or_default();
        usage.hits += 1;
        if user_id.is_none() && kid.is_none() {
            usage.anonymous += 1;
        } else if usage.roles.len() < ROLE_SETS_MAX || usage.roles.contains(roles) {
            let mut roles = roles.clone();
            roles.sort_unstable();
            usage.roles.insert(roles);
        } else {
            usage.more_roles = true;
        }
    }

    /// The endpoints, in the order of port, path and method.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Endpoint> {
        let mut found = Vec::new();
        for (port, node) in &self.ports {
            node.list(*port, "", &mut found);
        }
        found
    }

    /// Requests that did not fit.
    #[must_use]
    pub fn beyond(&self) -> u64 {
        self.beyond
    }

    /// Whether a port has a tree, or can have one.
    fn place(&mut self, port: u16) -> bool {
        if self.ports.contains_key(&port) {
            return true;
        }
        let fits = self.places < PLACES_MAX;
        self.places += usize::from(fits);
        fits
    }
}

// === impl Node ===

impl Node {
    /// The place of a segment, made if there is room.
    fn step(&mut self, segment: &str, places: &mut usize) -> Option<&mut Node> {
        let literal = !self.collapsed && !is_identifier(segment);
        if literal && self.children.len() >= SIBLINGS_MAX && !self.children.contains_key(segment) {
            self.collapse(places);
        } else if literal {
            if !self.children.contains_key(segment) && !take(places) {
                return None;
            }
            return Some(self.children.entry(segment.to_owned()).or_default());
        }
        if self.varying.is_none() && !take(places) {
            return None;
        }
        Some(self.varying.get_or_insert_default())
    }

    /// Makes one of all the segments.
    fn collapse(&mut self, places: &mut usize) {
        self.collapsed = true;
        let mut all = self.varying.take().unwrap_or_else(|| {
            *places += 1;
            Box::default()
        });
        for (_, child) in std::mem::take(&mut self.children) {
            *places -= 1;
            all.merge(child, places);
        }
        self.varying = Some(all);
    }

    fn merge(&mut self, other: Node, places: &mut usize) {
        let Node { children, varying, collapsed, methods } = other;
        for (method, usage) in methods {
            if self.methods.len() < METHODS_MAX || self.methods.contains_key(&method) {
                self.methods.entry(method).or_default().merge(usage);
            }
        }
        for (segment, child) in children {
            match self.children.get_mut(&segment) {
                Some(known) => {
                    *places -= 1;
                    known.merge(child, places);
                }
                None => drop(self.children.insert(segment, child)),
            }
        }
        match (&mut self.varying, varying) {
            (Some(known), Some(varying)) => {
                *places -= 1;
                known.merge(*varying, places);
            }
            (known, Some(varying)) => *known = Some(varying),
            (_, None) => {}
        }
        if collapsed || self.collapsed || self.children.len() > SIBLINGS_MAX {
            self.collapse(places);
        }
    }

    fn list(&self, port: u16, path: &str, found: &mut Vec<Endpoint>) {
        for (method, usage) in &self.methods {
            let pattern = path.to_owned();
            found.push(Endpoint { port, method: method.clone(), pattern, usage: usage.clone() });
        }
        for (segment, child) in &self.children {
            child.list(port, &format!("{path}/{segment}"), found);
        }
        if let Some(varying) = &self.varying {
            varying.list(port, &format!("{path}/{VARYING}"), found);
        }
    }
}

// === impl Usage ===

impl Usage {
    fn merge(&mut self, other: Usage) {
        let Usage { hits, anonymous, roles, more_roles } = other;
        self.hits += hits;
        self.anonymous += anonymous;
        self.more_roles |= more_roles;
        for set in roles {
            if self.roles.len() < ROLE_SETS_MAX || self.roles.contains(&set) {
                self.roles.insert(set);
            } else {
                self.more_roles = true;
            }
        }
    }
}

fn take(places: &mut usize) -> bool {
    let fits = *places < PLACES_MAX;
    *places += usize::from(fits);
    fits
}

/// Whether a segment looks like an identifier: a number, a date, a UUID, a long hexadecimal or mixed text, an address.
fn is_identifier(segment: &str) -> bool {
    let bytes = segment.as_bytes();
    let all = |fits: fn(&u8) -> bool| !bytes.is_empty() && bytes.iter().all(fits);
    let any = |fits: fn(&u8) -> bool| bytes.iter().any(fits);
    if segment.contains('@')
        || (any(u8::is_ascii_digit) && all(|b| b.is_ascii_digit() || b"-_.:".contains(b)))
    {
        return true;
    }
    let long_hex =
        bytes.len() >= 8 && all(|b| b.is_ascii_hexdigit() || *b == b'-') && any(u8::is_ascii_digit);
    let mixed = bytes.len() >= 20
        && all(|b| b.is_ascii_alphanumeric() || b"-_=".contains(b))
        && bytes.iter().filter(|b| b.is_ascii_digit()).count() >= 3;
    long_hex || mixed
}

#[cfg(test)]
mod tests;
