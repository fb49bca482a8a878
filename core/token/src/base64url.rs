//! Strict base64url (RFC 4648 section 5).
//!
//! **Invariant:** no padding, no foreign character, spare bits zero: every octet string has exactly one spelling, so that
//! a token or a key cannot be respelt (RFC 4648 section 3.5; RFC 7515 section 2).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The octets of a text, or `None` when it is not the one spelling of any.
pub(crate) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// The spelling of octets.
#[cfg(feature = "mint")]
pub(crate) fn encode(octets: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many texts are accepted as there are octet strings, and each octet string comes out once.
    #[test]
    fn one_spelling_each() {
        let octets: Vec<u8> = (0..=255).collect();
        let alphabet: Vec<u8> =
            octets.iter().copied().filter(|b| b.is_ascii_alphanumeric() || b"-_".contains(b)).collect();
        let pairs = octets.iter().flat_map(|a| octets.iter().map(|b| vec![*a, *b]));
        let triples = alphabet.iter().flat_map(|a| {
            let pairs = alphabet.iter().flat_map(|b| alphabet.iter().map(|c| vec![*a, *b, *c]));
            pairs.collect::<Vec<_>>()
        });
        let mut seen = std::collections::HashSet::new();
        for text in [vec![]].into_iter().chain(octets.iter().map(|a| vec![*a])).chain(pairs).chain(triples) {
            if let Some(octets) = decode(&text) {
                assert!(seen.insert(octets), "{text:?} is a second spelling");
            }
        }
        assert_eq!(seen.len(), 1 + 256 + 65536);
    }

    #[test]
    fn foreign_characters() {
        for octet in 0..=255_u8 {
            for at in 0..4 {
                let mut text = *b"AAAA";
                text[at] = octet;
                let known = octet.is_ascii_alphanumeric() || b"-_".contains(&octet);
                assert_eq!(decode(&text).is_some(), known, "{octet:#x} at {at}");
            }
        }
    }

    #[test]
    fn refused() {
        for bad in [
            "A", "AAAAA", "AA==", "AA=", "AAA=", "A+AA", "A/AA", "AA AA", "AAAA\n", "\r\nAAAA", "AAA\0",
            "AB", "AAB",
        ] {
            assert_eq!(decode(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(decode(b"-_-_"), Some(vec![0xfb, 0xff, 0xbf]));
    }
}
