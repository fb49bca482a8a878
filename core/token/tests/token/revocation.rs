//! Revocation by subject, session, token and organisation, with and without a time.

use portcullis_token::{KeyStore, VerifiedToken, limits, verify};
use portcullis_wire::{Reason, Revocation, RevokedClaim};

use crate::fixture::{AUDIENCE, ES256, ISSUER, NOW_S, claims, ec, ec_store, issuer, refused, sound, token};

const CLAIMS: [(RevokedClaim, &str); 4] = [
    (RevokedClaim::Sub, "sub"),
    (RevokedClaim::Sid, "sid"),
    (RevokedClaim::Jti, "jti"),
    (RevokedClaim::OrgId, "org_id"),
];

fn revocation(claim: RevokedClaim, value: &str, not_before: Option<u64>) -> Revocation {
    Revocation { issuer: ISSUER.to_owned(), claim, value: value.to_owned(), not_before, expires_at: 0 }
}

fn with(revocations: &[Revocation]) -> KeyStore {
    ec_store().clone().with_revocations(revocations)
}

fn judge(store: &KeyStore, changes: &[(&str, &str)]) -> Result<VerifiedToken, Reason> {
    verify(token(ES256, &claims(changes)).as_bytes(), store, NOW_S)
}

#[test]
fn each_claim_revokes_by_itself_and_by_its_exact_value() {
    for (claim, name) in CLAIMS {
        let store = with(&[revocation(claim, "Vé", None)]);
        refused(judge(&store, &[(name, r#""V\u00e9""#)]), Reason::TokenRevoked);
        for other in ["\"V\"", "\"vé\"", "\"Vé \"", "\"\""] {
            assert!(judge(&store, &[(name, other)]).is_ok(), "{name}: {other}");
        }
        for (_, another) in CLAIMS.iter().filter(|(_, another)| *another != name) {
            assert!(judge(&store, &[(another, "\"Vé\"")]).is_ok(), "{name} revoked, {another} sent");
        }
        assert!(judge(&store, &[]).is_ok(), "a token without {name}");
    }
}

#[test]
fn tokens_issued_from_not_before_on_are_spared() {
    let store = with(&[revocation(RevokedClaim::Sub, "u", Some(NOW_S - 10))]);
    let iat = |iat: u64| judge(&store, &[("sub", "\"u\""), ("iat", &iat.to_string())]).map(drop);
    assert_eq!(iat(NOW_S - 11), Err(Reason::TokenRevoked));
    assert_eq!(iat(NOW_S - 10), Ok(()));
    refused(judge(&store, &[("sub", "\"u\"")]), Reason::TokenRevoked);
}

#[test]
fn without_not_before_no_iat_helps() {
    let store = with(&[revocation(RevokedClaim::Sid, "s", None)]);
    refused(judge(&store, &[("sid", "\"s\""), ("iat", &NOW_S.to_string())]), Reason::TokenRevoked);
}

#[test]
fn of_two_the_wider_one_holds() {
    let (early, late) = (Some(NOW_S - 100), Some(NOW_S - 10));
    for [one, other] in [[early, late], [late, early], [None, early], [early, None]] {
        let both = [one, other].map(|not_before| revocation(RevokedClaim::Jti, "j", not_before));
        let store = with(&both);
        let issued = (NOW_S - 50).to_string();
        refused(judge(&store, &[("jti", "\"j\""), ("iat", &issued)]), Reason::TokenRevoked);
    }
}

#[test]
fn it_holds_for_its_issuer_only() {
    let mut other = issuer(vec![ec().public_jwk("ec")]);
    other.issuer = "https://other.example/".to_owned();
    let issuers = [issuer(vec![ec().public_jwk("ec")]), other];
    let mut of_other = revocation(RevokedClaim::Sub, "u", None);
    of_other.issuer = issuers[1].issuer.clone();
    let mut of_nobody = of_other.clone();
    of_nobody.issuer = "https://nobody.example/".to_owned();
    let store = sound(&issuers).with_revocations(&[of_other, of_nobody]);
    assert_eq!(issuers[1].audiences, [AUDIENCE]);
    assert!(judge(&store, &[("sub", "\"u\"")]).is_ok());
    let from_other = [("iss", "\"https://other.example/\""), ("sub", "\"u\"")];
    refused(judge(&store, &from_other), Reason::TokenRevoked);
}

#[test]
fn what_is_too_long_to_be_looked_up_counts_as_revoked() {
    for (_, name) in CLAIMS {
        let value = |len: usize| format!("\"{}\"", "v".repeat(len));
        assert!(judge(ec_store(), &[(name, &value(limits::NAME_MAX))]).is_ok(), "{name}");
        refused(judge(ec_store(), &[(name, &value(limits::NAME_MAX + 1))]), Reason::TokenRevoked);
    }
}
