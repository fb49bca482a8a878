//! The denial that the kernel asks to have answered.

use portcullis_wire::Reason;

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
    /// The whole reply. A reason that this agent does not know (programs of another version) is `internal`.
    pub(crate) fn text(&self) -> Vec<u8> {
        let reason = Reason::from_code(self.reason).unwrap_or(Reason::Internal);
        let max_age_s = (self.mfa_max_age_s > 0).then_some(self.mfa_max_age_s);
        portcullis_verdict::response(reason, self.close, self.head_request, self.decision, max_age_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(reason: u16, mfa_max_age_s: u32) -> String {
        let denial =
            Denial { decision: 7, status: 401, reason, close: true, head_request: false, mfa_max_age_s };
        String::from_utf8(denial.text()).expect("ASCII")
    }

    #[test]
    fn the_reply_is_that_of_the_reason_and_the_decision() {
        let reply = text(20, 0);
        assert!(reply.starts_with("HTTP/1.1 401 ") && reply.contains("\r\nConnection: close\r\n"), "{reply}");
        assert!(reply.contains("\"decision_id\":\"0000000000000007\""), "{reply}");
    }

    #[test]
    fn the_age_of_an_mfa_is_named_when_there_is_one() {
        assert!(text(34, 300).contains("max_age=\"300\""));
        assert!(!text(34, 0).contains("max_age"));
    }

    #[test]
    fn a_reason_of_other_programs_is_an_internal_error() {
        assert!(text(9999, 0).starts_with("HTTP/1.1 503 "));
    }
}
