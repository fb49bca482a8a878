//! TLS to control planes and issuers: whom to believe, and what is said when that is nobody.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use portcullis_follower::{FollowConfig, Follower, IssuerConfig, PlaneConfig, PlaneError, Trust, probe};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::plane::{Notes, Plane, begun, nowhere, register};

/// An authority, and the file with its certificate.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(file: &Path) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(file, ca.pem()).unwrap();
        Authority(ca)
    }

    /// A server for these names.
    fn server(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Arc<ServerConfig> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let chain = vec![params.signed_by(&key, &self.0).unwrap().der().clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap())
    }
}

fn trust(files: &[&Path]) -> Trust {
    Trust { ca: files.iter().map(|file| (*file).to_owned()).collect(), insecure_http: false }
}

fn config(plane: &Plane, host: &str, trust: Trust) -> PlaneConfig {
    let url = format!("https://{host}:{}", plane.addr.port());
    PlaneConfig { trust, ..PlaneConfig::new(url, "t", register()) }
}

/// A server with one answer, in the clear, to whatever it is asked.
fn answering(reply: &str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (addr, reply) = (listener.local_addr().unwrap(), reply.to_owned());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            drop(stream.read(&mut [0; 4096]));
            drop(stream.write_all(reply.as_bytes()));
        }
    });
    addr
}

#[test]
fn a_private_authority_is_believed_when_it_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (file, other) = (dir.path().join("ca.pem"), dir.path().join("other.pem"));
    let (authority, _) = (Authority::new(&file), Authority::new(&other));
    let plane = Plane::start_with(Some(authority.server(&["localhost", "127.0.0.1"], |_| {})));
    for host in ["localhost", "127.0.0.1"] {
        let (follower, notes) = begun(config(&plane, host, trust(&[&file])), FollowConfig::default());
        assert_eq!((notes.version(), follower.state().error), (1, None));
        plane.state().registered = 0;
    }
    // Several can be named.
    let (_, notes) = begun(config(&plane, "localhost", trust(&[&other, &file])), FollowConfig::default());
    assert_eq!(notes.version(), 1);
}

#[test]
fn what_is_not_to_be_trusted_is_named_with_the_remedy_and_told_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    let authority = Authority::new(&file);
    let check = |plane: &Plane, trust: Trust, texts: &[&str]| {
        let (follower, notes) = begun(config(plane, "127.0.0.1", trust), FollowConfig::default());
        let error = follower.state().error.unwrap();
        let place = format!("https://127.0.0.1:{}", plane.addr.port());
        for text in texts.iter().chain(&[place.as_str()]) {
            assert!(error.contains(text), "no `{text}` in: {error}");
        }
        assert_eq!((notes.version(), plane.state().asked.len()), (0, 0), "{error}");
    };
    let good = Plane::start_with(Some(authority.server(&["127.0.0.1"], |_| {})));
    check(&good, trust(&[]), &["no authority that this host trusts", "--ca FILE"]);
    let named = Plane::start_with(Some(authority.server(&["plane.test"], |_| {})));
    check(&named, trust(&[&file]), &["for another name", "plane.test"]);
    let expired = authority.server(&["127.0.0.1"], |params| params.not_after = date_time_ymd(2020, 1, 1));
    check(&Plane::start_with(Some(expired)), trust(&[&file]), &["no use any more", "renew it"]);
    let early = authority.server(&["127.0.0.1"], |params| params.not_before = date_time_ymd(3000, 1, 1));
    check(&Plane::start_with(Some(early)), trust(&[&file]), &["not valid yet", "clock"]);
    let addr = answering("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    let error = probe(&format!("https://{addr}"), &Trust::default()).unwrap_err().to_string();
    assert!(error.contains("does not answer in TLS") && error.contains(&addr.to_string()), "{error}");
}

#[test]
fn a_question_whether_somebody_is_there_says_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    let plane = Plane::start_with(Some(Authority::new(&file).server(&["127.0.0.1"], |_| {})));
    plane.state().status = 404;
    let url = format!("https://{}", plane.addr);
    assert_eq!(probe(&url, &trust(&[&file])).unwrap(), 404);
    assert!(matches!(probe(&url, &trust(&[])), Err(PlaneError::Tls { .. })));
    assert!(matches!(probe("http://plane.example", &trust(&[])), Err(PlaneError::Trust(_))));
    assert!(matches!(probe(&format!("http://{}", nowhere()), &trust(&[])), Err(PlaneError::Http { .. })));
}

#[test]
fn plain_http_leaves_this_host_only_when_that_was_asked_for() {
    let new = |url: &str, issuers: Vec<IssuerConfig>, insecure_http: bool| {
        let trust = Trust { insecure_http, ..Trust::default() };
        let plane = PlaneConfig { trust, ..PlaneConfig::new(url, "t", register()) };
        let follow = FollowConfig { issuers, ..FollowConfig::default() };
        Follower::<Notes>::new(plane, follow, Arc::new(|| 0)).map(drop).map_err(|error| error.to_string())
    };
    let issuer = |url: &str| IssuerConfig {
        issuer: url.to_owned(),
        audiences: vec!["a".to_owned()],
        leeway_s: 0,
        jwks_uri: None,
    };
    let loopback = "http://127.0.0.1:1";
    assert!(new("http://192.0.2.1:8787", vec![], false).unwrap_err().contains("--insecure-http"));
    let error = new(loopback, vec![issuer("http://id.example")], false).unwrap_err();
    assert!(error.contains("http://id.example") && error.contains("--insecure-http"), "{error}");
    new("http://192.0.2.1:8787", vec![issuer("http://id.example")], true).unwrap();
    new(loopback, vec![issuer("https://id.example")], false).unwrap();
}

#[test]
fn an_issuers_keys_come_with_tls_all_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    let plane = Plane::start_with(Some(Authority::new(&file).server(&["127.0.0.1"], |_| {})));
    let clear = Plane::start();
    let key = portcullis_token::mint::SigningKey::generate_es256().unwrap().public_jwk("k");
    let keys = serde_json::to_string(&portcullis_wire::JwkSet { keys: vec![key] }).unwrap();
    (plane.state().keys, clear.state().keys) = (keys.clone(), keys);
    let begin = |path: &str| {
        let issuer = IssuerConfig {
            issuer: "https://id.test".to_owned(),
            audiences: vec!["a".to_owned()],
            leeway_s: 0,
            jwks_uri: Some(format!("https://{}{path}", plane.addr)),
        };
        let follow = FollowConfig { issuers: vec![issuer], ..FollowConfig::default() };
        plane.state().registered = 0;
        let (follower, notes) = begun(config(&plane, "127.0.0.1", trust(&[&file])), follow);
        let keys = notes.last().unwrap().issuers[0].jwks.keys.len();
        (keys, follower.state().problems)
    };
    assert_eq!(begin("/keys"), (1, Vec::new()));
    plane.state().moved_to = format!("https://{}/keys", plane.addr);
    assert_eq!(begin("/moved"), (1, Vec::new()));
    plane.state().moved_to = format!("http://{}/keys", clear.addr);
    let (keys, problems) = begin("/moved");
    assert_eq!((keys, clear.state().asked.len()), (0, 0), "{problems:?}");
    assert_eq!(problems.len(), 1);
}

#[test]
fn a_control_plane_that_sends_on_is_not_followed_there() {
    // The secret would go with the question.
    let elsewhere = Plane::start();
    let location = format!("http://{}/x", elsewhere.addr);
    let addr = answering(&format!("HTTP/1.1 307 X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"));
    let plane = PlaneConfig::new(format!("http://{addr}"), "t", crate::plane::known());
    let (follower, _) = begun(plane, FollowConfig::default());
    assert!(
        follower.state().error.is_some_and(|error| error.contains("307")),
        "{:?}",
        follower.state().error
    );
    assert_eq!(elsewhere.state().asked.len(), 0);
}
