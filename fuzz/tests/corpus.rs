//! What fuzzing has kept (fuzz/corpus/), replayed: the sides agree on each input.

use std::fs;
use std::path::Path;

use portcullis_fuzz::{Sides, Target};
use portcullis_wire::Reason;

#[test]
fn the_kept_inputs_are_read_alike() {
    let mut sides = Sides::new();
    for target in Target::ALL {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name());
        let mut count = 0;
        for entry in fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
            let path = entry.expect("an entry").path();
            println!("{}", path.display());
            sides.compare(target, &fs::read(&path).expect("an input"));
            count += 1;
        }
        assert!(count > 0, "{} is empty", dir.display());
    }
}

/// Inputs that reach far into each parser, so that a side that refused all would be seen.
#[test]
fn what_is_valid_is_accepted() {
    let mut sides = Sides::new();
    let header = br#"{"alg":"ES256","kid":"k"}"#;
    let claims = br#"{"iss":"https://i.example","aud":"api","exp":1800000001,"roles":["admin"]}"#;
    sides.compare(Target::Claims, &[&header[..], b"\n", claims].concat());
    assert_eq!(sides.judge(header, claims), None);
    assert_eq!(sides.judge(header, b"{}"), Some(Reason::TokenClaims));
    sides.compare(Target::Chunk, b"\x035;a=b\r\nhello\r\n0\r\nT: u\r\n\r\n");
    sides.compare(Target::Head, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    sides.compare(Target::Host, b"[::1]:80");
    sides.compare(Target::Path, b"a/%41");
}
