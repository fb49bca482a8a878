//! Where in a file a value stands: a tree of places, read from the same text as the typed value.
//!
//! Meaning is checked after parsing, on typed values that know nothing of places; this tree finds the place again.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// A node of the document with its place.
pub(super) type Located = Spanned<Node>;

/// A node of the document; scalars only have a place.
#[derive(Debug)]
pub(super) enum Node {
    /// A mapping: key, value, both with places.
    Map(Vec<(Spanned<String>, Located)>),
    /// A sequence.
    Seq(Vec<Located>),
    /// Anything else.
    Scalar,
}

/// One step of a way into the document.
#[derive(Clone, Copy, Debug)]
pub(super) enum At<'a> {
    /// Member of a mapping.
    Key(&'a str),
    /// Element of a sequence.
    Index(usize),
}

/// Place of what `way` leads to, or of the deepest thing on the way that exists.
pub(super) fn place(root: &Located, way: &[At<'_>]) -> (u64, u64) {
    let mut here = root;
    for step in way {
        let next = match (step, &here.value) {
            (At::Key(name), Node::Map(entries)) => {
                entries.iter().find(|(key, _)| key.value == *name).map(|e| &e.1)
            }
            (At::Index(n), Node::Seq(items)) => items.get(*n),
            (At::Key(_) | At::Index(_), Node::Map(_) | Node::Seq(_) | Node::Scalar) => None,
        };
        match next {
            Some(next) => here = next,
            None => break,
        }
    }
    (here.referenced.line(), here.referenced.column())
}

/// Whether the document is a mapping with this key.
pub(super) fn has_key(root: &Located, name: &str) -> bool {
    matches!(&root.value, Node::Map(entries) if entries.iter().any(|(key, _)| key.value == name))
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Map(entries))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Node::Seq(items))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_none<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }
}
