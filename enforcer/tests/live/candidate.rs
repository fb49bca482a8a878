//! Candidate policies: tried on every request, in the same run as the live ones, without effect.

use portcullis_testkit::need;
use portcullis_wire::{AccessLog, Action, Auth, Mode, Policy, Rule, Verdict};

use crate::app::App;
use crate::client::{Client, get};
use crate::world::{World, policy};

/// Stricter in one place, more liberal in another.
fn next(port: u16) -> Policy {
    let rule = |path: &str, roles: &[&str], auth| Rule {
        method: "*".into(),
        path_pattern: path.into(),
        required_roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        auth,
        ..Rule::default()
    };
    let rules = vec![
        rule("/health", &[], Some(Auth::Required)),
        rule("/open", &[], Some(Auth::None)),
        rule("/**", &["admin"], None),
    ];
    Policy { default_action: Action::Deny, rules, id: "next".into(), ..policy(port, Mode::Monitor) }
}

/// Verdict and reason of both, of a record.
fn both(record: &AccessLog) -> (Verdict, &str, Option<(Verdict, &str)>) {
    let tried = record.candidate.as_ref().map(|tried| (tried.decision, tried.reason.as_str()));
    (record.decision, &record.reason, tried)
}

#[test]
fn both_verdicts_stand_in_one_record_and_only_the_live_one_has_an_effect() {
    need!(Bpf, BpfFs, Cgroup2);
    let mut world = World::new("candidate");
    let app = App::local();
    let port = app.addr.port();
    world.apply_beside(vec![policy(port, Mode::Enforce)], Some(vec![next(port)]));
    let (reader, admin) =
        (world.role("reader"), world.token(serde_json::json!({ "roles": ["reader", "admin"] })));
    let (allow, deny) = (Verdict::Allow, Verdict::Deny);
    let cases = [
        ("/a", Some(reader.as_str()), 200, (allow, "rule_allow", Some((deny, "role_missing")))),
        ("/a", Some(admin.as_str()), 200, (allow, "rule_allow", Some((allow, "rule_allow")))),
        ("/open", None, 401, (deny, "token_missing", Some((allow, "public")))),
        ("/health", None, 200, (allow, "public", Some((deny, "token_missing")))),
        ("/health", Some(reader.as_str()), 200, (allow, "public", Some((allow, "rule_allow")))),
        ("/health", Some("a.b.c"), 200, (allow, "public", Some((deny, "token_malformed")))),
        ("/a/../b", None, 400, (deny, "path_ambiguous", None)),
    ];
    for (path, token, status, expected) in cases {
        let mut client = Client::connect(app.addr);
        // The same request again is recognised, and so are its field lines behind another path.
        for between in [false, false, true, false] {
            if between {
                client.ask(get("/health", token));
            }
            let response = client.ask(get(path, token));
            let records = world.records();
            let record = records.last().expect("a record");
            assert_eq!((response.status, both(record)), (status, expected), "{path} {token:?}");
            // A public rule looks at nobody, whatever the candidate does.
            assert!(record.reason != "public" || record.user_id.is_none(), "{record:?}");
            if status == 400 {
                break; // closed
            }
        }
    }
    assert_eq!(app.errors(), 0);
    // Without a candidate again: nothing is left of it.
    world.apply(vec![policy(port, Mode::Enforce)]);
    assert_eq!(Client::connect(app.addr).ask(get("/a", Some(&reader))).status, 200);
    assert_eq!(world.records().last().expect("a record").candidate, None);
}
