//! What `cargo xtask vm-test` tells this guest, one thing a line:
//! `require FEATURE` (a test that is skipped for want of it has failed), `test PART` (only tests whose name contains
//! one of these), `env NAME=VALUE` (for every test).

use std::fs;

use anyhow::{Context, Result, bail};

const FILE: &str = "/settings";

#[derive(Debug, Default, Eq, PartialEq)]
pub struct Settings {
    /// Features, by their names in a skip.
    pub require: Vec<String>,
    /// Parts of names; empty: every test.
    pub tests: Vec<String>,
    pub env: Vec<(String, String)>,
}

// === impl Settings ===

impl Settings {
    /// Reads the guest's.
    pub fn read() -> Result<Settings> {
        Settings::parse(&fs::read_to_string(FILE).with_context(|| format!("reading {FILE}"))?)
    }

    /// Whether a test is to run.
    pub fn wants(&self, test: &str) -> bool {
        self.tests.is_empty() || self.tests.iter().any(|part| test.contains(part))
    }

    fn parse(text: &str) -> Result<Settings> {
        let mut settings = Settings::default();
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("require", feature)) => settings.require.push(feature.to_owned()),
                Some(("test", part)) => settings.tests.push(part.to_owned()),
                Some(("env", pair)) => {
                    let (name, value) = pair.split_once('=').with_context(|| format!("{FILE}: `{line}`"))?;
                    settings.env.push((name.to_owned(), value.to_owned()));
                }
                _ => bail!("{FILE}: `{line}` is none of require, test, env"),
            }
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let settings =
            Settings::parse("require nginx\ntest delivery::\nenv A=b=c\nrequire go\n").expect("good");
        assert_eq!(settings.require, ["nginx", "go"]);
        assert_eq!(settings.env, [("A".to_owned(), "b=c".to_owned())]);
        assert!(settings.wants("delivery::node") && !settings.wants("fragments::node"));
    }

    #[test]
    fn without_a_line_every_test_runs() {
        let settings = Settings::parse("").expect("good");
        assert_eq!(settings, Settings::default());
        assert!(settings.wants("delivery::node"));
    }

    #[test]
    fn a_wrong_line_is_shown() {
        for wrong in ["frobnicate a", "env A", "test"] {
            let error = Settings::parse(wrong).expect_err("wrong").to_string();
            assert!(error.contains(wrong), "{error}");
        }
    }
}
