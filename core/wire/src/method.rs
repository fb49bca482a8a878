//! Request methods that a policy can name.

use std::fmt;

/// A request method (RFC 9110 section 9.1: case-sensitive), numbered as `enum pc_method` of `bpf/include/abi.h`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Method {
    /// Any other method; only a rule for `*` matches it.
    #[default]
    Other = 0,
    /// `GET`
    Get = 1,
    /// `POST`
    Post = 2,
    /// `PUT`
    Put = 3,
    /// `DELETE`
    Delete = 4,
    /// `PATCH`
    Patch = 5,
    /// `HEAD`
    Head = 6,
    /// `OPTIONS`
    Options = 7,
}

// === impl Method ===

impl Method {
    /// Every method, by number.
    pub const ALL: [Method; 8] = [
        Method::Other,
        Method::Get,
        Method::Post,
        Method::Put,
        Method::Delete,
        Method::Patch,
        Method::Head,
        Method::Options,
    ];

    /// The method of a request line or a rule; whatever policies cannot name is [`Method::Other`].
    #[must_use]
    pub fn parse(token: &[u8]) -> Method {
        match token {
            b"GET" => Method::Get,
            b"POST" => Method::Post,
            b"PUT" => Method::Put,
            b"DELETE" => Method::Delete,
            b"PATCH" => Method::Patch,
            b"HEAD" => Method::Head,
            b"OPTIONS" => Method::Options,
            _ => Method::Other,
        }
    }

    /// Number in kernel events and rule sets.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The method of a number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Method> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The token; `OTHER` for [`Method::Other`], which has none of its own.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Method::Other => "OTHER",
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Patch => "PATCH",
            Method::Head => "HEAD",
            Method::Options => "OPTIONS",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_and_number_name_their_method() {
        for (number, method) in Method::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(method.number()), number);
            assert_eq!(Method::from_number(method.number()), Some(method));
            assert_eq!(Method::parse(method.name().as_bytes()), method);
        }
        assert_eq!(Method::from_number(8), None);
    }

    #[test]
    fn methods_are_case_sensitive_and_whole() {
        for other in ["get", "Get", "GETS", "GET ", "", "TRACE", "CONNECT", "OTHER"] {
            assert_eq!(Method::parse(other.as_bytes()), Method::Other, "{other}");
        }
    }
}
