//! Tokens of the corpus: those of core/token, most of them hostile, and valid ones that say what policies ask for.

use portcullis_testkit::Rng;
use portcullis_token::corpus::{Generator, Party};
use portcullis_token::mint::SigningKey;
use portcullis_wire::{Issuer, JwkSet};
use serde_json::{Map, Value, json};

use super::policies::{self, Claims, NOW_S};

const ISSUER: &str = "https://id.example/policies";
const AUDIENCE: &str = "api://policies";
/// Tokens that come again, as those of clients do.
const POOL: usize = 48;

pub struct Tokens {
    hostile: Generator,
    keys: [SigningKey; 2],
    pool: Vec<Vec<u8>>,
}

// === impl Tokens ===

impl Tokens {
    pub fn new(seed: u64) -> Tokens {
        Tokens {
            hostile: Generator::new(seed, Party::three().unwrap()),
            keys: [SigningKey::generate_es256().unwrap(), SigningKey::generate_rs256(2048).unwrap()],
            pool: Vec::new(),
        }
    }

    pub fn issuers(&self) -> Vec<Issuer> {
        let keys = self.keys.iter().map(|key| key.public_jwk(key.alg())).collect();
        let own = Issuer {
            issuer: ISSUER.to_owned(),
            audiences: vec![AUDIENCE.to_owned()],
            leeway_s: 0,
            jwks: JwkSet { keys },
        };
        let mut issuers = self.hostile.issuers();
        issuers.push(own);
        issuers
    }

    /// A token, or none, and when it is to be judged.
    pub fn next(&mut self, rng: &mut Rng) -> (Option<Vec<u8>>, u64) {
        match rng.below(10) {
            0 => (None, NOW_S),
            1 | 2 => {
                let case = self.hostile.case();
                (Some(case.token), case.now_s)
            }
            3..6 if self.pool.len() == POOL => (rng.pick(&self.pool).cloned(), NOW_S),
            _ => {
                let token = self.own(rng);
                if self.pool.len() < POOL {
                    self.pool.push(token.clone());
                } else {
                    self.pool[rng.below(POOL as u64) as usize].clone_from(&token);
                }
                (Some(token), NOW_S)
            }
        }
    }

    fn own(&self, rng: &mut Rng) -> Vec<u8> {
        let claims = policies::claims(rng);
        let key = &self.keys[usize::from(rng.one_in(24))];
        let header = json!({ "alg": key.alg(), "kid": key.alg() });
        key.sign(&header.to_string(), &text(rng, claims)).into_bytes()
    }
}

fn text(rng: &mut Rng, claims: Claims) -> String {
    let Claims { roles, permissions, groups, org_id, mfa_verified, auth_time } = claims;
    let exp = if rng.one_in(30) { NOW_S } else { NOW_S + 600 };
    let Value::Object(mut said) = json!({
        "iss": ISSUER, "aud": AUDIENCE, "exp": exp, "iat": NOW_S - 5, "sub": "user-1",
        "roles": roles, "permissions": permissions, "groups": groups, "mfa_verified": mfa_verified,
    }) else {
        return String::new();
    };
    let mut also = |name: &str, value: Option<Value>| {
        let value: Map<_, _> = value.map(|value| (name.to_owned(), value)).into_iter().collect();
        said.extend(value);
    };
    also("org_id", org_id.map(Value::from));
    also("auth_time", auth_time.map(Value::from));
    Value::Object(said).to_string()
}
