//! How a gateway is run.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use portcullis_follower::{FollowConfig, PlaneConfig};
use portcullis_wire::Bundle;

use crate::clock::Clock;

/// How a gateway is run.
pub struct Config {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// The application: `http://host:port`.
    pub upstream: Upstream,
    /// The port that policies name; absent: the application's, so that the kernel's policies hold as they are.
    pub port: Option<u16>,
    /// Where policies and keys come from.
    pub source: Source,
    /// How often files are looked at, at most every second.
    pub poll: Duration,
    /// Certificate and key: clients speak TLS.
    pub tls: Option<TlsFiles>,
    /// HTTP/2 without TLS, by prior knowledge (RFC 9113 section 3.3).
    pub h2c: bool,
    /// What the application is told about the way of a request.
    pub forwarded: Forwarded,
    /// Bounds.
    pub limits: Limits,
    /// Patience.
    pub timeouts: Timeouts,
    /// Where access records are written, one JSON object a line.
    pub log: Option<Box<dyn Write + Send>>,
    /// The time.
    pub clock: Clock,
}

/// The application's address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Upstream {
    authority: String,
    port: u16,
}

/// Where policies and keys come from.
pub enum Source {
    /// A control plane.
    Plane(Box<Following>),
    /// Files of this host.
    Local(Local),
}

/// A control plane, and how it is followed.
#[derive(Clone, Debug)]
pub struct Following {
    /// Where it is, and who this is to it.
    pub plane: PlaneConfig,
    /// How often it is asked, and what is kept on disk.
    pub follow: FollowConfig,
}

/// Reads files into a configuration; an error is a text that names place and remedy.
pub type Load = Box<dyn Fn() -> Result<Bundle, String> + Send + Sync>;

/// Files of this host.
pub struct Local {
    /// Reads them. The version of the bundle does not matter: each change counts one up.
    pub load: Load,
    /// They are read again when one of these changes.
    pub watched: Vec<PathBuf>,
}

/// PEM files; read again when they change.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Certificate chain, the server's own first.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What becomes of `X-Forwarded-For` and `X-Forwarded-Proto`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Forwarded {
    /// Written anew; what the client sent of this kind is removed: the gateway is what clients connect to.
    #[default]
    Set,
    /// The peer is appended to the list: a load balancer that is trusted stands before the gateway.
    Append,
}

/// Bounds.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at a time; beyond, clients wait in the listener's queue.
    pub connections: usize,
    /// Streams of one HTTP/2 connection.
    pub streams: u32,
    /// Connections to the application that wait for a next request.
    pub pool_idle: usize,
}

/// Patience.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// For a TLS handshake, and for a whole head from its first byte (the first one: from the connection on).
    pub head: Duration,
    /// Between two requests, and between two pieces of a body, in either direction.
    pub idle: Duration,
    /// For a connection to the application.
    pub connect: Duration,
    /// For the head of its response, once it has the whole request.
    pub response: Duration,
    /// For requests under way when the gateway is to stop.
    pub stop: Duration,
}

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The application's address.
    #[error("upstream `{0}`: write http://HOST:PORT or HOST:PORT; TLS is not spoken to the application")]
    Upstream(String),
}

// === impl Config ===

impl Config {
    /// A configuration with the usual settings.
    #[must_use]
    pub fn new(listen: SocketAddr, upstream: Upstream, source: Source) -> Config {
        Config {
            listen,
            upstream,
            port: None,
            source,
            poll: Duration::from_secs(5),
            tls: None,
            h2c: false,
            forwarded: Forwarded::default(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            log: None,
            clock: Clock::system(),
        }
    }
}

// === impl Upstream ===

impl Upstream {
    /// Reads `http://host:port` or `host:port`; port 80 may be left out of the former.
    ///
    /// # Errors
    /// When it is something else, or more.
    pub fn parse(text: &str) -> Result<Upstream, ConfigError> {
        let refuse = || ConfigError::Upstream(text.to_owned());
        let (authority, port) = authority(text).ok_or_else(refuse)?;
        Ok(Upstream { authority, port })
    }

    /// `host:port`
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// `host:port` of a URL without path; the scheme may be left out.
fn authority(text: &str) -> Option<(String, u16)> {
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let uri: Uri = with_scheme.parse().ok()?;
    let plain =
        uri.scheme() == Some(&Scheme::HTTP) && matches!(uri.path(), "" | "/") && uri.query().is_none();
    let authority = uri.authority().filter(|authority| plain && !authority.as_str().contains('@'))?;
    let port = match authority.port() {
        Some(port) => port.as_u16(),
        None if authority.as_str().ends_with(':') || !text.contains("://") => return None,
        None => 80,
    };
    (port > 0 && !authority.host().is_empty()).then(|| (format!("{}:{port}", authority.host()), port))
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Limits {
        Limits { connections: 10_000, streams: 100, pool_idle: 256 }
    }
}

// === impl Timeouts ===

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            head: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            connect: Duration::from_secs(5),
            response: Duration::from_secs(60),
            stop: Duration::from_secs(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_a_host_and_a_port() {
        for (text, authority, port) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080", 8080),
            ("http://app.internal/", "app.internal:80", 80),
            ("localhost:3000", "localhost:3000", 3000),
            ("http://[::1]:8080", "[::1]:8080", 8080),
        ] {
            let upstream = Upstream::parse(text).unwrap();
            assert_eq!((upstream.authority(), upstream.port()), (authority, port), "{text}");
        }
    }

    #[test]
    fn what_is_no_upstream_is_refused_with_the_way_to_write_it() {
        for text in [
            "",
            "https://a:1",
            "http://a:1/x",
            "http://a:1?x",
            "http://u@a:1",
            "localhost",
            "a:0",
            "a:99999",
            "/x",
        ] {
            let error = Upstream::parse(text).expect_err(text).to_string();
            assert!(error.contains(text) && error.contains("http://HOST:PORT"), "{error}");
        }
    }
}
