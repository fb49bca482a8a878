//! TLS in, and certificates that change.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use portcullis_gateway::{Config, Gateway, StartError, TlsFiles};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::http2;
use crate::world::{Recorder, World, request};

/// A fresh certificate in these files; what clients trust then.
fn certificate(dir: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(vec!["proxy.test".to_owned()]).unwrap();
    fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    fs::write(dir.join("chain.pem"), made.cert.pem()).unwrap();
    made.cert.der().clone()
}

fn files(dir: &Path) -> TlsFiles {
    TlsFiles { certificate: dir.join("chain.pem"), key: dir.join("key.pem") }
}

async fn connect(
    world: &World,
    trusted: &CertificateDer<'static>,
    alpn: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let name = ServerName::try_from("proxy.test").unwrap();
    let stream = TcpStream::connect(world.gateway.addr()).await.unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// The status of an HTTP/1.1 request.
async fn status(stream: &mut TlsStream<TcpStream>, text: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut got = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&got).to_ascii_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if body.len() == length.parse::<usize>().unwrap() {
                return text["http/1.1 ".len()..][..3].to_owned();
            }
        }
        assert!(stream.read_buf(&mut got).await.unwrap() > 0);
    }
}

#[tokio::test]
async fn clients_speak_tls_with_http1_and_http2() {
    let dir = tempfile::tempdir().unwrap();
    let trusted = certificate(dir.path());
    let recorder = Recorder::start().await;
    let world = World::before(recorder.app.addr, |config| config.tls = Some(files(dir.path()))).await;
    let mut plain = connect(&world, &trusted, &[b"http/1.1"]).await.unwrap();
    assert_eq!(status(&mut plain, &request("GET /closed/a", &[])).await, "401");
    let mut plain = connect(&world, &trusted, &[]).await.unwrap();
    assert_eq!(status(&mut plain, &request("GET /closed/a", &[&world.bearer()])).await, "200");
    assert_eq!(recorder.take()[0].field("x-forwarded-proto"), Some("https"));
    let stream = connect(&world, &trusted, &[b"h2", b"http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut sender = http2::client(stream).await;
    let ask = http::Request::get("https://h/open/a").body(http_body_util::Full::default()).unwrap();
    assert_eq!(sender.send_request(ask).await.unwrap().status(), 200);
    assert_eq!(recorder.take()[0].field("x-forwarded-proto"), Some("https"));
}

#[tokio::test]
async fn smuggling_is_refused_behind_tls_too() {
    let dir = tempfile::tempdir().unwrap();
    let trusted = certificate(dir.path());
    let recorder = Recorder::start().await;
    let world = World::before(recorder.app.addr, |config| config.tls = Some(files(dir.path()))).await;
    for text in
        ["GET /open/a HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n", "GET /open//a HTTP/1.1\r\nHost: h\r\n\r\n"]
    {
        let mut stream = connect(&world, &trusted, &[]).await.unwrap();
        assert_eq!(status(&mut stream, text).await, "400");
    }
    let mut clear = world.connect().await;
    clear.send(request("GET /open/a", &[])).await;
    let mut rest = Vec::new();
    use tokio::io::AsyncReadExt;
    drop(clear.stream.read_to_end(&mut rest).await);
    assert!(!rest.starts_with(b"HTTP"), "a client without TLS was answered");
    assert_eq!(recorder.take(), []);
}

#[tokio::test]
async fn a_certificate_is_read_again_when_it_changes() {
    let dir = tempfile::tempdir().unwrap();
    let first = certificate(dir.path());
    let recorder = Recorder::start().await;
    let world = World::before(recorder.app.addr, |config| {
        config.tls = Some(files(dir.path()));
        config.poll = std::time::Duration::from_millis(10);
    })
    .await;
    let mut old = connect(&world, &first, &[]).await.unwrap();
    assert_eq!(status(&mut old, &request("GET /open/a", &[])).await, "200");
    let second = certificate(dir.path());
    world.until(|status| status.certificates > 0 && status.error.is_none()).await;
    let mut new = connect(&world, &second, &[]).await.unwrap();
    assert_eq!(status(&mut new, &request("GET /open/a", &[])).await, "200");
    assert!(connect(&world, &first, &[]).await.is_err());
    // Open connections go on.
    assert_eq!(status(&mut old, &request("GET /open/a", &[])).await, "200");
    // One that cannot be used changes nothing.
    fs::write(dir.path().join("chain.pem"), "no certificate").unwrap();
    world.until(|status| status.error.as_ref().is_some_and(|error| error.contains("chain.pem"))).await;
    let mut still = connect(&world, &second, &[]).await.unwrap();
    assert_eq!(status(&mut still, &request("GET /open/a", &[])).await, "200");
}

#[tokio::test]
async fn bad_files_are_refused_at_the_start_with_name_and_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    certificate(dir.path());
    certificate(other.path());
    let check = async |files: TlsFiles, name: &str, remedy: &str| {
        let recorder = Recorder::start().await;
        let world = World::before(recorder.app.addr, |_| {}).await;
        let source = portcullis_gateway::Source::Local(portcullis_gateway::Local {
            load: Box::new(|| Ok(portcullis_wire::Bundle::default())),
            watched: Vec::new(),
        });
        let upstream = portcullis_gateway::Upstream::parse(&recorder.app.addr.to_string()).unwrap();
        let mut config = Config::new(([127, 0, 0, 1], 0).into(), upstream, source);
        config.tls = Some(files);
        let Err(StartError::Files(text)) = Gateway::start(config).await else { panic!("{name} was taken") };
        assert!(text.contains(name) && text.contains(remedy), "{text}");
        drop(world);
    };
    let good = files(dir.path());
    let gone = dir.path().join("gone.pem");
    check(TlsFiles { certificate: gone.clone(), ..good.clone() }, "gone.pem", "check the path").await;
    check(TlsFiles { certificate: good.key.clone(), ..good.clone() }, "key.pem", "no certificate").await;
    check(TlsFiles { key: good.certificate.clone(), ..good.clone() }, "chain.pem", "private key as PEM")
        .await;
    check(TlsFiles { key: files(other.path()).key, ..good }, "key.pem", "belongs to the certificate").await;
}
