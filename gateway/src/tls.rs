//! Certificates of the gateway, read again when their files change.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;

use crate::config::TlsFiles;

/// The certificate in use.
pub(crate) struct Certificate {
    files: TlsFiles,
    current: RwLock<Arc<CertifiedKey>>,
}

// === impl Certificate ===

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// A text that names the file and the remedy.
    pub(crate) fn read(files: TlsFiles) -> Result<Arc<Certificate>, String> {
        let current = RwLock::new(Arc::new(load(&files)?));
        Ok(Arc::new(Certificate { files, current }))
    }

    /// Reads the files again. What cannot be used changes nothing.
    pub(crate) fn reload(&self) -> Result<(), String> {
        let fresh = Arc::new(load(&self.files)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// The files.
    pub(crate) fn files(&self) -> [&Path; 2] {
        [&self.files.certificate, &self.files.key]
    }

    /// Accepts TLS 1.2 and 1.3 with it, for HTTP/2 and HTTP/1.1.
    pub(crate) fn server_config(self: &Arc<Certificate>) -> Result<Arc<ServerConfig>, String> {
        let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::clone(self) as Arc<_>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("files", &self.files).finish_non_exhaustive()
    }
}

fn load(files: &TlsFiles) -> Result<CertifiedKey, String> {
    let TlsFiles { certificate, key } = files;
    let text = fs::read(certificate)
        .map_err(|error| at(certificate, &error, "check the path and its permissions"))?;
    let chain: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let chain = chain.map_err(|error| at(certificate, &error, "write the certificate chain as PEM"))?;
    if chain.is_empty() {
        return Err(at(certificate, &"there is no certificate in it", "write the certificate chain as PEM"));
    }
    let text = fs::read(key).map_err(|error| at(key, &error, "check the path and its permissions"))?;
    let private = PrivateKeyDer::from_pem_slice(&text)
        .map_err(|error| at(key, &error, "write the private key as PEM: PKCS#8, SEC1 or PKCS#1"))?;
    CertifiedKey::from_der(chain, private, &aws_lc_rs::default_provider())
        .map_err(|error| at(key, &error, "give the key that belongs to the certificate"))
}

fn at(path: &Path, what: &dyn fmt::Display, remedy: &str) -> String {
    format!("{}: {what}; {remedy}", path.display())
}
