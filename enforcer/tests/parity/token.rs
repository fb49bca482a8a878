//! Tokens: core/token against bpf/lib/jwt.h over the maps that the compiler makes, on the corpus of core/token.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_bpf::abi::{self, alg, identity_flag};
use portcullis_bpf::host::SlotField;
use portcullis_bpf::limits::ISSUERS_MAX;
use portcullis_enforcer::compile::{Compiled, Principal, PrincipalKind, Tables, compile};
use portcullis_testkit::{Rng, need, seed};
use portcullis_token::corpus::{Case, Generator, Party};
use portcullis_token::{Claims, KeyStore, VerifiedToken, verify};
use portcullis_wire::{
    Action, Bundle, Issuer, Mode, Policy, Reason, Requirements, Revocation, RevokedClaim, Rule,
};
use zerocopy::FromBytes;

use crate::engine::{Engine, Kernel, Native};

/// What a verified token comes to.
#[derive(Debug, Eq, PartialEq)]
struct Identity {
    issuer: String,
    kid: (u8, Vec<u8>),
    sub: (u8, Vec<u8>),
    email: (u8, Vec<u8>),
    /// exp, nbf, iat, auth_time
    times: [u64; 4],
    flags: u32,
    /// Those that policies name.
    principals: BTreeSet<Principal>,
}

/// What is revoked of every issuer.
const REVOKED: [(RevokedClaim, &str, Option<u64>); 4] = [
    (RevokedClaim::Sub, "user-1", Some(2_000_000_000)),
    (RevokedClaim::Sid, "ünïcödé", None),
    (RevokedClaim::Jti, "", None),
    (RevokedClaim::OrgId, "日本語", Some(1_800_000_000)),
];

/// Steps that verify a signature, by algorithm.
pub const SIGNATURES: [(u32, &str); 4] = [
    (alg::RS256_2048, "jwt_rs256_2048"),
    (alg::RS256_3072, "jwt_rs256_3072"),
    (alg::RS256_4096, "jwt_rs256_4096"),
    (alg::ES256, "jwt_es256"),
];

#[test]
fn native_judges_as_the_reference() {
    compare(&mut Native::new(), 20_000);
}

#[test]
fn kernel_judges_as_the_reference() {
    need!(Root, Bpf);
    let steps: Vec<&str> =
        ["jwt_parse", "revoked"].into_iter().chain(SIGNATURES.map(|(_, step)| step)).collect();
    compare(&mut Kernel::load(&steps), 20_000);
}

fn compare(engine: &mut dyn Engine, cases: u32) {
    let seed = seed();
    let mut rng = Rng::new(seed);
    let mut generator = Generator::new(seed, Party::three().unwrap());
    let issuers = generator.issuers();
    let (store, problems) = KeyStore::new(&issuers);
    assert!(problems.is_empty(), "{problems:?}");
    let store = store.with_revocations(&revocations(&issuers));
    // The halves hold the same keys at different places.
    let halves = [bundle(issuers.clone()), bundle(issuers.into_iter().rev().collect())];
    for (half, Compiled { image, problems, .. }) in (0..).zip(&halves) {
        assert!(problems.is_empty(), "{problems:?}");
        image.write(half, engine).unwrap();
    }
    let mut reasons = BTreeMap::<&str, u32>::new();
    for number in 0..cases {
        let Case { token, now_s, note, .. } = generator.case();
        let half = number & 1;
        let tables = &halves[half as usize].tables;
        let expected = verify(&token, &store, now_s).map(|token| of_reference(&token, tables));
        let found = judge(engine, &mut rng, half, tables, &token, now_s);
        let reason = expected.as_ref().err().map_or("verified", |reason| reason.slug());
        *reasons.entry(reason).or_default() += 1;
        assert_eq!(
            found,
            expected,
            "{}, case {number} ({note}) at {now_s}: {}",
            engine.name(),
            String::from_utf8_lossy(&token)
        );
    }
    println!("{}: {cases} tokens, {reasons:?}", engine.name());
    assert!(reasons.contains_key("verified"));
    for reason in Reason::ALL.iter().filter(|reason| is_of_token(**reason)) {
        assert!(reasons.contains_key(reason.slug()), "{reason} never occurred");
    }
}

/// Reasons that the verification of a token gives.
fn is_of_token(reason: Reason) -> bool {
    (Reason::TokenMalformed.code()..=Reason::TokenIat.code()).contains(&reason.code())
        || reason == Reason::TokenRevoked
}

/// The issuers, and a policy that names principals as tokens of the corpus do.
fn bundle(issuers: Vec<Issuer>) -> Compiled {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let org = |(number, org): (usize, &str)| Rule {
        method: "GET".to_owned(),
        path_pattern: format!("/{number}"),
        required_org: Some(org.to_owned()),
        ..Rule::default()
    };
    let mut rules: Vec<Rule> = ["admin", "user-1", "日本語"].into_iter().enumerate().map(org).collect();
    rules.push(Rule {
        method: "*".to_owned(),
        path_pattern: "/*".to_owned(),
        required_roles: names(&["admin", "ünïcödé", "no such role"]),
        required_permissions: names(&["reports:read", "a"]),
        all_of: Some(Requirements {
            groups: names(&[
                "admin",
                "someone.with.a.rather.long.name+and-a-tag@subdomain.of.a.company.example",
            ]),
            roles: names(&["😀"]),
            ..Requirements::default()
        }),
        ..Rule::default()
    });
    let policy = Policy {
        id: "p".to_owned(),
        name: "p".to_owned(),
        port_match: 80,
        host_match: None,
        mode: Mode::Enforce,
        default_action: Action::Deny,
        rules,
    };
    let revocations = revocations(&issuers);
    compile(&Bundle { version: 1, issuers, policies: vec![policy], revocations, candidate: None }).unwrap()
}

fn revocations(issuers: &[Issuer]) -> Vec<Revocation> {
    let of = |(claim, value, not_before): &(RevokedClaim, &str, Option<u64>), issuer: &Issuer| Revocation {
        issuer: issuer.issuer.clone(),
        claim: *claim,
        value: (*value).to_owned(),
        not_before: *not_before,
        expires_at: u64::MAX,
    };
    REVOKED.iter().flat_map(|row| issuers.iter().map(move |issuer| of(row, issuer))).collect()
}

fn of_reference(token: &VerifiedToken, tables: &Tables) -> Identity {
    let claims = token.claims();
    let Claims { exp, nbf, iat, auth_time, mfa_verified, .. } = *claims;
    let flag = |set: bool, flag: u32| if set { flag } else { 0 };
    Identity {
        issuer: token.issuer().to_owned(),
        kid: beginning(token.kid(), 31),
        sub: beginning(claims.sub.as_deref().unwrap_or_default(), 63),
        email: beginning(claims.email.as_deref().unwrap_or_default(), 63),
        times: [exp, nbf.unwrap_or(0), iat.unwrap_or(0), auth_time.unwrap_or(0)],
        flags: flag(nbf.is_some(), identity_flag::NBF)
            | flag(iat.is_some(), identity_flag::IAT)
            | flag(auth_time.is_some(), identity_flag::AUTH_TIME)
            | flag(mfa_verified, identity_flag::MFA),
        principals: tables.principals.iter().filter(|principal| holds(claims, principal)).cloned().collect(),
    }
}

fn holds(claims: &Claims, Principal { kind, name }: &Principal) -> bool {
    match kind {
        PrincipalKind::Role => claims.roles.contains(name),
        PrincipalKind::Permission => claims.permissions.contains(name),
        PrincipalKind::Group => claims.groups.contains(name),
        PrincipalKind::Org => claims.org_id.as_ref() == Some(name),
    }
}

/// As a record holds a text: its length capped at 255, and its beginning, with zeros behind it.
fn beginning(text: &str, room: usize) -> (u8, Vec<u8>) {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(room, 0);
    (text.len().min(255) as u8, bytes)
}

/// Runs the token stages as the programs chain them.
fn judge(
    engine: &mut dyn Engine,
    rng: &mut Rng,
    half: u32,
    tables: &Tables,
    token: &[u8],
    now_s: u64,
) -> Result<Identity, Reason> {
    // Between other bytes of a head, which must not matter, and in a slot that other tokens have used.
    let at = rng.below(300) as usize;
    let behind = *rng.pick(b"\rA.=\0\x80\xff").unwrap();
    let mut slot = engine.slot();
    slot.set(SlotField::HEAD, &[&vec![b'A'; at][..], token, &[behind; 80]].concat());
    slot.set_u32(SlotField::N, (at + token.len() + 80) as u32);
    slot.set_u32(SlotField::JWT_TOKEN, at as u32);
    slot.set_u32(SlotField::JWT_TOKEN_LEN, token.len() as u32);
    slot.set_u32(SlotField::JWT_HALF, half);
    slot.set_u64(SlotField::JWT_NOW, now_s);
    let parsed = engine.run("jwt_parse");
    let slot = engine.slot();
    let reason = Reason::from_code(slot.u32(SlotField::JWT_REASON) as u16).unwrap();
    assert_eq!(parsed == 0, reason == Reason::None, "{parsed} {reason}");
    if parsed != 0 {
        return Err(reason);
    }
    let alg = slot.u32(SlotField::JWT_ALG);
    let step = SIGNATURES.iter().find(|(known, _)| *known == alg).map(|(_, step)| *step).unwrap();
    match Reason::from_code(engine.run(step) as u16).unwrap() {
        Reason::None => {}
        reason => return Err(reason),
    }
    let bytes = engine.slot().get(SlotField::ID, size_of::<abi::Identity>()).to_vec();
    let id = abi::Identity::read_from_bytes(&bytes).unwrap();
    assert_eq!(id.issuer as usize / ISSUERS_MAX, half as usize, "the issuer is of the half that decides");
    if engine.run("revoked") == 1 {
        return Err(Reason::TokenRevoked);
    }
    let held =
        tables.principals.iter().enumerate().filter(|(bit, _)| id.bits.w[bit / 64] >> (bit % 64) & 1 == 1);
    Ok(Identity {
        issuer: tables.issuers[id.issuer as usize % ISSUERS_MAX].clone(),
        kid: (id.kid_len, id.kid.to_vec()),
        sub: (id.sub.len, id.sub.s.to_vec()),
        email: (id.email.len, id.email.s.to_vec()),
        times: [id.exp, id.nbf, id.iat, id.auth_time],
        flags: id.flags,
        principals: held.map(|(_, principal)| principal.clone()).collect(),
    })
}
