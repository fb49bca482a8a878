//! Whom to talk to, and whom to believe: addresses of control planes and issuers, and the certificate authorities that
//! vouch for them.
//!
//! **Invariant:** no question leaves this host in the clear unless that was asked for by name.

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{CertificateError, Error as TlsError};
use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

use crate::TrustError;

/// Whom to believe besides the system's certificate authorities.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Trust {
    /// PEM files with certificates of private authorities.
    pub ca: Vec<PathBuf>,
    /// Plain HTTP beyond this host: whoever is on the way reads the secrets, and writes what is enforced.
    pub insecure_http: bool,
}

/// A URL that may be talked to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Address {
    url: String,
    is_tls: bool,
}

// === impl Trust ===

impl Trust {
    /// Reads the authorities: the system's, from where OpenSSL has them (`SSL_CERT_FILE` and `SSL_CERT_DIR` hold), and
    /// those of the files.
    pub(crate) fn tls_config(&self) -> Result<TlsConfig, TrustError> {
        let Trust { ca, insecure_http: _ } = self;
        // The system's that cannot be read are missed when a certificate needs them, and said then.
        let mut roots: Vec<CertificateDer<'static>> = rustls_native_certs::load_native_certs().certs;
        for file in ca {
            roots.extend(read(file)?);
        }
        let roots = roots.into_iter().map(|root| Certificate::from_der(&root).to_owned());
        let config = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(aws_lc_rs::default_provider()))
            .root_certs(RootCerts::Specific(Arc::new(roots.collect())));
        Ok(config.build())
    }

    /// A URL of a control plane or an issuer.
    ///
    /// # Errors
    /// When it is no URL of the kind, or plain HTTP that leaves this host.
    pub fn address(&self, url: &str) -> Result<Address, TrustError> {
        let url = url.trim_end_matches('/');
        let refuse = || TrustError::Url { url: url.to_owned() };
        let uri: Uri = url.parse().map_err(|_| refuse())?;
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
        let host = authority.ok_or_else(refuse)?.host();
        if host.is_empty() || authority.is_some_and(|authority| authority.as_str().ends_with(':')) {
            return Err(refuse());
        }
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(refuse()),
        };
        if !is_tls && !self.insecure_http && !is_loopback(host) {
            return Err(TrustError::Clear { url: url.to_owned() });
        }
        Ok(Address { url: url.to_owned(), is_tls })
    }
}

// === impl Address ===

impl Address {
    /// As it was written, without slashes at the end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether it is spoken to with TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

/// What is wrong with the TLS of `url`, and the remedy, if it is a matter of TLS.
pub(crate) fn tls_trouble(url: &str, error: &ureq::Error) -> Option<String> {
    let error = match error {
        ureq::Error::Rustls(error) => error,
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref::<TlsError>()?,
        ureq::Error::Tls(message) => return Some(format!("{url}: {message}; write a name or an IP address")),
        _ => return None,
    };
    let (what, remedy) = match error {
        TlsError::InvalidCertificate(error) => certificate_trouble(error),
        TlsError::InvalidMessage(_) => (
            "it does not answer in TLS".to_owned(),
            "write the port that speaks TLS, or http:// if it is on this host",
        ),
        error => (error.to_string(), "see what the server's log says about it"),
    };
    Some(format!("{url}: {what}; {remedy}"))
}

fn certificate_trouble(error: &CertificateError) -> (String, &'static str) {
    match error {
        CertificateError::UnknownIssuer => (
            "no authority that this host trusts has signed its certificate".to_owned(),
            "name the authority's certificate with --ca FILE, or add it to the system's",
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
            format!("its certificate is of no use any more: {error}"),
            "renew it there, or set this host's clock",
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            (format!("its certificate is not valid yet: {error}"), "set this host's clock, or the issuer's")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
            format!("its certificate is for another name: {error}"),
            "write a name that it has, or have one issued with this name",
        ),
        error => (format!("its certificate is not accepted: {error}"), "have another one issued"),
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    // RFC 6761 section 6.3: these names are the loopback address's.
    let named = bare.eq_ignore_ascii_case("localhost") || bare.to_ascii_lowercase().ends_with(".localhost");
    named || bare.parse::<IpAddr>().is_ok_and(|addr| addr.is_loopback())
}

fn read(file: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let fail = |message: String| TrustError::Ca { file: file.display().to_string(), message };
    let text = fs::read(file).map_err(|error| fail(error.to_string()))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| fail(error.to_string()))?;
    if found.is_empty() {
        return Err(fail("there is no certificate in it".to_owned()));
    }
    // One that is no certificate would be left out in silence later on.
    let mut store = rustls::RootCertStore::empty();
    for one in &found {
        store.add(one.clone()).map_err(|error| fail(error.to_string()))?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_stays_on_this_host_unless_asked_for() {
        let strict = Trust::default();
        for url in ["http://127.0.0.1:1", "http://127.9.9.9", "http://[::1]:8787/", "http://localhost:1/base"]
        {
            assert!(!strict.address(url).unwrap().is_tls(), "{url}");
        }
        for url in ["https://plane", "https://10.0.0.1:8443/base"] {
            assert!(strict.address(url).unwrap().is_tls(), "{url}");
        }
        for url in ["http://plane", "http://10.0.0.1:1", "http://localhost.example", "http://[::2]:1"] {
            let error = strict.address(url).unwrap_err().to_string();
            assert!(error.contains(url) && error.contains("--insecure-http"), "{error}");
            Trust { insecure_http: true, ..Trust::default() }.address(url).unwrap();
        }
    }

    #[test]
    fn what_is_no_url_is_refused_with_the_way_to_write_it() {
        for url in
            ["", "plane", "ftp://x", "/x", "https://", "https://u:p@plane", "https://plane:", "http://a b"]
        {
            let error = Trust::default().address(url).expect_err(url).to_string();
            assert!(error.contains("https://HOST"), "{error}");
        }
    }

    #[test]
    fn a_file_without_certificates_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        let trouble = |text: &str| {
            fs::write(&file, text).unwrap();
            let trust = Trust { ca: vec![file.clone()], ..Trust::default() };
            trust.tls_config().map(drop).unwrap_err().to_string()
        };
        assert!(trouble("").contains("no certificate in it"));
        let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for text in [no_certificate, "-----BEGIN CERTIFICATE-----\nA"] {
            let error = trouble(text);
            assert!(error.contains("ca.pem") && error.contains("PEM"), "{error}");
        }
        fs::remove_file(&file).unwrap();
        let gone = Trust { ca: vec![file], ..Trust::default() };
        assert!(gone.tls_config().map(drop).unwrap_err().to_string().contains("ca.pem"));
    }
}
