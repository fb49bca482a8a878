//! What a run found, as values, and its forms: a table for people, JSON and JUnit for programs, a page for both.
//!
//! **Invariant:** `schema` grows whenever the meaning of a member of the JSON changes; new members alone do not change
//! it. **Invariant:** no token is in a report.

mod html;
mod junit;
mod table;
mod time;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use portcullis_wire::AccessLog;
use serde::Serialize;

use crate::engine::EngineKind;

pub use time::rfc3339;

/// Version of the JSON's meaning.
pub const SCHEMA: u32 = 1;

/// A whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of the JSON's meaning.
    pub schema: u32,
    /// Version of Portcullis.
    pub version: String,
    /// When it began, RFC 3339.
    pub started_at: String,
    /// How long it took, milliseconds.
    pub duration_ms: u64,
    /// Where it ran.
    pub machine: Machine,
    /// Engines that were asked for.
    pub engines: Vec<EngineResult>,
    /// Every scenario on every engine.
    pub scenarios: Vec<ScenarioResult>,
    /// How many came out how.
    pub summary: Summary,
}

/// The machine of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Kernel release.
    pub kernel: String,
    /// Architecture.
    pub arch: String,
    /// Processors.
    pub cpus: usize,
}

/// An engine that was asked for.
#[derive(Clone, Debug, Serialize)]
pub struct EngineResult {
    /// Which.
    pub engine: EngineKind,
    /// Whether it can run here.
    pub ready: bool,
    /// Why not.
    pub reason: Option<String>,
}

/// How something came out.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Everything that was expected holds.
    Passed,
    /// It, or a part of it, was not tried; the reason says why.
    NotRun,
    /// Something that was expected does not hold.
    Failed,
}

/// One scenario on one engine.
#[derive(Clone, Debug, Serialize)]
pub struct ScenarioResult {
    /// Name of the scenario.
    pub name: String,
    /// Engine.
    pub engine: EngineKind,
    /// How it came out: the worst of its steps.
    pub outcome: Outcome,
    /// Why it failed or was not run: the first reason.
    pub reason: Option<String>,
    /// How long it took, milliseconds.
    pub duration_ms: u64,
    /// What the scenario shows.
    pub description: String,
    /// Its file.
    pub file: PathBuf,
    /// Its steps, for each application.
    pub steps: Vec<StepResult>,
    /// What the engine printed, when something failed.
    pub engine_output: Vec<String>,
}

/// One step with one application.
#[derive(Clone, Debug, Serialize)]
pub struct StepResult {
    /// Name of the step.
    pub name: String,
    /// Application.
    pub app: String,
    /// How it came out.
    pub outcome: Outcome,
    /// Why it failed or was not run: everything.
    pub reasons: Vec<String>,
    /// How long it took, milliseconds.
    pub duration_ms: u64,
    /// What was done, in words.
    pub action: String,
    /// What was measured, in words.
    pub notes: Vec<String>,
    /// Requests that were sent.
    pub requests: u64,
    /// Responses, by status; `0` counts requests without one.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests that the application counted.
    pub app_requests: u64,
    /// Bytes that the application read.
    pub app_bytes: u64,
    /// The first exchange: request and response as text, the token left out.
    pub sample: Option<Sample>,
    /// Records of the step, all in all.
    pub records_total: u64,
    /// The first of them.
    pub records: Vec<AccessLog>,
}

/// An exchange as text.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// What was sent; tokens are replaced by their actor's name.
    pub request: String,
    /// What came back.
    pub response: String,
}

/// How many scenarios came out how.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Summary {
    /// Everything held.
    pub passed: usize,
    /// Something did not hold.
    pub failed: usize,
    /// Not tried.
    pub not_run: usize,
    /// Requests sent.
    pub requests: u64,
}

// === impl Report ===

impl Report {
    /// 0 when all that could run holds; 1 when an expectation failed; 2 when something that was asked for by name, or
    /// everything, was not run. `by_name`: engines that are not there because `all` stands for them.
    #[must_use]
    pub fn exit_code(&self, by_name: &[EngineKind]) -> u8 {
        let Summary { passed, failed, not_run: _, requests: _ } = self.summary;
        if failed > 0 {
            return 1;
        }
        let unmet = |result: &ScenarioResult| {
            let ready = self.engines.iter().any(|e| e.engine == result.engine && e.ready);
            // A missing engine is excused unless it was named; a missing application never is.
            result.outcome == Outcome::NotRun && (ready || by_name.contains(&result.engine))
        };
        if passed == 0 || self.scenarios.iter().any(unmet) { 2 } else { 0 }
    }

    /// The whole as JSON.
    pub fn to_json(&self) -> Result<String> {
        let mut text = serde_json::to_string_pretty(self).context("writing the report as JSON")?;
        text.push('\n');
        Ok(text)
    }

    /// The whole as JUnit XML.
    #[must_use]
    pub fn to_junit(&self) -> String {
        junit::render(self)
    }

    /// The whole as one page without external parts and without scripts.
    #[must_use]
    pub fn to_html(&self) -> String {
        html::render(self)
    }

    /// The whole as a table for a terminal of `width` columns; `None`: as wide as it needs.
    #[must_use]
    pub fn to_table(&self, width: Option<u16>, colours: bool) -> String {
        table::render(self, width, colours)
    }

    /// Writes `report.json`, `report.html` and `junit.xml` into `dir`.
    pub fn write(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        let files = [
            ("report.json", self.to_json()?),
            ("report.html", self.to_html()),
            ("junit.xml", self.to_junit()),
        ];
        for (name, text) in files {
            let path = dir.join(name);
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }
}

// === impl Machine ===

impl Machine {
    /// This one.
    #[must_use]
    pub fn this() -> Machine {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Machine {
            kernel: release.trim().to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

// === impl Outcome ===

impl Outcome {
    /// Name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::NotRun => "not_run",
            Outcome::Failed => "failed",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Outcome::Passed => "passed",
            Outcome::NotRun => "not run",
            Outcome::Failed => "failed",
        })
    }
}

// === impl Summary ===

impl Summary {
    /// Counts.
    #[must_use]
    pub fn of(scenarios: &[ScenarioResult]) -> Summary {
        let count = |outcome| scenarios.iter().filter(|s| s.outcome == outcome).count();
        Summary {
            passed: count(Outcome::Passed),
            failed: count(Outcome::Failed),
            not_run: count(Outcome::NotRun),
            requests: scenarios.iter().flat_map(|s| &s.steps).map(|s| s.requests).sum(),
        }
    }
}

#[cfg(test)]
mod tests;
