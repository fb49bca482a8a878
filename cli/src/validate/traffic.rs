//! Recorded traffic: JSON Lines, one request a line.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use portcullis_scenarios::FileProblem;
use portcullis_wire::{Reason, Verdict};
use serde::Deserialize;

use crate::policies::Claims;
use crate::request;

/// One request, or several that are the same.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    /// Port that it came to.
    pub port: u16,
    /// Host.
    #[serde(default)]
    pub host: Option<String>,
    /// Method.
    pub method: String,
    /// Path; made canonical, query cut off.
    pub path: String,
    /// What the token said; absent: there was no good one.
    #[serde(default)]
    pub claims: Option<Claims>,
    /// Why the token was refused.
    #[serde(default)]
    pub token_refused: Option<Reason>,
    /// When, Unix seconds.
    #[serde(default)]
    pub time_s: Option<u64>,
    /// What happened then.
    #[serde(default)]
    pub decision: Option<Verdict>,
    /// How many such requests.
    #[serde(default = "one")]
    pub count: u64,
}

/// Problems that are told at most; a wrong file has as many as lines.
const PROBLEMS_MAX: usize = 20;

/// Reads a file; all problems of it at once, up to a bound.
pub(super) fn read(file: &Path) -> Result<Vec<Row>, Vec<FileProblem>> {
    let unreadable = |error: std::io::Error, line: u64| {
        let place = (line, u64::from(line > 0));
        FileProblem::new(
            file,
            place,
            error.to_string(),
            "check the path and its permissions, and that it is UTF-8",
        )
    };
    let open = File::open(file).map_err(|error| vec![unreadable(error, 0)])?;
    let (mut rows, mut problems) = (Vec::new(), Vec::new());
    for (n, line) in BufReader::new(open).lines().enumerate() {
        let number = n as u64 + 1;
        let line = line.map_err(|error| vec![unreadable(error, number)])?;
        if line.trim().is_empty() {
            continue;
        }
        match parse(&line) {
            Ok(row) => rows.push(row),
            Err((column, message)) => {
                let remedy = "write {\"port\":…,\"method\":…,\"path\":…}; `portcullis validate --help` has the members";
                problems.push(FileProblem::new(file, (number, column), message, remedy));
            }
        }
        if problems.len() >= PROBLEMS_MAX {
            break;
        }
    }
    if problems.is_empty() { Ok(rows) } else { Err(problems) }
}

fn parse(line: &str) -> Result<Row, (u64, String)> {
    let mut row: Row = serde_json::from_str(line).map_err(|error| {
        let text = error.to_string();
        let message = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message);
        (error.column().max(1) as u64, message.to_owned())
    })?;
    row.path = request::canonical_path(&row.path)
        .map_err(|reason| (1, format!("the path is refused whatever the policy says: {}", reason.text())))?;
    row.host = match row.host {
        Some(host) => Some(request::canonical_host(&host).map_err(|error| (1, error.to_string()))?),
        None => None,
    };
    if row.token_refused.is_some_and(|reason| reason.status().is_none()) {
        return Err((1, "`token_refused` must be a reason to deny".to_owned()));
    }
    Ok(row)
}

fn one() -> u64 {
    1
}
