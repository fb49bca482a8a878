//! Parts of requests from the command line and from recordings, in the form that policies are matched with.

use anyhow::anyhow;
use portcullis_wire::Reason;

/// The canonical path of a request target.
///
/// # Errors
/// The reason for which every policy's port refuses it.
pub fn canonical_path(target: &str) -> Result<String, Reason> {
    if !target.starts_with('/') {
        return Err(Reason::BadRequestLine);
    }
    portcullis_http::canonical_path(target.as_bytes())
}

/// A host as in a `Host` field.
pub fn canonical_host(host: &str) -> anyhow::Result<String> {
    portcullis_http::normalise_host(host.as_bytes())
        .map_err(|reason| anyhow!("host `{host}`: {}", reason.text()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_as_the_engines_read_them() {
        assert_eq!(canonical_path("/a/%40b?c=d").as_deref(), Ok("/a/@b"));
        assert_eq!(canonical_path("/a/../b"), Err(Reason::PathAmbiguous));
        assert_eq!(canonical_path("http://h/a"), Err(Reason::BadRequestLine));
        assert_eq!(canonical_host("API.example.com:8080").unwrap(), "api.example.com");
    }
}
