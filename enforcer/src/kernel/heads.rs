//! Requests whose head does not come to an end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::diag::{Connection, Diag};
use super::error::KernelError;
use super::map::Maps;
use super::sweep::{Ended, conn, enforces};

/// When the parts of heads in `pc_heads` were first seen.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    seen: BTreeMap<u64, Seen>,
}

#[derive(Debug)]
struct Seen {
    since: Instant,
    /// Requests of the connection before.
    requests: u32,
}

// === impl Heads ===

impl Heads {
    /// Destroys connections to enforced ports whose request's head has been incomplete since before `now - within`; how
    /// many. Without this, a few hundred clients that send half a head each would take the room of all heads in parts.
    pub(crate) fn sweep(
        &mut self,
        maps: &Maps,
        diag: &mut Diag,
        now: Instant,
        within: Duration,
    ) -> Result<usize, KernelError> {
        let parts = maps.get("pc_heads")?.keys::<u64>().map_err(KernelError::system("list pc_heads"))?;
        self.seen.retain(|cookie, _| parts.contains(cookie));
        let mut overdue = Vec::new();
        for cookie in parts {
            let Some(conn) = conn(maps, cookie)? else { continue };
            let fresh = Seen { since: now, requests: conn.requests };
            let seen = self.seen.entry(cookie).or_insert(fresh);
            if seen.requests != conn.requests {
                *seen = Seen { since: now, requests: conn.requests };
            }
            if now.duration_since(seen.since) >= within {
                overdue.push(cookie);
            }
        }
        let mut ended = Ended::default();
        for connection in self.open(maps, diag, &overdue)? {
            ended.note(diag.destroy(&connection));
        }
        ended.count()
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
