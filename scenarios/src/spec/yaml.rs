//! YAML text to types, and the parser's errors to places and remedies.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_saphyr::{Error, Options};

use crate::FileProblem;

/// Reads one YAML (or JSON) document.
pub(super) fn parse<T: DeserializeOwned>(file: &Path, text: &str) -> Result<T, FileProblem> {
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| problem(file, text, &error))
}

fn options() -> Options {
    serde_saphyr::options! { with_snippet: false, strict_booleans: true }
}

fn problem(file: &Path, text: &str, error: &Error) -> FileProblem {
    let error = error.without_snippet();
    let place = error.location().map_or((0, 0), |at| (at.line(), at.column()));
    let (message, remedy) = match error {
        Error::SerdeUnknownField { field, expected, .. } => {
            (format!("unknown field `{field}`"), remedy_for_name(field, expected))
        }
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            (format!("unknown value `{variant}`"), remedy_for_name(variant, expected))
        }
        Error::SerdeMissingField { field, .. } => {
            (format!("missing field `{field}`"), format!("add `{field}:` to this mapping"))
        }
        Error::DuplicateMappingKey { .. } => (plain(error), "remove one of the two".to_owned()),
        Error::SerdeInvalidType { .. } | Error::SerdeInvalidValue { .. } | Error::InvalidScalar { .. } => {
            (plain(error), "write a value of the type named in the message".to_owned())
        }
        _ if text.lines().any(|line| line.trim_start_matches(' ').starts_with('\t')) => {
            (plain(error), "indent with spaces: YAML does not allow tabs".to_owned())
        }
        _ => (plain(error), "check indentation, quotes and brackets at this place".to_owned()),
    };
    FileProblem::new(file, place, message, remedy)
}

/// The parser's message on one line, without the place that we print ourselves.
fn plain(error: &Error) -> String {
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    let cut = first.find(" at line ").or_else(|| first.find(" (line ")).unwrap_or(first.len());
    first[..cut].trim_start_matches("error: ").to_owned()
}

fn remedy_for_name(written: &str, expected: &[&str]) -> String {
    match nearest(written, expected) {
        Some(name) => format!("did you mean `{name}`? Known here: {}", expected.join(", ")),
        None if expected.is_empty() => "nothing is allowed here; remove it".to_owned(),
        None => format!("known here: {}", expected.join(", ")),
    }
}

/// The name that differs least from `written`, if it differs little.
pub(super) fn nearest<'a>(written: &str, names: &[&'a str]) -> Option<&'a str> {
    let best = names.iter().map(|name| (distance(written, name), *name)).min()?;
    (best.0 <= written.chars().count().div_ceil(3)).then_some(best.1)
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("required_roles", "requird_roles"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
    }

    #[test]
    fn nearest_gives_up_on_strangers() {
        assert_eq!(nearest("mode", &["name", "rules"]), None);
        assert_eq!(nearest("stauts", &["status", "headers"]), Some("status"));
    }
}
