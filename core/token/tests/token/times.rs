//! `exp`, `nbf` and `iat` at their edges (RFC 7519 sections 4.1.4 to 4.1.6, THREATS T36).

use portcullis_token::limits::LEEWAY_MAX_S;
use portcullis_token::{KeyDefect, KeyStore, verify};
use portcullis_wire::{Issuer, Reason};

use crate::fixture::{ES256, LEEWAY_S, claims, ec, ec_store, issuer, token};

const LEEWAY: u64 = LEEWAY_S as u64;

/// The judgement of a token with one time claim, at several times.
#[track_caller]
fn check(claim: (&str, u64), judgements: &[(u64, Result<(), Reason>)]) {
    let (name, value) = (claim.0, claim.1.to_string());
    // As good as never: what is not in question must not refuse.
    let token = token(ES256, &claims(&[("exp", "999999999999999"), (name, &value)]));
    for (now_s, expected) in judgements {
        let found = verify(token.as_bytes(), ec_store(), *now_s).map(|_| ());
        assert_eq!(found, *expected, "{name} {value} at {now_s}");
    }
}

//= https://www.rfc-editor.org/rfc/rfc7519#section-4.1.4
//= type=test
//# The "exp" (expiration time) claim identifies the expiration time on or after which the JWT MUST NOT be accepted for
//# processing.
#[test]
fn exp() {
    let expired = Err(Reason::TokenExpired);
    check(
        ("exp", 1000),
        &[(0, Ok(())), (999, Ok(())), (1000, Ok(())), (999 + LEEWAY, Ok(())), (1000 + LEEWAY, expired)],
    );
    check(("exp", 1000), &[(1001 + LEEWAY, expired), (u64::MAX, expired)]);
    check(("exp", 0), &[(LEEWAY - 1, Ok(())), (LEEWAY, expired)]);
    check(
        ("exp", 999_999_999_999_999),
        &[(999_999_999_999_998 + LEEWAY, Ok(())), (999_999_999_999_999 + LEEWAY, expired)],
    );
}

//= https://www.rfc-editor.org/rfc/rfc7519#section-4.1.5
//= type=test
//# The "nbf" (not before) claim identifies the time before which the JWT MUST NOT be accepted for processing.
#[test]
fn nbf() {
    let early = Err(Reason::TokenNotYet);
    check(("nbf", 1000), &[(0, early), (999 - LEEWAY, early), (1000 - LEEWAY, Ok(())), (1000, Ok(()))]);
    check(("nbf", 0), &[(0, Ok(()))]);
    check(
        ("nbf", 999_999_999_999_999),
        &[(999_999_999_999_998 - LEEWAY, early), (999_999_999_999_999 - LEEWAY, Ok(()))],
    );
}

#[test]
fn iat() {
    let future = Err(Reason::TokenIat);
    check(
        ("iat", 1000),
        &[(0, future), (999 - LEEWAY, future), (1000 - LEEWAY, Ok(())), (1_000_000, Ok(()))],
    );
}

/// No sum of two wraps around: what never began has also ended.
#[test]
fn extremes() {
    let token = token(
        ES256,
        &claims(&[("exp", "999999999999999"), ("nbf", "999999999999999"), ("iat", "999999999999999")]),
    );
    for now_s in [u64::MAX, u64::MAX - LEEWAY, u64::MAX - LEEWAY + 1, 1 << 63] {
        assert_eq!(verify(token.as_bytes(), ec_store(), now_s).map(|_| ()), Err(Reason::TokenExpired));
    }
}

/// A clock that steps back makes a verified token invalid again: nothing is remembered.
#[test]
fn every_judgement_is_its_own() {
    let token = token(ES256, &claims(&[("nbf", "2000"), ("exp", "3000")]));
    let judge = |now_s| verify(token.as_bytes(), ec_store(), now_s).map(|_| ());
    for _ in 0..2 {
        assert_eq!(judge(2500), Ok(()));
        assert_eq!(judge(1000), Err(Reason::TokenNotYet));
        assert_eq!(judge(4000), Err(Reason::TokenExpired));
    }
}

//= https://www.rfc-editor.org/rfc/rfc7519#section-4.1.4
//= type=test
//# Implementers MAY provide for some small leeway, usually no more than a few minutes, to account for clock skew.
#[test]
fn a_leeway_of_more_than_minutes_is_cut_off_and_reported() {
    for (leeway_s, is_reported) in [(LEEWAY_MAX_S, false), (LEEWAY_MAX_S + 1, true), (u32::MAX, true)] {
        let (store, problems) = KeyStore::new(&[Issuer { leeway_s, ..issuer(vec![ec().public_jwk("ec")]) }]);
        let told: Vec<_> = problems.into_iter().map(|problem| problem.problem).collect();
        assert_eq!(told, if is_reported { vec![KeyDefect::Leeway(leeway_s)] } else { vec![] });
        let token = token(ES256, &claims(&[("exp", "1000")]));
        let judge = |now_s: u64| verify(token.as_bytes(), &store, now_s).map(|_| ());
        let last = 999 + u64::from(LEEWAY_MAX_S);
        assert_eq!((judge(last), judge(last + 1)), (Ok(()), Err(Reason::TokenExpired)), "{leeway_s}");
    }
}
