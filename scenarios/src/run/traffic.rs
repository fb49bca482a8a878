//! Requests in the background.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::task::JoinHandle;

use super::send;
use crate::http::Connection;
use crate::plane::Plane;
use crate::report::StepResult;
use crate::spec::{Actor, StopTraffic, Traffic};
use crate::world::World;

/// Traffic that goes on.
pub(crate) struct Running {
    seen: Arc<Seen>,
    status: u16,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    stop: AtomicBool,
    responses: AtomicU64,
    wrong: AtomicU64,
    first_wrong: Mutex<Option<String>>,
}

struct Sender {
    traffic: Traffic,
    /// Who is minted anew.
    actor: Option<Actor>,
    tokens: std::collections::BTreeMap<String, String>,
    plane: Plane,
    to: SocketAddr,
    seen: Arc<Seen>,
}

/// Longest wait for the responses that a step asks for.
const RESPONSES_MAX: Duration = Duration::from_secs(120);

/// Starts it.
pub(super) fn start(
    traffic: &Traffic,
    actors: &std::collections::BTreeMap<String, Actor>,
    world: &mut World,
    result: &mut StepResult,
) -> Result<()> {
    result.action =
        format!("traffic `{}` begins: {} {}", traffic.name, traffic.request.method, traffic.request.path);
    let seen: Arc<Seen> = Arc::default();
    let sender = Sender {
        actor: traffic.request.actor.as_ref().and_then(|name| actors.get(name)).cloned(),
        traffic: traffic.clone(),
        tokens: world.tokens.clone(),
        plane: world.plane.clone(),
        to: world.engine.as_ref().context("no engine is started")?.addr(),
        seen: Arc::clone(&seen),
    };
    let running = Running { seen, status: traffic.status, task: tokio::spawn(sender.run()) };
    ensure!(world.traffic.insert(traffic.name.clone(), running).is_none(), "it runs already");
    Ok(())
}

/// Stops it when it has had the responses, and tells how it was.
pub(super) async fn stop(stop: &StopTraffic, world: &mut World, result: &mut StepResult) -> Result<()> {
    let StopTraffic { name, requests_min } = stop;
    result.action = format!("traffic `{name}` ends");
    let mut running = world.traffic.remove(name).context("it does not run")?;
    let Running { seen, status, task } = &mut running;
    let begin = std::time::Instant::now();
    while seen.responses.load(Ordering::Acquire) < *requests_min
        && seen.wrong.load(Ordering::Acquire) == 0
        && begin.elapsed() < RESPONSES_MAX
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    seen.stop.store(true, Ordering::Release);
    if tokio::time::timeout(RESPONSES_MAX, &mut *task).await.is_err() {
        task.abort();
    }
    let (responses, wrong) = (seen.responses.load(Ordering::Acquire), seen.wrong.load(Ordering::Acquire));
    result.requests = responses;
    result.statuses.insert(*status, responses - wrong);
    if let Some(first) = seen.first_wrong.lock().unwrap_or_else(PoisonError::into_inner).take() {
        result
            .reasons
            .push(format!("{wrong} of {responses} responses were not {status}; the first: {first}"));
    } else if responses < *requests_min {
        result.reasons.push(format!("{responses} responses, expected {requests_min} or more"));
    }
    result.notes.push(format!("{responses} responses in the background, {wrong} of them not {status}"));
    Ok(())
}

// === impl Sender ===

impl Sender {
    async fn run(mut self) {
        let mut connection: Option<Connection> = None;
        let mut number: u64 = 0;
        while !self.seen.stop.load(Ordering::Acquire) {
            number += 1;
            let said = self.one(number, &mut connection).await;
            self.seen.responses.fetch_add(1, Ordering::AcqRel);
            if let Err(why) = said {
                self.seen.wrong.fetch_add(1, Ordering::AcqRel);
                let mut first = self.seen.first_wrong.lock().unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert(format!("number {number}: {why:#}"));
                connection = None;
            }
        }
    }

    async fn one(&mut self, number: u64, open: &mut Option<Connection>) -> Result<()> {
        let Traffic { name: _, request, status, remint_every } = &self.traffic;
        let due = remint_every.is_some_and(|every| number.is_multiple_of(u64::from(every)));
        if let (true, Some(actor), Some(name)) = (due, &self.actor, &request.actor) {
            let token = self.plane.mint(actor).await.context("minting a token")?;
            self.tokens.insert(name.clone(), token);
        }
        let text = send::text(request, &self.tokens);
        let mut connection = match open.take() {
            Some(connection) => connection,
            None => Connection::open(self.to).await.context("connecting")?,
        };
        let answer = connection.exchange(&text, request.method == "HEAD").await?;
        let body = String::from_utf8_lossy(&answer.body);
        ensure!(answer.status == *status, "status {}: {}", answer.status, body.trim_end());
        *open = answer.reusable.then_some(connection);
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}
