//! The random tokens: right by construction where that is known, and of every kind.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_token::corpus::{Generator, Party};
use portcullis_token::mint::SigningKey;
use portcullis_token::{KeyStore, limits, verify};
use portcullis_wire::Reason;

const CASES: usize = 10_000;
/// Signatures that must come, some of them seldom.
const KINDS: [&str; 11] = [
    "DER",
    "both at an edge",
    "s at an edge",
    "r at an edge",
    "s + n",
    "n - s",
    "the twin",
    "PSS, or another digest",
    "another key's",
    "longer",
    "shorter",
];

#[test]
fn expectations_hold_and_every_reason_comes() {
    let seed = portcullis_testkit::seed();
    let mut generator = Generator::new(seed, Party::three().unwrap());
    let (keys, problems) = KeyStore::new(&generator.issuers());
    assert_eq!(problems, []);
    let mut found = BTreeMap::<Reason, usize>::new();
    let (mut valid, mut known, mut longest) = (0, 0, 0);
    let (mut signers, mut signatures) = (BTreeSet::new(), BTreeSet::new());
    for (number, case) in generator.by_ref().take(5 * CASES).enumerate() {
        // What is rare may take more cases than usual to come.
        let all = KINDS.iter().all(|kind| signatures.contains(*kind)) && signers.len() == 7;
        if number >= CASES && all && longest > limits::TOKEN_MAX - 2 {
            break;
        }
        let judgement = verify(&case.token, &keys, case.now_s).map(|_| ());
        if let Some(expected) = case.expected {
            assert_eq!(
                judgement,
                expected,
                "case {number}: {}: {}",
                case.note,
                String::from_utf8_lossy(&case.token)
            );
            known += 1;
        }
        signers.extend(
            case.note.split_once(':').map_or(&case.note[..], |(signer, _)| signer).lines().map(str::to_owned),
        );
        signatures.extend(case.note.split_once(": signature: ").map(|(_, kind)| kind.to_owned()));
        match judgement {
            Ok(()) => {
                valid += 1;
                longest = longest.max(case.token.len());
            }
            Err(reason) => *found.entry(reason).or_default() += 1,
        }
    }
    println!("{valid} valid, {known} known by construction, refused {found:?}");
    assert!(signers.len() == 7 && longest > limits::TOKEN_MAX - 2, "{signers:?}, {longest} characters");
    assert!(valid > CASES / 6 && known > CASES / 2, "{valid} valid, {known} known by construction");
    for kind in KINDS {
        assert!(signatures.contains(kind), "{kind} never came: {signatures:?}");
    }
    for reason in [
        Reason::TokenMalformed,
        Reason::TokenTooLarge,
        Reason::TokenAlg,
        Reason::TokenHeader,
        Reason::TokenClaims,
        Reason::TokenIssuer,
        Reason::TokenAudience,
        Reason::TokenKey,
        Reason::TokenSignature,
        Reason::TokenExpired,
        Reason::TokenNotYet,
        Reason::TokenIat,
    ] {
        assert!(found.get(&reason).is_some_and(|n| *n >= CASES / 400), "{reason}: {found:?}");
    }
}

/// What is done depends on the seed only, whatever the keys.
#[test]
fn a_seed_repeats() {
    let sketch = |seed| {
        let party = |issuer: &str, keys: Vec<SigningKey>| Party {
            issuer: issuer.to_owned(),
            audiences: vec![format!("to {issuer}")],
            leeway_s: 10,
            keys: keys.into_iter().zip(["k", "l"]).map(|(key, kid)| (kid.to_owned(), key)).collect(),
        };
        let ec = || SigningKey::generate_es256().unwrap();
        let rsa = SigningKey::generate_rs256(2048).unwrap();
        let generator = Generator::new(seed, vec![party("a", vec![ec(), rsa]), party("b", vec![ec(), ec()])]);
        generator.take(2000).map(|case| (case.note, case.now_s)).collect::<Vec<_>>()
    };
    let first = sketch(7);
    assert!(first == sketch(7), "the same seed, another sequence");
    assert!(first != sketch(8), "another seed, the same sequence");
}
