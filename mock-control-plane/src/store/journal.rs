//! The state file: SQLite in WAL mode, one row an entity, written by a thread of its own.
//!
//! **Invariant:** no answer leaves before everything that its handler did, and everything that its handler could have
//! seen, is on the disk (`durable`). **Invariant:** what one handler did under one lock is one transaction or a part of
//! one; batches of handlers that came in meanwhile are written together, with one fsync.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use rusqlite::{Connection, ErrorCode, OptionalExtension as _, params};
use tokio::sync::watch;

use super::change::{Change, Stored};
use crate::{Problem, StartError};

/// Where changes go.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    batches: mpsc::Sender<Batch>,
    /// Number of the last batch handed over.
    last: Arc<AtomicU64>,
    written: watch::Receiver<Written>,
}

#[derive(Debug)]
struct Batch {
    number: u64,
    tenant: String,
    rows: Vec<Change>,
}

/// How far the writer is.
#[derive(Debug, Default)]
struct Written {
    number: u64,
    /// From then on nothing is written any more: memory and disk differ.
    failed: Option<String>,
}

/// The tenants in a state file, by name; under the empty name what belongs to none.
pub(crate) type Tenants = BTreeMap<String, Stored>;

/// Most batches written together.
const BATCHES_MAX: usize = 256;
/// `PRAGMA application_id`: "pcmp" as a big-endian number.
const APPLICATION: i32 = 0x7063_6d70;
/// `PRAGMA user_version`: changed whenever an older version could not read the rows.
const VERSION: i32 = 1;

// === impl Journal ===

impl Journal {
    /// Opens the file, made if there is none, and reads it.
    pub(crate) fn open(path: &Path) -> Result<(Journal, Tenants), StartError> {
        let refuse = |reason: String| StartError::State { path: path.to_owned(), reason };
        let connection = connect(path).map_err(|error| refuse(explain(&error)))?;
        check(&connection).map_err(refuse)?;
        let tenants = read(&connection).map_err(|error| refuse(explain(&error)))?;
        let (batches, received) = mpsc::channel();
        let (told, written) = watch::channel(Written::default());
        thread::Builder::new()
            .name("state".to_owned())
            .spawn(move || write_all(connection, &received, told))
            .map_err(|error| refuse(format!("cannot start the thread that writes it: {error}")))?;
        Ok((Journal { batches, last: Arc::default(), written }, tenants))
    }

    /// Hands over what one handler did. To be called in the order of the changes, so under the store's lock.
    pub(crate) fn append(&self, tenant: &str, rows: Vec<Change>) {
        let number = self.last.fetch_add(1, Ordering::SeqCst) + 1;
        // An error is the writer's end, which `durable` reports.
        let _sent = self.batches.send(Batch { number, tenant: tenant.to_owned(), rows }).is_ok();
    }

    /// Waits until everything handed over so far is on the disk.
    pub(crate) async fn durable(&self) -> Result<(), Problem> {
        let number = self.last.load(Ordering::SeqCst);
        let mut written = self.written.clone();
        let state = written.wait_for(|state| state.number >= number || state.failed.is_some()).await;
        let failure = match &state {
            Ok(state) if state.failed.is_none() => return Ok(()),
            Ok(state) => state.failed.clone().unwrap_or_default(),
            Err(_) => "its writer has ended".to_owned(),
        };
        drop(state);
        Err(Problem::internal(format!("the state file cannot be written: {failure}; restart when it can")))
    }

    /// Waits until the file is closed, which happens when every clone but this one is gone.
    pub(crate) async fn closed(self) {
        let Journal { batches, last: _, mut written } = self;
        drop(batches);
        while written.changed().await.is_ok() {}
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    private(path);
    let connection = Connection::open(path)?;
    // Exclusive: a second control plane on the same file is refused at its start, and no shared memory is needed.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // An fsync a transaction: what is acknowledged survives the machine's end too, not only the process's.
    connection.pragma_update(None, "synchronous", "FULL")?;
    // Takes the lock now.
    connection.execute_batch("BEGIN IMMEDIATE; COMMIT")?;
    Ok(connection)
}

/// The file holds signing keys and TOTP secrets: it is for its owner only. SQLite gives its other files the same mode.
fn private(path: &Path) {
    use std::os::unix::fs::OpenOptionsExt as _;
    // What cannot be made cannot be opened either, and SQLite says why.
    let _made = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path).is_ok();
}

fn check(connection: &Connection) -> Result<(), String> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(|error| explain(&error))?;
    if tables == 0 {
        let sql = format!(
            "BEGIN IMMEDIATE;
             CREATE TABLE state (
                 tenant TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL,
                 PRIMARY KEY (tenant, kind, id)
             ) STRICT, WITHOUT ROWID;
             PRAGMA application_id = {APPLICATION};
             PRAGMA user_version = {VERSION};
             COMMIT"
        );
        return connection.execute_batch(&sql).map_err(|error| explain(&error));
    }
    let application = pragma("application_id").map_err(|error| explain(&error))?;
    if application != APPLICATION {
        return Err("is a database of something else; give the state a file of its own".to_owned());
    }
    match pragma("user_version").map_err(|error| explain(&error))? {
        VERSION => Ok(()),
        other => Err(format!(
            "was written in format {other}, this is format {VERSION}; use the version that wrote it, or begin with \
             a new file"
        )),
    }
}

fn read(connection: &Connection) -> rusqlite::Result<Tenants> {
    let damage: Option<String> = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .optional()?
        .filter(|text| text != "ok");
    if let Some(damage) = damage {
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
            Some(damage),
        ));
    }
    let mut tenants = Tenants::new();
    let mut statement = connection.prepare("SELECT tenant, kind, id, body FROM state")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        tenants.entry(row.get(0)?).or_default().add(row.get(1)?, row.get(2)?, row.get(3)?);
    }
    Ok(tenants)
}

fn write_all(mut connection: Connection, received: &mpsc::Receiver<Batch>, told: watch::Sender<Written>) {
    while let Ok(first) = received.recv() {
        let mut batches = vec![first];
        while batches.len() < BATCHES_MAX
            && let Ok(batch) = received.try_recv()
        {
            batches.push(batch);
        }
        let number = batches.last().map_or(0, |batch| batch.number);
        match write(&mut connection, &batches) {
            Ok(()) => told.send_modify(|state| state.number = number),
            Err(error) => {
                // Whoever goes on after a lost change would tell of a state that nobody finds again.
                told.send_modify(|state| state.failed = Some(explain(&error)));
                break;
            }
        }
    }
    // The lock goes before anybody is told that the file is closed.
    drop(connection);
    drop(told);
}

fn write(connection: &mut Connection, batches: &[Batch]) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    {
        let mut put = transaction.prepare(
            "INSERT INTO state (tenant, kind, id, body) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (tenant, kind, id) DO UPDATE SET body = excluded.body",
        )?;
        let mut delete =
            transaction.prepare("DELETE FROM state WHERE tenant = ?1 AND kind = ?2 AND id = ?3")?;
        for Batch { number: _, tenant, rows } in batches {
            for Change { kind, id, body } in rows {
                match body {
                    Some(body) => put.execute(params![tenant, kind, id, body])?,
                    None => delete.execute(params![tenant, kind, id])?,
                };
            }
        }
    }
    transaction.commit()
}

fn explain(error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "is in use by another process; stop that one, or use another file".to_owned()
        }
        Some(ErrorCode::NotADatabase) => "is no SQLite database; use another file".to_owned(),
        Some(ErrorCode::DatabaseCorrupt) => format!("is damaged ({error}); restore it from a copy"),
        Some(ErrorCode::CannotOpen) => {
            "cannot be opened; its directory must exist, and both must be writable".to_owned()
        }
        Some(_) | None => error.to_string(),
    }
}
