//! Path globs: which canonical paths a rule is about.
//!
//! | written | matches |
//! |---|---|
//! | text | that segment |
//! | `{name}`, or `*` as a whole segment | one segment, not empty |
//! | `*` beside text in a segment | any run of characters of the segment, the empty one included |
//! | `**` as a whole segment | any number of segments, none included, none of them empty |
//! | `/*` or `/**` at the end | nothing, or a slash and anything |
//!
//! **Invariant:** a glob is written in the canonical form of paths, so that no rule is silently one that never
//! matches.
//! **Invariant:** matching takes time at most proportional to glob times path: no backtracking explodes.

use std::fmt;

use crate::error::PatternError;

mod contains;
mod parse;
#[cfg(test)]
mod tests;

/// A path pattern, parsed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Glob {
    text: String,
    segments: Vec<Segment>,
    rest: bool,
}

/// What one part of a glob between slashes matches.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Segment {
    /// This segment. The empty one stands only at the end: `/a/` has it.
    Literal(String),
    /// One segment that is not empty.
    One,
    /// One segment that these parts make up; at least one of them is text, and at least one a star.
    Partial(Vec<Part>),
    /// Any number of segments, none of them empty. Never the last and never behind another `Deep`.
    Deep,
}

/// A piece of a partial segment.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Part {
    /// These characters, at least one.
    Text(String),
    /// Any characters but a slash, none included.
    Star,
}

// === impl Glob ===

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When the pattern is not one, or when no canonical path can match it.
    pub fn parse(text: &str) -> Result<Glob, PatternError> {
        let (segments, rest) = parse::parse(text)?;
        Ok(Glob { text: text.to_owned(), segments, rest })
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The segments, without the trailing `/*`.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Whether a path may go on behind the segments: with a slash and anything.
    #[must_use]
    pub fn rest(&self) -> bool {
        self.rest
    }

    /// Whether it matches a canonical path.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let Some(mut tail) = path.strip_prefix('/').map(Some) else { return false };
        let mut at = 0;
        // Behind the last `Deep`: where to go on when it takes one segment more. Earlier ones need no second
        // thought: whatever they could still take, the last one can take as well.
        let mut retry: Option<(usize, Option<&str>)> = None;
        loop {
            match (self.segments.get(at), tail) {
                (Some(Segment::Deep), _) => {
                    at += 1;
                    retry = Some((at, tail));
                    continue;
                }
                (Some(segment), Some(text)) => {
                    let (first, next) = split(text);
                    if segment.matches(first) {
                        at += 1;
                        tail = next;
                        continue;
                    }
                }
                (Some(_), None) => return false,
                (None, _) if self.rest || tail.is_none() => return true,
                (None, _) => {}
            }
            let Some((behind, Some(text))) = retry else { return false };
            let (first, next) = split(text);
            if first.is_empty() {
                return false;
            }
            (at, tail, retry) = (behind, next, Some((behind, next)));
        }
    }

    /// Length of the text that every matching path begins with, bytes. Without a wildcard the end of the path
    /// counts as one byte more, so that `/a` comes before `/a*` and `/a/*`.
    #[must_use]
    pub fn literal_prefix_len(&self) -> usize {
        let mut len = 0;
        for segment in &self.segments {
            match segment {
                Segment::Literal(text) => len += 1 + text.len(),
                Segment::Partial(parts) => {
                    let text = parts.first().map_or(0, |part| match part {
                        Part::Text(text) => text.len(),
                        Part::Star => 0,
                    });
                    return len + 1 + text;
                }
                Segment::One | Segment::Deep => return len + 1,
            }
        }
        len + usize::from(!self.rest)
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

// === impl Segment ===

impl Segment {
    /// Whether it matches one segment of a path.
    pub(crate) fn matches(&self, segment: &str) -> bool {
        match self {
            Segment::Literal(text) => text == segment,
            Segment::One => !segment.is_empty(),
            Segment::Partial(parts) => parts_match(parts, segment),
            Segment::Deep => false,
        }
    }
}

/// The first segment of a path without its leading slash, and what follows the next slash, if there is one.
fn split(text: &str) -> (&str, Option<&str>) {
    match text.split_once('/') {
        Some((first, next)) => (first, Some(next)),
        None => (text, None),
    }
}

fn parts_match(parts: &[Part], mut text: &str) -> bool {
    let mut middle = parts;
    if let Some((Part::Text(prefix), others)) = middle.split_first() {
        let Some(behind) = text.strip_prefix(prefix.as_str()) else { return false };
        (text, middle) = (behind, others);
    }
    if let Some((Part::Text(suffix), others)) = middle.split_last() {
        let Some(before) = text.strip_suffix(suffix.as_str()) else { return false };
        (text, middle) = (before, others);
    }
    // A star stands at both ends now: each text as early as possible leaves most to those behind it.
    middle.iter().all(|part| match part {
        Part::Star => true,
        Part::Text(wanted) => match text.find(wanted.as_str()) {
            Some(at) => {
                text = &text[at + wanted.len()..];
                true
            }
            None => false,
        },
    })
}
