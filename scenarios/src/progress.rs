//! Progress for people: a bar on a terminal, a line for each scenario elsewhere, nothing when a program reads.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::report::{Outcome, ScenarioResult};

/// Where progress goes.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    lines: bool,
}

// === impl Progress ===

impl Progress {
    /// For standard error as it is.
    #[must_use]
    pub fn for_stderr() -> Progress {
        let ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
        let terminal = std::io::stderr().is_terminal() && !ci;
        let bar = terminal.then(|| {
            let bar = ProgressBar::new(0);
            let style = ProgressStyle::with_template("{spinner} {pos}/{len} {wide_msg} {elapsed}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Progress { bar, lines: !terminal }
    }

    /// Nothing at all.
    #[must_use]
    pub fn silent() -> Progress {
        Progress { bar: None, lines: false }
    }

    /// `runs` scenarios, each one on one engine, are ahead.
    pub(crate) fn begin(&self, runs: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(runs);
        }
    }

    /// What is happening.
    pub(crate) fn doing(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(what.to_owned());
        }
    }

    /// A scenario is over.
    pub(crate) fn done(&self, result: &ScenarioResult) {
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
        if self.lines {
            let ScenarioResult { name, engine, outcome, reason, duration_ms, .. } = result;
            let why = match (outcome, reason) {
                (Outcome::Passed, _) | (_, None) => String::new(),
                (Outcome::Failed | Outcome::NotRun, Some(reason)) => format!(": {reason}"),
            };
            eprintln!("    {name} on {engine}: {outcome} ({duration_ms} ms){why}");
        }
    }

    /// Takes the bar away.
    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
