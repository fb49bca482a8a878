//! The part of TOML that this repository's manifests use: tables, `key = value` on one line, comments.

/// One `key = value`, with the table that it stands in.
#[derive(Debug, Eq, PartialEq)]
pub struct Entry {
    /// The table's name as written between the brackets, empty at the top.
    pub table: String,
    /// The key as written, unquoted.
    pub key: String,
    /// The value as written.
    pub value: String,
}

/// All entries in order. Values that go over several lines are cut to their first.
pub fn entries(text: &str) -> Vec<Entry> {
    let mut table = String::new();
    let mut entries = Vec::new();
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.split(']').next())
            && !line.contains('=')
        {
            table = name.trim_start_matches('[').replace('"', "");
            continue;
        }
        if let Some((key, value)) = line.split_once('=') {
            let key = key.trim().trim_matches('"').to_owned();
            entries.push(Entry { table: table.clone(), key, value: value.trim().to_owned() });
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_and_keys_are_read() {
        let text = "top = 1\n# a comment\n[a.\"6.18\"]\n\"k\" = { x = [1] }\n[[bin]]\nname = \"b\"\n";
        let got: Vec<_> = entries(text).into_iter().map(|e| (e.table, e.key, e.value)).collect();
        let want = [("", "top", "1"), ("a.6.18", "k", "{ x = [1] }"), ("bin", "name", "\"b\"")];
        assert_eq!(got, want.map(|(t, k, v)| (t.to_owned(), k.to_owned(), v.to_owned())));
    }
}
