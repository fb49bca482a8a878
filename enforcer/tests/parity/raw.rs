//! Raw requests, whole: core/verdict against bpf/lib over the maps that the compiler makes, step by step as
//! bpf/progs/run.h and portcullis.bpf.c chain them.

use std::collections::BTreeMap;

use portcullis_bpf::host::SlotField;
use portcullis_bpf::limits::{HEAD_MAX, HEAD_TAIL};
use portcullis_enforcer::compile::Tables;
use portcullis_policy::PolicySet;
use portcullis_testkit::{need, seed};
use portcullis_token::KeyStore;
use portcullis_verdict::{Connection, Decision, decide};
use portcullis_wire::{Mode, Reason};

use crate::compiled::compiled;
use crate::corpus::policies::PORTS;
use crate::corpus::{Case, Corpus, Drawn, cases};
use crate::engine::{Engine, Kernel, Native};
use crate::policy::{Outcome, mode, outcomes};
use crate::token::SIGNATURES;

/// What is said of a request: by the live policies, and by the candidate. `None`: its head is not complete.
type Said = Option<(Outcome, Option<Outcome>)>;

/// Cases that every engine takes: 100,000, in parts that run side by side.
const PARTS: u64 = 5;
const CASES: usize = 20_000;
/// Cases for each set of policies.
const CASES_EACH: usize = 1000;
/// `PC_HTTP_MORE`.
const MORE: i32 = -1000;
/// `PC_H_BEARER`, of `pc_head.seen`.
const BEARER: u32 = 1024;
/// `PC_TOKEN_VALID` and `PC_TOKEN_INVALID`.
const VALID: u32 = 1;
const INVALID: u32 = 2;

macro_rules! parts {
    ($($part:literal: $native:ident, $kernel:ident;)*) => {
        $(
            #[test]
            fn $native() {
                compare(&mut Native::new(), $part);
            }

            #[test]
            fn $kernel() {
                need!(Root, Bpf);
                compare(&mut kernel(), $part);
            }
        )*

        #[test]
        fn all_parts_are_taken() {
            assert_eq!([$($part),*].len() as u64, PARTS);
            assert_eq!(PARTS * CASES as u64, 100_000);
        }
    };
}
parts! {
    1: native_decides_as_the_model_1, kernel_decides_as_the_model_1;
    2: native_decides_as_the_model_2, kernel_decides_as_the_model_2;
    3: native_decides_as_the_model_3, kernel_decides_as_the_model_3;
    4: native_decides_as_the_model_4, kernel_decides_as_the_model_4;
    5: native_decides_as_the_model_5, kernel_decides_as_the_model_5;
}

fn kernel() -> Kernel {
    let steps = ["head", "host", "path", "match", "decide", "jwt_parse"];
    let steps: Vec<&str> = steps.into_iter().chain(SIGNATURES.map(|(_, step)| step)).collect();
    Kernel::load(&steps)
}

fn compare(engine: &mut dyn Engine, part: u64) {
    let cases = cases(CASES);
    let mut corpus = Corpus::new(seed().wrapping_add(part), PORTS);
    let (keys, problems) = KeyStore::new(&corpus.issuers());
    assert!(problems.is_empty(), "{problems:?}");
    let mut reasons = BTreeMap::<&str, usize>::new();
    let (mut incomplete, mut candidates) = (0, 0);
    // What is rare may take more cases than usual to come.
    let usual = cases.div_ceil(CASES_EACH);
    for number in 0..usual * 5 {
        if number >= usual && (cases < CASES || missing(&reasons).is_none()) {
            break;
        }
        let half = number as u32 & 1;
        let drawn = corpus.draw(1);
        let compiled = compiled(&drawn);
        compiled.image.write(half, engine).unwrap();
        let policies = drawn.wire();
        for at in 0..CASES_EACH {
            let case = corpus.case(&policies, &drawn.set);
            let expected = model(&case, &drawn.set, &drawn.candidate, &keys);
            // Claims that are too long to be looked up count as revoked, and these engines take no step for revocations:
            // token.rs and the live datapath are compared in that.
            let revoked = |outcome: &Outcome| outcome.reason == Reason::TokenRevoked;
            if expected
                .as_ref()
                .is_some_and(|(live, tried)| revoked(live) || tried.as_ref().is_some_and(revoked))
            {
                continue;
            }
            let found = found(engine, half, &compiled.tables, &case, &drawn);
            assert_eq!(
                found,
                expected,
                "{}: case {at} of set {number}, now {}: {}\n{policies:#?}",
                engine.name(),
                case.now_s,
                case.bytes.escape_ascii()
            );
            match expected {
                None => incomplete += 1,
                Some((outcome, candidate)) => {
                    *reasons.entry(outcome.reason.slug()).or_default() += 1;
                    candidates += usize::from(candidate.is_some());
                }
            }
        }
    }
    println!(
        "{}: {} requests, {candidates} with a candidate, {incomplete} incomplete, {reasons:?}",
        engine.name(),
        incomplete + reasons.values().sum::<usize>()
    );
    if cases >= CASES {
        assert_eq!(missing(&reasons), None, "a reason that never occurred");
    }
}

/// A reason that ought to occur and has not.
fn missing(reasons: &BTreeMap<&str, usize>) -> Option<Reason> {
    Reason::ALL.iter().copied().find(|reason| occurs(*reason) && !reasons.contains_key(reason.slug()))
}

/// Reasons that a head, a token or a policy gives; the others are of bodies, connections and resources.
fn occurs(reason: Reason) -> bool {
    use Reason as R;

    !matches!(
        reason,
        R::None
            | R::TokenRevoked
            | R::BadChunk
            | R::UpgradeRefused
            | R::PipelineRefused
            | R::StreamGap
            | R::NoCapacity
            | R::Internal
    )
}

/// What the model says of the first request of a connection.
fn model(case: &Case, set: &PolicySet, candidate: &PolicySet, keys: &KeyStore) -> Said {
    let mut connection = Connection::new(case.port, 0);
    let handled = connection.segment(&case.bytes, set, keys, case.now_s);
    let record = handled.records.first()?;
    let outcome = |decision: &Decision, set: &PolicySet| Outcome {
        reason: decision.reason(),
        mode: mode(decision.mode()),
        policy: decision.policy_id(set).map(str::to_owned),
        rule: decision.rule_id(set).map(str::to_owned),
        mfa_max_age_s: decision.mfa_max_age_s().unwrap_or(0),
    };
    // What is refused for its form is refused whatever the policies are.
    let readable = record.head.as_ref().filter(|_| record.decision.resource().is_some());
    let tried = readable
        .filter(|_| candidate.port_enforces(case.port).is_some())
        .map(|head| outcome(&decide(head, case.port, candidate, keys, case.now_s), candidate).effectless());
    Some((outcome(&record.decision, set), tried))
}

/// What the C says.
fn found(engine: &mut dyn Engine, half: u32, tables: &Tables, case: &Case, drawn: &Drawn) -> Said {
    let head = &case.bytes[..case.bytes.len().min(HEAD_MAX)];
    let mut slot = engine.slot();
    // pc_run_start, pc_head_fetch; the zeros are pc_head_terminate's.
    slot.set(SlotField::HEAD, &[head, &[0; HEAD_TAIL]].concat());
    slot.set_u32(SlotField::N, head.len() as u32);
    slot.set_u32(SlotField::HALF, half);
    slot.set_u32(SlotField::PORT, u32::from(case.port));
    slot.set_u32(SlotField::TOKEN_STATE, 0);
    slot.set_u32(SlotField::TOKEN_REASON, 0);
    slot.set_u32(SlotField::JWT_HALF, half);
    slot.set_u64(SlotField::JWT_NOW, case.now_s);
    // What an earlier run left must not decide this one.
    for field in [SlotField::POLICY, SlotField::RULE, SlotField::REASON, SlotField::MODE] {
        slot.set_u32(field, u32::MAX);
    }
    let refused = |reason: i32| {
        let enforces = drawn.set.port_enforces(case.port).unwrap();
        let mode = mode(if enforces { Mode::Enforce } else { Mode::Monitor });
        let reason = Reason::from_code(reason as u16).unwrap();
        Some((Outcome { reason, mode, policy: None, rule: None, mfa_max_age_s: 0 }, None))
    };
    match engine.run("head") {
        MORE if head.len() < HEAD_MAX => return None,
        MORE => return refused(Reason::HeadTooLarge.code().into()),
        code if code <= 0 => return refused(-code),
        _ => {}
    }
    for step in ["host", "path"] {
        let code = engine.run(step);
        if code < 0 {
            return refused(-code);
        }
    }
    if engine.run("match") == 1 {
        verify(engine);
    }
    engine.run("decide");
    Some(outcomes(&engine.slot(), half, tables))
}

/// pc_token and the program of the key's algorithm, when a token was sent.
fn verify(engine: &mut dyn Engine) {
    let mut slot = engine.slot();
    if slot.u32(SlotField::SEEN) & BEARER == 0 {
        return;
    }
    let (token, len) = (slot.u32(SlotField::TOKEN), slot.u32(SlotField::TOKEN_LEN));
    slot.set_u32(SlotField::JWT_TOKEN, token);
    slot.set_u32(SlotField::JWT_TOKEN_LEN, len);
    let reason = if engine.run("jwt_parse") == 0 {
        let alg = engine.slot().u32(SlotField::JWT_ALG);
        let step = SIGNATURES.iter().find(|(known, _)| *known == alg).map(|(_, step)| *step).unwrap();
        engine.run(step) as u32
    } else {
        engine.slot().u32(SlotField::JWT_REASON)
    };
    let mut slot = engine.slot();
    slot.set_u32(SlotField::TOKEN_STATE, if reason == 0 { VALID } else { INVALID });
    slot.set_u32(SlotField::TOKEN_REASON, reason);
}
