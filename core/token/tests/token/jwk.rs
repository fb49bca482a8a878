//! Vetting of key sets (THREATS T33): each doubtful key is refused and reported, the others stay.

use portcullis_token::mint::SigningKey;
use portcullis_token::{Alg, KeyDefect, KeyMaterial, KeyProblem, KeyStore, VettedKey};
use portcullis_wire::{Issuer, Jwk};

use crate::fixture::{ISSUER, decode, ec, encode, issuer, rsa};

/// Vets a doubtful key between two good ones, which must stay; what is wrong with it.
#[track_caller]
fn defect(jwk: Jwk) -> KeyDefect {
    let kid = jwk.kid.clone();
    let keys = vec![ec().public_jwk("good"), jwk, ec().public_jwk("good too")];
    let (store, problems) = KeyStore::new(&[issuer(keys)]);
    let kept: Vec<&str> = store.issuers()[0].keys().iter().map(VettedKey::kid).collect();
    assert_eq!(kept, ["good", "good too"]);
    let [KeyProblem { issuer, position, kid: told, problem }] = problems.try_into().expect("one problem");
    assert_eq!((issuer.as_str(), position, told), (ISSUER, Some(2), kid));
    problem
}

#[track_caller]
fn accepted(jwk: Jwk) {
    let (store, problems) = KeyStore::new(&[issuer(vec![jwk])]);
    assert_eq!(problems, []);
    assert_eq!(store.issuers()[0].keys().len(), 1);
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn ec_jwk() -> Jwk {
    ec().public_jwk("doubtful")
}

fn rsa_jwk() -> Jwk {
    rsa().public_jwk("doubtful")
}

/// An RSA key with another modulus.
fn with_modulus(change: impl Fn(Vec<u8>) -> Vec<u8>) -> Jwk {
    let jwk = rsa_jwk();
    let n = change(decode(jwk.n.as_deref().expect("RSA")));
    Jwk { n: Some(encode(n)), ..jwk }
}

/// The least number of so many bits.
fn number(bits: usize) -> Vec<u8> {
    let mut octets = vec![0; bits.div_ceil(8)];
    octets[0] = 1 << ((bits - 1) % 8);
    octets
}

#[test]
fn good_keys() {
    accepted(ec_jwk());
    accepted(rsa_jwk());
    accepted(Jwk { alg: None, use_: None, ..ec_jwk() });
    accepted(Jwk { alg: None, use_: None, ..rsa_jwk() });
    accepted(Jwk { key_ops: Some(vec!["verify".to_owned()]), use_: None, ..ec_jwk() });
    accepted(Jwk { key_ops: Some(vec!["sign".to_owned(), "verify".to_owned()]), ..ec_jwk() });
    accepted(Jwk { kid: Some("k".repeat(240)), ..ec_jwk() });
}

#[test]
fn material() {
    let jwk = ec_jwk();
    let (store, _) = KeyStore::new(&[issuer(vec![jwk.clone()])]);
    let key = &store.issuers()[0].keys()[0];
    let [x, y] = [jwk.x, jwk.y].map(|text| <[u8; 32]>::try_from(decode(&text.unwrap())).unwrap());
    assert_eq!((key.alg(), key.material()), (Alg::Es256, KeyMaterial::P256 { x: &x, y: &y }));
    assert_eq!((key.alg().name(), key.kid()), ("ES256", "doubtful"));
}

#[test]
fn kid() {
    assert_eq!(defect(Jwk { kid: None, ..ec_jwk() }), KeyDefect::KidMissing);
    assert_eq!(defect(Jwk { kid: text(""), ..ec_jwk() }), KeyDefect::Kid);
    assert_eq!(defect(Jwk { kid: Some("k".repeat(241)), ..ec_jwk() }), KeyDefect::Kid);
}

#[test]
fn duplicate_kid_takes_all_of_that_kid() {
    let other = SigningKey::generate_es256().unwrap();
    let keys = vec![ec_jwk(), ec().public_jwk("good"), other.public_jwk("doubtful")];
    let (store, problems) = KeyStore::new(&[issuer(keys)]);
    let kept: Vec<&str> = store.issuers()[0].keys().iter().map(VettedKey::kid).collect();
    assert_eq!(kept, ["good"]);
    let found: Vec<_> = problems.iter().map(|p| (p.position, &p.problem)).collect();
    assert_eq!(found, [(Some(1), &KeyDefect::Duplicate(2)), (Some(3), &KeyDefect::Duplicate(2))]);
}

#[test]
fn a_repeated_key_is_one_key() {
    let keys = vec![ec_jwk(), ec_jwk(), ec().public_jwk("other name")];
    let (store, problems) = KeyStore::new(&[issuer(keys)]);
    assert_eq!(store.issuers()[0].keys().len(), 2);
    let found: Vec<_> = problems.iter().map(|p| (p.position, &p.problem)).collect();
    assert_eq!(found, [(Some(2), &KeyDefect::Repeated)]);
}

/// Nothing is guessed: of the two only one can verify at all.
#[test]
fn a_refused_key_takes_no_other_of_its_kid_with_it() {
    let keys = vec![Jwk { use_: text("enc"), ..ec_jwk() }, ec_jwk()];
    let (store, problems) = KeyStore::new(&[issuer(keys)]);
    assert_eq!(store.issuers()[0].keys().len(), 1);
    assert_eq!(problems.len(), 1);
}

#[test]
fn same_kid_under_two_issuers_is_two_keys() {
    let two = Issuer { issuer: "https://other.example/".to_owned(), ..issuer(vec![ec_jwk()]) };
    let (store, problems) = KeyStore::new(&[issuer(vec![ec_jwk()]), two]);
    assert_eq!(problems, []);
    assert!(store.issuers().iter().all(|issuer| issuer.key("doubtful").is_some()));
}

#[test]
fn use_and_operations() {
    assert_eq!(defect(Jwk { use_: text("enc"), ..ec_jwk() }), KeyDefect::Use("enc".to_owned()));
    assert_eq!(defect(Jwk { use_: text(""), ..ec_jwk() }), KeyDefect::Use(String::new()));
    assert_eq!(defect(Jwk { use_: text("SIG"), ..ec_jwk() }), KeyDefect::Use("SIG".to_owned()));
    for operations in [
        vec![],
        vec!["sign"],
        vec!["encrypt"],
        vec!["verify", "deriveKey"],
        vec!["verify", "verify"],
        vec!["sign", "verify", "sign"],
    ] {
        let operations: Vec<String> = operations.into_iter().map(str::to_owned).collect();
        let jwk = Jwk { key_ops: Some(operations.clone()), ..ec_jwk() };
        assert_eq!(defect(jwk), KeyDefect::Operations(operations));
    }
}

#[test]
fn algorithm() {
    for alg in ["RS384", "RS512", "PS256", "ES256", "HS256", "none", "", "rs256", "RSA-OAEP"] {
        assert_eq!(defect(Jwk { alg: text(alg), ..rsa_jwk() }), KeyDefect::Alg(alg.to_owned()));
    }
    for alg in ["RS256", "ES384", "ES256K", "ECDH-ES", "HS256", "none"] {
        assert_eq!(defect(Jwk { alg: text(alg), ..ec_jwk() }), KeyDefect::Alg(alg.to_owned()));
    }
}

#[test]
fn type_and_curve() {
    assert_eq!(defect(Jwk { kty: "oct".to_owned(), ..ec_jwk() }), KeyDefect::Symmetric);
    for kty in ["OKP", "AKP", "", "rsa", "ec", "DSA"] {
        assert_eq!(defect(Jwk { kty: kty.to_owned(), ..ec_jwk() }), KeyDefect::Type(kty.to_owned()));
    }
    for crv in ["P-384", "P-521", "secp256k1", "p-256", "Ed25519", ""] {
        assert_eq!(defect(Jwk { crv: text(crv), ..ec_jwk() }), KeyDefect::Curve(crv.to_owned()));
    }
    assert_eq!(defect(Jwk { crv: None, ..ec_jwk() }), KeyDefect::Missing("crv"));
}

#[test]
fn private_and_ambiguous_members() {
    assert_eq!(defect(Jwk { d: text("AQAB"), ..ec_jwk() }), KeyDefect::Private("d"));
    assert_eq!(defect(Jwk { d: text(""), ..rsa_jwk() }), KeyDefect::Private("d"));
    // a factor without the exponent gives the key away just as well
    assert_eq!(defect(Jwk { p: text("AQAB"), ..rsa_jwk() }), KeyDefect::Private("p"));
    assert_eq!(defect(Jwk { q: text("AQAB"), ..rsa_jwk() }), KeyDefect::Private("q"));
    assert_eq!(defect(Jwk { dp: text("AQAB"), ..rsa_jwk() }), KeyDefect::Private("dp"));
    assert_eq!(defect(Jwk { dq: text("AQAB"), ..rsa_jwk() }), KeyDefect::Private("dq"));
    assert_eq!(defect(Jwk { qi: text("AQAB"), ..rsa_jwk() }), KeyDefect::Private("qi"));
    assert_eq!(defect(Jwk { oth: Some(serde_json::json!([])), ..rsa_jwk() }), KeyDefect::Private("oth"));
    assert_eq!(defect(Jwk { k: text("AQAB"), ..ec_jwk() }), KeyDefect::Symmetric);
    let Jwk { crv, x, y, .. } = ec_jwk();
    let Jwk { n, e, .. } = rsa_jwk();
    assert_eq!(defect(Jwk { crv, ..rsa_jwk() }), KeyDefect::OtherType("crv"));
    assert_eq!(defect(Jwk { x, ..rsa_jwk() }), KeyDefect::OtherType("x"));
    assert_eq!(defect(Jwk { y, ..rsa_jwk() }), KeyDefect::OtherType("y"));
    assert_eq!(defect(Jwk { n, ..ec_jwk() }), KeyDefect::OtherType("n"));
    assert_eq!(defect(Jwk { e, ..ec_jwk() }), KeyDefect::OtherType("e"));
}

#[test]
fn exponent() {
    for e in
        [&[1][..], &[3], &[17], &[1, 0, 0], &[1, 0, 2], &[1, 0, 3], &[1, 0, 1, 0], &[2], &[0x80, 0, 0, 0, 1]]
    {
        assert_eq!(defect(Jwk { e: Some(encode(e)), ..rsa_jwk() }), KeyDefect::Exponent, "{e:?}");
    }
    assert_eq!(defect(Jwk { e: Some(encode([0, 1, 0, 1])), ..rsa_jwk() }), KeyDefect::LeadingZero("e"));
    assert_eq!(defect(Jwk { e: Some(encode([0])), ..rsa_jwk() }), KeyDefect::LeadingZero("e"));
    assert_eq!(defect(Jwk { e: text(""), ..rsa_jwk() }), KeyDefect::Missing("e"));
    assert_eq!(defect(Jwk { e: None, ..rsa_jwk() }), KeyDefect::Missing("e"));
}

#[test]
fn modulus_size() {
    for bits in [1, 512, 1024, 2040, 2047, 2049, 2056, 2560, 3071, 3073, 4095, 4097, 8192, 16384] {
        let jwk = Jwk { n: Some(encode(number(bits))), ..rsa_jwk() };
        assert_eq!(defect(jwk), KeyDefect::ModulusSize(bits));
    }
    assert_eq!(defect(Jwk { n: None, ..rsa_jwk() }), KeyDefect::Missing("n"));
    assert_eq!(defect(with_modulus(|n| [vec![0], n].concat())), KeyDefect::LeadingZero("n"));
}

/// A modulus that was damaged on its way has a small factor more often than not.
#[test]
fn modulus_factors() {
    assert_eq!(defect(with_modulus(|_| number(2048))), KeyDefect::Factor(2));
    // 2^2047 + 1 is a multiple of 3, since 2 is -1 modulo 3
    let odd = [&number(2048)[..255], &[1]].concat();
    assert_eq!(defect(with_modulus(|_| odd.clone())), KeyDefect::Factor(3));
}

#[test]
fn coordinates() {
    let jwk = ec_jwk();
    let [x, y] = [&jwk.x, &jwk.y].map(|text| decode(text.as_deref().unwrap()));
    let with = |x: &[u8], y: &[u8]| Jwk { x: Some(encode(x)), y: Some(encode(y)), ..ec_jwk() };
    let flipped = |octets: &[u8]| {
        let mut octets = octets.to_vec();
        octets[31] ^= 1;
        octets
    };
    assert_eq!(defect(with(&flipped(&x), &y)), KeyDefect::Point);
    assert_eq!(defect(with(&x, &flipped(&y))), KeyDefect::Point);
    assert_eq!(defect(with(&[0; 32], &[0; 32])), KeyDefect::Point);
    assert_eq!(defect(with(&[0xff; 32], &y)), KeyDefect::Point);
    // p itself, which is 0 modulo p
    let p = decode("_____wAAAAEAAAAAAAAAAAAAAAD_______________8");
    assert_eq!(defect(with(&x, &p)), KeyDefect::Point);
    assert_eq!(defect(with(&[&[0], &x[..]].concat(), &y)), KeyDefect::Length { member: "x", octets: 33 });
    assert_eq!(defect(with(&x, &y[1..])), KeyDefect::Length { member: "y", octets: 31 });
    assert_eq!(defect(Jwk { x: None, ..ec_jwk() }), KeyDefect::Missing("x"));
    assert_eq!(defect(Jwk { y: text(""), ..ec_jwk() }), KeyDefect::Missing("y"));
}

#[test]
fn base64url_is_canonical() {
    let n = rsa_jwk().n.unwrap();
    for n in [format!("{n}=="), format!("{n}="), format!("{n}\n"), n.replace(['-', '_'], "+")] {
        assert_eq!(defect(Jwk { n: Some(n), ..rsa_jwk() }), KeyDefect::Base64("n"));
    }
    let x = ec_jwk().x.unwrap();
    assert_eq!(defect(Jwk { x: Some(format!("{x}=")), ..ec_jwk() }), KeyDefect::Base64("x"));
    // 32 octets leave two spare bits
    let last = x.as_bytes()[42];
    let spare = x[..42].to_owned() + &char::from(last + 1).to_string();
    assert_eq!(defect(Jwk { x: Some(spare), ..ec_jwk() }), KeyDefect::Base64("x"));
    assert_eq!(defect(Jwk { e: text("AQAB===="), ..rsa_jwk() }), KeyDefect::Base64("e"));
}

#[test]
fn issuers_and_audiences() {
    let keys = vec![ec_jwk()];
    let long = "x".repeat(241);
    let told = |issuers: &[Issuer]| {
        let (store, problems) = KeyStore::new(issuers);
        (store.issuers().len(), problems.into_iter().map(|p| p.problem).collect::<Vec<_>>())
    };
    let named = |name: &str| Issuer { issuer: name.to_owned(), ..issuer(keys.clone()) };
    let with = |audiences: &[&str]| Issuer {
        audiences: audiences.iter().map(|a| (*a).to_owned()).collect(),
        ..issuer(keys.clone())
    };
    assert_eq!(told(&[named("")]), (0, vec![KeyDefect::Issuer]));
    assert_eq!(told(&[named(&long)]), (0, vec![KeyDefect::Issuer]));
    assert_eq!(told(&[named("a"), named("a"), named("A")]), (2, vec![KeyDefect::IssuerTwice]));
    assert_eq!(
        told(&[with(&["a", "", &long])]),
        (1, vec![KeyDefect::Audience(String::new()), KeyDefect::Audience(long.clone())])
    );
    assert_eq!(told(&[with(&[])]), (1, vec![KeyDefect::AudienceNone]));
    let (store, _) = KeyStore::new(&[with(&["a", "b", "a"])]);
    assert_eq!(store.issuers()[0].audiences(), ["a", "b"]);
}

#[test]
fn problems_in_words() {
    let told = |jwk: Jwk| KeyStore::new(&[issuer(vec![jwk])]).1[0].to_string();
    assert_eq!(
        told(Jwk { use_: text("enc"), ..ec_jwk() }),
        r#"issuer "https://id.example/", key "doubtful": use is "enc"; it must be sig"#
    );
    assert_eq!(
        told(Jwk { kid: None, ..ec_jwk() }),
        r#"issuer "https://id.example/", key number 1: kid is missing"#
    );
    // what comes from outside cannot write log lines of its own
    let forged = told(Jwk { kid: text("k\n2026 all is well\x1b[2J"), use_: text("\r\n"), ..ec_jwk() });
    assert!(!forged.contains(|c: char| c.is_control()), "{forged}");
}

/// One malformed member does not take the set with it, and is named by its place.
#[test]
fn members_that_cannot_be_read_are_left_out_and_reported() {
    let [good, other] = ["good", "good too"].map(|kid| serde_json::to_value(ec().public_jwk(kid)).unwrap());
    let rows = [
        (serde_json::json!({ "kid": "k", "crv": "P-256" }), Some("k"), "missing field `kty`"),
        (serde_json::json!({ "kty": "EC", "kid": 1 }), None, "integer `1`"),
        (serde_json::json!("EC"), None, "a string, not an object"),
    ];
    for (odd, kid, reason) in rows {
        let jwks = serde_json::from_value(serde_json::json!({ "keys": [good, odd, other] })).unwrap();
        let (store, problems) = KeyStore::new(&[Issuer { jwks, ..issuer(vec![]) }]);
        let kept: Vec<&str> = store.issuers()[0].keys().iter().map(VettedKey::kid).collect();
        assert_eq!(kept, ["good", "good too"]);
        let [problem] = <[KeyProblem; 1]>::try_from(problems).expect("one problem");
        assert_eq!((problem.position, problem.kid.as_deref()), (Some(2), kid));
        assert!(matches!(&problem.problem, KeyDefect::Unreadable(_)), "{problem}");
        assert!(problem.to_string().contains(reason), "{problem}");
    }
}
