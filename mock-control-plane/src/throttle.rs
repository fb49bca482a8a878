//! Guessing is slowed down: after a few failures a subject has to wait, whatever it sends.

use serde::{Deserialize, Serialize};

use crate::store::{Changes, Stored, Table, Unreadable};

/// Failures by subject.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    rows: Table<Row>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Row {
    failures: u32,
    last_s: u64,
}

/// Failures before a subject has to wait.
const FREE: u32 = 5;
/// The wait, seconds; also how long failures are remembered.
const WAIT_S: u64 = 300;
/// Most subjects at a time.
const SUBJECTS_MAX: usize = 10_000;

// === impl Throttle ===

impl Throttle {
    /// How long `subject` still has to wait, seconds; `None`: not at all.
    pub(crate) fn wait_s(&self, subject: &str, now_s: u64) -> Option<u64> {
        let row = self.rows.get(subject)?;
        let until = row.last_s.saturating_add(WAIT_S);
        (row.failures >= FREE && now_s < until).then(|| until - now_s)
    }

    /// Notes a failure.
    pub(crate) fn failed(&mut self, subject: &str, now_s: u64) {
        if self.rows.len() >= SUBJECTS_MAX && !self.rows.contains(subject) {
            self.make_room(now_s);
        }
        let row = self.rows.get_or_insert(subject, || Row { failures: 0, last_s: now_s });
        if now_s >= row.last_s.saturating_add(WAIT_S) {
            row.failures = 0;
        }
        row.failures = row.failures.saturating_add(1);
        row.last_s = now_s;
    }

    /// Forgets the failures.
    pub(crate) fn succeeded(&mut self, subject: &str) {
        self.rows.remove(subject);
    }

    /// Hands over what changed since the last time.
    pub(crate) fn drain(&mut self, changes: &mut Changes) {
        self.rows.drain("throttle", changes);
    }

    /// The failures as they were written.
    pub(crate) fn load(stored: &mut Stored) -> Result<Throttle, Unreadable> {
        Ok(Throttle { rows: Table::load("throttle", stored)? })
    }

    fn make_room(&mut self, now_s: u64) {
        self.rows.retain(|row| now_s < row.last_s.saturating_add(WAIT_S));
        while self.rows.len() >= SUBJECTS_MAX {
            let oldest =
                self.rows.iter().min_by_key(|(_, row)| row.last_s).map(|(subject, _)| subject.clone());
            match oldest {
                Some(subject) => self.rows.remove(&subject),
                None => return,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fifth_failure_closes_and_time_opens() {
        let mut throttle = Throttle::default();
        for _ in 0..4 {
            throttle.failed("a", 100);
        }
        assert_eq!(throttle.wait_s("a", 100), None);
        throttle.failed("a", 100);
        assert_eq!(throttle.wait_s("a", 100), Some(300));
        assert_eq!(throttle.wait_s("a", 399), Some(1));
        assert_eq!(throttle.wait_s("a", 400), None);
        assert_eq!(throttle.wait_s("b", 100), None);
        throttle.failed("a", 400);
        assert_eq!(throttle.wait_s("a", 400), None, "old failures are forgotten");
    }

    #[test]
    fn success_forgets() {
        let mut throttle = Throttle::default();
        (0..5).for_each(|_| throttle.failed("a", 1));
        throttle.succeeded("a");
        assert_eq!(throttle.wait_s("a", 1), None);
    }

    #[test]
    fn memory_is_bounded() {
        let mut throttle = Throttle::default();
        for n in 0..SUBJECTS_MAX + 10 {
            throttle.failed(&n.to_string(), n as u64 / 100);
        }
        assert_eq!(throttle.rows.len(), SUBJECTS_MAX);
        assert!(throttle.rows.contains(&(SUBJECTS_MAX + 9).to_string()));
    }
}
