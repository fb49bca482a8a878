//! TLS towards clients: certificate files, and connections whose handshake is done.
//!
//! The proxy reads its files in the same way; there is no crate below both for a page of code.

use std::fmt::Display;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::server::TlsStream;

use crate::TlsFiles;

/// Connections after their handshake. Dropping it stops listening.
pub(crate) struct Secured {
    addr: SocketAddr,
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
}

/// Longest handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Connections that wait to be served.
const READY_MAX: usize = 16;
/// Pause after the system refused to accept: too many open files, mostly.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// TLS 1.2 and 1.3 with these files, for HTTP/1.1. An error names the file and the remedy.
pub(crate) fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?.with_no_client_auth();
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(load(files)?)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

// === impl Secured ===

impl Secured {
    /// Connections of `listener`. Handshakes go on side by side: a slow one holds up nobody.
    pub(crate) fn new(listener: TcpListener, addr: SocketAddr, acceptor: TlsAcceptor) -> Secured {
        let (done, ready) = mpsc::channel(READY_MAX);
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = done.closed() => return,
                };
                let Ok((stream, peer)) = accepted else {
                    sleep(ACCEPT_RETRY).await;
                    continue;
                };
                let (acceptor, done) = (acceptor.clone(), done.clone());
                tokio::spawn(async move {
                    // Small answers do not wait for the acknowledgement of those before.
                    let _set = stream.set_nodelay(true).is_ok();
                    // Whoever fails, or speaks no TLS, has been told by an alert.
                    if let Ok(Ok(stream)) = timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await {
                        let _served = done.send((stream, peer)).await.is_ok();
                    }
                });
            }
        });
        Secured { addr, ready }
    }
}

impl Listener for Secured {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(connection) => connection,
            // The task that accepts ends after this listener only.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
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

fn at(path: &Path, what: &dyn Display, remedy: &str) -> String {
    format!("{}: {what}; {remedy}", path.display())
}
