//! Requests from their description to the wire, and what came back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use anyhow::{Context, Result};

use crate::http::{Answer, Connection, Reply};
use crate::report::Sample;
use crate::spec::{self, Request, Step};
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
    let sent = send(requests, step, &world.tokens, to).await;
    let app = world.app.take().await.context("asking the application")?;
    Ok(Seen { sent, app })
}

/// Sends the requests as the step says.
pub(super) async fn send(
    requests: &[Request],
    step: &Step,
    tokens: &BTreeMap<String, String>,
    to: SocketAddr,
) -> Sent {
    let texts: Vec<Vec<u8>> = requests.iter().map(|request| text(request, tokens)).collect();
    let wanted = step.expect.statuses.as_ref().map_or(1, Vec::len);
    let to_end = step.expect.closed.is_some();
    let mut sent = Sent::default();
    let mut open: Option<Connection> = None;
    let mut lost = 0;
    for _ in 0..step.repeat {
        for (request, text) in requests.iter().zip(&texts) {
            if lost == LOST_MAX {
                // Each one may have taken its whole time; the step has failed already.
                let error = Some(format!("not sent: {LOST_MAX} before it had no response"));
                sent.replies.push(Reply { error, ..Reply::default() });
                continue;
            }
            let reply = match connection(open.take(), step.connection, to).await {
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
    sent
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
fn text(request: &Request, tokens: &BTreeMap<String, String>) -> Vec<u8> {
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
