//! The text that a denied client is sent.
//!
//! **Invariant:** nothing of the request is in it, only what the decision says.

use portcullis_bpf::reason::{REASONS, ReasonRow};

/// A denial to be answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Denial {
    /// Decision identifier, as in the access log.
    pub decision: u64,
    /// HTTP status.
    pub status: u16,
    /// Reason code of reason.h.
    pub reason: u16,
    /// Whether the connection ends with this reply.
    pub close: bool,
    /// Whether the request was HEAD: the header section only.
    pub head_request: bool,
    /// Greatest age of an MFA that the rule accepts, seconds; 0 = any.
    pub mfa_max_age_s: u32,
}

// === impl Denial ===

impl Denial {
    /// The whole reply.
    pub(crate) fn text(&self) -> Vec<u8> {
        let row = REASONS.iter().find(|row| row.code == self.reason);
        let (slug, error, text) =
            row.map_or(("internal", "", "denied"), |row| (row.slug, row.error, row.text));
        let word = if error.is_empty() { slug } else { error };
        let body = format!(
            "{{\"error\":\"{word}\",\"reason\":\"{slug}\",\"message\":\"{text}\",\"decision_id\":\"{:016x}\"}}\n",
            self.decision
        );
        let challenge = self.challenge(row).map(|c| format!("WWW-Authenticate: {c}\r\n")).unwrap_or_default();
        let close = if self.close { "Connection: close\r\n" } else { "" };
        let mut reply = format!(
            "HTTP/1.1 {} {}\r\n{challenge}{close}Content-Type: application/json\r\nCache-Control: no-store\r\n\
             Content-Length: {}\r\n\r\n",
            self.status,
            phrase(self.status),
            body.len()
        );
        if !self.head_request {
            reply += &body;
        }
        reply.into_bytes()
    }

    //= https://www.rfc-editor.org/rfc/rfc6750#section-3.1
    //# If the request lacks any authentication information (e.g., the client was unaware that authentication is
    //# necessary or attempted using an unsupported authentication method), the resource server SHOULD NOT include an
    //# error code or other error information.
    fn challenge(&self, row: Option<&ReasonRow>) -> Option<String> {
        let error = row.map_or("", |row| row.error);
        match (self.status, error) {
            (401, "") => Some("Bearer".to_owned()),
            (401 | 403, error) if !error.is_empty() => {
                let text = row.map_or("", |row| row.text);
                let mut challenge = format!("Bearer error=\"{error}\", error_description=\"{text}\"");
                //= https://www.rfc-editor.org/rfc/rfc9470#section-3
                //# max_age: Indicates the allowable elapsed time in seconds since the last active authentication event
                if error == "insufficient_user_authentication" && self.mfa_max_age_s > 0 {
                    challenge += &format!(", max_age=\"{}\"", self.mfa_max_age_s);
                }
                Some(challenge)
            }
            _ => None,
        }
    }
}

/// Reason phrase of the statuses that denials have (RFC 9110 section 15).
fn phrase(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Denied",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(status: u16, reason: u16) -> String {
        let denial =
            Denial { decision: 7, status, reason, close: false, head_request: false, mfa_max_age_s: 0 };
        String::from_utf8(denial.text()).expect("ASCII")
    }

    #[test]
    fn a_missing_token_is_challenged_without_an_error() {
        assert!(text(401, 20).contains("\r\nWWW-Authenticate: Bearer\r\n"));
    }

    #[test]
    fn an_invalid_token_and_a_missing_role_are_named() {
        assert!(
            text(401, 29).contains("WWW-Authenticate: Bearer error=\"invalid_token\", error_description=\"")
        );
        assert!(text(403, 40).contains("WWW-Authenticate: Bearer error=\"insufficient_scope\""));
        assert!(!text(400, 60).contains("WWW-Authenticate"));
    }

    #[test]
    fn the_length_is_that_of_the_body() {
        let reply = text(403, 40);
        let (head, body) = reply.split_once("\r\n\r\n").expect("two parts");
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
        assert!(body.contains("\"decision_id\":\"0000000000000007\""), "{body}");
    }

    #[test]
    fn no_text_of_a_reason_breaks_a_quoted_string() {
        for row in REASONS {
            assert!(
                row.text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'"' && b != b'\\'),
                "{}",
                row.text
            );
        }
    }
}
