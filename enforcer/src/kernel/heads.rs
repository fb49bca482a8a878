//! Requests whose head does not come to an end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::descriptors::{is, nonblocking, sockets, taken};
use super::diag::{Connection, Diag};
use super::error::KernelError;
use super::map::Maps;
use super::sweep::{Ended, conn, enforces};

/// When the parts of heads in `pc_heads` were first seen.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    seen: BTreeMap<u64, Seen>,
    /// When descriptors were last looked through.
    looked: Option<Instant>,
}

#[derive(Debug)]
struct Seen {
    since: Instant,
    /// Requests of the connection before.
    requests: u32,
    /// What is withheld was found to wait for a read that blocks, at that time.
    waits: Option<Instant>,
}

/// Parts that come one after the other are not worth a look.
const LOOK_AFTER: Duration = Duration::from_millis(500);
/// Clients decide how often there is something withheld, and looking takes a walk through all descriptors of the host.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// An application may change its mind about how it reads.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

// === impl Heads ===

impl Heads {
    /// Destroys connections to enforced ports whose request's head has been incomplete since before `now - within`, and
    /// those that keep their application busy with a part of one; how many. Without this, a few hundred clients that send
    /// half a head each would take the room of all heads in parts.
    pub(crate) fn sweep(
        &mut self,
        maps: &Maps,
        diag: &mut Diag,
        now: Instant,
        within: Duration,
    ) -> Result<usize, KernelError> {
        let parts = maps.get("pc_heads")?.keys::<u64>().map_err(KernelError::system("list pc_heads"))?;
        self.seen.retain(|cookie, _| parts.contains(cookie));
        let (mut overdue, mut withheld) = (Vec::new(), Vec::new());
        for cookie in parts {
            let Some(conn) = conn(maps, cookie)? else { continue };
            let fresh = || Seen { since: now, requests: conn.requests, waits: None };
            let seen = self.seen.entry(cookie).or_insert_with(fresh);
            if seen.requests != conn.requests {
                *seen = fresh();
            }
            let age = now.duration_since(seen.since);
            if age >= within {
                overdue.push(cookie);
            } else if conn.withheld != 0
                && age >= LOOK_AFTER
                && seen.waits.is_none_or(|at| now.duration_since(at) >= LOOK_AGAIN)
            {
                withheld.push(cookie);
            }
        }
        let mut ended = Ended::default();
        for connection in self.open(maps, diag, &overdue)? {
            ended.note(diag.destroy(&connection));
        }
        if self.looked.is_none_or(|at| now.duration_since(at) >= LOOK_EVERY) {
            for connection in self.circling(self.open(maps, diag, &withheld)?, now) {
                ended.note(diag.destroy(&connection));
            }
        }
        ended.count()
    }

    /// Those whose application does not block in reads. What is withheld shows in poll and cannot be read (withhold.h), so
    /// that the application goes round in circles: it was accepted, and something came, before it was set so.
    fn circling(&mut self, connections: Vec<Connection>, now: Instant) -> Vec<Connection> {
        let mut circling = Vec::new();
        if connections.is_empty() {
            return circling;
        }
        self.looked = Some(now);
        let by_inode: BTreeMap<u32, Connection> = connections.into_iter().map(|c| (c.inode, c)).collect();
        for (pid, fd, inode) in sockets() {
            let Some(connection) = by_inode.get(&inode) else { continue };
            let Some(socket) = taken(pid, fd).filter(|socket| is(socket, connection.cookie)) else {
                continue;
            };
            if nonblocking(&socket) {
                circling.push(*connection);
            } else if let Some(seen) = self.seen.get_mut(&connection.cookie) {
                seen.waits = Some(now);
            }
        }
        circling
    }

    /// The connections of these cookies, as far as their ports enforce.
    fn open(&self, maps: &Maps, diag: &mut Diag, cookies: &[u64]) -> Result<Vec<Connection>, KernelError> {
        let mut found = Vec::new();
        if cookies.is_empty() {
            return Ok(found);
        }
        let ports = maps.get("pc_ports")?.keys::<u32>().map_err(KernelError::system("list pc_ports"))?;
        for port in ports.into_iter().filter_map(|port| u16::try_from(port).ok()) {
            if enforces(maps, port)? {
                let open = diag.connections(port).map_err(KernelError::system("list connections"))?;
                found.extend(open.into_iter().filter(|connection| cookies.contains(&connection.cookie)));
            }
        }
        Ok(found)
    }
}
