//! Answers against the description of the interface: every one that a test of this suite gets.
//!
//! Of JSON Schema (2020-12) it knows what the description uses, and panics at what it does not know.

use std::sync::OnceLock;

use portcullis_mock_control_plane::openapi;
use serde_json::{Map, Value, json};

fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(openapi)
}

/// The operation that a request is for: one without variables in its path first.
fn operation(method: &str, path: &str) -> Option<&'static Value> {
    let parts: Vec<&str> = path.split(['?', '#']).next()?.split('/').collect();
    let fits = |template: &str| {
        let template: Vec<&str> = template.split('/').collect();
        let same = |(part, own): (&&str, &&str)| own.starts_with('{') && !part.is_empty() || part == own;
        template.len() == parts.len() && parts.iter().zip(&template).all(same)
    };
    let paths = document()["paths"].as_object()?;
    let found = paths.iter().filter(|(template, item)| fits(template) && item.get(method).is_some());
    let (_, item) = found.min_by_key(|(template, _)| template.matches('{').count())?;
    item.get(method)
}

/// What is wrong with an answer, by the description; a request that is for nothing described is not looked at.
pub fn complaint(method: &str, path: &str, status: u16, media: &str, body: &Value) -> Option<String> {
    let answers = &operation(&method.to_ascii_lowercase(), path)?["responses"];
    let group = format!("{}XX", status / 100);
    let answer = answers.get(status.to_string()).or_else(|| answers.get(group));
    let Some(answer) = answer else { return Some(format!("status {status} is not described")) };
    match (answer.get("content"), body) {
        (None, Value::Null) => None,
        (None, body) => Some(format!("a body where none is described: {body}")),
        (Some(content), body) => match content.get(media) {
            Some(about) => check(&about["schema"], body, "").err(),
            None => Some(format!("media type `{media}` is not described")),
        },
    }
}

/// Whether `value`, which stands `at` that place, fits.
fn check(schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let schema = match schema {
        Value::Bool(true) => return Ok(()),
        Value::Object(schema) => schema,
        other => panic!("no schema: {other}"),
    };
    let none = Map::new();
    for (word, rule) in schema {
        match word.as_str() {
            "$ref" => {
                let to = rule.as_str().and_then(|to| document().pointer(to.strip_prefix('#')?));
                check(to.expect("a reference within the document"), value, at)?;
            }
            "type" => {
                let one = |name: &Value| is(name.as_str().expect("a type"), value);
                let fits = rule.as_array().map_or_else(|| one(rule), |names| names.iter().any(one));
                wrong_unless(fits, at, &format!("{value} is no {rule}"))?;
            }
            "const" => wrong_unless(value == rule, at, &format!("{value} is not {rule}"))?,
            "enum" => {
                let known = rule.as_array().expect("an array").contains(value);
                wrong_unless(known, at, &format!("{value} is none of {rule}"))?;
            }
            "anyOf" | "oneOf" => {
                let any = rule.as_array().expect("an array").iter();
                let complaints: Vec<String> =
                    any.clone().filter_map(|one| check(one, value, at).err()).collect();
                let fits = any.len() - complaints.len();
                let enough = if word == "oneOf" { fits == 1 } else { fits > 0 };
                wrong_unless(enough, at, &format!("{fits} of {word} fit: {complaints:?}"))?;
            }
            "allOf" => rule.as_array().expect("an array").iter().try_for_each(|one| check(one, value, at))?,
            "required" => {
                for name in rule.as_array().expect("an array").iter().filter_map(Value::as_str) {
                    let there = value.as_object().is_none_or(|members| members.contains_key(name));
                    wrong_unless(there, at, &format!("`{name}` is missing in {value}"))?;
                }
            }
            "properties" => {
                let known = rule.as_object().expect("an object");
                for (name, member) in value.as_object().unwrap_or(&none) {
                    known.get(name).map_or(Ok(()), |rule| check(rule, member, &format!("{at}/{name}")))?;
                }
            }
            "additionalProperties" => {
                let known = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
                let others = value.as_object().unwrap_or(&none).iter();
                for (name, member) in others.filter(|(name, _)| !known.contains_key(*name)) {
                    wrong_unless(*rule != json!(false), at, &format!("`{name}` is not described"))?;
                    check(rule, member, &format!("{at}/{name}"))?;
                }
            }
            "items" => {
                for (n, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(rule, item, &format!("{at}/{n}"))?;
                }
            }
            "minItems" | "maxItems" | "minimum" | "maximum" => {
                let size = value.as_array().map(|items| items.len() as f64).or_else(|| value.as_f64());
                let bound = rule.as_f64().expect("a number");
                let fits = |size: f64| if word.starts_with("min") { size >= bound } else { size <= bound };
                wrong_unless(size.is_none_or(fits), at, &format!("{value}: {word} is {bound}"))?;
            }
            "description" | "title" | "format" | "default" => {}
            other => panic!("`{other}` at {at}: teach this validator what it means"),
        }
    }
    Ok(())
}

fn is(name: &str, value: &Value) -> bool {
    match name {
        "array" => value.is_array(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "object" => value.is_object(),
        "string" => value.is_string(),
        other => panic!("no type `{other}`"),
    }
}

fn wrong_unless(fits: bool, at: &str, what: &str) -> Result<(), String> {
    if fits { Ok(()) } else { Err(format!("{at}: {what}")) }
}

#[test]
fn what_does_not_fit_is_seen() {
    let on = |status, body: Value| {
        complaint("GET", "/manage/v1/acme/access/agents", status, "application/json", &body)
    };
    let agent = json!({
        "agent_id": "a", "hostname": "h", "registered_at": 1, "last_seen_at": 0, "status": null, "config_version": 0,
        "up_to_date": false,
    });
    let agents = |agent: Value| json!({ "agents": [agent], "config_version": 1 });
    assert_eq!(on(200, agents(agent.clone())), None);
    assert!(on(200, json!({ "agents": [] })).unwrap().contains("`config_version` is missing"));
    assert!(
        on(200, json!({ "agents": {}, "config_version": 1 }))
            .unwrap()
            .contains("/agents: {} is no \"array\"")
    );
    assert!(on(200, json!({ "agents": [], "config_version": -1 })).unwrap().contains("/config_version: -1"));
    let with = |name: &str, value: Value| {
        let mut agent = agent.clone();
        agent[name] = value;
        on(200, agents(agent)).unwrap()
    };
    assert!(with("secret", json!("s")).contains("/agents/0: `secret` is not described"));
    assert!(with("hostname", json!(null)).contains("/agents/0/hostname"));
    assert!(on(201, json!({})).unwrap().contains("201 is not described"));
    assert!(on(404, json!({})).unwrap().contains("media type"));
    assert_eq!(complaint("GET", "/nowhere", 404, "", &Value::Null), None);
}
