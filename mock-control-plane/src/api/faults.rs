//! `…/test/faults`: what is to go wrong. `…/test/clock`: what time it is to be. Both exist on test systems only.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::extract::{Body, Manager};
use crate::faults::{DELAY_MAX_MS, FAULTS_MAX, Fault, Kind, Row};
use crate::server::Shared;
use crate::{FieldError, Problem, secret};

/// How the clock is moved.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Move {
    /// By this much, seconds; negative: back.
    advance_s: i64,
}

/// Faults that are to show.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct FaultList {
    faults: Vec<Row>,
}

/// The clock.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Time {
    /// Seconds since the epoch.
    now_s: u64,
    /// How far it was moved, seconds.
    ahead_s: i64,
}

/// `GET …/test/faults`
pub(super) async fn list(State(shared): State<Shared>, manager: Manager) -> Json<FaultList> {
    let rows = shared.faults.rows();
    let faults = rows.iter().filter(|row| row.tenant == manager.tenant).cloned().collect();
    Json(FaultList { faults })
}

/// `POST …/test/faults`
pub(super) async fn add(
    State(shared): State<Shared>,
    manager: Manager,
    Body(fault): Body<Fault>,
) -> Result<(StatusCode, Json<Row>), Problem> {
    let refuse = |pointer, detail: String| Err(Problem::invalid(vec![FieldError::new(pointer, detail)]));
    match fault.kind {
        Kind::Delay { ms } if ms > DELAY_MAX_MS => {
            return refuse("/ms", format!("must be at most {DELAY_MAX_MS}"));
        }
        Kind::Status { status } if !(400..600).contains(&status) => {
            return refuse("/status", "must be 400 to 599".to_owned());
        }
        _ => {}
    }
    let row = Row { id: secret::random("fault-")?, tenant: manager.tenant, fault, shown: 0 };
    let mut rows = shared.faults.rows();
    if rows.len() >= FAULTS_MAX {
        return Err(Problem::conflict(format!("{FAULTS_MAX} faults exist; delete one first")));
    }
    rows.push(row.clone());
    Ok((StatusCode::CREATED, Json(row)))
}

/// `DELETE …/test/faults`: all of them.
pub(super) async fn clear(State(shared): State<Shared>, manager: Manager) -> StatusCode {
    shared.faults.rows().retain(|row| row.tenant != manager.tenant);
    StatusCode::NO_CONTENT
}

/// `DELETE …/test/faults/{fault}`
pub(super) async fn remove(
    State(shared): State<Shared>,
    Path((_, id)): Path<(String, String)>,
    manager: Manager,
) -> Result<StatusCode, Problem> {
    let mut rows = shared.faults.rows();
    let at = rows.iter().position(|row| row.tenant == manager.tenant && row.id == id);
    rows.remove(at.ok_or_else(|| Problem::not_found(format!("no fault `{id}`")))?);
    Ok(StatusCode::NO_CONTENT)
}

/// `GET …/test/clock`
pub(super) async fn clock(State(shared): State<Shared>, _: Manager) -> Json<Time> {
    Json(Time { now_s: shared.clock.now_s(), ahead_s: shared.clock.ahead_s() })
}

/// `POST …/test/clock`
pub(super) async fn move_clock(
    State(shared): State<Shared>,
    manager: Manager,
    Body(Move { advance_s }): Body<Move>,
) -> Json<Time> {
    shared.clock.advance(advance_s);
    shared.store().clock_moved(shared.clock.ahead_s());
    clock(State(shared), manager).await
}
