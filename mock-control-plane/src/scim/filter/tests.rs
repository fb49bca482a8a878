//! Filters against resources.

use serde_json::json;

use super::*;
use crate::scim::schema::USER;

fn alice() -> Map<String, Value> {
    let value = json!({
        "id": "usr-1", "userName": "Alice@acme.com", "externalId": "Ext-1", "active": true, "title": "Doctor",
        "name": { "givenName": "Alice", "familyName": "Chen" },
        "emails": [
            { "value": "alice@acme.com", "type": "work", "primary": true },
            { "value": "alice@home.example", "type": "home" },
        ],
        "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": { "department": "Oncology" },
        "meta": { "lastModified": "2026-03-22T10:30:05Z" },
    });
    value.as_object().expect("an object").clone()
}

fn check(filter: &str, expected: bool) {
    let parsed = Filter::parse(filter).unwrap_or_else(|e| panic!("{filter}: {e:?}"));
    assert_eq!(parsed.matches(&USER, &alice()), expected, "{filter}");
}

#[test]
fn comparisons() {
    check(r#"userName eq "alice@ACME.com""#, true);
    check(r#"USERNAME Eq "alice@acme.com""#, true);
    check(r#"externalId eq "ext-1""#, false);
    check(r#"externalId eq "Ext-1""#, true);
    check(r#"id eq "USR-1""#, false);
    check(r#"userName ne "bob""#, true);
    check(r#"nickName ne "bob""#, true);
    check(r#"nickName eq "bob""#, false);
    check(r#"name.familyName co "HE""#, true);
    check(r#"name.familyName sw "ch""#, true);
    check(r#"name.familyName ew "EN""#, true);
    check(r#"meta.lastModified gt "2026-01-01T00:00:00Z""#, true);
    check(r#"meta.lastModified le "2026-01-01T00:00:00Z""#, false);
    check("active eq true", true);
    check(r#"active eq "True""#, true);
    check("active eq false", false);
    check("title pr", true);
    check("nickName pr", false);
}

#[test]
fn several_values() {
    check(r#"emails eq "alice@home.example""#, true);
    check(r#"emails.type eq "home""#, true);
    check(r#"emails co "acme""#, true);
    check(r#"emails[type eq "work" and value co "@acme"]"#, true);
    check(r#"emails[type eq "home" and value co "@acme"]"#, false);
    check(r#"emails[not (type eq "work")]"#, true);
    check(r#"emails[primary eq true]"#, true);
}

#[test]
fn schemas_written_out() {
    check(r#"urn:ietf:params:scim:schemas:core:2.0:User:userName sw "alice""#, true);
    check(r#"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department eq "oncology""#, true);
    check(r#"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager.value pr"#, false);
}

#[test]
fn precedence_of_rfc_7644() {
    check(r#"title eq "x" or title eq "Doctor" and active eq true"#, true);
    check(r#"(title eq "x" or title eq "Doctor") and active eq false"#, false);
    check(r#"title eq "Doctor" or title eq "x" and active eq false"#, true);
    check(r#"not (title eq "x") and active eq true"#, true);
    check(r#"NOT(title eq "x") AND(active eq true)"#, true);
}

#[test]
fn text_is_json_text() {
    check(r#"title eq "Do\u0063tor""#, true);
    check(r#"title eq "a \" or title pr""#, false);
}

#[test]
fn what_is_no_filter_is_refused() {
    let deep = "(".repeat(100) + "title pr" + &")".repeat(100);
    let long = format!("title eq {:?}", "x".repeat(10_000));
    let odd = [
        "",
        " ",
        "title",
        "title eq",
        "title xx \"a\"",
        "title eq a",
        "title eq \"a",
        "eq eq",
        "(title pr",
        "title pr)",
        "title pr and",
        "and title pr",
        "emails[type eq \"a\"",
        "emails[]",
        "title eq {}",
        "title eq [1]",
        "1 eq 1",
        "a.b.c eq \"x\"",
        "title eq \"a\" x",
        "not title pr",
        "\u{fc} eq \"a\"",
        ".x pr",
        "x. pr",
        "active gt true",
        "active le false",
        &deep,
        &long,
    ];
    for text in odd {
        let error = Filter::parse(text).expect_err(text);
        assert_eq!(error.kind, crate::scim::ScimKind::InvalidFilter, "{text:?}");
    }
}
