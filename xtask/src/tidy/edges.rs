//! Edges between the crates of the workspace, against the table of docs/ARCHITECTURE.md, and the wall between what
//! judges and what is judged.
//!
//! **Invariant:** the table and the manifests say the same; neither has an edge that the other lacks.

use std::collections::{BTreeMap, BTreeSet};

use super::Tree;
use crate::toml;

const DOC: &str = "docs/ARCHITECTURE.md";
const HEADING: &str = "## Edges";
/// What the crates that test the decision may use, tests of their own apart: a mistake in the decision code must not
/// be able to hide in them.
const WALL: &[&str] = &["portcullis-mock-control-plane", "portcullis-traffic-gen"];
const WALL_MAY_REACH: &[&str] = &["portcullis-wire", "portcullis-token"];

/// Crate → what it uses, and what only its tests use.
#[derive(Debug, Default, Eq, PartialEq)]
struct Uses {
    code: BTreeSet<String>,
    tests: BTreeSet<String>,
}

pub(super) fn findings(tree: &Tree) -> Vec<String> {
    let real = manifests(tree);
    let Some(doc) = tree.file(DOC) else {
        return vec![format!("{DOC}: is missing; the edges table is in it")];
    };
    let told = table(&doc.text);
    let mut out = Vec::new();
    for name in real.keys().chain(told.keys()).collect::<BTreeSet<_>>() {
        match (real.get(name), told.get(name)) {
            (Some(real), Some(told)) => {
                differ(&mut out, name, "uses", &real.code, &told.code);
                differ(&mut out, name, "uses in tests", &real.tests, &told.tests);
            }
            (Some(_), None) => out.push(format!("{DOC}: {HEADING}: add a row for `{name}`")),
            (None, Some(_)) => {
                out.push(format!("{DOC}: {HEADING}: there is no crate `{name}`; remove its row"))
            }
            (None, None) => {}
        }
    }
    for judge in WALL {
        for name in reach(&real, judge) {
            if !WALL_MAY_REACH.contains(&name.as_str()) {
                out.push(format!(
                    "{judge}: reaches {name}, the code that it tests; it may reach only {}",
                    WALL_MAY_REACH.join(", ")
                ));
            }
        }
    }
    if let Some(uses) = real.get("xtask") {
        out.extend(
            uses.code
                .union(&uses.tests)
                .map(|name| format!("xtask: must use no crate of the workspace, but {name}")),
        );
    }
    out
}

fn differ(out: &mut Vec<String>, name: &str, how: &str, real: &BTreeSet<String>, told: &BTreeSet<String>) {
    for extra in real.difference(told) {
        out.push(format!(
            "{name}: {how} {extra}, which {DOC} ({HEADING}) does not allow; imports only go down"
        ));
    }
    for stale in told.difference(real) {
        out.push(format!("{DOC}: {HEADING}: `{name}` no longer {how} `{stale}`; correct its row"));
    }
}

fn manifests(tree: &Tree) -> BTreeMap<String, Uses> {
    let mut all = BTreeMap::new();
    for file in tree.files.iter().filter(|f| f.path.ends_with("/Cargo.toml")) {
        let entries = toml::entries(&file.text);
        let Some(name) = entries.iter().find(|e| e.table == "package" && e.key == "name") else { continue };
        let mut uses = Uses::default();
        for entry in &entries {
            let dependency = entry.key.split('.').next().unwrap_or_default();
            let into = match entry.table.rsplit('.').next() {
                Some("dependencies" | "build-dependencies") => &mut uses.code,
                Some("dev-dependencies") => &mut uses.tests,
                Some(_) | None => continue,
            };
            if dependency.starts_with("portcullis-") || dependency == "xtask" {
                into.insert(dependency.to_owned());
            }
        }
        uses.tests = uses.tests.difference(&uses.code).cloned().collect();
        all.insert(name.value.trim_matches('"').to_owned(), uses);
    }
    all
}

/// Rows `| crate | uses | in tests |` below the heading; names in backquotes.
fn table(text: &str) -> BTreeMap<String, Uses> {
    let lines =
        text.lines().skip_while(|l| !l.starts_with(HEADING)).skip(1).take_while(|l| !l.starts_with("## "));
    let names =
        |cell: &str| -> BTreeSet<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let mut all = BTreeMap::new();
    for line in lines.filter(|l| l.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
        if let [name, code, tests, ..] = cells.as_slice() {
            let uses = Uses { code: names(code), tests: names(tests) };
            all.extend(names(name).into_iter().next().map(|name| (name, uses)));
        }
    }
    all
}

fn reach(all: &BTreeMap<String, Uses>, from: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![from.to_owned()];
    while let Some(name) = open.pop() {
        for next in all.get(&name).into_iter().flat_map(|u| &u.code) {
            if found.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::tree;
    use super::*;

    const MOCK: &str = "[package]\nname = \"portcullis-mock-control-plane\"\n[dependencies]\nportcullis-wire.workspace = true\n";
    const WIRE: &str = "[package]\nname = \"portcullis-wire\"\n[dependencies]\nserde = \"1\"\n";
    const DOC_OK: &str =
        "## Edges\n| `portcullis-wire` | | |\n| `portcullis-mock-control-plane` | `portcullis-wire` | |\n";

    fn check(mock: &str, doc: &str) -> Vec<String> {
        findings(&tree(&[("m/Cargo.toml", mock), ("w/Cargo.toml", WIRE), (DOC, doc)]))
    }

    #[test]
    fn a_true_table_has_no_findings() {
        assert_eq!(check(MOCK, DOC_OK), Vec::<String>::new());
    }

    #[test]
    fn an_edge_that_is_not_in_the_table_is_found() {
        let found = check(&MOCK.replace("wire", "token"), DOC_OK);
        assert!(found.iter().any(|f| f.contains("uses portcullis-token")), "{found:?}");
        assert!(found.iter().any(|f| f.contains("no longer uses `portcullis-wire`")), "{found:?}");
    }

    #[test]
    fn the_wall_holds_even_when_the_table_allows_it() {
        let mock = MOCK.replace("portcullis-wire.w", "portcullis-policy.w");
        let found = check(&mock, &DOC_OK.replace("| `portcullis-wire` | |\n", "| `portcullis-policy` | |\n"));
        assert!(
            found.iter().any(|f| f.contains("reaches portcullis-policy, the code that it tests")),
            "{found:?}"
        );
    }

    #[test]
    fn test_dependencies_have_their_own_column() {
        let mock = format!("{MOCK}[dev-dependencies]\nportcullis-testkit.workspace = true\n");
        assert_eq!(check(&mock, DOC_OK).len(), 1);
        assert!(
            check(
                &mock,
                &DOC_OK.replace(
                    "control-plane` | `portcullis-wire` | |",
                    "control-plane` | `portcullis-wire` | `portcullis-testkit` |"
                )
            )
            .is_empty()
        );
    }
}
