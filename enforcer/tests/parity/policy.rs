//! Decisions: core/policy against bpf/lib/policy.h over the maps that the compiler makes.

use portcullis_bpf::host::SlotField;
use portcullis_bpf::{abi, limits};
use portcullis_enforcer::compile::{PrincipalKind, Tables};
use portcullis_policy as policy;
use portcullis_policy::PolicySet;
use portcullis_testkit::{Rng, need, seed};
use portcullis_wire::{Method, Mode, Reason};
use zerocopy::IntoBytes;

use crate::compiled::compiled;
use crate::corpus::policies::{self as generate, Claims, NOW_S, Request};
use crate::corpus::{Drawn, draw, wire};
use crate::engine::{Engine, Kernel, Native, Slot};

/// What is compared: ids rather than indices, so that the tables for events are compared too.
#[derive(Debug, Eq, PartialEq)]
pub struct Outcome {
    pub reason: Reason,
    pub mode: u8,
    pub policy: Option<String>,
    pub rule: Option<String>,
    pub mfa_max_age_s: u32,
}

/// What the token of a request says.
#[derive(Clone, Debug)]
enum Token {
    None,
    Invalid(Reason),
    Valid(Claims),
}

/// Some of the reasons that a token is refused for.
const INVALID: [Reason; 4] =
    [Reason::TokenMalformed, Reason::TokenSignature, Reason::TokenExpired, Reason::TokenAudience];

// === impl Outcome ===

impl Outcome {
    /// Without what only matters to a decision that has an effect.
    pub fn effectless(self) -> Outcome {
        Outcome { mode: 0, mfa_max_age_s: 0, ..self }
    }
}

#[test]
fn native_decides_as_the_reference() {
    let mut native = Native::new();
    compare(&mut native, 1000, 20);
}

#[test]
fn kernel_decides_as_the_reference() {
    need!(Root, Bpf);
    let mut kernel = Kernel::load(&["policy"]);
    compare(&mut kernel, 600, 30);
}

/// Random bundles, written to one half and the other in turn, and random requests for each.
fn compare(engine: &mut dyn Engine, bundles: u32, requests: u32) {
    let mut rng = Rng::new(seed());
    let mut reasons = std::collections::BTreeMap::<&str, u32>::new();
    let mut candidates = 0;
    for number in 0..bundles {
        let half = number & 1;
        let drawn = draw(&mut rng, &generate::PORTS, 0, Vec::new());
        let compiled = compiled(&drawn);
        let Drawn { set, candidate, bundle: _ } = drawn;
        compiled.image.write(half, engine).unwrap();
        for _ in 0..requests {
            let request = generate::request(&mut rng, &wire(&set));
            if set.port_enforces(request.port).is_none() {
                // Requests of other ports do not reach the program.
                continue;
            }
            let token = token(&mut rng);
            let expected = reference(&set, &request, &token);
            let tried = candidate.port_enforces(request.port).is_some();
            let expected_candidate = tried.then(|| reference(&candidate, &request, &token).effectless());
            let (found, found_candidate) = decide(engine, half, &compiled.tables, &request, &token);
            candidates += u32::from(tried);
            assert_eq!(
                found_candidate,
                expected_candidate,
                "{}: {request:?} {token:?} {:#?}",
                engine.name(),
                wire(&candidate)
            );
            *reasons.entry(expected.reason.slug()).or_default() += 1;
            assert_eq!(found, expected, "{}: {request:?} {token:?} {:#?}", engine.name(), wire(&set));
        }
    }
    assert!(candidates > bundles, "the candidate was seldom asked: {candidates} times");
    println!(
        "{}: {} decisions, {candidates} with a candidate, {reasons:?}",
        engine.name(),
        reasons.values().sum::<u32>()
    );
    for reason in Reason::ALL.iter().filter(|reason| is_of_policy(**reason)) {
        assert!(reasons.contains_key(reason.slug()), "{reason} never occurred");
    }
}

fn token(rng: &mut Rng) -> Token {
    match rng.below(10) {
        0 | 1 => Token::None,
        2 => Token::Invalid(*rng.pick(&INVALID).unwrap()),
        _ => Token::Valid(generate::claims(rng)),
    }
}

/// Reasons that policies give, as opposed to tokens and requests.
fn is_of_policy(reason: Reason) -> bool {
    use Reason as R;

    reason.is_allow()
        || matches!(reason, R::TokenMissing | R::MfaRequired | R::MfaStale | R::DefaultDenyAnonymous)
        || (R::RoleMissing.code()..=R::HostNotCovered.code()).contains(&reason.code())
}

fn reference(set: &PolicySet, request: &Request, token: &Token) -> Outcome {
    let method = Method::parse(request.method.as_bytes());
    let host = (!request.host.is_empty()).then_some(request.host.as_str());
    let asked = policy::Request { port: request.port, host, method, path: &request.path };
    let token = match token {
        Token::None => policy::Token::None,
        Token::Invalid(reason) => policy::Token::Invalid(*reason),
        Token::Valid(claims) => policy::Token::Valid(policy::Claims {
            roles: &claims.roles,
            permissions: &claims.permissions,
            groups: &claims.groups,
            org_id: claims.org_id.as_deref(),
            mfa_verified: claims.mfa_verified,
            auth_time: claims.auth_time,
        }),
    };
    let decision = set.decide(&asked, &token, NOW_S);
    Outcome {
        reason: decision.reason,
        mode: mode(decision.mode),
        policy: decision.policy_id(set).map(str::to_owned),
        rule: decision.rule_id(set).map(str::to_owned),
        mfa_max_age_s: decision.mfa_max_age_s.unwrap_or(0),
    }
}

/// As bpf/include/abi.h has it.
pub fn mode(mode: Mode) -> u8 {
    match mode {
        Mode::Disabled => abi::mode::DISABLED,
        Mode::Monitor => abi::mode::MONITOR,
        Mode::Enforce => abi::mode::ENFORCE,
    }
}

/// What the live policies say, and the candidate's.
fn decide(
    engine: &mut dyn Engine,
    half: u32,
    tables: &Tables,
    request: &Request,
    token: &Token,
) -> (Outcome, Option<Outcome>) {
    let (state, reason, identity) = match token {
        Token::None => (0, 0, abi::Identity::zeroed()),
        Token::Valid(claims) => (1, 0, identity(tables, claims)),
        Token::Invalid(reason) => (2, u32::from(reason.code()), abi::Identity::zeroed()),
    };
    let mut slot = engine.slot();
    slot.set_u32(SlotField::HALF, half);
    slot.set_u32(SlotField::PORT, u32::from(request.port));
    slot.set(SlotField::HOST, request.host.as_bytes());
    slot.set_u32(SlotField::HOST_LEN, request.host.len() as u32);
    slot.set(SlotField::PATH, request.path.as_bytes());
    slot.set_u32(SlotField::PATH_LEN, request.path.len() as u32);
    slot.set_u32(SlotField::METHOD, u32::from(Method::parse(request.method.as_bytes()).number()));
    slot.set_u32(SlotField::TOKEN_STATE, state);
    slot.set_u32(SlotField::TOKEN_REASON, reason);
    slot.set(SlotField::ID, identity.as_bytes());
    slot.set_u64(SlotField::JWT_NOW, NOW_S);
    // What an earlier run left must not decide this one.
    for field in [SlotField::POLICY, SlotField::RULE, SlotField::REASON, SlotField::MODE] {
        slot.set_u32(field, u32::MAX);
    }
    let reason = engine.run("policy");
    let slot = engine.slot();
    assert_eq!(reason as u32, slot.u32(SlotField::REASON), "the program returns what it leaves in the slot");
    outcomes(&slot, half, tables)
}

/// What a run left in the slot: what the live policies say, and the candidate's.
pub fn outcomes(slot: &Slot<'_>, half: u32, tables: &Tables) -> (Outcome, Option<Outcome>) {
    let local = |index: u32, half_max: usize| {
        let index = (index as usize).checked_sub(1)?;
        assert_eq!(index / half_max, half as usize, "indices are of the half that decides");
        Some(index % half_max)
    };
    let outcome = |reason: u32, policy: SlotField, rule: SlotField, mode: u8, mfa_max_age_s: u32| {
        let policy = local(slot.u32(policy), limits::POLICIES_MAX);
        let rule = local(slot.u32(rule), limits::RULES_MAX);
        Outcome {
            reason: Reason::from_code(reason as u16).unwrap(),
            mode,
            policy: policy.map(|index| tables.policies[index].id.clone()),
            rule: rule.map(|index| tables.rules[index].id.clone()),
            mfa_max_age_s,
        }
    };
    let (mode, max_age) = (slot.u32(SlotField::MODE) as u8, slot.u32(SlotField::MFA_MAX_AGE));
    let live = outcome(slot.u32(SlotField::REASON), SlotField::POLICY, SlotField::RULE, mode, max_age);
    let candidate = (slot.u32(SlotField::CANDIDATE) == 1).then(|| {
        let reason = slot.u32(SlotField::CANDIDATE_REASON);
        outcome(reason, SlotField::CANDIDATE_POLICY, SlotField::CANDIDATE_RULE, 0, 0)
    });
    (live, candidate)
}

/// What lib/jwt.h makes of the claims.
fn identity(tables: &Tables, claims: &Claims) -> abi::Identity {
    let mut identity = abi::Identity::zeroed();
    for (bit, principal) in tables.principals.iter().enumerate() {
        let held = match principal.kind {
            PrincipalKind::Role => claims.roles.contains(&principal.name),
            PrincipalKind::Permission => claims.permissions.contains(&principal.name),
            PrincipalKind::Group => claims.groups.contains(&principal.name),
            PrincipalKind::Org => claims.org_id.as_ref() == Some(&principal.name),
        };
        identity.bits.w[bit / 64] |= u64::from(held) << (bit % 64);
    }
    if claims.mfa_verified {
        identity.flags |= abi::identity_flag::MFA;
    }
    if let Some(auth_time) = claims.auth_time {
        identity.flags |= abi::identity_flag::AUTH_TIME;
        identity.auth_time = auth_time;
    }
    identity
}
