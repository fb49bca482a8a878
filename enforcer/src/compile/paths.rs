//! Path globs as patterns of the machine: the meaning is that of `portcullis_policy::Glob`.

use portcullis_policy::{Glob, Part, Segment};

use super::classes::Census;
use super::nfa::{Nfa, On, Pattern};

/// Adds the next pattern; `methods` are those of its rule, as a bit mask.
pub(super) fn add(nfa: &mut Nfa, glob: &Glob, methods: u8) {
    let mut pattern = nfa.pattern(methods);
    for segment in glob.segments() {
        add_segment(&mut pattern, segment);
    }
    if glob.rest() {
        pattern.accept_rest();
    } else {
        pattern.accept();
    }
}

/// Counts the bytes that the glob names.
pub(super) fn count(census: &mut Census, glob: &Glob) {
    for segment in glob.segments() {
        match segment {
            Segment::Literal(text) => census.add(text.as_bytes()),
            Segment::Partial(parts) => {
                for part in parts {
                    match part {
                        Part::Text(text) => census.add(text.as_bytes()),
                        Part::Star => {}
                    }
                }
            }
            Segment::One | Segment::Deep => {}
        }
    }
}

fn add_segment(pattern: &mut Pattern<'_>, segment: &Segment) {
    match segment {
        Segment::Literal(text) => {
            pattern.bytes(b"/");
            pattern.bytes(text.as_bytes());
        }
        Segment::One => {
            pattern.bytes(b"/");
            pattern.one(On::NotSlash);
            pattern.many(On::NotSlash);
        }
        Segment::Partial(parts) => {
            pattern.bytes(b"/");
            for part in parts {
                match part {
                    Part::Text(text) => pattern.bytes(text.as_bytes()),
                    Part::Star => pattern.many(On::NotSlash),
                }
            }
        }
        Segment::Deep => pattern.segments(),
    }
}
