//! The sync log: every change that a directory made, and when the revocations that follow from it were enforced.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::store::{Changes, Sequence, Stored, Unreadable};

/// A bounded sequence of entries; the oldest go first.
#[derive(Debug, Default)]
pub(crate) struct SyncLog {
    entries: Sequence<Entry>,
}

/// One entry.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Entry {
    /// When, seconds since the epoch.
    pub time: u64,
    /// Who: the directory, or the control plane itself.
    pub source: String,
    /// What.
    pub event: String,
    /// To whom.
    pub detail: String,
    /// Whether it is done.
    pub status: Status,
    /// How long it took, milliseconds; absent while it is not done.
    pub latency_ms: Option<u64>,
    /// Organisation that it concerns.
    pub org_id: Option<String>,
    /// What has to happen before it is done.
    waits: Option<Waits>,
}

/// One entry as people see it; what it says is said at [`Entry`].
#[derive(Debug, Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct SyncEntry {
    /// Seconds since the epoch.
    time: u64,
    /// The directory, or the control plane itself.
    source: String,
    event: String,
    /// To whom.
    detail: String,
    status: Status,
    /// Absent while it is not done.
    latency_ms: Option<u64>,
    org_id: Option<String>,
}

/// Whether a change is done.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// In the directory.
    Synced,
    /// On its way to the agents, or to a cloud provider.
    Pending,
    /// Not wanted any more before it was done.
    Cancelled,
    /// Every agent, or the cloud provider, has it.
    Enforced,
    /// Refused.
    Failed,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Waits {
    what: Event,
    since: Duration,
}

/// What has to happen.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Event {
    /// Every agent has that version.
    Version(u64),
    /// That step arrives at a cloud provider.
    Step(String),
}

/// What an entry says.
#[derive(Clone, Debug)]
pub(crate) struct What {
    /// Who: the directory, or the control plane itself.
    pub source: String,
    /// What.
    pub event: &'static str,
    /// To whom.
    pub detail: String,
    /// Organisation that it concerns.
    pub org: Option<String>,
}

/// Most entries kept.
const ENTRIES_MAX: usize = 10_000;

// === impl SyncLog ===

impl SyncLog {
    /// A change that was made, or refused, between `began` and `now`.
    pub(crate) fn done(&mut self, what: What, status: Status, began: Duration, now: Duration) {
        let latency_ms = Some(milliseconds(now.saturating_sub(began)));
        self.push(what, status, now, latency_ms, None);
    }

    /// A change that is done when every agent has `version`.
    pub(crate) fn pending(&mut self, what: What, version: u64, now: Duration) {
        self.push(
            what,
            Status::Pending,
            now,
            None,
            Some(Waits { what: Event::Version(version), since: now }),
        );
    }

    /// Every agent has `version`.
    pub(crate) fn enforced_up_to(&mut self, version: u64, now: Duration) {
        self.settle(Status::Enforced, now, |what| matches!(what, Event::Version(own) if *own <= version));
    }

    /// A change that is done when that step arrives at a cloud provider.
    pub(crate) fn waiting_for_step(&mut self, what: What, step: &str, now: Duration) {
        let waits = Waits { what: Event::Step(step.to_owned()), since: now };
        self.push(what, Status::Pending, now, None, Some(waits));
    }

    /// That step has arrived.
    pub(crate) fn step_done(&mut self, step: &str, now: Duration) {
        self.settle(Status::Enforced, now, |what| matches!(what, Event::Step(own) if own == step));
    }

    /// That step will not arrive: what it was about is not wanted any more.
    pub(crate) fn cancelled(&mut self, step: &str, now: Duration) {
        self.settle(Status::Cancelled, now, |what| matches!(what, Event::Step(own) if own == step));
    }

    fn settle(&mut self, status: Status, now: Duration, due: impl Fn(&Event) -> bool) {
        self.entries.change_each(|entry| {
            let Some(waits) = entry.waits.take_if(|waits| due(&waits.what)) else { return false };
            entry.status = status;
            entry.latency_ms = Some(milliseconds(now.saturating_sub(waits.since)));
            true
        });
    }

    /// The entries, oldest first, and how many older ones are gone.
    pub(crate) fn entries(&self) -> (impl DoubleEndedIterator<Item = &Entry>, u64) {
        (self.entries.since(0).map(|(_, entry)| entry), self.entries.forgotten())
    }

    /// Hands over what changed since the last time.
    pub(crate) fn drain(&mut self, changes: &mut Changes) {
        self.entries.drain("sync", changes);
    }

    /// The log as it was written.
    pub(crate) fn load(stored: &mut Stored, forgotten: u64) -> Result<SyncLog, Unreadable> {
        Ok(SyncLog { entries: Sequence::load("sync", stored, forgotten)? })
    }

    fn push(
        &mut self,
        what: What,
        status: Status,
        now: Duration,
        latency_ms: Option<u64>,
        waits: Option<Waits>,
    ) {
        let What { source, event, detail, org } = what;
        let entry = Entry {
            time: now.as_secs(),
            source,
            event: event.to_owned(),
            detail,
            status,
            latency_ms,
            org_id: org,
            waits,
        };
        self.entries.push(entry, ENTRIES_MAX);
    }
}

// === impl Entry ===

impl Entry {
    /// As people see it.
    pub(crate) fn show(&self) -> SyncEntry {
        let Entry { time, source, event, detail, status, latency_ms, org_id, waits: _ } = self.clone();
        SyncEntry { time, source, event, detail, status, latency_ms, org_id }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
