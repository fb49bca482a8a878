//! Runs scenario files on engines.
//!
//! **Invariant:** files are loaded and checked, all of them, before anything is started.

mod act;
mod expect;
mod meaning;
mod send;
mod step;
pub(crate) mod traffic;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use portcullis_mock_control_plane::Clock;

use crate::FileProblem;
use crate::engine::{EngineKind, NotRun};
use crate::progress::Progress;
use crate::report::{
    EngineResult, Machine, Outcome, Report, SCHEMA, ScenarioResult, StepResult, Summary, rfc3339,
};
use crate::spec::{AppKind, LoadedScenario, load};
use crate::world::{Commands, World, WorldError};

/// What to run, and how.
#[derive(Debug)]
pub struct RunConfig {
    /// Scenario files, and directories of them.
    pub paths: Vec<PathBuf>,
    /// Engines; each scenario runs on each of them.
    pub engines: Vec<EngineKind>,
    /// Our own processes.
    pub commands: Commands,
    /// Where progress goes.
    pub progress: Progress,
}

/// Runs everything. An error is about the files: nothing was started.
pub async fn run_files(config: RunConfig) -> Result<Report, Vec<FileProblem>> {
    let RunConfig { paths, engines, commands, progress } = config;
    let scenarios = load_all(&paths)?;
    let begin = Instant::now();
    let started_at = rfc3339(Clock::system().now_s());
    progress.begin((scenarios.len() * engines.len()) as u64);
    let engines: Vec<(EngineKind, Result<(), NotRun>)> =
        engines.into_iter().map(|kind| (kind, kind.probe())).collect();
    let mut results = Vec::new();
    for loaded in &scenarios {
        for (kind, ready) in &engines {
            let result = match ready {
                Ok(()) => run_one(loaded, *kind, &commands, &progress).await,
                Err(NotRun(why)) => not_run(loaded, *kind, why),
            };
            progress.done(&result);
            results.push(result);
        }
    }
    progress.end();
    let engines = engines.into_iter().map(|(engine, ready)| {
        let reason = ready.err().map(|NotRun(why)| why);
        EngineResult { engine, ready: reason.is_none(), reason }
    });
    Ok(Report {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at,
        duration_ms: elapsed_ms(begin),
        machine: Machine::this(),
        engines: engines.collect(),
        summary: Summary::of(&results),
        scenarios: results,
    })
}

fn load_all(paths: &[PathBuf]) -> Result<Vec<LoadedScenario>, Vec<FileProblem>> {
    let mut problems = Vec::new();
    let mut scenarios: Vec<LoadedScenario> = Vec::new();
    for path in paths {
        let files = if path.is_dir() { in_directory(path) } else { Ok(vec![path.clone()]) };
        for loaded in
            files.map_or_else(|p| vec![Err(vec![p])], |files| files.iter().map(|f| load(f)).collect())
        {
            match loaded {
                Ok(loaded) => scenarios.push(loaded),
                Err(mut found) => problems.append(&mut found),
            }
        }
    }
    let mut names: BTreeMap<&str, &Path> = BTreeMap::new();
    for LoadedScenario { file, scenario } in &scenarios {
        if let Some(other) = names.insert(&scenario.name, file) {
            let message = format!("scenario `{}` is also in {}", scenario.name, other.display());
            problems.push(FileProblem::new(
                file,
                (0, 0),
                message,
                "name each file once, and each scenario differently",
            ));
        }
    }
    if problems.is_empty() { Ok(scenarios) } else { Err(problems) }
}

/// The YAML files of a directory, by name; not those of directories in it.
fn in_directory(dir: &Path) -> Result<Vec<PathBuf>, FileProblem> {
    let refuse = |message: String, remedy: &str| FileProblem::new(dir, (0, 0), message, remedy);
    let entries =
        fs::read_dir(dir).map_err(|e| refuse(e.to_string(), "check the directory and its permissions"))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "yaml" || e == "yml") && path.is_file())
        .collect();
    files.sort();
    if files.is_empty() {
        return Err(refuse(
            "there is no .yaml file in it".to_owned(),
            "name a scenario file, or a directory of them",
        ));
    }
    Ok(files)
}

fn not_run(loaded: &LoadedScenario, engine: EngineKind, why: &str) -> ScenarioResult {
    let LoadedScenario { file, scenario } = loaded;
    ScenarioResult {
        name: scenario.name.clone(),
        engine,
        outcome: Outcome::NotRun,
        reason: Some(why.to_owned()),
        duration_ms: 0,
        description: scenario.description.clone(),
        file: file.clone(),
        steps: Vec::new(),
        engine_output: Vec::new(),
    }
}

async fn run_one(
    loaded: &LoadedScenario,
    engine: EngineKind,
    commands: &Commands,
    progress: &Progress,
) -> ScenarioResult {
    let begin = Instant::now();
    let mut result = not_run(loaded, engine, "");
    for app in &loaded.scenario.apps {
        progress.doing(&format!("{} on {engine}, {}", loaded.scenario.name, app.name()));
        run_with_app(loaded, engine, *app, commands, &mut result).await;
    }
    let ScenarioResult { outcome, reason, steps, .. } = &mut result;
    *outcome = steps.iter().map(|step| step.outcome).max().unwrap_or(Outcome::NotRun);
    let worst = steps.iter().find(|step| *outcome != Outcome::Passed && step.outcome == *outcome);
    *reason = worst.map(|step| {
        let first = step.reasons.first().map_or("", String::as_str);
        format!("{} ({}): {first}", step.name, step.app)
    });
    if steps.is_empty() {
        *reason = Some(format!("no step is for the {engine} engine"));
    }
    result.duration_ms = elapsed_ms(begin);
    result
}

async fn run_with_app(
    loaded: &LoadedScenario,
    engine: EngineKind,
    app: AppKind,
    commands: &Commands,
    result: &mut ScenarioResult,
) {
    let scenario = &loaded.scenario;
    let mut world = match World::start(scenario, engine, app, commands).await {
        Ok(world) => world,
        Err(WorldError::Missing(what)) => {
            result.steps.push(StepResult::bare("start", app, Outcome::NotRun, what));
            return;
        }
        Err(WorldError::Failed(error)) => {
            result.steps.push(StepResult::bare("start", app, Outcome::Failed, format!("{error:#}")));
            return;
        }
    };
    let from = result.steps.len();
    match prepare(scenario, engine, commands, &mut world).await {
        Err(error) => {
            result.steps.push(StepResult::bare("start", app, Outcome::Failed, format!("{error:#}")))
        }
        Ok(baselines) => {
            let mut broken = None;
            for (step, baseline) in scenario.steps.iter().zip(baselines) {
                if !step.runs_on(engine) {
                    continue;
                }
                let done = match &broken {
                    None => step::run(scenario, step, baseline, app, &mut world).await,
                    Some(name) => {
                        let why = format!("step `{name}` before it failed to change the world");
                        StepResult::bare(&step.name, app, Outcome::NotRun, why)
                    }
                };
                if done.outcome == Outcome::Failed && step.changes_world() {
                    broken = Some(step.name.clone());
                }
                result.steps.push(done);
            }
        }
    }
    let failed = result.steps[from..].iter().any(|step| step.outcome == Outcome::Failed);
    let output = world.engine.as_ref().map(|engine| engine.output()).unwrap_or_default();
    if failed {
        result.engine_output.extend(output);
    }
    if let Err(error) = world.stop().await {
        result.steps.push(StepResult::bare("stop", app, Outcome::Failed, format!("{error:#}")));
    }
}

/// What unprotected clients and applications see in the steps that compare, then protection. One entry a step.
async fn prepare(
    scenario: &crate::spec::Scenario,
    engine: EngineKind,
    commands: &Commands,
    world: &mut World,
) -> anyhow::Result<Vec<Option<send::Seen>>> {
    let mut baselines = Vec::new();
    for step in &scenario.steps {
        let requests = step.transparent.as_ref().filter(|_| step.runs_on(engine));
        baselines.push(match requests {
            None => None,
            Some(requests) => Some(send::watch(requests, step, world, world.app.addr()).await?),
        });
    }
    world.protect(scenario, engine, commands).await?;
    Ok(baselines)
}

fn elapsed_ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

// === impl Step ===

impl crate::spec::Step {
    fn runs_on(&self, engine: EngineKind) -> bool {
        self.engines.as_ref().is_none_or(|engines| engines.contains(&engine))
    }

    /// Whether the steps behind it rely on it.
    fn changes_world(&self) -> bool {
        self.request.is_none() && self.transparent.is_none() && self.arrived.is_none()
    }
}

// === impl StepResult ===

impl StepResult {
    /// A result without requests.
    fn bare(name: &str, app: AppKind, outcome: Outcome, why: impl Into<String>) -> StepResult {
        StepResult {
            name: name.to_owned(),
            app: app.name().to_owned(),
            outcome,
            reasons: vec![why.into()],
            duration_ms: 0,
            action: String::new(),
            notes: Vec::new(),
            requests: 0,
            statuses: BTreeMap::new(),
            app_requests: 0,
            app_bytes: 0,
            sample: None,
            records_total: 0,
            records: Vec::new(),
        }
    }
}
