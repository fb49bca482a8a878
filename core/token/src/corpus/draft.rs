//! A token in the making.

use portcullis_wire::Reason;

use super::rng::Rng;
use super::{Case, Party};
use crate::limits;
use crate::mint::SigningKey;

/// A JSON object as text: names (with their quotes) and values, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Object {
    pub(super) members: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A token in the making. It starts as a valid one.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) party: usize,
    pub(super) key: usize,
    pub(super) header: Object,
    pub(super) claims: Object,
    /// Instead of `header` and `claims`, when set.
    pub(super) header_text: Option<Vec<u8>>,
    pub(super) claims_text: Option<Vec<u8>>,
    pub(super) times: Times,
    pub(super) now_s: u64,
    /// Once signed.
    pub(super) token: Vec<u8>,
    expected: Option<Result<(), Reason>>,
    note: String,
}

/// What the time claims say, and the leeway that the issuer has for them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) exp: u64,
    pub(super) nbf: Option<u64>,
    pub(super) iat: Option<u64>,
    pub(super) leeway_s: u64,
}

// === impl Draft ===

impl Draft {
    /// A random valid token of a key.
    pub(super) fn new(rng: &mut Rng, parties: &[Party], (party, key): (usize, usize)) -> Draft {
        let Party { issuer, audiences, leeway_s, keys } = &parties[party];
        let (kid, signing) = &keys[key];
        let now_s = 1_700_000_000 + rng.seconds(1 << 30);
        let times = Times {
            exp: now_s + 1 + rng.seconds(7200),
            nbf: (!rng.one_in(3)).then(|| now_s - rng.seconds(3600)),
            iat: (!rng.one_in(3)).then(|| now_s - rng.seconds(3600)),
            leeway_s: u64::from(*leeway_s),
        };
        let mut header = Object::default();
        header.set("alg", quote(signing.alg()));
        header.set("kid", quote(kid));
        if !rng.one_in(3) {
            let typ = *rng.pick(&["JWT", "at+jwt", "application/at+jwt"]);
            header.set("typ", quote(typ));
        }
        let mut claims = Object::default();
        claims.set("iss", spell(rng, issuer));
        claims.set("aud", audience(rng, audiences));
        claims.set("exp", number(times.exp));
        for (name, time) in [("nbf", times.nbf), ("iat", times.iat)] {
            if let Some(time) = time {
                claims.set(name, number(time));
            }
        }
        identity(&mut claims, rng, now_s);
        rng.shuffle(&mut header.members);
        rng.shuffle(&mut claims.members);
        Draft {
            party,
            key,
            header,
            claims,
            header_text: None,
            claims_text: None,
            times,
            now_s,
            token: Vec::new(),
            expected: Some(Ok(())),
            note: format!("{}/{kid}", signing.alg()),
        }
    }

    /// Only what a token must have, as one string or number each, so that limits can be counted.
    pub(super) fn minimal(&mut self, parties: &[Party]) {
        let Party { issuer, audiences, .. } = &parties[self.party];
        let (kid, signing) = &parties[self.party].keys[self.key];
        self.header = Object::default();
        self.header.set("alg", quote(signing.alg()));
        self.header.set("kid", quote(kid));
        self.claims = Object::default();
        self.claims.set("iss", quote(issuer));
        self.claims.set("aud", quote(&audiences[0]));
        self.claims.set("exp", number(self.times.exp));
    }

    /// Says what was done, and what must come of it.
    pub(super) fn expect(&mut self, expected: Result<(), Reason>, note: impl AsRef<str>) {
        self.expected = Some(expected);
        self.add_note(note);
    }

    /// Says what was done, when what must come of it is not known.
    pub(super) fn doubt(&mut self, note: impl AsRef<str>) {
        self.expected = None;
        self.add_note(note);
    }

    fn add_note(&mut self, note: impl AsRef<str>) {
        self.note.push_str(": ");
        self.note.push_str(note.as_ref());
    }

    pub(super) fn signing_key<'a>(&self, parties: &'a [Party]) -> &'a SigningKey {
        &parties[self.party].keys[self.key].1
    }

    pub(super) fn sign(&mut self, rng: &mut Rng, parties: &[Party]) {
        let header = self.header_text.take().unwrap_or_else(|| self.header.render(rng));
        let claims = self.claims_text.take().unwrap_or_else(|| self.claims.render(rng));
        self.token = self.signing_key(parties).sign_octets(&header, &claims).into_bytes();
    }

    /// The three parts of the signed token.
    pub(super) fn parts(&self) -> [Vec<u8>; 3] {
        let mut parts = self.token.split(|byte| *byte == b'.').map(<[u8]>::to_vec);
        [(); 3].map(|()| parts.next().expect("a signed token has three parts"))
    }

    pub(super) fn case(self) -> Case {
        let Draft { token, now_s, expected, note, .. } = self;
        // Whatever else was done, size is the first check.
        let expected = match expected {
            Some(_) if token.len() > limits::TOKEN_MAX => Some(Err(Reason::TokenTooLarge)),
            other => other,
        };
        Case { token, now_s, expected, note }
    }
}

// === impl Object ===

impl Object {
    /// Sets a member's value, in place if it is there.
    pub(super) fn set(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        let quoted = quote(name);
        match self.members.iter_mut().find(|(key, _)| *key == quoted) {
            Some((_, old)) => *old = value.into(),
            None => self.members.push((quoted, value.into())),
        }
    }

    /// Adds a member anywhere, whether or not its name is there.
    pub(super) fn insert(&mut self, rng: &mut Rng, name: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        let at = rng.below(self.members.len() + 1);
        self.members.insert(at, (name.into(), value.into()));
    }

    pub(super) fn remove(&mut self, name: &str) {
        let quoted = quote(name);
        self.members.retain(|(key, _)| *key != quoted);
    }

    pub(super) fn get(&self, name: &str) -> Option<&[u8]> {
        let quoted = quote(name);
        self.members.iter().find(|(key, _)| *key == quoted).map(|(_, value)| &value[..])
    }

    /// The text, sometimes with white space in it (RFC 8259 section 2).
    pub(super) fn render(&self, rng: &mut Rng) -> Vec<u8> {
        let spaced = rng.one_in(4);
        let mut text = Vec::new();
        let mut put = |token: &[u8]| {
            text.extend_from_slice(token);
            if spaced {
                text.extend_from_slice(rng.pick(&["", "", " ", "\n\t", "\r\n "]).as_bytes());
            }
        };
        put(b"");
        put(b"{");
        for (at, (name, value)) in self.members.iter().enumerate() {
            if at > 0 {
                put(b",");
            }
            put(name);
            put(b":");
            put(value);
        }
        put(b"}");
        text
    }
}

/// A JSON string with the escapes that it must have.
pub(super) fn quote(text: &str) -> Vec<u8> {
    let mut quoted = b"\"".to_vec();
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend([b'\\', character as u8]),
            '\0'..='\u{1f}' => quoted.extend(format!("\\u{:04x}", u32::from(character)).bytes()),
            _ => quoted.extend(character.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    quoted.push(b'"');
    quoted
}

/// The same, sometimes with escapes that it need not have; those are allowed in short strings only.
pub(super) fn spell(rng: &mut Rng, text: &str) -> Vec<u8> {
    if rng.one_in(6) && text.len() < 40 { spell_escaped(rng, text) } else { quote(text) }
}

/// With an escape for the first character at least, if there is one.
pub(super) fn spell_escaped(rng: &mut Rng, text: &str) -> Vec<u8> {
    let mut quoted = b"\"".to_vec();
    for (at, character) in text.chars().enumerate() {
        if at > 0 && !rng.one_in(4) && !matches!(character, '"' | '\\' | '\0'..='\u{1f}') {
            quoted.extend(character.encode_utf8(&mut [0; 4]).bytes());
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            let upper = rng.one_in(2);
            quoted.extend(if upper { format!("\\u{unit:04X}") } else { format!("\\u{unit:04x}") }.bytes());
        }
    }
    quoted.push(b'"');
    quoted
}

pub(super) fn number(value: u64) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// A JSON array.
pub(super) fn list(items: &[Vec<u8>]) -> Vec<u8> {
    [b"[".to_vec(), items.join(&b','), b"]".to_vec()].concat()
}

/// `aud` with one accepted value: alone, as an array, or among others.
fn audience(rng: &mut Rng, accepted: &[String]) -> Vec<u8> {
    let own = rng.pick(accepted).clone();
    let own = spell(rng, &own);
    match rng.below(3) {
        0 => own,
        1 => list(&[own]),
        _ => {
            let mut items = vec![own, quote("api://elsewhere"), quote("")];
            rng.shuffle(&mut items);
            list(&items)
        }
    }
}

/// Claims that no check of the token depends on.
fn identity(claims: &mut Object, rng: &mut Rng, now_s: u64) {
    for name in ["sub", "email", "jti", "sid", "org_id"] {
        if rng.one_in(2) {
            let text = *rng.pick(TEXTS);
            claims.set(name, spell(rng, text));
        }
    }
    for name in ["roles", "permissions", "groups"] {
        if rng.one_in(2) {
            let count = rng.below(5);
            let items: Vec<Vec<u8>> = (0..count)
                .map(|_| {
                    let text = *rng.pick(TEXTS);
                    spell(rng, text)
                })
                .collect();
            claims.set(name, list(&items));
        }
    }
    if rng.one_in(3) {
        claims.set("auth_time", number(now_s - rng.seconds(100_000)));
    }
    if rng.one_in(3) {
        claims.set("mfa_verified", *rng.pick(&["true", "false"]));
    }
    if rng.one_in(3) {
        claims.set("unknown", *rng.pick(VALUES));
    }
}

/// Values of known claims: short, long, of every length in UTF-8, with a quote, almost empty.
const TEXTS: &[&str] = &[
    "user-1",
    "admin",
    "reports:read",
    "",
    "a",
    "ünïcödé",
    "日本語",
    "😀",
    "\"quoted\" \\ and \u{7f}",
    "line\nbreak",
    "someone.with.a.rather.long.name+and-a-tag@subdomain.of.a.company.example",
];

/// Values of unknown claims.
const VALUES: &[&str] = &[
    "null",
    "-0.5e-7",
    "{}",
    "[]",
    "[1,[2,[3,{\"roles\":[\"admin\"]}]]]",
    "{\"iss\":\"https://evil.example\",\"exp\":\"1\",\"exp\":[null,true,false]}",
    "\"\\u0000\\ud83d\\ude00\"",
    "123456789012345678901234567890",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_are_json() {
        let mut rng = Rng::new(1);
        for text in TEXTS {
            for _ in 0..20 {
                for spelt in [quote(text), spell(&mut rng, text), spell_escaped(&mut rng, text)] {
                    assert_eq!(serde_json::from_slice::<String>(&spelt).unwrap(), *text);
                }
            }
        }
        for value in VALUES {
            assert!(serde_json::from_str::<serde_json::Value>(value).is_ok(), "{value}");
        }
    }
}
