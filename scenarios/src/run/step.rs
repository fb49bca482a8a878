//! One step: act, then compare what client, application and log saw with what was expected.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use portcullis_wire::{AccessLog, Mode};

use super::{act, elapsed_ms, expect, meaning, send, traffic};
use crate::app::Seen as AppSeen;
use crate::engine::EngineKind;
use crate::report::{Outcome, StepResult};
use crate::spec::{AgentAction, AppKind, Arrived, OnProxy, Request, Scenario, Step};
use crate::world::World;

/// Records that a report holds of each step.
const RECORDS_MAX: usize = 25;
/// Longest time for the records of a step to reach the control plane.
const RECORDS_WAIT_MAX: Duration = Duration::from_secs(5);
const RECORDS_POLL: Duration = Duration::from_millis(10);
/// How long a record too many may take.
const RECORDS_SETTLE: Duration = Duration::from_millis(40);

/// Runs the step.
pub(super) async fn run(
    scenario: &Scenario,
    step: &Step,
    baseline: Option<send::Seen>,
    app: AppKind,
    world: &mut World,
) -> StepResult {
    let begin = Instant::now();
    let mut result = StepResult::bare(&step.name, app, Outcome::Passed, "");
    result.reasons.clear();
    if let Err(error) = act(scenario, step, baseline, app, world, &mut result).await {
        result.reasons.push(format!("{error:#}"));
    }
    if !result.reasons.is_empty() {
        result.outcome = Outcome::Failed;
    }
    result.duration_ms = elapsed_ms(begin);
    result
}

async fn act(
    scenario: &Scenario,
    step: &Step,
    baseline: Option<send::Seen>,
    app: AppKind,
    world: &mut World,
    result: &mut StepResult,
) -> Result<()> {
    let mark = world.plane.log_end().await?;
    world.marks.insert(step.name.clone(), mark);
    let expect = &step.expect;
    if let Some(mode) = step.set_mode {
        result.action = format!("every policy in mode {}", mode_name(mode));
        world.publish(scenario, Some(mode)).await
    } else if let Some(action) = step.agent {
        result.action = match action {
            AgentAction::Kill => "agent killed with SIGKILL".to_owned(),
            AgentAction::Start => "agent started".to_owned(),
        };
        agent(action, world).await
    } else if let Some(request) = &step.request {
        requests(std::slice::from_ref(request), step, None, app, world, result).await
    } else if let Some(list) = &step.transparent {
        requests(list, step, baseline.as_ref(), app, world, result).await
    } else if let Some(call) = &step.call {
        act::call(&step.name, call, expect, world, result).await
    } else if let Some(login) = &step.login {
        act::login(login, expect, world, result).await
    } else if let Some(actor) = &step.enrol_mfa {
        act::enrol(actor, world, result).await
    } else if let Some(actor) = &step.step_up {
        act::step_up(actor, step.wrong_code, expect, world, result).await
    } else if let Some(clock) = step.clock {
        act::clock(clock, world, result).await
    } else if let Some(action) = step.plane {
        act::plane(action, world, result);
        Ok(())
    } else if let Some(start) = &step.start_traffic {
        traffic::start(start, &scenario.actors, world, result)
    } else if let Some(stop) = &step.stop_traffic {
        traffic::stop(stop, world, result).await
    } else if let Some(wanted) = &step.arrived {
        arrived(wanted, step, world, result).await
    } else {
        anyhow::bail!("the step does nothing")
    }
}

/// Waits for the records of steps before. The control plane's account of what it got must have no gap.
async fn arrived(wanted: &Arrived, step: &Step, world: &mut World, result: &mut StepResult) -> Result<()> {
    let Arrived { since, within_ms } = wanted;
    result.action = format!("records since step `{since}`");
    let from = *world.marks.get(since).context("the step was not run")?;
    let target = expect::records_wanted(step, 0);
    let begin = Instant::now();
    let records = loop {
        if let Some(engine) = world.engine.as_mut() {
            engine.flush().await.context("collecting decisions")?;
        }
        let records = world.plane.logs(from).await.context("reading the access log")?.logs;
        if records.len() as u64 >= target || begin.elapsed() > Duration::from_millis(*within_ms) {
            break records;
        }
        tokio::time::sleep(RECORDS_POLL).await;
    };
    // One too many would come about now.
    tokio::time::sleep(RECORDS_SETTLE).await;
    let records = if records.len() as u64 > target { records } else { world.plane.logs(from).await?.logs };
    result.notes.push(format!(
        "{} records, {:.1} s after the step began",
        records.len(),
        begin.elapsed().as_secs_f64()
    ));
    expect::log(step, 0, &records, &mut result.reasons);
    let mut ids: Vec<&str> = records.iter().map(|record| record.decision_id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() != records.len() {
        result.reasons.push(format!("{} records are there twice", records.len() - ids.len()));
    }
    for (agent, missing, dropped) in world.plane.streams().await? {
        if missing + dropped > 0 {
            result.reasons.push(format!("records of {agent}: {missing} missing, {dropped} lost"));
        }
    }
    result.records_total = records.len() as u64;
    result.records = records.into_iter().take(RECORDS_MAX).collect();
    Ok(())
}

async fn agent(action: AgentAction, world: &mut World) -> Result<()> {
    world.engine.as_mut().context("no engine is started")?.agent(action).await
}

async fn requests(
    list: &[Request],
    step: &Step,
    baseline: Option<&send::Seen>,
    app: AppKind,
    world: &mut World,
    result: &mut StepResult,
) -> Result<()> {
    result.action = describe(list, step);
    let engine = world.engine.as_ref().context("no engine is started")?;
    let (to, kind) = (engine.addr(), engine.kind());
    let log_from = world.plane.log_end().await?;
    let before = world.app.seen().await.context("asking the application")?;
    let seen = match (step.until, list) {
        (Some(until), [request]) => {
            let sent = send::until(request, step, until, world, to, &mut result.notes).await?;
            send::Seen { sent, app: Vec::new() }
        }
        _ => send::watch(list, step, world, to).await?,
    };
    let after = world.app.seen().await.context("asking the application")?;
    result.requests = seen.sent.replies.len() as u64;
    result.statuses = statuses(&seen.sent);
    result.sample = seen.sent.sample.clone();
    let AppSeen { requests, bytes } = after;
    result.app_requests = requests.saturating_sub(before.requests);
    result.app_bytes = bytes.saturating_sub(before.bytes);

    let wanted = expect::responses_wanted(step, list.len());
    let records = records(step, wanted, log_from, &seen.sent.ports, world).await?;
    expect::responses(step, &seen.sent, &mut result.reasons);
    expect::app(step, result.app_requests, result.app_bytes, &mut result.reasons);
    expect::log(step, wanted, &records, &mut result.reasons);
    expect::app_text(step, &seen.app, &mut result.reasons);
    if let Some(baseline) = baseline {
        match step.on_proxy.filter(|_| kind == EngineKind::Proxy) {
            None => expect::same(baseline, &seen, &mut result.reasons),
            Some(OnProxy::Meaning) => meaning::same(baseline, &seen, app, &mut result.reasons),
        }
    }
    result.records_total = records.len() as u64;
    result.records = records.into_iter().take(RECORDS_MAX).collect();
    Ok(())
}

/// The records that are about the step's connections. Waits for as many as the step expects.
async fn records(
    step: &Step,
    wanted: u64,
    from: u64,
    ports: &BTreeSet<u16>,
    world: &mut World,
) -> Result<Vec<AccessLog>> {
    let target = expect::records_wanted(step, wanted);
    let begin = Instant::now();
    loop {
        if let Some(engine) = world.engine.as_mut() {
            engine.flush().await.context("collecting decisions")?;
        }
        let mut page = world.plane.logs(from).await.context("reading the access log")?;
        page.logs.retain(|record| ports.contains(&record.source_port));
        let enough = page.logs.len() as u64 >= target;
        if (enough || begin.elapsed() > RECORDS_WAIT_MAX) && begin.elapsed() > RECORDS_SETTLE {
            return Ok(page.logs);
        }
        tokio::time::sleep(if enough { RECORDS_SETTLE } else { RECORDS_POLL }).await;
    }
}

fn statuses(sent: &send::Sent) -> BTreeMap<u16, u64> {
    let mut counts = BTreeMap::new();
    for reply in &sent.replies {
        for answer in &reply.answers {
            *counts.entry(answer.status).or_default() += 1;
        }
        if reply.error.is_some() {
            *counts.entry(0).or_default() += 1;
        }
    }
    counts
}

fn describe(list: &[Request], step: &Step) -> String {
    let one = match list {
        [Request { raw: Some(raw), .. }] => format!("{} raw bytes", raw.len()),
        [Request { method, path, actor, .. }] => match actor {
            None => format!("{method} {path} without a token"),
            Some(actor) => format!("{method} {path} as {actor}"),
        },
        many => format!("{} requests, compared with the unprotected application", many.len()),
    };
    match step.repeat {
        1 => one,
        n => format!("{n} × {one}"),
    }
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Disabled => "disabled",
        Mode::Monitor => "monitor",
        Mode::Enforce => "enforce",
    }
}
