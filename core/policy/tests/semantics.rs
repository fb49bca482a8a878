//! docs/SEMANTICS.md and docs/THREATS.md against the code: the tests that they name exist, and the reasons are the real
//! ones.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use portcullis_wire::Reason;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn specification() -> String {
    read("docs/SEMANTICS.md")
}

fn threats() -> String {
    read("docs/THREATS.md")
}

/// Cells of the table rows that have this many.
fn rows(text: &str, cells: usize) -> Vec<Vec<&str>> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let rows = rows.map(|row| row.split(" | ").map(str::trim).collect::<Vec<_>>());
    rows.filter(|row| row.len() == cells).collect()
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// The files of a document's table by their short names.
fn sources(text: &str) -> BTreeMap<String, String> {
    let unquote = |cell: &str| cell.trim_matches('`').to_owned();
    rows(text, 2)
        .into_iter()
        .filter(|row| row[1].trim_matches('`').ends_with(".rs"))
        .map(|row| (unquote(row[0]), read(&unquote(row[1]))))
        .collect()
}

/// Fails unless each test that a document names is in its file; how many it names.
fn find_tests(text: &str, files: &BTreeMap<String, String>) -> usize {
    let mut named = 0;
    for (file, test) in quoted(text).filter_map(|text| text.split_once("::")) {
        let source = files.get(file).unwrap_or_else(|| panic!("`{file}::{test}`: no such file in the table"));
        // A function, or a row of a table of tests.
        let found = source.contains(&format!("fn {test}(")) || source.contains(&format!(" {test}: "));
        assert!(found, "`{file}::{test}`: no such test");
        named += 1;
    }
    named
}

#[test]
fn every_test_that_the_specification_names_exists() {
    let text = specification();
    let files = sources(&text);
    assert!(files.len() > 10, "the table of files was not read");
    let named = find_tests(&text, &files);
    assert!(named > 100, "only {named} tests are named");
}

#[test]
fn every_test_that_the_threats_name_exists() {
    let text = threats();
    let mut files = sources(&specification());
    for (name, source) in sources(&text) {
        let other = files.insert(name.clone(), source);
        assert!(other.is_none(), "`{name}` is another file in docs/SEMANTICS.md");
    }
    let named = find_tests(&text, &files);
    assert!(named > 100, "only {named} tests are named");
}

#[test]
fn every_threat_has_a_test_or_says_that_it_has_none() {
    let text = threats();
    let mut last = 0;
    for row in rows(&text, 4) {
        let Some(number) = row[0].strip_prefix('T').and_then(|number| number.parse::<u32>().ok()) else {
            continue;
        };
        assert!(number > last, "T{number} stands behind T{last}");
        assert!(row[3].contains("::") || row[3].contains("not tested"), "T{number}: {}", row[3]);
        last = number;
    }
    assert!(last > 50, "the rows were not read");
}

#[test]
fn every_file_that_the_documents_name_exists() {
    let is_path = |text: &&str| {
        text.contains('/') && [".rs", ".h", ".c", ".toml"].iter().any(|end| text.ends_with(end))
    };
    for text in [specification(), threats()] {
        for path in quoted(&text).filter(is_path) {
            assert!(root().join(path).is_file(), "{path} does not exist");
        }
    }
}

#[test]
fn the_reasons_are_those_of_the_code() {
    let text = specification();
    let written: Vec<Vec<String>> = rows(&text, 5)
        .into_iter()
        .filter(|row| row[0].parse::<u16>().is_ok() && row[1].starts_with('`') && !row[4].contains("::"))
        .map(|row| row.into_iter().map(|cell| cell.trim_matches('`').to_owned()).collect())
        .collect();
    let expected: Vec<Vec<String>> = Reason::ALL
        .iter()
        .filter(|reason| **reason != Reason::None)
        .map(|reason| {
            vec![
                reason.code().to_string(),
                reason.slug().to_owned(),
                reason.status().map_or_else(|| "-".to_owned(), |status| status.to_string()),
                reason.error().unwrap_or("-").to_owned(),
                reason.text().to_owned(),
            ]
        })
        .collect();
    for (written, expected) in written.iter().zip(&expected) {
        assert_eq!(written, expected);
    }
    assert_eq!(written.len(), expected.len());
}
