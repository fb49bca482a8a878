//! Bundles and their signatures, over the network and from the disk.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use portcullis_follower::{Engine, EngineError, FollowConfig, FollowError, Follower, PlaneConfig};
use portcullis_token::mint::SigningKey;
use portcullis_wire::Bundle;
use serde_json::json;

use crate::plane::{
    NOW_S, Notes, Plane, at, begun, body, end, header, in_dir, known, nowhere, register, sign,
};

/// What the plane serves now is refused, that is said, and what is in force stays.
#[track_caller]
fn refused(follower: &Follower<Notes>, notes: &Notes, why: &str) {
    let (before, counted) = (notes.version(), follower.state().refused_signature);
    let error = follower.sync(None).expect_err(why).to_string();
    assert!(error.contains(why), "{why}: {error}");
    let state = follower.state();
    assert_eq!(state.error.as_deref(), Some(error.as_str()));
    assert_eq!((notes.version(), state.refused_signature), (before, counted + 1), "{why}");
}

#[test]
fn what_the_pinned_key_did_not_sign_for_this_agent_is_refused_and_the_last_good_stays() {
    let plane = Plane::start();
    let (follower, notes) = begun(at(&plane, register()), FollowConfig::default());
    assert_eq!((notes.version(), follower.state().error), (1, None));

    let other = SigningKey::generate_es256().unwrap();
    let good = sign(&plane.key, &header("a1", 2), &body(2));
    let serve = |signature: Option<String>, body: String| {
        let mut state = plane.state();
        (state.signature, state.body) = (signature, body);
    };
    serve(Some(good.clone()), body(2).replace("[]", "[ ]"));
    refused(&follower, &notes, "not of the pinned key");
    serve(None, body(2));
    refused(&follower, &notes, "no signature");
    serve(Some(sign(&other, &header("a1", 2), &body(2))), body(2));
    refused(&follower, &notes, "not of the pinned key");
    for alg in ["none", "HS256", "RS256"] {
        let mut header = header("a1", 2);
        header["alg"] = alg.into();
        serve(Some(sign(&plane.key, &header, &body(2))), body(2));
        refused(&follower, &notes, "ES256 is accepted");
    }
    serve(Some(sign(&plane.key, &header("a2", 2), &body(2))), body(2));
    refused(&follower, &notes, "signed for agent \"a2\"");
    serve(Some(sign(&plane.key, &header("a1", 3), &body(2))), body(2));
    refused(&follower, &notes, "of version 3");
    serve(Some(good.clone()), body(1));
    refused(&follower, &notes, "not of the pinned key");
    // Twice the field: which counts would be a guess.
    serve(Some(format!("{good}\r\nPortcullis-Bundle-Signature: {good}")), body(2));
    refused(&follower, &notes, "no signature");

    serve(Some(good), body(2));
    follower.sync(None).unwrap();
    assert_eq!((notes.version(), follower.state().error), (2, None));
}

#[test]
fn an_older_version_is_refused_although_its_signature_is_good() {
    let plane = Plane::start();
    let (follower, notes) = begun(at(&plane, register()), FollowConfig::default());
    plane.serve(7);
    follower.sync(None).unwrap();
    plane.serve(6);
    let error = follower.sync(None).unwrap_err().to_string();
    assert!(error.contains("6 is older than 7"), "{error}");
    let state = follower.state();
    assert_eq!((notes.version(), state.refused_version, state.refused_signature), (7, 1, 0));
}

#[test]
fn the_key_is_pinned_by_the_registration_and_outlives_a_restart() {
    let (plane, dir) = (Plane::start(), tempfile::tempdir().unwrap());
    let config = || in_dir(at(&plane, register()), dir.path());
    let (plane_config, follow) = config();
    end(begun(plane_config, follow).0);
    // Somebody in the place of the control plane, with a key of its own.
    let other = SigningKey::generate_es256().unwrap();
    {
        let mut state = plane.state();
        state.bundle_key = Some(other.public_jwk("pinned"));
        state.signature = Some(sign(&other, &header("a1", 9), &body(9)));
        state.body = body(9);
    }
    let (plane_config, follow) = config();
    let (follower, notes) = begun(plane_config, follow);
    assert_eq!(notes.version(), 1, "from the disk");
    let error = follower.state().error.unwrap();
    assert!(error.contains("not of the pinned key") && error.contains("register again"), "{error}");
    // An older control plane, too, is no way around it.
    (plane.state().bundle_key, plane.state().signature) = (None, None);
    refused(&follower, &notes, "no signature");
    assert_eq!(plane.state().registered, 1, "who it is was kept");
    assert!(!plane.state().asked.iter().any(|path| path.ends_with("/bundle-key")));
    // Told so: registered again.
    fs::remove_file(dir.path().join("identity")).unwrap();
    {
        let mut state = plane.state();
        state.bundle_key = Some(other.public_jwk("pinned"));
        state.signature = Some(sign(&other, &header("a2", 9), &body(9)));
    }
    let (plane_config, follow) = config();
    let (follower, notes) = begun(plane_config, follow);
    assert_eq!((notes.version(), follower.state().error), (9, None));
}

#[test]
fn a_secret_goes_to_the_control_plane_that_gave_it_and_to_no_other() {
    let (plane, other, dir) = (Plane::start(), Plane::start(), tempfile::tempdir().unwrap());
    for plane in [&plane, &other, &other] {
        let (plane_config, follow) = in_dir(at(plane, register()), dir.path());
        let (follower, notes) = begun(plane_config, FollowConfig { cache: None, ..follow });
        assert_eq!((notes.version(), follower.state().error), (1, None));
    }
    assert_eq!((plane.state().registered, other.state().registered), (1, 1));
}

#[test]
fn an_agent_that_was_registered_before_asks_for_the_key_once() {
    let (plane, dir) = (Plane::start(), tempfile::tempdir().unwrap());
    let config = || in_dir(at(&plane, known()), dir.path());
    for _ in 0..2 {
        let (plane_config, follow) = config();
        let (follower, _) = begun(plane_config, follow);
        follower.sync(None).unwrap();
    }
    let asked = |what: &str| plane.state().asked.iter().filter(|path| path.ends_with(what)).count();
    assert_eq!((asked("/bundle-key"), asked("/register")), (1, 0));
    // The secret is the settings' to keep.
    assert!(!fs::read_to_string(dir.path().join("identity")).unwrap().contains("agent_secret"));
    // Another address of the control plane is no reason to believe another key.
    let (plane_config, follow) = config();
    let moved = Plane::start();
    let plane_config = PlaneConfig { url: format!("http://{}", moved.addr), ..plane_config };
    let (follower, notes) = begun(plane_config, follow);
    assert!(follower.state().error.unwrap().contains("not of the pinned key"));
    assert_eq!(notes.version(), 0, "the disk has nothing yet");
    // One that is given holds, whatever the file says.
    let given = SigningKey::generate_es256().unwrap();
    let (plane_config, follow) = config();
    let bundle_key = Some(given.public_jwk("given"));
    let follow = FollowConfig { cache: None, ..follow };
    let (follower, notes) = begun(PlaneConfig { bundle_key, ..plane_config }, follow);
    assert!(follower.state().error.unwrap().contains("\"given\""));
    assert_eq!(notes.version(), 0);
}

#[test]
fn the_key_must_be_had_before_a_bundle_counts() {
    let plane = Plane::start();
    plane.state().status = 503;
    let (follower, notes) = begun(at(&plane, known()), FollowConfig::default());
    assert!(follower.state().error.unwrap().contains("503"));
    plane.state().bundle_key = Some(SigningKey::generate_rs256(2048).unwrap().public_jwk("rsa"));
    plane.state().status = 0;
    let error = follower.sync(None).unwrap_err().to_string();
    assert!(error.contains("RSA"), "{error}");
    assert_eq!(notes.version(), 0);
}

#[test]
fn a_control_plane_without_signatures_is_followed_as_before() {
    let plane = Plane::start();
    (plane.state().bundle_key, plane.state().signature) = (None, None);
    for identity in [register(), known()] {
        let (follower, notes) = begun(at(&plane, identity), FollowConfig::default());
        assert_eq!((notes.version(), follower.state().error), (1, None));
    }
}

#[test]
fn what_is_on_disk_is_verified_again() {
    let (plane, dir) = (Plane::start(), tempfile::tempdir().unwrap());
    let (plane_config, follow) = in_dir(at(&plane, register()), dir.path());
    end(begun(plane_config.clone(), follow.clone()).0);
    // Another address makes another identity: the control plane stays where it is, and fails.
    plane.state().status = 503;
    let (_, notes) = begun(plane_config.clone(), follow.clone());
    assert_eq!(notes.version(), 1);
    // A checksum is no signature: whoever can write the file can make one.
    let text = fs::read(dir.path().join("bundle")).unwrap();
    let contents = String::from_utf8(text).unwrap().split_once('\n').unwrap().1.to_owned();
    let forged = contents.replace("\"version\":1", "\"version\":2");
    assert_ne!(forged, contents);
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, forged.as_bytes());
    let sum: String = sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let file = format!("portcullis-bundle-2 sha256:{sum}\n{forged}");
    fs::write(dir.path().join("bundle"), file).unwrap();
    let follower = Follower::<Notes>::new(plane_config, follow, std::sync::Arc::new(|| 0)).unwrap();
    assert!(follower.cached().is_none());
    let notes = Notes::default();
    follower.begin(notes.clone());
    assert_eq!(notes.version(), 0);
}

#[test]
fn who_was_registered_starts_without_the_control_plane() {
    let (plane, dir) = (Plane::start(), tempfile::tempdir().unwrap());
    let gone = nowhere();
    let identity = json!({
        "url": format!("http://{gone}"), "tenant": "t", "agent_id": "a1", "agent_secret": "s",
        "bundle_key": plane.key.public_jwk("pinned"),
    });
    let (plane_config, follow) = in_dir(at(&plane, register()), dir.path());
    end(begun(plane_config.clone(), follow.clone()).0);
    fs::write(dir.path().join("identity"), identity.to_string()).unwrap();
    let plane_config = PlaneConfig { url: format!("http://{gone}"), ..plane_config };
    let (follower, notes) = begun(plane_config, follow);
    assert_eq!((follower.plane().agent_id().unwrap().as_str(), notes.version()), ("a1", 1));
    assert!(follower.state().error.is_some());
}

#[test]
fn nobody_is_registered_who_cannot_be_kept() {
    let (plane, dir) = (Plane::start(), tempfile::tempdir().unwrap());
    // In the way of the file that becomes it.
    fs::create_dir(dir.path().join("identity.new")).unwrap();
    let (plane_config, _) = in_dir(at(&plane, register()), dir.path());
    let (follower, _) = begun(plane_config, FollowConfig::default());
    let error = follower.state().error.unwrap();
    assert!(error.contains("identity") && error.contains("cannot be written"), "{error}");
    assert_eq!(plane.state().registered, 0);
}

#[test]
fn a_clock_that_was_ahead_makes_no_configuration_younger_than_now() {
    let (plane, dir) = (Plane::start(), tempfile::tempdir().unwrap());
    let (plane_config, follow) = in_dir(at(&plane, known()), dir.path());
    let (follower, _) = begun(plane_config.clone(), follow.clone());
    end(follower);
    let ahead = std::time::UNIX_EPOCH + Duration::from_secs(NOW_S + 1_000_000);
    let file = std::fs::File::options().write(true).open(dir.path().join("bundle")).unwrap();
    file.set_modified(ahead).unwrap();
    plane.state().status = 503;
    let now_s = Arc::new(AtomicU64::new(NOW_S));
    let clock = now_s.clone();
    let follower =
        Follower::new(plane_config, follow, Arc::new(move || clock.load(Ordering::Acquire))).unwrap();
    follower.begin(Notes::default());
    now_s.store(NOW_S + 500, Ordering::Release);
    assert_eq!(follower.state().config_age_s, Some(500));
}

/// An engine that fails although the bundle is in force.
struct Half(Notes);

impl Engine for Half {
    fn version(&self) -> Result<u64, EngineError> {
        Ok(self.0.version())
    }

    fn install(&mut self, bundle: &Bundle) -> Result<Vec<String>, EngineError> {
        self.0.install(bundle)?;
        if bundle.version == 2 { Err("half done".into()) } else { Ok(Vec::new()) }
    }
}

#[test]
fn nothing_puts_an_older_version_back() {
    let (plane, dir) = (Plane::start(), tempfile::tempdir().unwrap());
    let (plane_config, follow) = in_dir(at(&plane, known()), dir.path());
    let age_max = Duration::from_secs(100);
    let follow = FollowConfig { key_age_max: Some(age_max), ..follow };
    let now_s = Arc::new(AtomicU64::new(NOW_S));
    let clock = now_s.clone();
    let follower =
        Follower::new(plane_config, follow, Arc::new(move || clock.load(Ordering::Acquire))).unwrap();
    let notes = Notes::default();
    follower.begin(Half(notes.clone()));
    assert_eq!(notes.version(), 1);
    plane.serve(2);
    follower.sync(None).unwrap_err();
    assert_eq!(notes.version(), 2);
    // Keys that grow too old have the last good bundle installed anew.
    now_s.store(NOW_S + 101, Ordering::Release);
    let error = follower.age().unwrap_err();
    assert!(matches!(error, FollowError::Older { offered: 1, current: 2 }), "{error}");
    assert_eq!(notes.version(), 2);
}
