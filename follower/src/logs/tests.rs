use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use portcullis_testkit::need;
use serde_json::Value;

use super::*;

/// A directory that goes when the test ends.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Dir {
        Dir(std::env::temp_dir().join(format!("pc-spool-{:x}", crate::backoff::random_u64())))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// What a control plane keeps of numbered batches: see `Log::take` of the mock.
#[derive(Default)]
struct Taker(RefCell<Taken>);

#[derive(Default)]
struct Taken {
    next_seq: u64,
    missing: u64,
    dropped: u64,
    ports: Vec<u16>,
    streams: Vec<String>,
}

impl Taker {
    fn take(&self, batch: &Batch) -> Result<(), PlaneError> {
        let mut taken = self.0.borrow_mut();
        let records: Vec<Value> = serde_json::from_str(&format!("[{}]", batch.records)).unwrap();
        let Numbers { stream, first_seq, dropped } = batch.numbers.clone().unwrap();
        let known = taken.next_seq.saturating_sub(first_seq) as usize;
        taken.missing += first_seq.saturating_sub(taken.next_seq);
        taken.next_seq = taken.next_seq.max(first_seq + records.len() as u64);
        taken.dropped = taken.dropped.max(dropped);
        let ports = records.iter().skip(known).map(|record| record["source_port"].as_u64().unwrap() as u16);
        taken.ports.extend(ports);
        if !taken.streams.contains(&stream) {
            taken.streams.push(stream);
        }
        Ok(())
    }
}

fn records(ports: std::ops::Range<u16>) -> Vec<AccessLog> {
    ports.map(|source_port| AccessLog { source_port, ..AccessLog::default() }).collect()
}

fn spool(dir: &Path) -> Logs {
    Logs::new(Some(&SpoolConfig { dir: dir.to_owned(), bytes_max: 3 << 20 })).unwrap()
}

fn down(_: &Batch) -> Result<(), PlaneError> {
    Err(PlaneError::Status { what: "sending", status: 503, message: String::new() })
}

#[test]
fn the_oldest_records_are_lost_first_and_counted() {
    let logs = Logs::new(None).unwrap();
    logs.push(&records(1..3));
    logs.push(&vec![AccessLog { source_port: 3, ..AccessLog::default() }; WAITING_MAX - 1]);
    let Counts { sent, waiting, lost, .. } = logs.counts();
    assert_eq!((sent, waiting, lost), (0, WAITING_MAX as u64, 1));
    let first = RefCell::new(None);
    logs.send_to(|batch| {
        first.borrow_mut().get_or_insert_with(|| batch.records.clone());
        Ok(())
    })
    .unwrap();
    assert!(first.borrow().as_ref().unwrap().contains(r#""source_port":2,"#));
    assert_eq!(logs.counts().sent, WAITING_MAX as u64);
}

#[test]
fn spooled_records_arrive_once_and_in_order_over_restarts_and_outages() {
    let (dir, taker) = (Dir::new(), Taker::default());
    let logs = spool(&dir.0);
    logs.push(&records(0..2500));
    logs.send_to(down).unwrap_err();
    assert_eq!(logs.counts(), Counts { waiting: 2500, ..Counts::default() });
    drop(logs);

    let logs = spool(&dir.0);
    logs.push(&records(2500..3000));
    let batches = RefCell::new(0);
    let sent = logs.send_to(|batch| {
        *batches.borrow_mut() += 1;
        taker.take(batch)?;
        // The answer to the second batch is lost: it was taken all the same.
        if *batches.borrow() == 2 { down(batch) } else { Ok(()) }
    });
    sent.unwrap_err();
    drop(logs);

    let logs = spool(&dir.0);
    assert_eq!(logs.counts().waiting, 2000, "the batch without an answer waits on");
    logs.send_to(|batch| taker.take(batch)).unwrap();
    let taken = taker.0.borrow();
    assert_eq!(taken.ports, (0..3000).collect::<Vec<_>>());
    assert_eq!((taken.missing, taken.dropped, taken.streams.len()), (0, 0, 1));
    assert_eq!(logs.counts().waiting, 0);
    let left: Vec<_> = fs::read_dir(&dir.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_str().unwrap().ends_with(".jsonl")), "{left:?}");
}

#[test]
fn a_full_spool_loses_the_oldest_and_what_is_lost_is_counted() {
    let (dir, taker) = (Dir::new(), Taker::default());
    let logs = spool(&dir.0);
    let mut pushed = 0;
    while logs.counts().lost == 0 {
        logs.push(&records(0..1000));
        pushed += 1000;
        assert!(pushed < 100_000, "it is never full");
    }
    logs.push(&records(0..1000));
    pushed += 1000;
    let bytes: u64 =
        fs::read_dir(&dir.0).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes < (3 << 20) + 4096, "{bytes} bytes");
    logs.kernel_lost(7);
    logs.send_to(|batch| taker.take(batch)).unwrap();
    let taken = taker.0.borrow();
    assert_eq!(taken.ports.len() as u64 + taken.dropped, pushed + 7, "records and losses are the decisions");
    assert_eq!(taken.missing + 7, taken.dropped, "the gap in the numbers is what the spool lost");
}

/// A file system of its own that is full soon.
struct Small<'a>(&'a Path);

impl Small<'_> {
    fn mount(dir: &Path) -> Small<'_> {
        fs::create_dir(dir).unwrap();
        let args = ["-t", "tmpfs", "-o", "size=256k", "tmpfs"];
        assert!(Command::new("mount").args(args).arg(dir).status().unwrap().success());
        Small(dir)
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("--lazy").arg(self.0).status());
    }
}

/// THREATS T53.
#[test]
fn a_full_disk_loses_what_is_new_and_keeps_no_agent_from_starting() {
    need!(Root);
    let (dir, taker) = (Dir::new(), Taker::default());
    let _small = Small::mount(&dir.0);
    let logs = spool(&dir.0);
    let mut pushed = 0;
    while logs.counts().lost == 0 {
        logs.push(&records(0..100));
        pushed += 100;
        assert!(pushed < 10_000, "it is never full");
    }
    let whole = |logs: &Logs| logs.counts().waiting + logs.counts().lost;
    assert!(logs.counts().waiting > 0);
    assert_eq!(whole(&logs), pushed);
    drop(logs);
    let logs = spool(&dir.0);
    assert_eq!(whole(&logs), pushed, "what was lost is known after a restart");
    logs.push(&records(0..100));
    pushed += 100;
    assert_eq!(whole(&logs), pushed);
    logs.send_to(|batch| taker.take(batch)).unwrap();
    // There is room again.
    logs.push(&records(0..5));
    logs.send_to(|batch| taker.take(batch)).unwrap();
    let taken = taker.0.borrow();
    assert_eq!(
        (&taken.ports[..3], &taken.ports[taken.ports.len() - 5..]),
        (&[0, 1, 2][..], &[0, 1, 2, 3, 4][..])
    );
    assert_eq!(taken.ports.len() as u64 + taken.dropped, pushed + 5);
}

#[test]
fn records_pushed_out_while_under_way_are_not_lost() {
    let (dir, taker) = (Dir::new(), Taker::default());
    let logs = spool(&dir.0);
    logs.push(&records(0..10));
    let pushed = RefCell::new(10);
    logs.send_to(|batch| {
        while *pushed.borrow() < 60_000 && logs.counts().lost == 0 {
            logs.push(&records(0..1000));
            *pushed.borrow_mut() += 1000;
        }
        taker.take(batch)
    })
    .unwrap();
    let (taken, counts) = (taker.0.borrow(), logs.counts());
    assert!(counts.lost > 0);
    assert_eq!(taken.ports.len() as u64 + counts.lost, *pushed.borrow());
    assert_eq!(counts.sent, taken.ports.len() as u64);
}

#[test]
fn a_record_that_is_refused_for_ever_holds_nobody_up() {
    for spooled in [false, true] {
        let dir = Dir::new();
        let logs = if spooled { spool(&dir.0) } else { Logs::new(None).unwrap() };
        logs.push(&records(0..20));
        let taken = RefCell::new(0);
        let report = |batch: &Batch| {
            if batch.records.contains(r#""source_port":7,"#) {
                return Err(PlaneError::Status { what: "sending", status: 422, message: String::new() });
            }
            *taken.borrow_mut() += batch.records.matches("source_port").count();
            Ok(())
        };
        logs.send_to(report).unwrap();
        let counts = logs.counts();
        assert_eq!((*taken.borrow(), counts.sent, counts.lost, counts.waiting), (19, 19, 1, 0), "{spooled}");
    }
}

#[test]
fn a_torn_line_is_cut_off_and_counted() {
    let (dir, taker) = (Dir::new(), Taker::default());
    let logs = spool(&dir.0);
    logs.push(&records(0..3));
    drop(logs);
    let segment = fs::read_dir(&dir.0).unwrap().map(|entry| entry.unwrap().path());
    let segment = segment.into_iter().find(|path| path.extension().is_some_and(|e| e == "jsonl")).unwrap();
    let text = fs::read(&segment).unwrap();
    fs::write(&segment, &text[..text.len() - 5]).unwrap();
    let logs = spool(&dir.0);
    assert_eq!((logs.counts().waiting, logs.counts().lost), (2, 1));
    logs.push(&records(9..10));
    logs.send_to(|batch| taker.take(batch)).unwrap();
    assert_eq!(taker.0.borrow().ports, [0, 1, 9]);
}

#[test]
fn a_lost_state_sends_again_under_the_same_stream() {
    let (dir, taker) = (Dir::new(), Taker::default());
    let logs = spool(&dir.0);
    logs.push(&records(0..5));
    logs.send_to(|batch| taker.take(batch).and_then(|()| down(batch))).unwrap_err();
    drop(logs);
    fs::write(dir.0.join("state.json"), b"{").unwrap();
    let logs = spool(&dir.0);
    logs.send_to(|batch| taker.take(batch)).unwrap();
    assert_eq!(taker.0.borrow().ports, [0, 1, 2, 3, 4]);
    assert_eq!(taker.0.borrow().streams.len(), 1);
}

#[test]
fn a_spool_has_one_agent() {
    let dir = Dir::new();
    let _first = spool(&dir.0);
    let error = Logs::new(Some(&SpoolConfig { dir: dir.0.clone(), bytes_max: 1 })).unwrap_err();
    assert!(error.to_string().contains("another agent"), "{error}");
}

#[test]
fn a_kernel_counter_that_starts_again_adds_up() {
    let mut loss = KernelLoss::default();
    assert!(loss.saw(5) && loss.saw(9) && !loss.saw(9) && loss.saw(2));
    assert_eq!(loss.total, 11);
}
