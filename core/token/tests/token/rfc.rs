//! Examples of the RFCs.

use portcullis_token::{Alg, KeyDefect, KeyStore, VettedKey, verify};
use portcullis_wire::{Issuer, Jwk, JwkSet, Reason};

use crate::fixture::{decode, issuer, refused, sound};

/// RFC 7515 appendix A: the claims of all examples.
const PAYLOAD: &str =
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

fn a2() -> (Jwk, String) {
    let n = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd\
             2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7W\
             TBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs9\
             1kzk2PAcDTW9gb54h4FRWyuXpoQ";
    let signature = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGb\
                     ds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0G\
                     arZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6Lbg\
                     GY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    let jwk = Jwk {
        kty: "RSA".to_owned(),
        kid: Some("a2".to_owned()),
        n: Some(n.to_owned()),
        e: Some("AQAB".to_owned()),
        ..Jwk::default()
    };
    (jwk, format!("eyJhbGciOiJSUzI1NiJ9.{PAYLOAD}.{signature}"))
}

fn a3() -> (Jwk, String) {
    let signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    let jwk = Jwk {
        kty: "EC".to_owned(),
        kid: Some("a3".to_owned()),
        crv: Some("P-256".to_owned()),
        x: Some("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU".to_owned()),
        y: Some("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0".to_owned()),
        ..Jwk::default()
    };
    (jwk, format!("eyJhbGciOiJFUzI1NiJ9.{PAYLOAD}.{signature}"))
}

fn vetted(jwk: Jwk) -> VettedKey {
    sound(&[issuer(vec![jwk])]).issuers()[0].keys()[0].clone()
}

/// The signature of an example is valid, and of nothing else.
fn check((jwk, token): (Jwk, String), alg: Alg) {
    let key = vetted(jwk);
    assert_eq!(key.alg(), alg);
    let (input, signature) = token.rsplit_once('.').expect("a dot");
    let mut signature = decode(signature);
    assert!(key.verify_signature(input.as_bytes(), &signature));
    assert!(!key.verify_signature(input.to_uppercase().as_bytes(), &signature));
    signature[40] ^= 1;
    assert!(!key.verify_signature(input.as_bytes(), &signature));
}

#[test]
fn rfc7515_a2_rs256() {
    check(a2(), Alg::Rs256 { bits: 2048 });
}

#[test]
fn rfc7515_a3_es256() {
    check(a3(), Alg::Es256);
}

/// Good JWS examples, but no tokens for us: the claims name no audience.
#[test]
fn rfc7515_examples_are_no_access_tokens() {
    for (jwk, token) in [a2(), a3()] {
        let joe = Issuer { issuer: "joe".to_owned(), ..issuer(vec![jwk]) };
        refused(verify(token.as_bytes(), &sound(&[joe]), 1_300_819_000), Reason::TokenAudience);
    }
}

/// RFC 7515 appendix A.5, the unsecured JWS, and A.1, HS256.
#[test]
fn rfc7515_a5_and_a1_are_refused() {
    let (jwk, _) = a3();
    let joe = sound(&[Issuer { issuer: "joe".to_owned(), ..issuer(vec![jwk]) }]);
    let unsecured = format!("eyJhbGciOiJub25lIn0.{PAYLOAD}.");
    refused(verify(unsecured.as_bytes(), &joe, 1_300_819_000), Reason::TokenMalformed);
    let hs256 = format!(
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{PAYLOAD}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    );
    refused(verify(hs256.as_bytes(), &joe, 1_300_819_000), Reason::TokenAlg);
}

/// RFC 7517 appendix A.1: the RSA key may stay (without `use` it would, too), the EC key is for encryption.
#[test]
fn rfc7517_a1_key_set() {
    let (rsa, _) = a2();
    let (ec, _) = a3();
    let keys = vec![
        Jwk { use_: Some("enc".to_owned()), kid: Some("1".to_owned()), ..ec },
        Jwk { alg: Some("RS256".to_owned()), kid: Some("2011-04-29".to_owned()), ..rsa },
    ];
    let (store, problems) = KeyStore::new(&[Issuer { jwks: JwkSet { keys }, ..issuer(vec![]) }]);
    assert_eq!(store.issuers()[0].keys().iter().map(VettedKey::kid).collect::<Vec<_>>(), ["2011-04-29"]);
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].problem, KeyDefect::Use("enc".to_owned()));
}
