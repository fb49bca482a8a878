//! What plans allow, and how long they keep records, on virtual time.

use portcullis_mock_control_plane::Plan;
use serde_json::{Value, json};

use crate::logs::{ids, ingest, query, record};
use crate::plane::Plane;
use crate::policies::policy;

const DAY_S: u64 = 86_400;

fn scale() -> Plane {
    Plane::with(|config| config.tenants[0].plan = Some(Plan::Scale))
}

#[test]
fn three_agents() {
    let plane = scale();
    let agents = [plane.agent(), plane.agent(), plane.agent()];
    let register = || plane.manage("POST", "access/agents/register", json!({ "hostname": "h" }));
    let refused = register();
    assert_eq!(refused.body["type"], "urn:portcullis:problem:plan-limit");
    assert!(refused.problem(403).contains("3 agents"));
    plane.manage("DELETE", &format!("access/agents/{}", agents[0].0), Value::Null).done();
    register().created();
    register().problem(403);
    plane.manage("PATCH", "tenant", json!({ "plan": "enterprise" })).ok();
    register().created();
    // What was there before stays.
    assert_eq!(plane.manage("PATCH", "tenant", json!({ "plan": "scale" })).ok()["plan"], "scale");
    plane.bundle(&agents[1]);
    register().problem(403);
}

#[test]
fn ten_protected_ports() {
    let plane = scale();
    let create = |id: &str, port: u16| plane.manage("POST", "access/policies", policy(id, port));
    for port in 1..=10 {
        create(&format!("p{port}"), port).created();
    }
    assert!(create("p11", 11).problem(403).contains("10 protected ports"));
    // Another host of a port is no other port, and a policy that is off protects none.
    let mut other = policy("host", 10);
    other["host_match"] = json!("a.example");
    plane.manage("POST", "access/policies", other).created();
    let mut off = policy("off", 12);
    off["mode"] = json!("disabled");
    plane.manage("POST", "access/policies", off).created();
    plane.manage("PUT", "access/policies/off", policy("off", 12)).problem(403);
    plane.manage("PUT", "access/policies/p1", policy("p1", 11)).ok();
    create("p1-again", 1).problem(403);
    plane.manage("DELETE", "access/policies/p1", Value::Null).done();
    create("p1-again", 1).created();
}

#[test]
fn records_are_kept_as_long_as_the_plan_says() {
    for (plan, days) in [(Plan::Scale, 14), (Plan::Enterprise, 365)] {
        let plane = Plane::with(|config| config.tenants[0].plan = Some(plan));
        let (_, secret) = plane.agent();
        ingest(&plane, &secret, json!([record(0, "allow")]));
        plane.advance(DAY_S);
        ingest(&plane, &secret, json!([record(1, "allow")]));
        plane.advance((days - 1) * DAY_S);
        assert_eq!(ids(&query(&plane, "")), [1, 0], "{plan:?}");
        plane.advance(1);
        let page = query(&plane, "");
        assert_eq!((ids(&page), &page["forgotten"]), (vec![1], &json!(1)), "{plan:?}");
        assert_eq!(ids(&query(&plane, "after=0")), [1], "{plan:?}");
        plane.advance(DAY_S);
        assert_eq!(query(&plane, "")["forgotten"], 2, "{plan:?}");
    }
}

#[test]
fn a_lesser_plan_keeps_less_at_once() {
    let plane = Plane::start();
    let (_, secret) = plane.agent();
    ingest(&plane, &secret, json!([record(0, "allow")]));
    plane.advance(15 * DAY_S);
    assert_eq!(ids(&query(&plane, "")), [0]);
    plane.manage("PATCH", "tenant", json!({ "plan": "scale" })).ok();
    assert!(ids(&query(&plane, "")).is_empty());
    plane.manage("PATCH", "tenant", json!({ "plan": "free" })).invalid_at(&["/plan"]);
}
