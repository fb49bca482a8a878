//! Each `VERIFIER:` comment of the kernel programs has its row in docs/VERIFIER.md, and each row its comment.

use super::Tree;

const DOC: &str = "docs/VERIFIER.md";
/// Words of a comment that a row quotes to be found again.
const QUOTED_WORDS: usize = 8;

/// A row `| path | "quoted beginning" | … |`.
struct Row<'a> {
    line: usize,
    path: &'a str,
    quote: &'a str,
}

pub(super) fn findings(tree: &Tree) -> Vec<String> {
    let doc = tree.file(DOC).map_or("", |f| f.text.as_str());
    let rows: Vec<Row<'_>> = doc.lines().enumerate().filter_map(|(n, l)| row(n + 1, l)).collect();
    let mut used = vec![false; rows.len()];
    let mut out = Vec::new();
    for file in tree.files.iter().filter(|f| f.is_c()) {
        for (line, text) in comments(&file.text) {
            let mut found = false;
            for (row, used) in rows.iter().zip(&mut used) {
                if row.path == file.path && text.starts_with(row.quote) {
                    *used = true;
                    found = true;
                }
            }
            if !found {
                let quote: Vec<&str> = text.split(' ').take(QUOTED_WORDS).collect();
                let row = format!("| `{}` | \"{}\" | … |", file.path, quote.join(" "));
                out.push(format!("{}:{line}: this verifier note has no row in {DOC}; add: {row}", file.path));
            }
        }
    }
    for (row, used) in rows.iter().zip(used) {
        if !used {
            out.push(format!(
                "{DOC}:{}: no VERIFIER comment of {} begins \"{}\"",
                row.line, row.path, row.quote
            ));
        }
    }
    out
}

fn row(line: usize, text: &str) -> Option<Row<'_>> {
    let mut cells = text.strip_prefix('|')?.split('|').map(str::trim);
    let path = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
    let quote = cells.next()?.strip_prefix('"')?.strip_suffix('"')?;
    Some(Row { line, path, quote })
}

/// Line and text of each comment that starts with the word, on one line of words.
fn comments(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("VERIFIER:") {
        let body = &text[at + "VERIFIER:".len()..];
        let body = body.split("*/").next().unwrap_or_default();
        let words: Vec<&str> = body.split_whitespace().filter(|w| *w != "*").collect();
        found.push((text[..at].lines().count(), words.join(" ")));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::tree;
    use super::*;

    const C: &str = "/* x */\n/* VERIFIER: a mask, because the\n * bound is lost on 6.1. */\n";

    #[test]
    fn a_note_with_its_row_passes() {
        let doc = "| `bpf/lib/a.h` | \"a mask, because the bound\" | why |\n";
        assert!(findings(&tree(&[("bpf/lib/a.h", C), (DOC, doc)])).is_empty());
    }

    #[test]
    fn a_note_without_a_row_is_found_with_the_row_to_add() {
        let found = findings(&tree(&[("bpf/lib/a.h", C), (DOC, "")]));
        assert_eq!(found.len(), 1);
        assert!(
            found[0].starts_with("bpf/lib/a.h:2:") && found[0].contains("\"a mask, because the bound"),
            "{found:?}"
        );
    }

    #[test]
    fn a_row_without_its_note_is_found() {
        let doc = "| `bpf/lib/a.h` | \"gone\" | why |\n";
        assert_eq!(findings(&tree(&[("bpf/lib/a.h", "/* x */\n"), (DOC, doc)])).len(), 1);
    }
}
