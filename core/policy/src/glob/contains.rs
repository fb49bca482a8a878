//! Relations between globs, for static analysis: does one match all that another matches, do both match something.
//!
//! **Invariant:** `contains` says yes only when it is so; it may say no where a proof would be longer.
//! **Invariant:** both take time proportional to the product of the lengths.

use super::{Glob, Part, Segment, parts_match};

/// Rows of a table over the segments (or characters) of both sides, filled from the end.
struct Table {
    cells: Vec<bool>,
    width: usize,
}

// === impl Table ===

impl Table {
    /// Cell (i, j) for `i <= a` and `j <= b`, each from those behind it: `cell(table, i, j)`.
    fn fill(a: usize, b: usize, cell: impl Fn(&Table, usize, usize) -> bool) -> bool {
        let width = b + 1;
        let mut table = Table { cells: vec![false; (a + 1) * width], width };
        for i in (0..=a).rev() {
            for j in (0..=b).rev() {
                table.cells[i * width + j] = cell(&table, i, j);
            }
        }
        table.at(0, 0)
    }

    fn at(&self, i: usize, j: usize) -> bool {
        self.cells[i * self.width + j]
    }
}

// === impl Glob ===

impl Glob {
    /// Whether it surely matches every path that `other` matches.
    #[must_use]
    pub fn contains(&self, other: &Glob) -> bool {
        let (a, b) = (&self.segments, &other.segments);
        if !self.has_deep() && !other.has_deep() {
            // The common case, without a table.
            return match self.rest {
                true => a.len() <= b.len(),
                false => a.len() == b.len() && !other.rest,
            } && a.iter().zip(b).all(|(a, b)| a.contains(b));
        }
        Table::fill(a.len(), b.len(), |table, i, j| match (a.get(i), b.get(j)) {
            (None, _) => self.rest || (j == b.len() && !other.rest),
            // A run that may be empty: it ends here, or it takes what stands there.
            (Some(Segment::Deep), None) => table.at(i + 1, j),
            (Some(Segment::Deep), Some(b)) => {
                table.at(i + 1, j) || ((*b == Segment::Deep || b.nonempty()) && table.at(i, j + 1))
            }
            (Some(_), None) => false,
            // No segment of the run, or one and the run again.
            (Some(a), Some(Segment::Deep)) => *a == Segment::One && table.at(i, j + 1) && table.at(i + 1, j),
            (Some(a), Some(b)) => a.contains(b) && table.at(i + 1, j + 1),
        })
    }

    /// Whether some path is matched by both.
    #[must_use]
    pub fn overlaps(&self, other: &Glob) -> bool {
        let (a, b) = (&self.segments, &other.segments);
        if !self.has_deep() && !other.has_deep() {
            return (a.len() == b.len()
                || (a.len() < b.len() && self.rest)
                || (b.len() < a.len() && other.rest))
                && a.iter().zip(b).all(|(a, b)| a.overlaps(b));
        }
        Table::fill(a.len(), b.len(), |table, i, j| match (a.get(i), b.get(j)) {
            (None, None) => true,
            (Some(Segment::Deep), Some(b)) if b.nonempty() => table.at(i + 1, j) || table.at(i, j + 1),
            (Some(a), Some(Segment::Deep)) if a.nonempty() => table.at(i, j + 1) || table.at(i + 1, j),
            (Some(Segment::Deep), Some(Segment::Deep)) => table.at(i + 1, j) || table.at(i, j + 1),
            (Some(Segment::Deep), _) => table.at(i + 1, j),
            (_, Some(Segment::Deep)) => table.at(i, j + 1),
            (None, Some(_)) => self.rest,
            (Some(_), None) => other.rest,
            (Some(a), Some(b)) => a.overlaps(b) && table.at(i + 1, j + 1),
        })
    }

    fn has_deep(&self) -> bool {
        self.segments.contains(&Segment::Deep)
    }
}

// === impl Segment ===

impl Segment {
    /// Matches exactly one segment, and only ones that are not empty.
    pub(crate) fn nonempty(&self) -> bool {
        match self {
            Segment::Literal(text) => !text.is_empty(),
            Segment::One | Segment::Partial(_) => true,
            Segment::Deep => false,
        }
    }

    /// Whether it matches every segment that `other` matches; neither is `Deep`.
    pub(crate) fn contains(&self, other: &Segment) -> bool {
        match (self, other) {
            (Segment::One, other) => other.nonempty(),
            (Segment::Literal(a), Segment::Literal(b)) => a == b,
            (Segment::Partial(a), Segment::Literal(b)) => parts_match(a, b),
            (Segment::Partial(a), Segment::Partial(b)) => parts_contain(a, b),
            (Segment::Literal(_), Segment::One | Segment::Partial(_))
            | (Segment::Partial(_), Segment::One) => false,
            (Segment::Deep, _) | (_, Segment::Deep) => false,
        }
    }

    /// Whether both match some segment; neither is `Deep`.
    fn overlaps(&self, other: &Segment) -> bool {
        match (self, other) {
            (Segment::One, other) | (other, Segment::One) => other.nonempty(),
            (Segment::Literal(a), Segment::Literal(b)) => a == b,
            (Segment::Partial(parts), Segment::Literal(text))
            | (Segment::Literal(text), Segment::Partial(parts)) => parts_match(parts, text),
            (Segment::Partial(a), Segment::Partial(b)) => parts_overlap(a, b),
            (Segment::Deep, _) | (_, Segment::Deep) => false,
        }
    }
}

/// Parts as characters; `None` is a star.
fn flat(parts: &[Part]) -> Vec<Option<u8>> {
    let mut flat = Vec::new();
    for part in parts {
        match part {
            Part::Star => flat.push(None),
            Part::Text(text) => flat.extend(text.bytes().map(Some)),
        }
    }
    flat
}

/// A star of `b` is one more character, which only stars of `a` match.
fn parts_contain(a: &[Part], b: &[Part]) -> bool {
    // Each text of `a` stands within one text of `b`. Most pairs fail here, without a table.
    let stands = |part: &Part| match part {
        Part::Star => true,
        Part::Text(text) => {
            b.iter().any(|part| matches!(part, Part::Text(other) if other.contains(text.as_str())))
        }
    };
    if !a.iter().all(stands) {
        return false;
    }
    let (a, b) = (flat(a), flat(b));
    Table::fill(a.len(), b.len(), |table, i, j| match (a.get(i), b.get(j)) {
        (None, _) => j == b.len(),
        (Some(None), None) => table.at(i + 1, j),
        (Some(None), Some(_)) => table.at(i + 1, j) || table.at(i, j + 1),
        (Some(Some(_)), None) => false,
        (Some(a), Some(b)) => a == b && table.at(i + 1, j + 1),
    })
}

fn parts_overlap(a: &[Part], b: &[Part]) -> bool {
    // Texts at the same end: one must be the beginning (or the end) of the other. Most pairs fail here, without a table.
    if let (Some(Part::Text(a)), Some(Part::Text(b))) = (a.first(), b.first())
        && !a.starts_with(b.as_str())
        && !b.starts_with(a.as_str())
    {
        return false;
    }
    if let (Some(Part::Text(a)), Some(Part::Text(b))) = (a.last(), b.last())
        && !a.ends_with(b.as_str())
        && !b.ends_with(a.as_str())
    {
        return false;
    }
    let (a, b) = (flat(a), flat(b));
    Table::fill(a.len(), b.len(), |table, i, j| match (a.get(i), b.get(j)) {
        (None, None) => true,
        (Some(None), Some(_)) | (Some(_), Some(None)) => table.at(i + 1, j) || table.at(i, j + 1),
        (Some(None), None) => table.at(i + 1, j),
        (None, Some(None)) => table.at(i, j + 1),
        (None, Some(Some(_))) | (Some(Some(_)), None) => false,
        (Some(a), Some(b)) => a == b && table.at(i + 1, j + 1),
    })
}
