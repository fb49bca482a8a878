//! Issuer, audience and key belong together (RFC 8725 sections 3.8 and 3.9, THREATS T41).

use portcullis_token::corpus::Party;
use portcullis_token::mint::SigningKey;
use portcullis_token::{KeyStore, verify};
use portcullis_wire::Reason;

use crate::fixture::{AUDIENCE, NOW_S, claims, judge_claims, refused, sound};

fn party(issuer: &str, audience: &str, kid: &str) -> Party {
    Party {
        issuer: issuer.to_owned(),
        audiences: vec![audience.to_owned()],
        leeway_s: 0,
        keys: vec![(kid.to_owned(), SigningKey::generate_es256().expect("key"))],
    }
}

fn token(signer: &Party, kid: &str, issuer: &str, audience: &str) -> String {
    let claims = claims(&[("iss", &format!("{issuer:?}")), ("aud", &format!("{audience:?}"))]);
    signer.keys[0].1.sign(&format!(r#"{{"alg":"ES256","kid":"{kid}"}}"#), &claims)
}

//= https://www.rfc-editor.org/rfc/rfc8725#section-3.8
//= type=test
//# When a JWT contains an "iss" (issuer) claim, the application MUST validate that the cryptographic keys used for the
//# cryptographic operations in the JWT belong to the issuer.
/// Two tenants with the same kid. Each may speak for itself, to its own audience, with its own key.
#[test]
fn tenants_do_not_mix() {
    let (a, b) = (party("a", "to a", "k"), party("b", "to b", "k"));
    let store = sound(&[a.wire(), b.wire()]);
    let judge = |token: String| verify(token.as_bytes(), &store, NOW_S).map(|_| ());
    assert_eq!(judge(token(&a, "k", "a", "to a")), Ok(()));
    assert_eq!(judge(token(&b, "k", "b", "to b")), Ok(()));
    assert_eq!(judge(token(&a, "k", "b", "to b")), Err(Reason::TokenSignature));
    assert_eq!(judge(token(&b, "k", "a", "to a")), Err(Reason::TokenSignature));
    assert_eq!(judge(token(&a, "k", "a", "to b")), Err(Reason::TokenAudience));
    assert_eq!(judge(token(&a, "k", "b", "to a")), Err(Reason::TokenAudience));
}

#[test]
fn kids_of_another_issuer_are_unknown() {
    let (a, b) = (party("a", "to a", "ka"), party("b", "to b", "kb"));
    let store = sound(&[a.wire(), b.wire()]);
    let judge = |token: String| verify(token.as_bytes(), &store, NOW_S).map(|_| ());
    assert_eq!(judge(token(&b, "kb", "a", "to a")), Err(Reason::TokenKey));
    assert_eq!(judge(token(&a, "ka", "b", "to b")), Err(Reason::TokenKey));
    // the signer is right, but nobody asked it by this name
    assert_eq!(judge(token(&a, "kb", "a", "to a")), Err(Reason::TokenKey));
}

//= https://www.rfc-editor.org/rfc/rfc7519#section-4.1.3
//= type=test
//# If the principal processing the claim does not identify itself with a value in the "aud" claim when this claim is
//# present, then the JWT MUST be rejected.
#[test]
fn audience_is_an_exact_member() {
    for aud in [
        "\"api://shop\"",
        "[\"api://shop\"]",
        "[\"x\",\"api://shop\"]",
        "[\"api:\\/\\/shop\",\"\"]",
        "\"api://sh\\u006fp\"",
    ] {
        assert!(judge_claims(&claims(&[("aud", aud)])).is_ok(), "{aud}");
    }
    for aud in [
        "\"\"",
        "[]",
        "\"API://shop\"",
        "\"api://shop/\"",
        "\"api://sho\"",
        "\"api://shop api://x\"",
        "[\"x\",\"y\"]",
        "\"*\"",
    ] {
        refused(judge_claims(&claims(&[("aud", aud)])), Reason::TokenAudience);
    }
    refused(judge_claims(&claims(&[("aud", "")])), Reason::TokenAudience);
    assert_eq!(AUDIENCE, "api://shop");
}

#[test]
fn issuer_is_exact() {
    for iss in ["\"https:\\/\\/id.example\\/\"", "\"\\u0068ttps://id.example/\""] {
        assert!(judge_claims(&claims(&[("iss", iss)])).is_ok(), "{iss}");
    }
    for iss in [
        "\"\"",
        "\"https://id.example\"",
        "\"https://id.example//\"",
        "\"HTTPS://id.example/\"",
        "\"http://id.example/\"",
        "\"https://id.example/\\n\"",
        "\"null\"",
    ] {
        refused(judge_claims(&claims(&[("iss", iss)])), Reason::TokenIssuer);
    }
}

#[test]
fn names_longer_than_the_limit_match_nothing() {
    let long = "x".repeat(241);
    let mut long_names = party(&long, &long, &long);
    let (store, problems) = KeyStore::new(&[long_names.wire()]);
    assert_eq!((store.issuers().len(), problems.len()), (0, 1));
    long_names.issuer = "a".to_owned();
    let (store, problems) = KeyStore::new(&[long_names.wire()]);
    // the audience, then that there is none, and the key
    assert_eq!((store.issuers()[0].keys().len(), problems.len()), (0, 3));
}
