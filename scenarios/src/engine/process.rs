//! What an engine's process says: one line of JSON at a time on its standard output, and text for people.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Child;
use tokio::sync::watch;

/// The last lines of text of all processes of an engine.
#[derive(Clone, Debug, Default)]
pub(super) struct Output(Arc<Mutex<VecDeque<String>>>);

/// What a process has said of itself.
#[derive(Debug)]
pub(super) struct Said {
    /// Version that it enforces.
    pub(super) version: watch::Receiver<u64>,
    /// Where it listens.
    pub(super) listening: watch::Receiver<Option<SocketAddr>>,
    /// How far the clock is that it moved, seconds; it has said nothing of that before.
    pub(super) ahead_s: watch::Receiver<Option<i64>>,
}

/// A line; members that are not here do not matter.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Enforcing { enforcing: u64 },
    Listening { listening: SocketAddr },
    Clock { clock_offset_s: i64 },
}

struct Senders {
    version: watch::Sender<u64>,
    listening: watch::Sender<Option<SocketAddr>>,
    ahead_s: watch::Sender<Option<i64>>,
}

const OUTPUT_LINES_MAX: usize = 40;

// === impl Output ===

impl Output {
    /// The lines.
    pub(super) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == OUTPUT_LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

// === impl Said ===

impl Said {
    /// Reads what the process says, until it ends.
    pub(super) fn of(child: &mut Child, output: &Output) -> Result<Said> {
        let (version, version_said) = watch::channel(0);
        let (listening, listening_said) = watch::channel(None);
        let (ahead_s, ahead_said) = watch::channel(None);
        let said = child.stdout.take().context("the process has no output")?;
        tokio::spawn(read_lines(said, output.clone(), Some(Senders { version, listening, ahead_s })));
        let errors = child.stderr.take().context("the process has no error output")?;
        tokio::spawn(read_lines(errors, output.clone(), None));
        Ok(Said { version: version_said, listening: listening_said, ahead_s: ahead_said })
    }
}

async fn read_lines(from: impl AsyncRead + Unpin, output: Output, senders: Option<Senders>) {
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match (&senders, serde_json::from_str(&line)) {
            (Some(to), Ok(Line::Enforcing { enforcing })) => drop(to.version.send_replace(enforcing)),
            (Some(to), Ok(Line::Listening { listening })) => drop(to.listening.send_replace(Some(listening))),
            (Some(to), Ok(Line::Clock { clock_offset_s })) => {
                to.ahead_s.send_replace(Some(clock_offset_s));
            }
            (Some(_) | None, _) => output.push(line),
        }
    }
}

/// For the end of an error.
pub(super) fn last(output: &[String]) -> String {
    output.last().map_or_else(String::new, |line| format!("; its last words: {line}"))
}
