//! Tokens about each bound: the last that fits and the first that does not.

use portcullis_wire::Reason;

use super::Party;
use super::draft::{Draft, list, quote};
use super::rng::Rng;
use crate::base64url;
use crate::limits;

/// One bound; half of the tokens keep it by nothing, the others exceed it by one.
pub(super) fn bound(draft: &mut Draft, rng: &mut Rng, parties: &[Party]) {
    let over = rng.one_in(2);
    draft.minimal(parties);
    let (what, refused) = match rng.below(11) {
        0 => ("levels", levels(draft, rng, over)),
        1 => ("tokens", tokens(draft, over)),
        2 => ("strings of known claims", strings(draft, over)),
        3 => ("raw octets of a known value with an escape", escaped_value(draft, rng, over)),
        4 => ("raw octets of a name with an escape", escaped_name(draft, over)),
        5 => ("digits", digits(draft, rng, over)),
        6 => ("octets of the header", header(draft, over)),
        7 => ("characters of the token", token(draft, parties, over)),
        8 => ("octets of a name that is recognised", recognised(draft, rng, parties, over)),
        9 => ("octets of a claim by which tokens are revoked", revocable(draft, rng, over)),
        _ => {
            unbounded(draft);
            return draft.expect(Ok(()), "long strings where nothing is bound");
        }
    };
    let note = format!("{what}: {}", if over { "one too many" } else { "as many as fit" });
    draft.expect(if over { Err(refused) } else { Ok(()) }, note);
}

/// Brackets of both kinds in an unknown claim; the object itself is the first level.
fn levels(draft: &mut Draft, rng: &mut Rng, over: bool) -> Reason {
    let (mut open, mut close) = (Vec::new(), Vec::new());
    for _ in 0..limits::JSON_DEPTH_MAX - 1 + usize::from(over) {
        let object = rng.one_in(2);
        open.extend_from_slice(if object { b"{\"a\":" } else { b"[" });
        close.insert(0, if object { b'}' } else { b']' });
    }
    draft.claims.set("x", [open, b"0".to_vec(), close].concat());
    Reason::TokenClaims
}

fn tokens(draft: &mut Draft, over: bool) -> Reason {
    // Braces, three members of three tokens, three commas, name and colon of the fourth, brackets: 18 tokens. Each
    // item but the first has a comma; the first is an array, of two tokens, when the number would not come out else.
    let rest = limits::JSON_TOKENS_MAX + usize::from(over) - 18;
    let first: &[u8] = if rest.is_multiple_of(2) { b"[]" } else { b"0" };
    let mut items = vec![first.to_vec()];
    items.resize(1 + (rest - first.len()) / 2, b"0".to_vec());
    draft.claims.set("x", list(&items));
    Reason::TokenClaims
}

/// `iss` and `aud` are two of them.
fn strings(draft: &mut Draft, over: bool) -> Reason {
    let count = limits::CLAIM_VALUES_MAX - 2 + usize::from(over);
    for (name, count) in [("roles", count / 2), ("groups", count - count / 2)] {
        draft.claims.set(name, list(&vec![quote("r"); count]));
    }
    Reason::TokenClaims
}

fn escaped_value(draft: &mut Draft, rng: &mut Rng, over: bool) -> Reason {
    let text = format!("\\u0041{}", "a".repeat(limits::JSON_ESCAPED_MAX - 6 + usize::from(over)));
    if rng.one_in(2) {
        draft.claims.set("email", format!("\"{text}\""));
    } else {
        draft.claims.set("roles", format!("[\"r\",\"{text}\"]"));
    }
    Reason::TokenClaims
}

fn escaped_name(draft: &mut Draft, over: bool) -> Reason {
    let name = format!("\"{}\\n\"", "a".repeat(limits::JSON_ESCAPED_MAX - 2 + usize::from(over)));
    draft.claims.members.push((name.into_bytes(), b"0".to_vec()));
    Reason::TokenClaims
}

fn digits(draft: &mut Draft, rng: &mut Rng, over: bool) -> Reason {
    let name = *rng.pick(&["exp", "auth_time"]);
    draft.claims.set(name, "9".repeat(limits::DIGITS_MAX + usize::from(over)));
    Reason::TokenClaims
}

fn header(draft: &mut Draft, over: bool) -> Reason {
    // plain, without the white space that rendering may add
    let mut text = joined(&draft.header.members);
    let rest = limits::JOSE_MAX + usize::from(over) - text.len() - ",\"x\":\"\"".len();
    text.truncate(text.len() - 1);
    text.extend(format!(",\"x\":\"{}\"}}", "x".repeat(rest)).bytes());
    draft.header_text = Some(text);
    Reason::TokenHeader
}

fn token(draft: &mut Draft, parties: &[Party], over: bool) -> Reason {
    let signature = draft.signing_key(parties).signature(b"").len();
    let header = joined(&draft.header.members);
    let encoded = |octets: usize| (octets * 4).div_ceil(3);
    let room = limits::TOKEN_MAX - 2 - encoded(header.len()) - encoded(signature);
    // Of so many octets the text is as long as the room, or a character shorter when no text has that length.
    let octets = room * 3 / 4 + usize::from(over);
    let mut text = joined(&draft.claims.members);
    text.truncate(text.len() - 1);
    let rest = octets - text.len() - ",\"x\":\"\"}".len();
    text.extend(format!(",\"x\":\"{}\"}}", "x".repeat(rest)).bytes());
    debug_assert_eq!(base64url::encode(&text).len(), encoded(octets));
    draft.header_text = Some(header);
    draft.claims_text = Some(text);
    Reason::TokenTooLarge
}

/// The names of the parties are as long as they may be, or short. A longer one matches nothing.
fn recognised(draft: &mut Draft, rng: &mut Rng, parties: &[Party], over: bool) -> Reason {
    let name =
        |known: &str| known.to_owned() + &"x".repeat((limits::NAME_MAX + 1).saturating_sub(known.len()));
    let Party { issuer, audiences, keys, .. } = &parties[draft.party];
    let (reason, object, member, known) = match rng.below(3) {
        0 => (Reason::TokenIssuer, &mut draft.claims, "iss", issuer),
        1 => (Reason::TokenAudience, &mut draft.claims, "aud", &audiences[0]),
        _ => (Reason::TokenKey, &mut draft.header, "kid", &keys[draft.key].0),
    };
    object.set(member, quote(&if over { name(known) } else { known.clone() }));
    reason
}

/// A value that is too long to be looked up among those that are revoked.
fn revocable(draft: &mut Draft, rng: &mut Rng, over: bool) -> Reason {
    let claim = *rng.pick(&["sub", "sid", "jti", "org_id"]);
    draft.claims.set(claim, quote(&"v".repeat(limits::NAME_MAX + usize::from(over))));
    Reason::TokenRevoked
}

/// Strings without a bound: unknown, deeper, or without an escape.
fn unbounded(draft: &mut Draft) {
    let long = "a".repeat(300);
    draft.claims.set("x", format!("[\"\\n{long}\",{{\"\\n{long}\":0}}]"));
    draft.claims.set("email", quote(&long));
    draft.claims.set(&long, "0");
}

fn joined(members: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let members: Vec<Vec<u8>> =
        members.iter().map(|(name, value)| [&name[..], b":", value].concat()).collect();
    [b"{".to_vec(), members.join(&b','), b"}".to_vec()].concat()
}
