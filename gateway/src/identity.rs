//! What the application is told about the caller, from a verified token.

use http::{HeaderMap, HeaderName, HeaderValue};
use portcullis_token::VerifiedToken;

/// Subject.
pub(crate) const USER_ID: HeaderName = HeaderName::from_static("x-authfi-user-id");
/// Mail address.
pub(crate) const USER_EMAIL: HeaderName = HeaderName::from_static("x-authfi-user-email");
/// Roles, separated by commas.
pub(crate) const USER_ROLES: HeaderName = HeaderName::from_static("x-authfi-user-roles");

/// The caller of an allowed request, as field values.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Caller {
    fields: Vec<(HeaderName, HeaderValue)>,
}

// === impl Caller ===

impl Caller {
    /// Who a verified token names.
    pub(crate) fn of(token: &VerifiedToken) -> Caller {
        let claims = token.claims();
        let roles: Vec<String> = claims.roles.iter().map(|role| encode(role)).collect();
        let texts = [
            (USER_ID, claims.sub.as_deref().map(encode)),
            (USER_EMAIL, claims.email.as_deref().map(encode)),
            (USER_ROLES, (!roles.is_empty()).then(|| roles.join(","))),
        ];
        let fields =
            texts.into_iter().filter_map(|(name, text)| Some((name, HeaderValue::try_from(text?).ok()?)));
        Caller { fields: fields.collect() }
    }

    #[cfg(test)]
    pub(crate) fn named(sub: &'static str) -> Caller {
        Caller { fields: vec![(USER_ID, HeaderValue::from_static(sub))] }
    }

    /// Adds the fields.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.fields {
            headers.insert(name.clone(), value.clone());
        }
    }
}

/// Visible ASCII as it is; `%`, `,` (which separates roles), spaces and all else as `%XX` of its UTF-8 (RFC 3986
/// section 2.1), so that no name can end a value, begin another field, or pass for two names.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' && byte != b',' {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_names_stay_as_they_are() {
        for text in ["alice@acme.com", "auth0|62a1", "3f2b-77", "billing:read", "a+b/c"] {
            assert_eq!(encode(text), text);
        }
    }

    #[test]
    fn no_name_can_be_taken_for_two_or_end_a_field() {
        assert_eq!(encode("doctor,admin"), "doctor%2Cadmin");
        assert_eq!(encode("a\r\nX-Authfi-User-Roles: b"), "a%0D%0AX-Authfi-User-Roles:%20b");
        assert_eq!(encode("doctor%2Cadmin"), "doctor%252Cadmin");
        assert_eq!(encode("é"), "%C3%A9");
    }
}
