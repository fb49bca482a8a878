//! The access log: batches from agents, queries from people.

use std::borrow::Cow;
use std::net::IpAddr;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use portcullis_wire::{AccessLog, Verdict};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::extract::{Agent, Body, Manager, Query};
use crate::log::Taken;
use crate::server::Shared;
use crate::{FieldError, Problem};

/// A batch of records: an object, or a bare array of records.
#[derive(Deserialize)]
#[serde(from = "Records")]
pub(super) struct Batch {
    logs: Vec<AccessLog>,
    numbering: Option<Numbering>,
}

/// What makes a batch idempotent.
struct Numbering {
    /// The agent's name for its sequence: a new one when it has lost its numbers.
    stream: String,
    /// Number of the batch's first record in it.
    first_seq: u64,
    /// Records that the agent lost since the stream began.
    dropped: u64,
}

enum Records {
    Object(Object),
    Array(Vec<AccessLog>),
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Object {
    logs: Vec<AccessLog>,
    #[serde(default)]
    stream: String,
    #[serde(default)]
    first_seq: Option<u64>,
    #[serde(default)]
    dropped: u64,
}

/// What a query asks for.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    #[serde(default)]
    decision: Option<Verdict>,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    policy_id: Option<String>,
    #[serde(default)]
    rule_id: Option<String>,
    #[serde(default)]
    agent_id: Option<String>,
    #[serde(default)]
    user_id: Option<String>,
    #[serde(default)]
    source_ip: Option<IpAddr>,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    destination_port: Option<u16>,
    /// Only records with a number of at least this; then oldest first.
    #[serde(default)]
    after: Option<u64>,
    /// The `cursor` of the page before: only records older than that page's.
    #[serde(default)]
    cursor: Option<u64>,
    #[serde(default)]
    limit: Option<usize>,
}

/// What became of a batch.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Ingested {
    /// Records that are new.
    accepted: u64,
    /// Records of a numbered batch that had come before.
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicates: Option<u64>,
    /// Number that the stream's next record should have.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_seq: Option<u64>,
    /// Numbers of the stream that never came.
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<u64>,
    /// Number that the log's next record will have.
    next: u64,
}

/// A part of the access log.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct LogPage {
    logs: Vec<AccessLog>,
    /// Number for `after` of the next query.
    next: u64,
    /// Number for `cursor` of the next query backwards, if there may be more.
    cursor: Option<u64>,
    /// Older records that are gone.
    forgotten: u64,
}

/// How far the records of an agent came.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct StreamAnswer {
    agent_id: String,
    /// The agent's name for the sequence.
    stream: String,
    /// Number that its next record should have.
    next_seq: u64,
    /// Numbers that never came.
    missing: u64,
    /// Records that the agent says it lost.
    dropped: u64,
}

/// All streams.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct StreamList {
    streams: Vec<StreamAnswer>,
}

const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 10_000;
const STREAM_BYTES_MAX: usize = 64;
/// RFC 7493 section 2.2. Beyond it sums would overflow, too.
const SEQ_MAX: u64 = (1 << 53) - 1;

/// `POST …/logs`
pub(super) async fn ingest(
    State(shared): State<Shared>,
    agent: Agent,
    Body(Batch { logs, numbering }): Body<Batch>,
) -> Result<(StatusCode, Json<Ingested>), Problem> {
    // Whose record it is follows from the credentials, not from what the record says.
    let logs: Vec<AccessLog> =
        logs.into_iter().map(|record| AccessLog { agent_id: agent.agent_id.clone(), ..record }).collect();
    let now_s = shared.clock.now_s();
    let mut store = shared.store();
    let log = &mut store.tenant_mut(&agent.tenant)?.logs;
    let Some(Numbering { stream, first_seq, dropped }) = numbering else {
        let accepted = logs.len() as u64;
        log.append(logs, now_s);
        let none = Ingested { accepted, duplicates: None, next_seq: None, missing: None, next: log.next() };
        return Ok((StatusCode::ACCEPTED, Json(none)));
    };
    if stream.len() > STREAM_BYTES_MAX {
        let detail = format!("is longer than {STREAM_BYTES_MAX} bytes");
        return Err(Problem::invalid(vec![FieldError::new("/stream", detail)]));
    }
    if first_seq > SEQ_MAX {
        let detail = format!("is beyond {SEQ_MAX}, the greatest number that every reader of JSON can tell");
        return Err(Problem::invalid(vec![FieldError::new("/first_seq", detail)]));
    }
    let taken = log.take(&agent.agent_id, &stream, first_seq, dropped, logs, now_s);
    let Taken { accepted, duplicates, stream } =
        taken.ok_or_else(|| Problem::conflict("the agent has too many streams; go on with one of them"))?;
    let answer = Ingested {
        accepted,
        duplicates: Some(duplicates),
        next_seq: Some(stream.next_seq),
        missing: Some(stream.missing),
        next: log.next(),
    };
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

/// `GET …/logs?decision=&limit=`: newest first, or with `after` oldest first from that number on.
pub(super) async fn query(
    State(shared): State<Shared>,
    manager: Manager,
    Query(filter): Query<Filter>,
) -> Result<Json<LogPage>, Problem> {
    let limit = filter.limit.unwrap_or(LIMIT_DEFAULT);
    if limit == 0 || limit > LIMIT_MAX {
        return Err(Problem::unreadable(format!("query: `limit` must be 1 to {LIMIT_MAX}")));
    }
    if filter.after.is_some() && filter.cursor.is_some() {
        return Err(Problem::unreadable(
            "query: `after` goes forwards and `cursor` backwards; send one of them",
        ));
    }
    let store = shared.store();
    let log = &store.tenant(&manager.tenant)?.logs;
    let end = filter.cursor.unwrap_or(u64::MAX);
    let wanted = log
        .since(filter.after.unwrap_or(0))
        .filter(|(number, record)| *number < end && filter.matches(record));
    let rows: Vec<(u64, &AccessLog)> = match filter.after {
        Some(_) => wanted.take(limit).collect(),
        None => wanted.rev().take(limit).collect(),
    };
    let full = rows.len() == limit;
    // Where the next query goes on: behind the last record given, or at the end if all were.
    let forwards = filter.after.is_some() && full;
    let next = rows.last().filter(|_| forwards).map_or(log.next(), |(number, _)| number + 1);
    let cursor = rows.last().filter(|_| filter.after.is_none() && full).map(|(number, _)| *number);
    let logs = rows.into_iter().map(|(_, record)| record.clone()).collect();
    Ok(Json(LogPage { logs, next, cursor, forgotten: log.forgotten() }))
}

/// `GET …/logs/streams`: how far each agent's records came, and how many are known to be lost.
pub(super) async fn streams(
    State(shared): State<Shared>,
    manager: Manager,
) -> Result<Json<StreamList>, Problem> {
    let store = shared.store();
    let row = |(agent, stream, state): (&str, &str, crate::log::Stream)| StreamAnswer {
        agent_id: agent.to_owned(),
        stream: stream.to_owned(),
        next_seq: state.next_seq,
        missing: state.missing,
        dropped: state.dropped,
    };
    let streams = store.tenant(&manager.tenant)?.logs.streams().map(row).collect();
    Ok(Json(StreamList { streams }))
}

// === impl Filter ===

impl Filter {
    fn matches(&self, record: &AccessLog) -> bool {
        let Filter {
            decision,
            reason,
            policy_id,
            rule_id,
            agent_id,
            user_id,
            source_ip,
            method,
            destination_port,
            after: _,
            cursor: _,
            limit: _,
        } = self;
        let is = |wanted: &Option<String>, text: Option<&String>| wanted.is_none() || wanted.as_ref() == text;
        decision.is_none_or(|wanted| wanted == record.decision)
            && is(reason, Some(&record.reason))
            && is(policy_id, record.policy_id.as_ref())
            && is(rule_id, record.rule_id.as_ref())
            && is(agent_id, Some(&record.agent_id))
            && is(user_id, record.user_id.as_ref())
            && is(method, Some(&record.method))
            && source_ip.is_none_or(|wanted| record.source_ip.parse() == Ok(wanted))
            && destination_port.is_none_or(|wanted| wanted == record.destination_port)
    }
}

// === impl Batch ===

impl JsonSchema for Batch {
    fn schema_name() -> Cow<'static, str> {
        "LogBatch".into()
    }

    fn json_schema(schemas: &mut SchemaGenerator) -> Schema {
        let rows = schemas.subschema_for::<Vec<AccessLog>>();
        let object = schemas.subschema_for::<Object>();
        json_schema!({ "anyOf": [rows, object] })
    }
}

impl From<Records> for Batch {
    fn from(records: Records) -> Batch {
        match records {
            Records::Array(logs) => Batch { logs, numbering: None },
            Records::Object(Object { logs, stream, first_seq, dropped }) => {
                let numbering = first_seq.map(|first_seq| Numbering { stream, first_seq, dropped });
                Batch { logs, numbering }
            }
        }
    }
}

// === impl Records ===

/// By hand: serde's untagged enums forget where in the body the mistake is.
impl<'de> Deserialize<'de> for Records {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Records, D::Error> {
        struct Either;
        impl<'de> serde::de::Visitor<'de> for Either {
            type Value = Records;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an array of records, or an object with `logs`")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, seq: A) -> Result<Records, A::Error> {
                Vec::deserialize(serde::de::value::SeqAccessDeserializer::new(seq)).map(Records::Array)
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Records, A::Error> {
                Object::deserialize(serde::de::value::MapAccessDeserializer::new(map)).map(Records::Object)
            }
        }
        deserializer.deserialize_any(Either)
    }
}
