//! Tokens: bpf/lib/jwt.h against core/token, with one issuer, one key, and principals that policies could name.

use std::collections::BTreeSet;

use portcullis_bpf::abi::{self, alg, identity_flag, name_kind};
use portcullis_bpf::host::{Host, HostFn, SlotField};
use portcullis_bpf::limits::{HEAD_MAX, HEAD_TAIL, NAME_MAX, P256_POINTS_Q};
use portcullis_bpf::p256_tables;
use portcullis_token::mint::SigningKey;
use portcullis_token::{KeyMaterial, KeyStore, VerifiedToken, verify};
use portcullis_wire::{Issuer, JwkSet, Reason};
use zerocopy::{FromBytes, IntoBytes};

/// `iss` of the issuer.
pub const ISSUER: &str = "https://i.example";
/// Its audience.
pub const AUDIENCE: &str = "api";
/// Its key, for ES256.
pub const KID: &str = "k";
/// When all tokens are judged, Unix seconds.
pub const NOW_S: u64 = 1_800_000_000;
const LEEWAY_S: u32 = 5;
const HALF: u8 = 1;
const ISSUER_AT: u32 = 65;
const KEY_AT: u32 = 3;
/// Name and bit of principals.
const PRINCIPALS: [(u8, &str, u32); 5] = [
    (name_kind::ROLE, "admin", 0),
    (name_kind::ROLE, "é", 63),
    (name_kind::PERMISSION, "admin", 64),
    (name_kind::GROUP, "admin", 130),
    (name_kind::ORG, "acme", 200),
];

/// A fresh key pair, known to both sides.
pub struct Keys {
    pair: SigningKey,
    store: KeyStore,
}

/// What a verified token comes to.
#[derive(Debug, Eq, PartialEq)]
struct Identity {
    kid: Text,
    sub: Text,
    email: Text,
    /// exp, nbf, iat, auth_time
    times: [u64; 4],
    flags: u32,
    bits: BTreeSet<u32>,
}

/// As a record holds a text: its length capped at 255, and its beginning, with zeros behind it.
type Text = (u8, Vec<u8>);

// === impl Keys ===

impl Keys {
    /// Makes a key and puts it into the maps.
    ///
    /// # Panics
    /// When no key can be made, or the native build does not have the maps.
    pub fn install(host: &mut Host) -> Keys {
        let pair = SigningKey::generate_es256().expect("a key");
        let issuer = Issuer {
            issuer: ISSUER.to_owned(),
            audiences: vec![AUDIENCE.to_owned()],
            leeway_s: LEEWAY_S,
            jwks: JwkSet { keys: vec![pair.public_jwk(KID)] },
        };
        let (store, problems) = KeyStore::new(&[issuer]);
        assert!(problems.is_empty(), "{problems:?}");
        let mut name = |kind: u8, scope: u32, text: &str, value: u32| {
            let mut s = [0; NAME_MAX];
            s[..text.len()].copy_from_slice(text.as_bytes());
            let key = abi::Name { half: HALF, kind, len: text.len() as u16, scope, s };
            host.update("pc_names", key.as_bytes(), &value.to_ne_bytes()).expect("the map of names");
        };
        name(name_kind::ISSUER, 0, ISSUER, ISSUER_AT);
        name(name_kind::AUDIENCE, ISSUER_AT, AUDIENCE, 1);
        name(name_kind::KID, ISSUER_AT, KID, alg::ES256 << 16 | KEY_AT);
        for (kind, text, bit) in PRINCIPALS {
            name(kind, 0, text, bit);
        }
        let issuer = abi::Issuer { id: 0, leeway_s: LEEWAY_S };
        host.update("pc_issuers", &ISSUER_AT.to_ne_bytes(), issuer.as_bytes()).expect("the map of issuers");
        let mut points = |map: &str, first: u32, points: &[abi::P256Point]| {
            for (at, point) in (first..).zip(points) {
                host.update(map, &at.to_ne_bytes(), point.as_bytes()).expect("the map of points");
            }
        };
        points("pc_p256_g", 0, &p256_tables::generator_table());
        let key = store.issuer(ISSUER).and_then(|issuer| issuer.key(KID)).expect("the key");
        let KeyMaterial::P256 { x, y } = key.material() else { panic!("a point") };
        let table = p256_tables::key_table(x, y).expect("a point of the curve");
        points("pc_p256_q", KEY_AT * P256_POINTS_Q as u32, &table);
        Keys { pair, store }
    }

    /// A token of exactly these octets.
    #[must_use]
    pub fn sign(&self, header: &[u8], claims: &[u8]) -> Vec<u8> {
        self.pair.sign_octets(header, claims).into_bytes()
    }

    /// Compares what both sides make of a token, and says it.
    ///
    /// # Errors
    /// Why both refuse it.
    ///
    /// # Panics
    /// When they differ.
    pub fn compare(&self, host: &mut Host, token: &[u8]) -> Result<(), Reason> {
        // No head holds more.
        let token = &token[..token.len().min(HEAD_MAX)];
        let (kernel, model) = (kernel(host, token), self.model(token));
        assert!(kernel == model, "{}\n  C:    {kernel:?}\n  Rust: {model:?}", token.escape_ascii());
        model.map(|_| ())
    }

    fn model(&self, token: &[u8]) -> Result<Identity, Reason> {
        verify(token, &self.store, NOW_S).map(|token| of_model(&token))
    }
}

/// The steps of pc_token and its signature program.
fn kernel(host: &mut Host, token: &[u8]) -> Result<Identity, Reason> {
    // Some bytes of a head stand before it and behind it, and must not matter.
    let at = 40.min(HEAD_MAX - token.len());
    host.set_bytes(SlotField::HEAD, &[&vec![b'A'; at][..], token, &[b'A'; HEAD_TAIL]].concat());
    host.set_u32(SlotField::N, (at + token.len()) as u32);
    host.set_u32(SlotField::JWT_TOKEN, at as u32);
    host.set_u32(SlotField::JWT_TOKEN_LEN, token.len() as u32);
    host.set_u32(SlotField::JWT_HALF, u32::from(HALF));
    host.set_u64(SlotField::JWT_NOW, NOW_S);
    for step in ["jwt_parse", "jwt_es256"] {
        let done = host.call(HostFn::step(step).expect("a step of bpf/tests/token_steps.h"));
        let reason = host.get_u32(SlotField::JWT_REASON);
        assert_eq!(done == 0, reason == 0, "{step} returns {done} with reason {reason}");
        if reason != 0 {
            return Err(Reason::from_code(reason as u16).expect("a reason of reason.h"));
        }
    }
    let bytes = host.get_bytes(SlotField::ID, size_of::<abi::Identity>());
    let id = abi::Identity::read_from_bytes(&bytes).expect("an identity's bytes");
    assert_eq!(id.issuer, ISSUER_AT);
    Ok(Identity {
        kid: (id.kid_len, id.kid.to_vec()),
        sub: (id.sub.len, id.sub.s.to_vec()),
        email: (id.email.len, id.email.s.to_vec()),
        times: [id.exp, id.nbf, id.iat, id.auth_time],
        flags: id.flags,
        bits: (0..64 * id.bits.w.len() as u32)
            .filter(|bit| id.bits.w[*bit as usize / 64] >> (bit % 64) & 1 == 1)
            .collect(),
    })
}

fn of_model(token: &VerifiedToken) -> Identity {
    let claims = token.claims();
    let flag = |set: bool, flag: u32| if set { flag } else { 0 };
    let bits = PRINCIPALS.iter().filter(|(kind, name, _)| match *kind {
        name_kind::ROLE => claims.roles.iter().any(|held| held == name),
        name_kind::PERMISSION => claims.permissions.iter().any(|held| held == name),
        name_kind::GROUP => claims.groups.iter().any(|held| held == name),
        _ => claims.org_id.as_deref() == Some(name),
    });
    Identity {
        kid: beginning(token.kid(), 31),
        sub: beginning(claims.sub.as_deref().unwrap_or_default(), 63),
        email: beginning(claims.email.as_deref().unwrap_or_default(), 63),
        times: [claims.exp, claims.nbf.unwrap_or(0), claims.iat.unwrap_or(0), claims.auth_time.unwrap_or(0)],
        flags: flag(claims.nbf.is_some(), identity_flag::NBF)
            | flag(claims.iat.is_some(), identity_flag::IAT)
            | flag(claims.auth_time.is_some(), identity_flag::AUTH_TIME)
            | flag(claims.mfa_verified, identity_flag::MFA),
        bits: bits.map(|(_, _, bit)| *bit).collect(),
    }
}

fn beginning(text: &str, room: usize) -> Text {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(room, 0);
    (text.len().min(255) as u8, bytes)
}
