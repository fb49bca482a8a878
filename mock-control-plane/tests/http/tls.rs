//! TLS: what is served over it says https, and files that are of no use are named.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use portcullis_mock_control_plane::{Clock, Config, ControlPlane, TenantConfig, TlsFiles};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// A fresh certificate in files of `dir`, and what clients trust then.
fn certificate(dir: &Path) -> (TlsFiles, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(vec!["plane.test".to_owned()]).unwrap();
    let files = TlsFiles { certificate: dir.join("chain.pem"), key: dir.join("key.pem") };
    fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    fs::write(&files.certificate, made.cert.pem()).unwrap();
    (files, made.cert.der().clone())
}

fn config(tls: TlsFiles) -> Config {
    let clock = Clock::system();
    let tenant = TenantConfig { api_key: "sk_test".to_owned(), ..TenantConfig::default() };
    Config { tls: Some(tls), clock, ..Config::for_tests(tenant) }
}

async fn connect(
    url: &str,
    trusted: &CertificateDer<'static>,
    alpn: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let stream = TcpStream::connect(url.strip_prefix("https://").unwrap()).await.unwrap();
    let name = ServerName::try_from("plane.test").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Status and body.
async fn ask(stream: &mut TlsStream<TcpStream>, method: &str, path: &str, auth: &str, body: &str) -> Value {
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: plane.test\r\nConnection: close\r\n{auth}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 2"), "{answer}");
    serde_json::from_str(body).unwrap()
}

#[tokio::test]
async fn names_and_links_say_https() {
    let dir = tempfile::tempdir().unwrap();
    let (files, trusted) = certificate(dir.path());
    let plane = ControlPlane::start(config(files)).await.unwrap();
    let url = plane.url();
    // Somebody who connects and says nothing holds up nobody.
    let _silent = TcpStream::connect(plane.addr()).await.unwrap();
    let issuer = format!("{url}/v1/acme");
    assert!(issuer.starts_with("https://"), "{issuer}");
    let key = "X-API-Key: sk_test";
    let get = async |path: &str, auth: &str| {
        let mut stream = connect(&url, &trusted, b"http/1.1").await.unwrap();
        ask(&mut stream, "GET", path, auth, "").await
    };
    let post = async |path: &str, auth: &str, body: Value| {
        let mut stream = connect(&url, &trusted, b"http/1.1").await.unwrap();
        ask(&mut stream, "POST", path, auth, &body.to_string()).await
    };

    let metadata = get("/v1/acme/.well-known/openid-configuration", key).await;
    assert_eq!(metadata["issuer"], *issuer);
    assert_eq!(metadata["jwks_uri"], format!("{issuer}/.well-known/jwks.json"));
    assert_eq!(metadata["userinfo_endpoint"], format!("{issuer}/userinfo"));
    assert!(get("/v1/acme/.well-known/jwks.json", key).await["keys"][0]["kid"].is_string());

    let agent = post("/manage/v1/acme/access/agents/register", key, json!({ "hostname": "h" })).await;
    let (id, secret) = (agent["agent_id"].as_str().unwrap(), agent["agent_secret"].as_str().unwrap());
    let bearer = format!("Authorization: Bearer {secret}");
    let bundle = get(&format!("/manage/v1/acme/access/agents/{id}/config"), &bearer).await;
    assert_eq!(bundle["issuers"][0]["issuer"], *issuer);

    let scim = post("/manage/v1/acme/scim/tokens", key, json!({ "source": "d" })).await;
    let bearer = format!("Authorization: Bearer {}", scim["token"].as_str().unwrap());
    let user = post("/scim/v2/acme/Users", &bearer, json!({ "userName": "a@acme.com" })).await;
    let location = user["meta"]["location"].as_str().unwrap();
    assert!(location.starts_with(&format!("{url}/scim/v2/acme/Users/")), "{location}");
    plane.shutdown().await;
}

#[tokio::test]
async fn who_speaks_something_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (files, trusted) = certificate(dir.path());
    let plane = ControlPlane::start(config(files)).await.unwrap();
    let url = plane.url();
    connect(&url, &trusted, b"h2").await.unwrap_err();
    let stranger = rcgen::generate_simple_self_signed(vec!["plane.test".to_owned()]).unwrap();
    connect(&url, stranger.cert.der(), b"http/1.1").await.unwrap_err();
    let mut clear = TcpStream::connect(plane.addr()).await.unwrap();
    clear.write_all(b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // An alert and the end, or a reset.
    let _read = clear.read_to_end(&mut answer).await.is_ok();
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    plane.shutdown().await;
}

#[tokio::test]
async fn files_that_are_of_no_use_are_named_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let (files, _) = certificate(dir.path());
    let other = tempfile::tempdir().unwrap();
    let (others, _) = certificate(other.path());
    let empty = dir.path().join("empty");
    fs::write(&empty, "").unwrap();
    let torn = dir.path().join("torn");
    fs::write(&torn, &fs::read(&files.certificate).unwrap()[..200]).unwrap();
    let missing = dir.path().join("missing");
    let said = async |certificate: &Path, key: &Path| {
        let files = TlsFiles { certificate: certificate.to_owned(), key: key.to_owned() };
        ControlPlane::start(config(files)).await.expect_err("of no use").to_string()
    };
    let rows = [
        (&missing, &files.key, "missing", "check the path"),
        (&files.certificate, &missing, "missing", "check the path"),
        (&empty, &files.key, "empty", "no certificate"),
        (&torn, &files.key, "torn", "as PEM"),
        (&files.certificate, &empty, "empty", "private key as PEM"),
        (&files.certificate, &others.key, "key.pem", "the key that belongs to the certificate"),
        (&files.key, &files.certificate, "key.pem", "no certificate"),
    ];
    for (certificate, key, file, remedy) in rows {
        let said = said(certificate, key).await;
        assert!(said.contains(file) && said.contains(remedy), "{said}");
    }
}
