//! Hosts that a policy covers.
//!
//! **Invariant:** a host is compared as requests carry it once read: lower case, without port and trailing dot.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::error::PatternError;
use crate::limits::{HOST_MAX, LABEL_MAX};

/// What a policy covers of its port.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum HostPattern {
    /// This host only.
    Exact(String),
    /// Hosts below this one, at any depth, but not itself: `*.example.com` holds `example.com` here.
    Below(String),
}

// === impl HostPattern ===

impl HostPattern {
    /// Reads a host pattern: a name, an IPv4 address, an IPv6 address in brackets, or `*.` and a name.
    ///
    /// # Errors
    /// When no request can name such a host.
    pub fn parse(text: &str) -> Result<HostPattern, PatternError> {
        let lower = text.to_ascii_lowercase();
        if let Some(suffix) = lower.strip_prefix("*.") {
            check_name(suffix)?;
            return Ok(HostPattern::Below(suffix.to_owned()));
        }
        if lower == "*" {
            return Err(PatternError::new("`*` is every host", "leave `host_match` out"));
        }
        if let Some(address) = lower.strip_prefix('[') {
            let address = address.strip_suffix(']').and_then(|address| address.parse::<Ipv6Addr>().ok());
            let Some(address) = address else {
                return Err(PatternError::new(
                    format!("`{text}` is not an IPv6 address in brackets"),
                    "write it like `[2001:db8::1]`, without port",
                ));
            };
            return Ok(HostPattern::Exact(format!("[{address}]")));
        }
        if lower.parse::<Ipv6Addr>().is_ok() {
            return Err(PatternError::new(
                "an IPv6 address stands in brackets",
                format!("write `[{lower}]`"),
            ));
        }
        check_name(&lower)?;
        Ok(HostPattern::Exact(lower))
    }

    /// Whether it covers a host in lower case, without port and trailing dot.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        match self {
            HostPattern::Exact(name) => name == host,
            HostPattern::Below(suffix) => {
                let below = host.strip_suffix(suffix.as_str()).and_then(|front| front.strip_suffix('.'));
                below.is_some_and(|front| !front.is_empty())
            }
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Exact(name) => f.write_str(name),
            HostPattern::Below(suffix) => write!(f, "*.{suffix}"),
        }
    }
}

/// A host name or IPv4 address as requests are allowed to carry them.
fn check_name(name: &str) -> Result<(), PatternError> {
    let wrong = |message: String, remedy: &str| Err(PatternError::new(message, remedy));
    if name.is_empty() {
        return wrong("the host is empty".to_owned(), "name a host, or leave `host_match` out");
    }
    if name.len() > HOST_MAX {
        return wrong(
            format!("the host has {} bytes, and hosts have {HOST_MAX} at most", name.len()),
            "name a shorter one",
        );
    }
    if let Some(found) = name.chars().find(|c| !c.is_ascii_alphanumeric() && !"-._".contains(*c)) {
        return match found {
            ':' => wrong("the host holds a colon".to_owned(), "leave the port out: `port_match` says it"),
            '*' => wrong(
                "`*` stands only as the first label".to_owned(),
                "write `*.example.com`, or one policy per host",
            ),
            '/' => wrong("the host holds a slash".to_owned(), "write the name only, without scheme and path"),
            found if !found.is_ascii() => wrong(
                format!("the host holds {found:?}"),
                "write it as requests carry it, in the `xn--` form (RFC 5891)",
            ),
            found => {
                wrong(format!("the host holds {found:?}"), "write letters, digits, `-`, `_` and dots only")
            }
        };
    }
    if name.ends_with('.') {
        return wrong(
            "the host ends with a dot".to_owned(),
            "leave the dot out: requests are compared without it",
        );
    }
    if let Some(label) = name.split('.').find(|label| label.is_empty() || label.len() > LABEL_MAX) {
        return match label {
            "" => wrong("the host has an empty label".to_owned(), "write single dots between labels"),
            label => wrong(
                format!("a label of the host has {} bytes, and labels have {LABEL_MAX} at most", label.len()),
                "name a host that can exist",
            ),
        };
    }
    // An address that looks like one but is none (`10.0.0.256`) would match nothing that resolves.
    let numeric =
        name.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
    if numeric && name.parse::<Ipv4Addr>().is_err() {
        return wrong(
            format!("`{name}` is neither a name nor an IPv4 address"),
            "write four numbers from 0 to 255",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        let pattern = HostPattern::parse(pattern).unwrap();
        for host in yes {
            assert!(pattern.matches(host), "{pattern} should match {host}");
        }
        for host in no {
            assert!(!pattern.matches(host), "{pattern} should not match {host}");
        }
    }

    #[track_caller]
    fn refused(pattern: &str, message: &str, remedy: &str) {
        let error = HostPattern::parse(pattern).unwrap_err();
        assert!(error.message.contains(message), "{pattern}: {error}");
        assert!(error.remedy.contains(remedy), "{pattern}: {error}");
    }

    #[test]
    fn exact_host_matches_itself_only() {
        check(
            "api.example",
            &["api.example"],
            &["example", "x.api.example", "xapi.example", "api.example.test"],
        );
        check("10.0.0.1", &["10.0.0.1"], &["110.0.0.1"]);
        check("[2001:DB8:0::1]", &["[2001:db8::1]"], &["2001:db8::1"]);
    }

    #[test]
    fn suffix_matches_below_it_at_any_depth_but_not_itself() {
        check(
            "*.example",
            &["a.example", "b.a.example", "..example"],
            &["example", ".example", "aexample", "a.example.test"],
        );
    }

    #[test]
    fn host_is_read_without_regard_to_case() {
        assert_eq!(HostPattern::parse("*.Example.COM"), HostPattern::parse("*.example.com"));
        check("API.Example", &["api.example"], &[]);
    }

    #[test]
    fn host_that_no_request_can_name_is_refused() {
        refused("", "empty", "leave `host_match` out");
        refused("*", "every host", "leave `host_match` out");
        refused("*.", "empty", "name a host");
        refused("a.example:8080", "colon", "port_match");
        refused("http://a.example", "colon", "port_match");
        refused("a.example/x", "slash", "without scheme and path");
        refused("a.*.example", "first label", "`*.example.com`");
        refused("*.*.example", "first label", "`*.example.com`");
        refused("*a.example", "first label", "`*.example.com`");
        refused("a.example.", "ends with a dot", "leave the dot out");
        refused("a..example", "empty label", "single dots");
        refused(".example", "empty label", "single dots");
        refused("bücher.example", "'ü'", "xn--");
        refused("a b", "' '", "letters");
        refused("::1", "brackets", "`[::1]`");
        refused("[::1", "not an IPv6 address", "[2001:db8::1]");
        refused("[::1]:80", "not an IPv6 address", "without port");
        refused("10.0.0.256", "neither a name nor an IPv4 address", "0 to 255");
        refused(&"a".repeat(64), "64 bytes", "can exist");
        refused(&format!("{}b", "a.".repeat(127)), "255 bytes", "shorter");
    }
}
