//! Bounds of the time for signatures: the CPU's share, and the bad signatures of one source.

use portcullis_bpf::host::SlotField;
use portcullis_bpf::limits::{CPU_BURST_US, CPU_PERCENT, CPU_RESERVE_US, SOURCE_BURST, SOURCE_RATE};

use crate::engine::{Engine, on_both};

on_both! {
    "budget_open budget_close": a_source_that_sends_bad_signatures_is_refused,
    "budget_open budget_close": a_cpu_spends_its_share_on_bad_signatures,
    "budget_open budget_close": time_of_others_is_not_charged,
    "budget_open budget_close": valid_tokens_cost_nothing,
    "budget_open budget_close": networks_are_one_source,
    "budget_open budget_close": clocks_that_jump,
}

const OPEN: usize = 0;
const CLOSE: usize = 1;
const SECOND: u64 = 1_000_000_000;
const START: u64 = 1000 * SECOND;
const A: [u8; 16] = [10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const B: [u8; 16] = [10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn open(engine: &mut Engine, source: &[u8; 16], now: u64) -> bool {
    engine.set_bytes(SlotField::HEAD, source);
    engine.set_u64(SlotField::ENTRY_NS, now);
    engine.run_step(OPEN) == 1
}

fn close(engine: &mut Engine, source: &[u8; 16], start: u64, now: u64, valid: bool) {
    engine.set_bytes(SlotField::HEAD, source);
    engine.set_u64(SlotField::VERIFY_START_NS, start);
    engine.set_u64(SlotField::ENTRY_NS, now);
    engine.set_u32(SlotField::TOKEN_STATE, if valid { 1 } else { 2 });
    engine.run_step(CLOSE);
}

/// Bad signatures of no cost to the CPU, until the source is refused.
fn exhaust(engine: &mut Engine, source: &[u8; 16], now: u64) -> usize {
    let mut sent = 0;
    while open(engine, source, now) {
        close(engine, source, now, now, false);
        sent += 1;
        assert!(sent <= SOURCE_BURST, "no bound");
    }
    sent
}

fn a_source_that_sends_bad_signatures_is_refused(engine: &mut Engine) {
    assert_eq!(exhaust(engine, &A, START), SOURCE_BURST);
    assert!(open(engine, &B, START), "another source");
    for _ in 0..2 * SOURCE_BURST {
        assert!(open(engine, &B, START));
        close(engine, &B, START, START, true);
    }
    let each = SECOND / SOURCE_RATE as u64;
    assert!(!open(engine, &A, START + each - 1));
    assert_eq!(exhaust(engine, &A, START + each), 1);
    assert_eq!(exhaust(engine, &A, START + 11 * each), 10);
    // However long it waits, no more than the burst.
    assert_eq!(exhaust(engine, &A, START + 10_000 * SECOND), SOURCE_BURST);
}

/// One of many addresses: none comes near its own bound.
fn source(n: u64) -> [u8; 16] {
    let mut address = A;
    address[1..4].copy_from_slice(&(n as u32).to_be_bytes()[1..]);
    address
}

fn a_cpu_spends_its_share_on_bad_signatures(engine: &mut Engine) {
    let (burst, reserve) = (CPU_BURST_US as u64 * 1000, CPU_RESERVE_US as u64 * 1000);
    // Checks of 40 us without a pause: the burst, then nothing.
    let (mut now, mut spent) = (START, 0u64);
    while open(engine, &source(now), now) {
        close(engine, &source(now), now, now + 40_000, false);
        now += 40_000;
        spent += 40_000;
        assert!(spent < 10 * burst, "no bound");
    }
    let expected = (burst - reserve) * 100 / (100 - CPU_PERCENT as u64);
    assert!(spent.abs_diff(expected) <= 120_000, "{spent} ns at once, expected about {expected}");
    assert!(!open(engine, &B, now), "whoever it is");
    // Requests that come all the time get their share.
    let (span, mut used) = (SECOND / 4, 0u64);
    let end = now + span;
    while now < end {
        if open(engine, &source(now), now) {
            close(engine, &source(now), now, now + 40_000, false);
            used += 40_000;
            now += 40_000;
        } else {
            now += 100_000;
        }
    }
    let share = span * CPU_PERCENT as u64 / 100;
    assert!(used.abs_diff(share) < share / 20, "{used} ns of {span}, expected about {share}");
}

/// A kernel that preempts gives another thread the CPU in the middle of a check.
fn time_of_others_is_not_charged(engine: &mut Engine) {
    close(engine, &A, START, START + SECOND / 20, false);
    assert!(open(engine, &B, START + SECOND / 20));
}

fn valid_tokens_cost_nothing(engine: &mut Engine) {
    let mut now = START;
    for _ in 0..10 * CPU_BURST_US / 40 {
        assert!(open(engine, &A, now));
        close(engine, &A, now, now + 40_000, true);
        now += 40_000;
    }
}

fn networks_are_one_source(engine: &mut Engine) {
    let v6 = |network: u8, host: u8| [0x20, 1, 0xd, 0xb8, 0, 0, 0, network, 0, 0, 0, 0, 0, 0, 0, host];
    let mapped = |host: u8| [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, host];
    engine.set_u32(SlotField::MINOR, 1);
    exhaust(engine, &v6(1, 1), START);
    assert!(!open(engine, &v6(1, 2), START), "the same network");
    assert!(open(engine, &v6(2, 1), START), "another network");
    exhaust(engine, &mapped(1), START);
    assert!(!open(engine, &mapped(1), START));
    assert!(open(engine, &mapped(2), START), "another IPv4 address");
}

/// Times that go back neither give nor take credit.
fn clocks_that_jump(engine: &mut Engine) {
    exhaust(engine, &A, START);
    assert!(!open(engine, &A, START - 500 * SECOND));
    assert!(!open(engine, &A, 0));
    close(engine, &B, START + SECOND, START, false);
    assert!(open(engine, &B, START));
    assert_eq!(exhaust(engine, &A, u64::MAX), SOURCE_BURST);
}
