//! The order of the checks: a token with two faults is refused for the first.

use portcullis_token::verify;
use portcullis_wire::{Reason, Revocation, RevokedClaim};

use crate::fixture::{ES256, ISSUER, NOW_S, claims, ec, encode, refused, store};

/// Faults in the order of the checks. The token has `faults` and is refused for the first of them.
#[test]
fn first_fault_decides() {
    // What each step of the order takes away from an acceptable token.
    type Fault = (Reason, fn(&mut Parts));
    struct Parts {
        header: &'static str,
        claims: Vec<(&'static str, &'static str)>,
        raw_claims: Option<&'static str>,
        before: &'static str,
        behind: &'static str,
    }
    let faults: &[Fault] = &[
        (Reason::TokenTooLarge, |parts| parts.behind = LONG),
        (Reason::TokenMalformed, |parts| parts.before = "="),
        (Reason::TokenHeader, |parts| parts.header = r#"{"alg":"none","kid":"nobody","crit":[]}"#),
        (Reason::TokenAlg, |parts| parts.header = r#"{"alg":"none","kid":"nobody"}"#),
        (Reason::TokenClaims, |parts| parts.raw_claims = Some("{}")),
        (Reason::TokenIssuer, |parts| parts.claims.push(("iss", "\"evil\""))),
        (Reason::TokenAudience, |parts| parts.claims.push(("aud", "\"evil\""))),
        (Reason::TokenKey, |parts| parts.header = r#"{"alg":"RS256","kid":"nobody"}"#),
        (Reason::TokenAlg, |parts| parts.header = r#"{"alg":"RS256","kid":"ec"}"#),
        (Reason::TokenExpired, |parts| parts.claims.push(("exp", "1"))),
        (Reason::TokenNotYet, |parts| parts.claims.push(("nbf", "999999999999999"))),
        (Reason::TokenIat, |parts| parts.claims.push(("iat", "999999999999999"))),
        (Reason::TokenSignature, |parts| {
            if parts.behind.is_empty() {
                parts.behind = "A"
            }
        }),
        (Reason::TokenRevoked, |parts| parts.claims.push(("sub", "\"revoked\""))),
    ];
    let revoked = Revocation {
        issuer: ISSUER.to_owned(),
        claim: RevokedClaim::Sub,
        value: "revoked".to_owned(),
        not_before: None,
        expires_at: 0,
    };
    let store = store().clone().with_revocations(&[revoked]);
    for (first, (reason, _)) in faults.iter().enumerate() {
        for among in [faults.len(), first + 2] {
            let mut parts = Parts { header: ES256, claims: vec![], raw_claims: None, before: "", behind: "" };
            // The last one to be applied stays: apply from the last to the first.
            for (_, fault) in faults[first..among.min(faults.len())].iter().rev() {
                fault(&mut parts);
            }
            let claims = parts.raw_claims.map_or_else(|| claims(&parts.claims), str::to_owned);
            let input = format!("{}.{}", encode(parts.header), encode(claims));
            let signature = encode(ec().signature(input.as_bytes()));
            let token = format!("{}{input}.{signature}{}", parts.before, parts.behind);
            refused(verify(token.as_bytes(), &store, NOW_S), *reason);
        }
    }
}

const LONG: &str = match std::str::from_utf8(&[b'A'; 4096]) {
    Ok(text) => text,
    Err(_) => panic!("ASCII"),
};
