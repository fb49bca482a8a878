//! Patches in the forms that directories send them.

use serde_json::json;

use super::*;
use crate::scim::schema::{GROUP, USER};

const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";

fn alice() -> Map<String, Value> {
    object(json!({
        "userName": "alice", "active": true, "name": { "givenName": "Alice", "familyName": "Chen" },
        "emails": [{ "value": "a@acme.com", "type": "work", "primary": true }, { "value": "a@x.example", "type": "home" }],
        ENTERPRISE: { "department": "Oncology" },
    }))
}

fn doctors() -> Map<String, Value> {
    object(json!({ "displayName": "doctors", "members": [
        { "value": "u1", "type": "User" }, { "value": "u2", "type": "User" },
    ] }))
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().expect("an object").clone()
}

fn run(
    kind: &'static ResourceType,
    before: &Map<String, Value>,
    operations: Value,
) -> Result<Value, ScimError> {
    let patch: Patch =
        serde_json::from_value(json!({ "schemas": [SCHEMA], "Operations": operations })).expect("a patch");
    patch.apply(kind, before).map(Value::Object)
}

/// The patch leaves Alice with `expected` laid over what she was; `null` for what is gone.
fn check(operations: Value, expected: Value) {
    let mut wanted = alice();
    for (name, value) in object(expected) {
        match value {
            Value::Null => drop(wanted.remove(&name)),
            value => drop(wanted.insert(name, value)),
        }
    }
    assert_eq!(run(&USER, &alice(), operations.clone()), Ok(Value::Object(wanted)), "{operations}");
}

fn check_members(operations: Value, expected: &[&str]) {
    let after = run(&GROUP, &doctors(), operations.clone()).unwrap_or_else(|e| panic!("{operations}: {e:?}"));
    let members = after.get("members").and_then(Value::as_array).cloned().unwrap_or_default();
    let ids: Vec<&str> = members.iter().filter_map(|member| member["value"].as_str()).collect();
    assert_eq!(ids, expected, "{operations}");
}

fn check_refused(operations: Value, kind: ScimKind) {
    let error = run(&USER, &alice(), operations.clone()).expect_err(&operations.to_string());
    assert_eq!(error.kind, kind, "{operations}: {}", error.detail);
}

#[test]
fn deactivation_in_every_form() {
    let expected = json!({ "active": false });
    check(json!([{ "op": "Replace", "path": "active", "value": "False" }]), expected.clone());
    check(json!([{ "op": "replace", "value": { "active": false } }]), expected.clone());
    check(json!([{ "op": "Replace", "value": { "active": "false" } }]), expected.clone());
    check(json!([{ "op": "add", "path": "active", "value": false }]), expected.clone());
    check(
        json!([{ "op": "replace", "path": "urn:ietf:params:scim:schemas:core:2.0:User:active", "value": false }]),
        expected,
    );
}

#[test]
fn entra_paths() {
    check(
        json!([
            { "op": "Replace", "path": "emails[type eq \"work\"].value", "value": "b@acme.com" },
            { "op": "Add", "path": "name.givenName", "value": "Alicia" },
            { "op": "Add", "path": format!("{ENTERPRISE}:employeeNumber"), "value": "17" },
            { "op": "Add", "path": format!("{ENTERPRISE}:manager"), "value": "usr-9" },
        ]),
        json!({
            "emails": [{ "value": "b@acme.com", "type": "work", "primary": true }, { "value": "a@x.example", "type": "home" }],
            "name": { "givenName": "Alicia", "familyName": "Chen" },
            ENTERPRISE: { "department": "Oncology", "employeeNumber": "17", "manager": { "value": "usr-9" } },
        }),
    );
    // A value that is not there yet is made by what the filter asks for.
    check(
        json!([{ "op": "Add", "path": "phoneNumbers[type eq \"mobile\"].value", "value": "+1" }]),
        json!({ "phoneNumbers": [{ "type": "mobile", "value": "+1" }] }),
    );
    // Several at once, without a path, paths as names.
    check(
        json!([{ "op": "Replace", "value": {
            "displayName": "A", "name.familyName": "Li", format!("{ENTERPRISE}:department"): "Radiology",
        } }]),
        json!({
            "displayName": "A", "name": { "givenName": "Alice", "familyName": "Li" }, ENTERPRISE: { "department": "Radiology" },
        }),
    );
    check(
        json!([{ "op": "Remove", "path": format!("{ENTERPRISE}:department") }]),
        json!({ ENTERPRISE: null }),
    );
    check(json!([{ "op": "Remove", "path": ENTERPRISE }]), json!({ ENTERPRISE: null }));
}

#[test]
fn extension_without_path() {
    check(
        json!([{ "op": "replace", "value": { ENTERPRISE: { "department": "ER", "division": "North" } } }]),
        json!({ ENTERPRISE: { "department": "ER", "division": "North" } }),
    );
}

#[test]
fn okta_and_entra_memberships() {
    check_members(
        json!([{ "op": "add", "path": "members", "value": [{ "value": "u3", "display": "x" }] }]),
        &["u1", "u2", "u3"],
    );
    check_members(json!([{ "op": "Add", "path": "members", "value": [{ "value": "u1" }] }]), &["u1", "u2"]);
    check_members(json!([{ "op": "remove", "path": "members[value eq \"u1\"]" }]), &["u2"]);
    check_members(json!([{ "op": "Remove", "path": "members", "value": [{ "value": "u1" }] }]), &["u2"]);
    check_members(json!([{ "op": "remove", "path": "members[value eq \"u9\"]" }]), &["u1", "u2"]);
    check_members(json!([{ "op": "remove", "path": "members" }]), &[]);
    check_members(json!([{ "op": "replace", "path": "members", "value": [{ "value": "u4" }] }]), &["u4"]);
    check_members(json!([{ "op": "replace", "path": "members", "value": [] }]), &[]);
    check_members(json!([{ "op": "add", "value": { "members": [{ "value": "u5" }] } }]), &["u1", "u2", "u5"]);
    // Okta sends the group's own identifier along.
    check_members(
        json!([{ "op": "replace", "value": { "id": "grp-1", "displayName": "d" } }]),
        &["u1", "u2"],
    );
}

#[test]
fn one_value_is_the_primary_one() {
    check(
        json!([{ "op": "add", "path": "emails", "value": [{ "value": "n@acme.com", "primary": true }] }]),
        json!({ "emails": [
            { "value": "a@acme.com", "type": "work", "primary": false }, { "value": "a@x.example", "type": "home" },
            { "value": "n@acme.com", "primary": true },
        ] }),
    );
    let second_then_first = json!([
        { "op": "add", "path": "emails[type eq \"home\"].primary", "value": true },
        { "op": "replace", "path": "emails[type eq \"work\"].primary", "value": true },
    ]);
    check(
        second_then_first,
        json!({ "emails": [
            { "value": "a@acme.com", "type": "work", "primary": true },
            { "value": "a@x.example", "type": "home", "primary": false },
        ] }),
    );
}

#[test]
fn removal() {
    check(json!([{ "op": "remove", "path": "name.givenName" }]), json!({ "name": { "familyName": "Chen" } }));
    check(json!([{ "op": "remove", "path": "name" }]), json!({ "name": null }));
    check(json!([{ "op": "replace", "path": "name", "value": null }]), json!({ "name": null }));
    check(
        json!([{ "op": "remove", "path": "emails[type eq \"home\"]" }]),
        json!({ "emails": [{ "value": "a@acme.com", "type": "work", "primary": true }] }),
    );
    check(
        json!([{ "op": "remove", "path": "emails[type eq \"home\"].type" }]),
        json!({ "emails": [{ "value": "a@acme.com", "type": "work", "primary": true }, { "value": "a@x.example" }] }),
    );
    check(json!([{ "op": "remove", "path": "nickName" }]), json!({}));
}

#[test]
fn what_cannot_be_done_is_refused() {
    check_refused(json!([{ "op": "remove" }]), ScimKind::NoTarget);
    check_refused(json!([{ "op": "move", "path": "active" }]), ScimKind::InvalidSyntax);
    check_refused(json!([]), ScimKind::InvalidSyntax);
    check_refused(json!([{ "op": "replace", "path": "nothing", "value": 1 }]), ScimKind::InvalidPath);
    check_refused(json!([{ "op": "replace", "path": "urn:x:y", "value": 1 }]), ScimKind::InvalidPath);
    check_refused(json!([{ "op": "replace", "path": "emails[type eq", "value": 1 }]), ScimKind::InvalidPath);
    check_refused(
        json!([{ "op": "replace", "path": "name[givenName eq \"a\"]", "value": 1 }]),
        ScimKind::InvalidPath,
    );
    check_refused(json!([{ "op": "replace", "path": "groups", "value": [] }]), ScimKind::Mutability);
    check_refused(json!([{ "op": "replace", "path": "active", "value": "maybe" }]), ScimKind::InvalidValue);
    check_refused(json!([{ "op": "replace", "value": true }]), ScimKind::InvalidValue);
    check_refused(
        json!([{ "op": "replace", "path": "emails[type eq \"other\"].value", "value": "x" }]),
        ScimKind::NoTarget,
    );
}

#[test]
fn all_or_nothing() {
    let half = json!([{ "op": "replace", "path": "active", "value": false }, { "op": "remove" }]);
    check_refused(half, ScimKind::NoTarget);
}

#[test]
fn the_schema_must_be_named() {
    let patch: Patch =
        serde_json::from_value(json!({ "Operations": [{ "op": "remove", "path": "name" }] })).expect("read");
    assert_eq!(patch.apply(&USER, &alice()).expect_err("refused").kind, ScimKind::InvalidSyntax);
}

/// Entra ID has sent single values in arrays, and simple ones as objects.
#[test]
fn one_value_in_an_array_is_that_value() {
    for off in [json!(["False"]), json!([{ "$ref": null, "value": "False" }]), json!({ "value": false })] {
        check(json!([{ "op": "Replace", "path": "active", "value": off }]), json!({ "active": false }));
        check(json!([{ "op": "replace", "value": { "active": off } }]), json!({ "active": false }));
    }
    let manager = json!([{ "$ref": "https://x.example/Users/u9", "value": "u9" }]);
    check(
        json!([{ "op": "Add", "path": format!("{ENTERPRISE}:manager"), "value": manager }]),
        json!({ ENTERPRISE: { "department": "Oncology", "manager": { "value": "u9" } } }),
    );
    check(
        json!([{ "op": "Replace", "path": "name.givenName", "value": [{ "value": "Al" }] }]),
        json!({ "name": { "givenName": "Al", "familyName": "Chen" } }),
    );
    for nothing in [json!([null]), json!([{ "value": null }])] {
        let operation = json!([{ "op": "replace", "path": "active", "value": nothing }]);
        check_refused(operation, ScimKind::Mutability);
    }
    for several in [json!([]), json!([true, false]), json!([[false]]), json!({ "values": false })] {
        let operation = json!([{ "op": "replace", "path": "active", "value": several }]);
        check_refused(operation, ScimKind::InvalidValue);
    }
}

/// They are compared with each other, under the lock of everything.
#[test]
fn values_are_bounded_and_members_are_many() {
    let emails = |from: usize, to: usize| -> Vec<Value> {
        (from..to).map(|n| json!({ "value": format!("{n}@acme.com") })).collect()
    };
    let add = |emails: Vec<Value>| json!({ "op": "add", "path": "emails", "value": emails });
    check_refused(json!([add(emails(0, 1001))]), ScimKind::InvalidValue);
    check_refused(json!([add(emails(0, 600)), add(emails(600, 1200))]), ScimKind::InvalidValue);
    let many =
        |from: usize| (from..from + 5_000).map(|n| json!({ "value": format!("m{n}") })).collect::<Vec<_>>();
    let members = |op: &str, from: usize| json!({ "op": op, "path": "members", "value": many(from) });
    let all = [members("add", 0), members("add", 2_500), members("add", 0), members("remove", 2_500)];
    let mut expected: Vec<String> = vec!["u1".to_owned(), "u2".to_owned()];
    expected.extend((0..2_500).map(|n| format!("m{n}")));
    check_members(json!(all), &expected.iter().map(String::as_str).collect::<Vec<_>>());
}
