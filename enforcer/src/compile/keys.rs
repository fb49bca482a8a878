//! Trusted issuers and their keys as map values.
//!
//! **Invariant:** a key is bound to its issuer: the map key of a kid holds the issuer's index.
//! **Invariant:** only keys that `portcullis-token` vetted come here, and no more than the maps hold.

use std::collections::BTreeMap;

use portcullis_bpf::{abi, limits, p256_tables, rsa_key};
use portcullis_token::{KeyDefect, KeyMaterial, KeyProblem, KeyStore, TrustedIssuer, VettedKey};
use portcullis_wire::Issuer;

use super::error::{CompileError, within};
use super::image::{Keys, Meaning, Name};
use super::principals::check_name;

/// The keys' part of an image and of the tables.
#[derive(Default)]
pub(super) struct Lowered {
    pub(super) issuers: Vec<abi::Issuer>,
    pub(super) keys: Keys,
    pub(super) names: Vec<Name>,
    pub(super) issuer_names: Vec<String>,
}

/// The keys that are acceptable and for which there is room. Those that come first have it: a set that grows takes it
/// from nobody in front of it.
pub(super) fn trusted(issuers: &[Issuer]) -> (KeyStore, Vec<KeyProblem>) {
    let (mut store, mut problems) = KeyStore::new(issuers);
    let mut taken: BTreeMap<usize, usize> = BTreeMap::new();
    let refuse = |key: &VettedKey| {
        let (kind, most) = match key.material() {
            KeyMaterial::Rsa { modulus } => (modulus.len(), limits::RSA_KEYS_MAX),
            KeyMaterial::P256 { .. } => (0, limits::P256_KEYS_MAX),
        };
        let taken = taken.entry(kind).or_default();
        if *taken == most {
            return Some(KeyDefect::NoRoom(most));
        }
        *taken += 1;
        None
    };
    store.leave_out(refuse, &mut problems);
    (store, problems)
}

/// Lowers the trusted issuers, of [`trusted`].
pub(super) fn lower(trusted: &[TrustedIssuer]) -> Result<Lowered, CompileError> {
    within(
        "PC_ISSUERS_MAX",
        "trusted issuers",
        trusted.len(),
        limits::ISSUERS_MAX,
        "trust fewer issuers, or split them over agents",
    )?;
    let mut lowered = Lowered::default();
    for (issuer, of) in trusted.iter().enumerate() {
        lowered.add_issuer(issuer as u32, of)?;
    }
    Ok(lowered)
}

// === impl Lowered ===

impl Lowered {
    fn add_issuer(&mut self, issuer: u32, of: &TrustedIssuer) -> Result<(), CompileError> {
        self.name("issuer", Meaning::Issuer { issuer }, of.issuer())?;
        for audience in of.audiences() {
            self.name("audience", Meaning::Audience { issuer }, audience)?;
        }
        for key in of.keys() {
            let (alg, index) = self.add_key(of.issuer(), key)?;
            self.name("key id", Meaning::Kid { issuer, alg, key: index as u32 }, key.kid())?;
        }
        self.issuers.push(abi::Issuer { id: issuer, leeway_s: of.leeway_s() });
        self.issuer_names.push(of.issuer().to_owned());
        Ok(())
    }

    /// Algorithm and index of the key.
    fn add_key(&mut self, issuer: &str, key: &VettedKey) -> Result<(u32, usize), CompileError> {
        let Keys { rsa2048, rsa3072, rsa4096, p256 } = &mut self.keys;
        let unusable = || CompileError::Key { issuer: issuer.to_owned(), kid: key.kid().to_owned() };
        match key.material() {
            KeyMaterial::Rsa { modulus } => match modulus.len() * 8 {
                2048 => {
                    let value = rsa_key::rsa2048(modulus).ok_or_else(unusable)?;
                    Ok((abi::alg::RS256_2048, push_rsa(rsa2048, value)))
                }
                3072 => {
                    let value = rsa_key::rsa3072(modulus).ok_or_else(unusable)?;
                    Ok((abi::alg::RS256_3072, push_rsa(rsa3072, value)))
                }
                _ => {
                    let value = rsa_key::rsa4096(modulus).ok_or_else(unusable)?;
                    Ok((abi::alg::RS256_4096, push_rsa(rsa4096, value)))
                }
            },
            KeyMaterial::P256 { x, y } => {
                let table = p256_tables::key_table(x, y).map_err(|_| unusable())?;
                Ok((abi::alg::ES256, push_p256(p256, &table)))
            }
        }
    }

    fn name(&mut self, what: &'static str, meaning: Meaning, text: &str) -> Result<(), CompileError> {
        check_name(what, text)?;
        self.names.push(Name { meaning, text: text.to_owned() });
        Ok(())
    }
}

fn push_rsa<T>(keys: &mut Vec<T>, key: T) -> usize {
    keys.push(key);
    keys.len() - 1
}

fn push_p256(points: &mut Vec<abi::P256Point>, table: &[abi::P256Point]) -> usize {
    points.extend_from_slice(table);
    points.len() / limits::P256_POINTS_Q - 1
}
