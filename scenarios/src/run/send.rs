//! Requests from their description to the wire, and what came back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::http::{Answer, Connection, Reply};
use crate::report::Sample;
use crate::spec::{self, Request, Step, Until};
use crate::world::World;

/// What a step's requests led to.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent {
    /// One for each text that was sent.
    pub replies: Vec<Reply>,
    /// Client ports that were used.
    pub ports: BTreeSet<u16>,
    /// The first exchange.
    pub sample: Option<Sample>,
}

/// What client and application saw of a step's requests.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// The client's side.
    pub sent: Sent,
    /// The application's side.
    pub app: Vec<Vec<u8>>,
}

/// Bytes of an exchange that a report shows.
const SAMPLE_BYTES_MAX: usize = 4 << 10;

/// Between two requests that wait for a change.
const UNTIL_PAUSE: Duration = Duration::from_millis(1);

/// Requests without a response, after which a step sends no more.
const LOST_MAX: u32 = 3;

/// Sends the requests and notes what the application read meanwhile.
pub(super) async fn watch(
    requests: &[Request],
    step: &Step,
    world: &mut World,
    to: SocketAddr,
) -> Result<Seen> {
    world.app.take().await.context("asking the application")?;
    let mut kept = step.on.as_ref().and_then(|name| world.kept.remove(name));
    let sent = send(requests, step, &world.tokens, to, &mut kept).await;
    if let (Some(name), Some(kept)) = (&step.on, kept) {
        world.kept.insert(name.clone(), kept);
    }
    let app = world.app.take().await.context("asking the application")?;
    Ok(Seen { sent, app })
}

/// Sends the requests as the step says. `kept`: a connection that is open from a step before, and what is left of it.
async fn send(
    requests: &[Request],
    step: &Step,
    tokens: &BTreeMap<String, String>,
    to: SocketAddr,
    kept: &mut Option<Connection>,
) -> Sent {
    let texts: Vec<Vec<u8>> = requests.iter().map(|request| text(request, tokens)).collect();
    let wanted = step.expect.statuses.as_ref().map_or(1, Vec::len);
    let to_end = step.expect.closed.is_some();
    let mut sent = Sent::default();
    let mut open = kept.take();
    let how = if step.on.is_some() { spec::Connection::Reuse } else { step.connection };
    let mut lost = 0;
    for _ in 0..step.repeat {
        for (request, text) in requests.iter().zip(&texts) {
            if lost == LOST_MAX {
                // Each one may have taken its whole time; the step has failed already.
                let error = Some(format!("not sent: {LOST_MAX} before it had no response"));
                sent.replies.push(Reply { error, ..Reply::default() });
                continue;
            }
            let reply = match connection(open.take(), how, to).await {
                Err(error) => Reply { error: Some(format!("connecting: {error}")), ..Reply::default() },
                Ok(mut connection) => {
                    sent.ports.extend(connection.local_port());
                    let reply = connection.converse(text, request.segment_bytes, wanted, to_end).await;
                    let reusable = reply.error.is_none() && reply.answers.last().is_none_or(|a| a.reusable);
                    open = (reusable && !to_end).then_some(connection);
                    reply
                }
            };
            lost += u32::from(reply.error.is_some());
            sent.sample.get_or_insert_with(|| sample(text, &reply, tokens));
            sent.replies.push(reply);
        }
    }
    *kept = open;
    sent
}

/// Sends the request until its status is another one than `before`, and notes how long that took.
pub(super) async fn until(
    request: &Request,
    step: &Step,
    until: Until,
    world: &mut World,
    to: SocketAddr,
    notes: &mut Vec<String>,
) -> Result<Sent> {
    let Until { before, within_ms } = until;
    let text = text(request, &world.tokens);
    let (called, since) = match &world.called {
        Some((name, at)) => (format!("the call of step `{name}`"), *at),
        None => ("the step's begin".to_owned(), Instant::now()),
    };
    let deadline = Instant::now() + Duration::from_millis(within_ms);
    let mut open = step.on.as_ref().and_then(|name| world.kept.remove(name));
    let mut sent = Sent::default();
    let mut requests = 0;
    loop {
        requests += 1;
        let was_open = open.is_some();
        let how = if step.on.is_some() { spec::Connection::Reuse } else { step.connection };
        let mut connection = connection(open.take(), how, to).await.context("connecting")?;
        sent.ports.extend(connection.local_port());
        let reply = connection.converse(&text, request.segment_bytes, 1, false).await;
        let took = since.elapsed();
        let status = reply.answers.first().map(|answer| answer.status);
        let reusable = reply.error.is_none() && reply.answers.last().is_none_or(|answer| answer.reusable);
        open = reusable.then_some(connection);
        if status != Some(before) || Instant::now() > deadline {
            let shown = status.map_or_else(|| "no response".to_owned(), |status| status.to_string());
            let ms = took.as_secs_f64() * 1e3;
            let kind = if was_open { "an open connection" } else { "a new connection" };
            notes.push(format!("{shown} on {kind} {ms:.1} ms after {called} began (request {requests})"));
            sent.sample = Some(sample(&text, &reply, &world.tokens));
            sent.replies.push(reply);
            break;
        }
        tokio::time::sleep(UNTIL_PAUSE).await;
    }
    if let (Some(name), Some(open)) = (&step.on, open) {
        world.kept.insert(name.clone(), open);
    }
    Ok(sent)
}

async fn connection(
    open: Option<Connection>,
    how: spec::Connection,
    to: SocketAddr,
) -> std::io::Result<Connection> {
    match (open, how) {
        (Some(open), spec::Connection::Reuse) => Ok(open),
        (Some(_) | None, spec::Connection::New | spec::Connection::Reuse) => Connection::open(to).await,
    }
}

/// The request as it goes on the wire.
pub(super) fn text(request: &Request, tokens: &BTreeMap<String, String>) -> Vec<u8> {
    let Request { method, path, host, actor, headers, body, raw, segment_bytes: _ } = request;
    if let Some(raw) = raw {
        let mut text = raw.clone();
        for (name, token) in tokens {
            text = text.replace(&format!("{{{{{name}}}}}"), token);
        }
        return text.into_bytes();
    }
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: portcullis-scenario\r\n");
    if let Some(token) = actor.as_ref().and_then(|name| tokens.get(name)) {
        text.push_str(&format!("Authorization: Bearer {token}\r\n"));
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    let body = body.as_deref().unwrap_or_default();
    if request.body.is_some() {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    text.push_str(body);
    text.into_bytes()
}

fn sample(text: &[u8], reply: &Reply, tokens: &BTreeMap<String, String>) -> Sample {
    let mut request = String::from_utf8_lossy(text).into_owned();
    for (name, token) in tokens {
        // An empty literal would be found everywhere.
        if !token.is_empty() {
            request = request.replace(token.as_str(), &format!("<token of {name}>"));
        }
    }
    let mut response: Vec<u8> = reply.answers.iter().flat_map(|answer: &Answer| answer.raw.clone()).collect();
    response.extend_from_slice(&reply.extra);
    let mut response = String::from_utf8_lossy(&response).into_owned();
    if let Some(error) = &reply.error {
        response.push_str(&format!("({error})"));
    }
    Sample { request: cut(request), response: cut(response) }
}

fn cut(text: String) -> String {
    let text = text.replace("\r\n", "\n");
    if text.len() <= SAMPLE_BYTES_MAX {
        return text;
    }
    let end = (0..=SAMPLE_BYTES_MAX).rev().find(|n| text.is_char_boundary(*n)).unwrap_or_default();
    format!("{}… ({} bytes)", &text[..end], text.len())
}
