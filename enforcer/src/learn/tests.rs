use super::*;

fn record(path: &str) -> AccessLog {
    AccessLog {
        destination_port: 80,
        method: "GET".to_owned(),
        path: path.to_owned(),
        decision: Verdict::Allow,
        ..AccessLog::default()
    }
}

fn learnt(paths: &[&str]) -> Vec<(String, u64)> {
    let mut learner = Learner::default();
    paths.iter().for_each(|path| learner.observe(&record(path)));
    learner.endpoints().into_iter().map(|endpoint| (endpoint.pattern, endpoint.usage.hits)).collect()
}

#[test]
fn what_looks_like_an_identifier_varies() {
    let id = "/users/{id}";
    for varies in [
        "7",
        "4711",
        "2026-03-22",
        "123e4567-e89b-12d3-a456-426614174000",
        "deadbeef01",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "a@b.example",
        "10.0.0.1",
    ] {
        assert_eq!(learnt(&[&format!("/users/{varies}")]), [(id.to_owned(), 1)], "{varies}");
    }
    for stays in ["me", "v1", "orders", "facade", "index.html", "", "change-password"] {
        let path = format!("/users/{stays}");
        assert_eq!(learnt(&[&path]), [(path.clone(), 1)], "{stays}");
    }
}

#[test]
fn hits_are_counted_by_port_method_and_pattern() {
    let mut learner = Learner::default();
    for path in ["/a/1/b", "/a/2/b", "/a/me/b"] {
        learner.observe(&record(path));
    }
    learner.observe(&AccessLog { method: "POST".to_owned(), ..record("/a/3/b") });
    learner.observe(&AccessLog { destination_port: 81, ..record("/a/3/b") });
    let seen: Vec<_> =
        learner.endpoints().into_iter().map(|e| (e.port, e.method, e.pattern, e.usage.hits)).collect();
    let row = |port, method: &str, pattern: &str, hits| (port, method.to_owned(), pattern.to_owned(), hits);
    assert_eq!(
        seen,
        [
            row(80, "GET", "/a/me/b", 1),
            row(80, "GET", "/a/{id}/b", 2),
            row(80, "POST", "/a/{id}/b", 1),
            row(81, "GET", "/a/{id}/b", 1),
        ]
    );
}

#[test]
fn many_names_at_one_place_are_identifiers() {
    let mut learner = Learner::default();
    let letters = |n: usize| ["a", "b", "c", "d", "e", "f", "g", "h"].map(|l| l.repeat(n));
    let names: Vec<String> = (1..=20).flat_map(letters).collect();
    for name in &names {
        learner.observe(&record(&format!("/repos/{name}/issues")));
        learner.observe(&record(&format!("/repos/{name}/pulls")));
    }
    let seen: Vec<_> = learner.endpoints().into_iter().map(|e| (e.pattern, e.usage.hits)).collect();
    let hits = names.len() as u64;
    assert_eq!(seen, [("/repos/{id}/issues".to_owned(), hits), ("/repos/{id}/pulls".to_owned(), hits)]);
    assert!(learner.places < 10, "{} places", learner.places);
}

#[test]
fn memory_is_bounded_and_every_request_is_counted() {
    let mut learner = Learner::default();
    let word = |mut n: usize| {
        let mut word = String::new();
        loop {
            word.push(char::from(b'g' + (n % 20) as u8));
            n /= 20;
            if n == 0 {
                return word;
            }
        }
    };
    let total = 60_000_usize;
    for n in 0..total {
        // A tree that is as wide as it may be at each of four places.
        let path =
            format!("/{}/{}/{}/{}", word(n % 37), word(n / 37 % 37), word(n / 1369 % 37), word(n % 31));
        learner.observe(&record(&path));
    }
    let hits: u64 = learner.endpoints().iter().map(|endpoint| endpoint.usage.hits).sum();
    assert!(learner.places <= PLACES_MAX && learner.endpoints().len() <= PLACES_MAX);
    assert!(learner.beyond() > 0);
    assert_eq!(hits + learner.beyond(), total as u64);
}

#[test]
fn what_was_denied_or_not_read_is_no_endpoint() {
    let mut learner = Learner::default();
    learner.observe(&AccessLog { decision: Verdict::Deny, ..record("/admin") });
    for path in ["", "*", "/a\\x00", "/long…"] {
        learner.observe(&record(path));
    }
    assert_eq!(learner.endpoints(), []);
    learner.observe(&AccessLog { decision: Verdict::WouldDeny, ..record("/seen/in/monitor") });
    assert_eq!(learner.endpoints().len(), 1);
}

#[test]
fn who_used_it_is_kept() {
    let mut learner = Learner::default();
    let with = |roles: &[&str]| AccessLog {
        user_id: Some("u".to_owned()),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        ..record("/a")
    };
    for seen in [record("/a"), with(&["x", "y"]), with(&["y", "x"]), with(&[])] {
        learner.observe(&seen);
    }
    let usage = learner.endpoints().remove(0).usage;
    assert_eq!((usage.hits, usage.anonymous, usage.roles.len()), (4, 1, 2));
}
