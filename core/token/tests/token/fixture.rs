//! One issuer with an ES256 key, and for what needs it an RS256 key.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis_token::mint::SigningKey;
use portcullis_token::{KeyProblem, KeyStore, VerifiedToken, verify};
use portcullis_wire::{Issuer, Jwk, JwkSet, Reason};

pub const ISSUER: &str = "https://id.example/";
pub const AUDIENCE: &str = "api://shop";
pub const LEEWAY_S: u32 = 60;
pub const NOW_S: u64 = 1_750_000_000;

pub const ES256: &str = r#"{"alg":"ES256","kid":"ec"}"#;
pub const RS256: &str = r#"{"alg":"RS256","kid":"rsa"}"#;

pub fn ec() -> &'static SigningKey {
    static KEY: OnceLock<SigningKey> = OnceLock::new();
    KEY.get_or_init(|| SigningKey::generate_es256().expect("key"))
}

pub fn rsa() -> &'static SigningKey {
    static KEY: OnceLock<SigningKey> = OnceLock::new();
    KEY.get_or_init(|| SigningKey::generate_rs256(2048).expect("key"))
}

/// The issuer with the ES256 key only: RSA keys take long to make.
pub fn ec_store() -> &'static KeyStore {
    static STORE: OnceLock<KeyStore> = OnceLock::new();
    STORE.get_or_init(|| sound(&[issuer(vec![ec().public_jwk("ec")])]))
}

/// The issuer with both keys.
pub fn store() -> &'static KeyStore {
    static STORE: OnceLock<KeyStore> = OnceLock::new();
    STORE.get_or_init(|| sound(&[issuer(vec![ec().public_jwk("ec"), rsa().public_jwk("rsa")])]))
}

pub fn issuer(keys: Vec<Jwk>) -> Issuer {
    Issuer {
        issuer: ISSUER.to_owned(),
        audiences: vec![AUDIENCE.to_owned()],
        leeway_s: LEEWAY_S,
        jwks: JwkSet { keys },
    }
}

/// A store of issuers of which nothing is left out.
pub fn sound(issuers: &[Issuer]) -> KeyStore {
    let (store, problems) = KeyStore::new(issuers);
    assert_eq!(problems, Vec::<KeyProblem>::new());
    store
}

/// Acceptable claims with some members replaced by JSON text, added, or (`""`) taken away.
pub fn claims(changes: &[(&str, &str)]) -> String {
    let exp = (NOW_S + 300).to_string();
    let mut members = vec![("iss", format!("{ISSUER:?}")), ("aud", format!("{AUDIENCE:?}")), ("exp", exp)];
    for (name, value) in changes {
        members.retain(|(known, _)| known != name);
        if !value.is_empty() {
            members.push((name, (*value).to_owned()));
        }
    }
    let members: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

/// Signed with the ES256 key.
pub fn token(header: &str, claims: &str) -> String {
    ec().sign(header, claims)
}

/// Judges a token with the ES256 key's store.
pub fn judge(token: impl AsRef<[u8]>) -> Result<VerifiedToken, Reason> {
    verify(token.as_ref(), ec_store(), NOW_S)
}

/// The judgement of a token with this header and acceptable claims.
pub fn judge_header(header: &str) -> Result<VerifiedToken, Reason> {
    judge(token(header, &claims(&[])))
}

/// The judgement of a token with an acceptable header and these claims.
pub fn judge_claims(claims: &str) -> Result<VerifiedToken, Reason> {
    judge(token(ES256, claims))
}

#[track_caller]
pub fn refused(judgement: Result<VerifiedToken, Reason>, reason: Reason) {
    match judgement {
        Err(found) => assert_eq!(found, reason),
        Ok(token) => panic!("accepted, not {reason}: {token:?}"),
    }
}

pub fn encode(octets: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(octets)
}

pub fn decode(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).expect("base64url")
}

/// The parts of a compact token.
pub fn parts(token: &str) -> [String; 3] {
    let parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    parts.try_into().expect("three parts")
}
