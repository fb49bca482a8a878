//! Records as files: segments of lines, the oldest first.
//!
//! A segment's name holds the stream and the number of its first record, so that what is in the directory says by itself
//! which records wait. `state.json` holds how far they were sent and what was lost; it may lag behind by a batch after a
//! crash, which is then sent again and, being numbered, counts once.
//!
//! Nothing is forced to the disk: what a killed agent wrote is there, what a machine without power wrote last may not be.
//! A torn line at the end is counted as lost.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Chunk, Counts, KernelLoss, SpoolConfig};
use crate::backoff::random_u64;
use crate::plane::Numbers;
use crate::tell;

/// The spool.
#[derive(Debug)]
pub(crate) struct Spool {
    dir: PathBuf,
    bytes_max: u64,
    state: State,
    segments: VecDeque<Segment>,
    /// The last segment, open for more.
    writer: Option<File>,
    /// Number of the next record.
    next: u64,
    sent: u64,
    /// Held for as long as the spool is open: two agents would number over each other.
    _lock: File,
}

/// The spool cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("spool {dir}: {what}: {source}")]
pub struct SpoolError {
    dir: String,
    what: &'static str,
    source: io::Error,
}

/// What outlives the agent.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
struct State {
    stream: String,
    /// Number of the first record that need not wait any more: those before it are done.
    done: u64,
    lost: u64,
    kernel_seen: u64,
    kernel_lost: u64,
}

#[derive(Debug)]
struct Segment {
    first: u64,
    count: u64,
    bytes: u64,
    /// Where the record `at.0` begins, bytes: where the last reading ended.
    at: (u64, u64),
}

/// A segment that has reached this is followed by another; also the least that is lost at once.
const SEGMENT_BYTES: u64 = 1 << 20;
const STATE: &str = "state.json";
/// More than a state takes.
const STATE_BYTES: usize = 256;

// === impl Spool ===

impl Spool {
    pub(super) fn open(config: &SpoolConfig) -> Result<Spool, SpoolError> {
        let SpoolConfig { dir, bytes_max } = config;
        let fail = |what| move |source| SpoolError { dir: dir.display().to_string(), what, source };
        // Records say who did what.
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(fail("making the directory"))?;
        let lock = File::create(dir.join("lock")).map_err(fail("making the lock file"))?;
        lock.try_lock().map_err(|error| fail("another agent uses it")(error.into()))?;
        let mut found = list(dir).map_err(fail("listing"))?;
        let state =
            fs::read(dir.join(STATE)).ok().and_then(|text| serde_json::from_slice::<State>(&text).ok());
        // Without a state the segments say which stream it is; all of them are sent again then.
        let mut state = state.unwrap_or_else(|| State {
            stream: found
                .last()
                .map_or_else(|| format!("{:016x}", random_u64()), |(stream, _)| stream.clone()),
            done: found.first().map_or(0, |(_, first)| *first),
            ..State::default()
        });
        found.retain(|(stream, _)| *stream == state.stream);
        let mut segments = VecDeque::new();
        for (_, first) in found {
            let (segment, torn) = scan(&path(dir, &state.stream, first), first).map_err(fail("reading"))?;
            state.lost += u64::from(torn);
            if segment.count == 0 {
                // Its name may be needed again.
                fs::remove_file(path(dir, &state.stream, first)).map_err(fail("deleting"))?;
                continue;
            }
            segments.push_back(segment);
        }
        let next = segments.back().map_or(state.done, Segment::end).max(state.done);
        let mut spool = Spool {
            dir: dir.clone(),
            bytes_max: (*bytes_max).max(2 * SEGMENT_BYTES),
            state,
            segments,
            writer: None,
            next,
            sent: 0,
            _lock: lock,
        };
        spool.forget_done();
        // A full disk costs records, and does not keep an agent from protecting its host.
        spool.saved();
        Ok(spool)
    }

    pub(super) fn push(&mut self, lines: &[String], unwritten: u64) {
        let before = self.state.lost;
        self.state.lost += unwritten;
        let mut rest = lines;
        while !rest.is_empty() {
            let (count, bytes) = room(rest);
            let (now, later) = rest.split_at(count);
            rest = later;
            if let Err(error) = self.append(now, bytes) {
                // Their numbers are used up: the gap shows at the other end, too.
                self.state.lost += count as u64;
                self.next += count as u64;
                self.writer = None;
                tell!("portcullis: {count} access records lost: spool {}: {error}", self.dir.display());
            }
        }
        if self.state.lost > before {
            self.saved();
        }
    }

    pub(super) fn kernel_lost(&mut self, counter: u64) {
        let mut loss = KernelLoss { seen: self.state.kernel_seen, total: self.state.kernel_lost };
        if loss.saw(counter) {
            (self.state.kernel_seen, self.state.kernel_lost) = (loss.seen, loss.total);
            self.saved();
        }
    }

    /// The oldest records that wait.
    pub(super) fn oldest(&mut self, most: usize, bytes_max: usize) -> Chunk {
        while let Some(segment) = self.segments.front_mut() {
            let first = segment.first.max(self.state.done);
            match segment.read(&path(&self.dir, &self.state.stream, segment.first), first, most, bytes_max) {
                Ok(lines) if !lines.is_empty() => return Chunk { first, lines },
                Ok(_) => {}
                Err(error) => {
                    let count = segment.end() - first;
                    self.state.lost += count;
                    tell!("portcullis: {count} access records lost: spool {}: {error}", self.dir.display());
                }
            }
            // Nothing of it waits, or it cannot be read.
            self.state.done = self.segments.front().map_or(self.state.done, Segment::end);
            self.forget_done();
            self.saved();
        }
        Chunk { first: self.next, lines: Vec::new() }
    }

    pub(super) fn numbers(&self, first: u64) -> Numbers {
        let State { stream, lost, kernel_lost, .. } = &self.state;
        Numbers { stream: stream.clone(), first_seq: first, dropped: lost + kernel_lost }
    }

    pub(super) fn done(&mut self, first: u64, count: u64, sent: bool) {
        // What was pushed out meanwhile was counted as lost, and is not.
        let gone = self.state.done.saturating_sub(first).min(count);
        if sent {
            self.state.lost -= gone;
            self.sent += count;
        } else {
            self.state.lost += count - gone;
        }
        self.state.done = self.state.done.max(first + count);
        self.forget_done();
        self.saved();
    }

    pub(super) fn counts(&self) -> Counts {
        let State { stream: _, done, lost, kernel_seen: _, kernel_lost } = &self.state;
        let waits = |segment: &Segment| segment.end().saturating_sub(segment.first.max(*done));
        Counts {
            sent: self.sent,
            waiting: self.segments.iter().map(waits).sum(),
            lost: *lost,
            kernel_lost: *kernel_lost,
        }
    }

    fn append(&mut self, lines: &[String], bytes: u64) -> io::Result<()> {
        self.make_room(bytes);
        let full = self
            .segments
            .back()
            .is_none_or(|segment| segment.bytes >= SEGMENT_BYTES || segment.end() != self.next);
        if full || self.writer.is_none() {
            // A new one also after an error or a restart: nobody knows what stands behind the last whole line.
            let file = path(&self.dir, &self.state.stream, self.next);
            self.writer = Some(File::options().append(true).create_new(true).open(file)?);
            self.segments.push_back(Segment { first: self.next, count: 0, bytes: 0, at: (self.next, 0) });
        }
        let (Some(writer), Some(segment)) = (&mut self.writer, self.segments.back_mut()) else {
            return Ok(());
        };
        let mut text = String::with_capacity(bytes as usize);
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        if let Err(error) = writer.write_all(text.as_bytes()) {
            // A part may be there: it must not become the beginning of the next record.
            drop(writer.set_len(segment.bytes));
            return Err(error);
        }
        segment.count += lines.len() as u64;
        segment.bytes += text.len() as u64;
        self.next += lines.len() as u64;
        Ok(())
    }

    /// Lets the oldest segments go until `bytes` more fit.
    fn make_room(&mut self, bytes: u64) {
        let mut lost = 0;
        while self.segments.iter().map(|segment| segment.bytes).sum::<u64>() + bytes > self.bytes_max {
            let Some(oldest) = self.segments.front() else { break };
            let end = oldest.end();
            lost += end.saturating_sub(oldest.first.max(self.state.done));
            self.state.done = self.state.done.max(end);
            self.forget_done();
        }
        if lost > 0 {
            self.state.lost += lost;
            self.saved();
            tell!("portcullis: {lost} access records lost: spool {} is full", self.dir.display());
        }
    }

    /// Deletes segments of which nothing waits any more.
    fn forget_done(&mut self) {
        while let Some(segment) = self.segments.front().filter(|segment| segment.end() <= self.state.done) {
            let file = path(&self.dir, &self.state.stream, segment.first);
            // One that stays is found at the next start, and nothing of it waits then either.
            drop(fs::remove_file(file));
            self.segments.pop_front();
            if self.segments.is_empty() {
                self.writer = None;
            }
        }
    }

    fn saved(&self) {
        if let Err(error) = self.save() {
            tell!("portcullis: spool {}: writing the state: {error}", self.dir.display());
        }
    }

    fn save(&self) -> io::Result<()> {
        let mut text = serde_json::to_vec(&self.state)?;
        // Of one length, so that one can be written over another.
        text.resize(STATE_BYTES.max(text.len()), b'\n');
        let (new, old) = (self.dir.join("state.json.new"), self.dir.join(STATE));
        match fs::write(&new, &text).and_then(|()| fs::rename(&new, &old)) {
            // What a full disk has room for is what is there already.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
            {
                drop(fs::remove_file(&new));
                File::options().write(true).open(&old)?.write_all(&text)
            }
            result => result,
        }
    }
}

// === impl Segment ===

impl Segment {
    fn end(&self) -> u64 {
        self.first + self.count
    }

    /// Lines from record `from` on.
    fn read(&mut self, file: &Path, from: u64, most: usize, bytes_max: usize) -> io::Result<Vec<String>> {
        if self.at.0 > from {
            self.at = (self.first, 0);
        }
        let mut file = File::open(file)?;
        file.seek(SeekFrom::Start(self.at.1))?;
        let skip = from.saturating_sub(self.at.0) as usize;
        let mut text = Vec::new();
        file.take(self.bytes - self.at.1).read_to_end(&mut text)?;
        let mut lines = text.split_inclusive(|byte| *byte == b'\n');
        let skipped: usize = lines.by_ref().take(skip).map(<[u8]>::len).sum();
        let mut bytes = 0;
        let fits = lines.take(most).take_while(|line| {
            bytes += line.len();
            bytes <= bytes_max || bytes == line.len()
        });
        let lines = fits
            .map(|line| String::from_utf8(line.strip_suffix(b"\n").unwrap_or(line).to_vec()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        // The next reading begins where this one did: these records may have to be sent again.
        self.at = (from, self.at.1 + skipped as u64);
        Ok(lines)
    }
}

/// How many lines go into one write, and their bytes: a segment does not grow far beyond its size.
fn room(lines: &[String]) -> (usize, u64) {
    let mut bytes = 0;
    for (n, line) in lines.iter().enumerate() {
        bytes += line.len() as u64 + 1;
        if bytes >= SEGMENT_BYTES {
            return (n + 1, bytes);
        }
    }
    (lines.len(), bytes)
}

fn path(dir: &Path, stream: &str, first: u64) -> PathBuf {
    dir.join(format!("{stream}-{first:020}.jsonl"))
}

/// Stream and first number of each segment, oldest first.
fn list(dir: &Path) -> io::Result<Vec<(String, u64)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let parts = name.to_str().and_then(|name| name.strip_suffix(".jsonl")?.rsplit_once('-'));
        if let Some((stream, first)) = parts
            && let Ok(first) = first.parse()
        {
            found.push((stream.to_owned(), first));
        }
    }
    found.sort_by_key(|(_, first)| *first);
    Ok(found)
}

/// What a segment holds, and whether its last line was torn: it is cut off.
fn scan(file: &Path, first: u64) -> io::Result<(Segment, bool)> {
    let text = fs::read(file)?;
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let torn = whole < text.len();
    if torn {
        File::options().write(true).open(file)?.set_len(whole as u64)?;
    }
    let count = text[..whole].iter().filter(|byte| **byte == b'\n').count() as u64;
    Ok((Segment { first, count, bytes: whole as u64, at: (first, 0) }, torn))
}
