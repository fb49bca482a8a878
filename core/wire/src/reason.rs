//! Why a request was allowed or denied: one row a reason, the twin of `bpf/include/reason.h`.
//!
//! **Invariant:** codes and slugs are stable; logs, dashboards and scenarios name them.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Writes the enum and its table from one list, so that no property of a reason can be forgotten.
macro_rules! reasons {
    ($($code:literal $name:ident $slug:literal $status:literal $error:literal $text:literal)+) => {
        /// Why a request was allowed or denied.
        ///
        /// Serialised as its slug.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[repr(u16)]
        pub enum Reason {
            $(#[doc = concat!("`", $slug, "`: ", $text, ".")] $name = $code,)+
        }

        impl Reason {
            /// Every reason, by ascending code.
            pub const ALL: &'static [Reason] = &[$(Reason::$name),+];

            const fn row(self) -> Row {
                match self {
                    $(Reason::$name => Row { slug: $slug, status: $status, error: $error, text: $text },)+
                }
            }
        }
    };
}

struct Row {
    slug: &'static str,
    /// 0: an allow.
    status: u16,
    /// Empty: the challenge has no `error` parameter.
    error: &'static str,
    text: &'static str,
}

reasons! {
    0 None "none" 0 "" "no decision"
    1 RuleAllow "rule_allow" 0 "" "matched rule and all its requirements"
    2 Public "public" 0 "" "matched a rule that needs no token"
    3 OptionalAnonymous "optional_anonymous" 0 "" "matched a rule with optional token; none was sent"
    4 DefaultAllow "default_allow" 0 "" "no rule matched; default_action is allow"
    20 TokenMissing "token_missing" 401 "" "a token is required and none was sent"
    21 TokenMalformed "token_malformed" 401 "invalid_token" "not a compact JWS with canonical base64url parts"
    22 TokenTooLarge "token_too_large" 401 "invalid_token" "token is longer than the documented limit"
    23 TokenAlg "token_alg" 401 "invalid_token" "algorithm is not the key's, or neither RS256 nor ES256"
    24 TokenHeader "token_header" 401 "invalid_token"
        "JOSE header is not acceptable (crit, typ, duplicate or wrong type)"
    25 TokenClaims "token_claims" 401 "invalid_token"
        "claims set is not acceptable (syntax, duplicate or wrong type)"
    26 TokenIssuer "token_issuer" 401 "invalid_token" "issuer is not trusted"
    27 TokenAudience "token_audience" 401 "invalid_token" "audience is not accepted for this issuer"
    28 TokenKey "token_key" 401 "invalid_token" "no key with this kid belongs to the issuer"
    29 TokenSignature "token_signature" 401 "invalid_token" "signature does not verify"
    30 TokenExpired "token_expired" 401 "invalid_token" "token has expired"
    31 TokenNotYet "token_not_yet" 401 "invalid_token" "token is not valid yet (nbf)"
    32 TokenIat "token_iat" 401 "invalid_token" "token was issued in the future (iat)"
    33 MfaRequired "mfa_required" 401 "insufficient_user_authentication"
        "rule requires MFA and the token does not carry it"
    34 MfaStale "mfa_stale" 401 "insufficient_user_authentication" "MFA is older than the rule allows"
    35 DefaultDenyAnonymous "default_deny_anonymous" 401 ""
        "no rule matched; default_action is deny; no token was sent"
    36 TokenRevoked "token_revoked" 401 "invalid_token" "token, session, user or organisation is revoked"
    40 RoleMissing "role_missing" 403 "insufficient_scope" "none of the required roles"
    41 PermissionMissing "permission_missing" 403 "insufficient_scope" "none of the required permissions"
    42 GroupMissing "group_missing" 403 "insufficient_scope" "none of the required groups"
    43 AllOfMissing "all_of_missing" 403 "insufficient_scope" "not all of the all_of list"
    44 NoneOfPresent "none_of_present" 403 "insufficient_scope" "one of the none_of list is present"
    45 OrgMismatch "org_mismatch" 403 "insufficient_scope" "token belongs to another organisation"
    46 DefaultDeny "default_deny" 403 "insufficient_scope" "no rule matched; default_action is deny"
    47 HostNotCovered "host_not_covered" 403 "insufficient_scope" "no policy of this port covers the host"
    60 BadRequestLine "bad_request_line" 400 ""
        "request line is not HTTP/1.x with an origin-form or absolute-form target"
    61 BadHeader "bad_header" 400 "" "malformed header section"
    62 BadFraming "bad_framing" 400 ""
        "Content-Length or Transfer-Encoding is absent, doubled, conflicting or unsupported"
    63 BadHost "bad_host" 400 "" "Host is missing, doubled or malformed, or differs from the target"
    64 BadAuthorization "bad_authorization" 400 "" "more than one Authorization field"
    65 PathAmbiguous "path_ambiguous" 400 "" "path can be read in more than one way"
    66 PathTooLong "path_too_long" 400 "" "path is longer than the documented limit"
    67 BadChunk "bad_chunk" 400 "" "malformed chunked body"
    68 NotHttp1 "not_http1" 400 "" "TLS, HTTP/2 preface or another protocol"
    69 MethodRefused "method_refused" 400 "" "method is CONNECT or not an upper-case token"
    70 HeadTooLarge "head_too_large" 431 "" "request head is longer than the documented limit"
    71 UpgradeRefused "upgrade_refused" 403 "" "data was sent before the protocol upgrade was answered"
    80 PipelineRefused "pipeline_refused" 400 "" "denied request behind one whose response is still owed"
    81 StreamGap "stream_gap" 400 "" "bytes of the stream were not seen in order"
    90 NoCapacity "no_capacity" 503 "" "a bounded resource of the enforcer is used up"
    91 Internal "internal" 503 "" "internal error; denied to be safe"
}

// === impl Reason ===

impl Reason {
    /// Number in kernel events.
    #[must_use]
    pub const fn code(self) -> u16 {
        self as u16
    }

    /// The reason of a number in kernel events.
    #[must_use]
    pub fn from_code(code: u16) -> Option<Reason> {
        let at = Self::ALL.binary_search_by_key(&code, |reason| reason.code()).ok()?;
        Some(Self::ALL[at])
    }

    /// The reason of a stable name.
    #[must_use]
    pub fn from_slug(slug: &str) -> Option<Reason> {
        Self::ALL.iter().copied().find(|reason| reason.slug() == slug)
    }

    /// Stable name for programs.
    #[must_use]
    pub const fn slug(self) -> &'static str {
        self.row().slug
    }

    /// HTTP status of the denial; `None` for an allow (and for [`Reason::None`]).
    #[must_use]
    pub const fn status(self) -> Option<u16> {
        match self.row().status {
            0 => None,
            status => Some(status),
        }
    }

    /// `error` parameter of `WWW-Authenticate: Bearer`, RFC 6750 section 3.1 and RFC 9470 section 3; `None` where
    /// the challenge has none (nothing was sent) or where there is no challenge (not a 401 or 403).
    #[must_use]
    pub const fn error(self) -> Option<&'static str> {
        let error = self.row().error;
        if error.is_empty() { None } else { Some(error) }
    }

    /// For people.
    #[must_use]
    pub const fn text(self) -> &'static str {
        self.row().text
    }

    /// Whether the request may pass. [`Reason::None`] is no decision, and no allow.
    #[must_use]
    pub const fn is_allow(self) -> bool {
        matches!(self, Reason::RuleAllow | Reason::Public | Reason::OptionalAnonymous | Reason::DefaultAllow)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.slug())
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.slug())
    }
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Reason, D::Error> {
        let slug = String::deserialize(deserializer)?;
        Reason::from_slug(&slug).ok_or_else(|| de::Error::custom(format!("unknown reason `{slug}`")))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_ascend_and_name_their_reason() {
        assert!(Reason::ALL.windows(2).all(|pair| pair[0].code() < pair[1].code()));
        for code in 0..=u16::from(u8::MAX) {
            let found = Reason::ALL.iter().copied().find(|reason| reason.code() == code);
            assert_eq!(Reason::from_code(code), found);
        }
        assert_eq!(Reason::from_code(29), Some(Reason::TokenSignature));
    }

    #[test]
    fn slugs_are_unique_and_name_their_reason() {
        let slugs: HashSet<&str> = Reason::ALL.iter().map(|reason| reason.slug()).collect();
        assert_eq!(slugs.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert_eq!(Reason::from_slug(reason.slug()), Some(*reason));
        }
        assert_eq!(Reason::from_slug("None"), None);
    }

    #[test]
    fn allows_have_no_status_and_denials_have_one() {
        for reason in Reason::ALL {
            assert_eq!(reason.status().is_none(), reason.is_allow() || *reason == Reason::None, "{reason}");
        }
        assert!(!Reason::None.is_allow());
    }

    /// RFC 6750 section 3.1: the error of a challenge goes with its status, and a request without any
    /// authentication information gets none. RFC 9470 section 3: `insufficient_user_authentication` is a 401.
    #[test]
    fn challenge_error_goes_with_the_status() {
        for reason in Reason::ALL {
            match (reason.error(), reason.status()) {
                (Some("invalid_token" | "insufficient_user_authentication"), status) => {
                    assert_eq!(status, Some(401), "{reason}");
                }
                (Some("insufficient_scope"), status) => assert_eq!(status, Some(403), "{reason}"),
                (Some(other), _) => panic!("{reason}: unknown error {other}"),
                (None, _) => {}
            }
        }
        assert_eq!(Reason::TokenMissing.error(), None);
        assert_eq!(Reason::DefaultDenyAnonymous.error(), None);
    }

    #[test]
    fn reason_is_its_slug_in_json() {
        assert_eq!(serde_json::to_string(&Reason::TokenExpired).unwrap(), "\"token_expired\"");
        assert_eq!(serde_json::from_str::<Reason>("\"mfa_stale\"").unwrap(), Reason::MfaStale);
        let error = serde_json::from_str::<Reason>("\"nonsense\"").unwrap_err().to_string();
        assert!(error.contains("unknown reason `nonsense`"), "{error}");
    }
}
