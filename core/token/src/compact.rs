//! Compact serialization (RFC 7515 sections 3.1 and 7.1).

use portcullis_wire::Reason;

use crate::{base64url, limits};

/// The parts of a token; nothing in it is trusted yet.
pub(crate) struct Compact<'a> {
    /// What is signed: header and payload as they were sent, with the dot between them (section 5.2 step 8).
    pub(crate) signing_input: &'a [u8],
    pub(crate) header: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    /// Still encoded: it is looked at last, so that cheap reasons to refuse come first.
    pub(crate) signature: &'a [u8],
}

// === impl Compact ===

impl<'a> Compact<'a> {
    /// Takes a token apart: three parts, none empty, header and payload in strict base64url.
    pub(crate) fn parse(token: &'a [u8]) -> Result<Compact<'a>, Reason> {
        if token.len() > limits::TOKEN_MAX {
            return Err(Reason::TokenTooLarge);
        }
        let mut parts = token.split(|byte| *byte == b'.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Reason::TokenMalformed);
        };
        if header.is_empty() || payload.is_empty() || signature.is_empty() {
            return Err(Reason::TokenMalformed);
        }
        let signing_input = &token[..header.len() + 1 + payload.len()];
        //= https://www.rfc-editor.org/rfc/rfc7515#section-5.2
        //# Base64url-decode the encoded representation of the JWS Protected Header, following the restriction that no
        //# line breaks, whitespace, or other additional characters have been used.
        let header = base64url::decode(header).ok_or(Reason::TokenMalformed)?;
        let payload = base64url::decode(payload).ok_or(Reason::TokenMalformed)?;
        Ok(Compact { signing_input, header, payload, signature })
    }
}
