//! Keys of an issuer's own URL: over a restart, and from where they come.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use portcullis_follower::{FollowConfig, Follower, IssuerConfig};
use portcullis_testkit::eventually;
use portcullis_token::mint::SigningKey;
use portcullis_wire::JwkSet;

use crate::plane::{NOW_S, Notes, Plane, SOON, at, end, in_dir, nowhere, register};

const AGE_MAX: Duration = Duration::from_secs(3600);

fn issuer(uri: String) -> IssuerConfig {
    IssuerConfig {
        issuer: "https://id.test".into(),
        audiences: vec!["a".into()],
        leeway_s: 0,
        jwks_uri: Some(uri),
    }
}

fn keys() -> String {
    let key = SigningKey::generate_es256().unwrap().public_jwk("one");
    serde_json::to_string(&JwkSet { keys: vec![key] }).unwrap()
}

/// How many keys the issuer has in what is in force.
fn in_force(notes: &Notes) -> usize {
    notes.last().unwrap().issuers.iter().map(|issuer| issuer.jwks.keys.len()).sum()
}

#[test]
fn a_restart_while_the_issuer_is_down_goes_on_with_keys_that_are_young_enough() {
    let (plane, dir) = (Plane::start(), tempfile::tempdir().unwrap());
    // The issuer is a server of its own, which goes.
    let other = Plane::start();
    other.state().keys = keys();
    let (plane_config, follow) = in_dir(at(&plane, register()), dir.path());
    let begin = |uri: &str, now_s: &Arc<AtomicU64>| {
        let issuers = vec![issuer(uri.to_owned())];
        let follow = FollowConfig { issuers, key_age_max: Some(AGE_MAX), ..follow.clone() };
        let clock = now_s.clone();
        let now = Arc::new(move || clock.load(Ordering::Acquire));
        let follower = Follower::new(plane_config.clone(), follow, now).unwrap();
        let notes = Notes::default();
        follower.begin(notes.clone());
        (follower, notes)
    };
    let now_s = Arc::new(AtomicU64::new(NOW_S));
    let uri = format!("http://{}/keys", other.addr);
    let (follower, notes) = begin(&uri, &now_s);
    assert_eq!(in_force(&notes), 1);
    end(follower);

    // The next answer is no key set, which is as good as none.
    other.state().keys = "down".into();
    now_s.store(NOW_S + AGE_MAX.as_secs() - 1, Ordering::Release);
    let (follower, notes) = begin(&uri, &now_s);
    assert_eq!(in_force(&notes), 1);
    let first = notes.bundles.lock().unwrap()[0].clone();
    assert_eq!(first.issuers[0].jwks.keys.len(), 1, "from the first moment on");
    let problems = follower.state().problems;
    assert!(problems.iter().any(|problem| problem.contains("the keys of before stay")), "{problems:?}");

    // They are as old as they are, over any number of restarts.
    now_s.store(NOW_S + AGE_MAX.as_secs() + 1, Ordering::Release);
    follower.age().unwrap();
    assert_eq!(in_force(&notes), 0);
    let (follower, notes) = begin(&uri, &now_s);
    assert_eq!(in_force(&notes), 0);
    assert!(follower.state().problems.iter().any(|problem| problem.contains("too long")));

    // A clock that was put back makes none younger than now, and keys of another address are not this one's.
    now_s.store(NOW_S - 10, Ordering::Release);
    let (_, notes) = begin(&uri, &now_s);
    assert_eq!(in_force(&notes), 1);
    let (_, notes) = begin(&format!("http://{}/keys", nowhere()), &now_s);
    assert_eq!(in_force(&notes), 0);
}

/// Begins with a configuration on disk but no keys, for an engine with these versions in force; how many bundles it had
/// been given by the time that the issuer was asked.
fn given_before_the_question(in_force: &[u64]) -> usize {
    let (plane, dir) = (Plane::start(), tempfile::tempdir().unwrap());
    let (plane_config, follow) = in_dir(at(&plane, register()), dir.path());
    let follower = Follower::new(plane_config.clone(), follow.clone(), Arc::new(|| NOW_S)).unwrap();
    follower.begin(Notes::default());
    end(follower);

    let notes = Notes::default();
    notes.bundles.lock().unwrap().extend(
        in_force.iter().map(|version| portcullis_wire::Bundle { version: *version, ..Default::default() }),
    );
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("http://{}/keys", listener.local_addr().unwrap());
    let seen = notes.clone();
    // Asked, it notes what is in force, and hangs up.
    let server = std::thread::spawn(move || {
        drop(listener.accept().unwrap());
        seen.bundles.lock().unwrap().len()
    });
    let follow = FollowConfig { issuers: vec![issuer(uri)], ..follow };
    let follower = Follower::new(plane_config, follow, Arc::new(|| NOW_S)).unwrap();
    follower.begin(notes);
    server.join().unwrap() - in_force.len()
}

#[test]
fn what_is_on_disk_waits_for_an_issuer_only_where_something_is_in_force() {
    // A host that starts is protected first.
    assert_eq!(given_before_the_question(&[]), 1);
    // A takeover would make the kernel forget the keys that it has.
    assert_eq!(given_before_the_question(&[1]), 0);
}

#[test]
fn a_torn_file_is_told_and_replaced() {
    let (plane, dir) = (Plane::start(), tempfile::tempdir().unwrap());
    plane.state().keys = keys();
    let (plane_config, follow) = in_dir(at(&plane, register()), dir.path());
    let follow = FollowConfig { issuers: vec![issuer(format!("http://{}/keys", plane.addr))], ..follow };
    std::fs::write(dir.path().join("bundle.keys"), "portcullis-keys-1 sha256:0\n[]").unwrap();
    let follower = Follower::<Notes>::new(plane_config, follow, Arc::new(|| NOW_S)).unwrap();
    let problems = follower.state().problems;
    assert!(problems.iter().any(|problem| problem.contains("bundle.keys")), "{problems:?}");
    let notes = Notes::default();
    follower.begin(notes.clone());
    assert_eq!(in_force(&notes), 1);
    let follower = Arc::new(follower);
    follower.spawn().unwrap();
    eventually("a file that is good", SOON, || follower.state().problems.is_empty().then_some(()));
    follower.stop();
}
