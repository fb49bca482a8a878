//! The compact form (RFC 7515 section 7.1) and its base64url.

use portcullis_wire::Reason;

use super::Party;
use super::draft::Draft;
use super::json::change;
use super::rng::Rng;
use crate::{base64url, limits};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Other parts than three full ones, or another serialization.
pub(super) fn parts(draft: &mut Draft, rng: &mut Rng, _: &[Party]) {
    let [header, payload, signature] = draft.parts().map(|part| String::from_utf8_lossy(&part).into_owned());
    let token = match rng.below(16) {
        0 => String::new(),
        1 => header,
        2 => format!("{header}.{payload}"),
        3 => format!("{header}.{payload}."),
        4 => format!("{header}..{signature}"),
        5 => format!(".{payload}.{signature}"),
        6 => format!("{header}.{payload}.{signature}."),
        7 => format!(".{header}.{payload}.{signature}"),
        8 => format!("{header}.{payload}.{signature}.{signature}"),
        9 => format!("{header}.{payload}..{signature}"),
        10 => "..".to_owned(),
        11 => "...".to_owned(),
        // a JWE has five parts (RFC 7516 section 7.1)
        12 => format!("{header}.{payload}.{signature}.{payload}.{signature}"),
        // CVE-2022-39227: both serializations in one
        13 => format!(
            "{{\" {header}.{payload}.{signature}\":1,\"payload\":\"{payload}\",\"signature\":\"{signature}\"}}"
        ),
        14 => {
            format!("{{\"payload\":\"{payload}\",\"protected\":\"{header}\",\"signature\":\"{signature}\"}}")
        }
        _ => {
            let long = payload.repeat(1 + limits::TOKEN_MAX / payload.len());
            format!("{header}.{long}.{signature}")
        }
    };
    draft.expect(Err(Reason::TokenMalformed), "parts");
    draft.token = token.into_bytes();
}

/// A part in an encoding that is not the strict one.
pub(super) fn encoding(draft: &mut Draft, rng: &mut Rng, _: &[Party]) {
    let mut parts = draft.parts();
    let which = rng.below(3);
    let part = &mut parts[which];
    let what = match rng.below(8) {
        0 => {
            part.extend_from_slice(b"==");
            "padding"
        }
        1 => {
            part.push(b'=');
            "padding"
        }
        2 => {
            let at = rng.below(part.len() + 1);
            let white = *rng.pick(&[&b"\n"[..], b"\r\n", b" ", b"\t"]);
            part.splice(at..at, white.iter().copied());
            "white space"
        }
        3 => {
            let at = rng.below(part.len());
            part[at] = *rng.pick(b"+/=%~,;:*\0\x7f\x80\xff@[`{");
            "a foreign character"
        }
        4 => {
            // A character alone has six bits, and no octet has.
            part.truncate(part.len() - (part.len() + 3) % 4);
            "a length of no octets"
        }
        5 => {
            let spare = [0, 0, 4, 2][part.len() % 4];
            if spare == 0 {
                part.push(b'=');
            } else if let Some(last) = part.last_mut() {
                let value = ALPHABET.iter().position(|c| c == last).unwrap_or_default();
                *last = ALPHABET[value | (1 + rng.below((1 << spare) - 1))];
            }
            "spare bits"
        }
        6 => {
            part.splice(0..0, b"=".iter().copied());
            "padding in front"
        }
        _ => {
            part.extend_from_slice("\u{e9}".as_bytes());
            "not ASCII"
        }
    };
    draft.token = parts.join(&b'.');
    // The signature is looked at last.
    let reason = if which == 2 { Reason::TokenSignature } else { Reason::TokenMalformed };
    draft.expect(Err(reason), format!("{what} in part {}", which + 1));
}

/// Random changes of the token.
pub(super) fn damage(draft: &mut Draft, rng: &mut Rng, _: &[Party]) {
    if rng.one_in(8) {
        let length = rng.below(200);
        draft.token = (0..length).map(|_| if rng.one_in(16) { b'.' } else { rng.byte() }).collect();
        return draft.doubt("random octets");
    }
    if rng.one_in(8) {
        let parts = [(); 3].map(|()| {
            let length = 1 + rng.below(80);
            base64url::encode((0..length).map(|_| rng.byte()).collect::<Vec<u8>>())
        });
        draft.token = parts.join(".").into_bytes();
        return draft.doubt("random parts");
    }
    for _ in 0..=rng.below(3) {
        change(&mut draft.token, rng, b"AQgw_-.=+/ze09 ");
    }
    draft.doubt("damaged token");
}
