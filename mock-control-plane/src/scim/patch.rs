//! PATCH, RFC 7644 section 3.5.2, in the forms that directories send it.
//!
//! Beyond the RFC: operations in any case and booleans as text (Entra ID); `remove` of a multi-valued attribute with
//! the values to remove (Entra ID); `add` through a filter that nothing satisfies makes the value that would (Entra
//! ID); paths as members of a value without path (Entra ID); members there that only the server writes are passed over
//! (Okta sends a group's `id`); the one value of an attribute in an array (Entra ID).

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::filter::Filter;
use super::path::{Target, holder};
use super::resource::{few, one_primary, single, value_of};
use super::schema::{Attribute, Kind, ResourceType};
use super::{ScimError, ScimKind};

/// The body of a PATCH.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
pub(crate) struct Patch {
    #[serde(default)]
    schemas: Vec<String>,
    #[serde(alias = "operations", rename = "Operations")]
    operations: Vec<Operation>,
}

#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
struct Operation {
    op: String,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    value: Value,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Op {
    Add,
    Remove,
    Replace,
}

const SCHEMA: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";
const OPERATIONS_MAX: usize = 1_000;

// === impl Patch ===

impl Patch {
    /// Applies it to a resource in canonical form; what comes out is in canonical form. All of it, or nothing.
    pub(crate) fn apply(
        &self,
        kind: &'static ResourceType,
        resource: &Map<String, Value>,
    ) -> Result<Map<String, Value>, ScimError> {
        let syntax = |detail: String| Err(ScimError::new(ScimKind::InvalidSyntax, detail));
        if !self.schemas.iter().any(|schema| schema.eq_ignore_ascii_case(SCHEMA)) {
            return syntax(format!("`schemas` must contain `{SCHEMA}`"));
        }
        if self.operations.is_empty() || self.operations.len() > OPERATIONS_MAX {
            return syntax(format!("`Operations` must have 1 to {OPERATIONS_MAX} members"));
        }
        let mut patched = resource.clone();
        for (n, operation) in self.operations.iter().enumerate() {
            operation.apply(kind, &mut patched).map_err(|error| ScimError {
                detail: format!("operation {}: {}", n + 1, error.detail),
                ..error
            })?;
        }
        patched.retain(|_, value| *value != json!({}) && *value != json!([]));
        Ok(patched)
    }
}

// === impl Operation ===

impl Operation {
    fn apply(&self, kind: &'static ResourceType, resource: &mut Map<String, Value>) -> Result<(), ScimError> {
        let Operation { op, path, value } = self;
        let op = match op.to_ascii_lowercase().as_str() {
            "add" => Op::Add,
            "remove" => Op::Remove,
            "replace" => Op::Replace,
            other => {
                return Err(ScimError::new(ScimKind::InvalidSyntax, format!("`{other}` is no operation")));
            }
        };
        match (op, path.as_deref().filter(|path| !path.is_empty()), value) {
            (Op::Remove, None, _) => Err(ScimError::new(ScimKind::NoTarget, "`remove` needs a path")),
            (_, None, Value::Object(members)) => pathless(kind, op, members, resource),
            (_, None, _) => {
                Err(ScimError::new(ScimKind::InvalidValue, "without a path the value must be an object"))
            }
            (_, Some(path), value) => {
                let target = Target::find(kind, path)?;
                target.check_access()?;
                apply(op, target, value.clone(), resource)
            }
        }
    }
}

fn pathless(
    kind: &'static ResourceType,
    op: Op,
    members: &Map<String, Value>,
    resource: &mut Map<String, Value>,
) -> Result<(), ScimError> {
    for (path, value) in members {
        if ["schemas", "id", "meta"].iter().any(|name| name.eq_ignore_ascii_case(path)) {
            continue;
        }
        let target = match Target::find(kind, path) {
            Ok(target) => target,
            // As in a resource that is sent whole: what is not known is left out.
            Err(error) if error.kind == ScimKind::InvalidPath => continue,
            Err(error) => return Err(error),
        };
        if let (Target::Extension(schema), Value::Object(members)) = (&target, value) {
            for (name, value) in members {
                if let Ok(target) = Target::find(kind, &format!("{schema}:{name}")) {
                    apply(op, target, value.clone(), resource)?;
                }
            }
            continue;
        }
        if target.check_access().is_ok() {
            apply(op, target, value.clone(), resource)?;
        }
    }
    Ok(())
}

fn apply(op: Op, target: Target, value: Value, resource: &mut Map<String, Value>) -> Result<(), ScimError> {
    let (extension, attribute, filter, sub) = match target {
        Target::Extension(name) => return whole_extension(op, name, value, resource),
        Target::Attribute { extension, attribute, filter, sub } => (extension, attribute, filter, sub),
    };
    let broken = || ScimError::new(ScimKind::InvalidValue, "the extension is no object");
    let members = holder(resource, extension).ok_or_else(broken)?;
    let value = if op == Op::Remove { value } else { sent(sub.unwrap_or(attribute), value) };
    // RFC 7644 section 3.5.2.2: what is required stays. (A deactivated user must not come back by losing `active`.)
    if attribute.required && (op == Op::Remove || value.is_null()) {
        return Err(ScimError::new(ScimKind::Mutability, format!("`{}` cannot be removed", attribute.name)));
    }
    match (filter, sub) {
        (Some(filter), sub) => filtered(op, attribute, &filter, sub, value, members),
        (None, Some(sub)) => with_sub(op, attribute, sub, value, members),
        (None, None) => whole(op, attribute, value, members),
    }
}

fn whole_extension(
    op: Op,
    name: &'static str,
    value: Value,
    resource: &mut Map<String, Value>,
) -> Result<(), ScimError> {
    match (op, value) {
        (Op::Remove, _) => {
            resource.remove(name);
            Ok(())
        }
        (Op::Add | Op::Replace, Value::Object(members)) => {
            let mut wrapped = Map::new();
            wrapped.insert(name.to_owned(), Value::Object(members));
            pathless(&super::schema::USER, op, &wrapped, resource)
        }
        (Op::Add | Op::Replace, _) => {
            Err(ScimError::new(ScimKind::InvalidValue, format!("`{name}` must be an object")))
        }
    }
}

/// The value that is meant: Entra ID sends the one value of an attribute in an array too, and a simple one as an object
/// (`[{"$ref": null, "value": "False"}]`). To refuse that would be to keep a user who is to be out.
fn sent(attribute: &Attribute, value: Value) -> Value {
    if attribute.many {
        return value;
    }
    let one = match value {
        Value::Array(mut values) if values.len() == 1 => values.remove(0),
        value => value,
    };
    match one {
        Value::Object(mut members) if attribute.kind != Kind::Complex && members.contains_key("value") => {
            members.remove("value").unwrap_or_default()
        }
        one => one,
    }
}

/// An attribute as a whole.
fn whole(
    op: Op,
    attribute: &'static Attribute,
    value: Value,
    members: &mut Map<String, Value>,
) -> Result<(), ScimError> {
    let name = attribute.name;
    if op == Op::Remove {
        return remove(attribute, value, members);
    }
    let Some(new) = value_of(attribute, value)? else {
        // Nothing to add; nothing as the new value.
        if op == Op::Replace {
            members.remove(name);
        }
        return Ok(());
    };
    match (members.get_mut(name), new) {
        (Some(Value::Array(old)), Value::Array(new)) if op == Op::Add => {
            few(attribute, old.len() + new.len())?;
            add_values(old, new);
        }
        // Of a complex attribute, only what is given is replaced.
        (Some(Value::Object(old)), Value::Object(new)) => old.extend(new),
        (_, new) => {
            members.insert(name.to_owned(), new);
        }
    }
    Ok(())
}

fn remove(
    attribute: &'static Attribute,
    value: Value,
    members: &mut Map<String, Value>,
) -> Result<(), ScimError> {
    let listed = if attribute.many { value_of(attribute, value)? } else { None };
    match (listed, members.get_mut(attribute.name)) {
        (Some(Value::Array(listed)), Some(Value::Array(old))) => {
            let places = Places::of(&listed);
            old.retain(|old| places.same(&listed, old).is_none());
        }
        _ => drop(members.remove(attribute.name)),
    }
    Ok(())
}

/// A sub-attribute: of the one value, or of every value.
fn with_sub(
    op: Op,
    attribute: &'static Attribute,
    sub: &'static Attribute,
    value: Value,
    members: &mut Map<String, Value>,
) -> Result<(), ScimError> {
    let new = if op == Op::Remove { None } else { value_of(sub, value)? };
    let empty = if attribute.many { json!([]) } else { json!({}) };
    match members.entry(attribute.name).or_insert(empty) {
        Value::Array(values) => {
            if values.is_empty() && new.is_some() {
                values.push(json!({}));
            }
            values.iter_mut().for_each(|value| set(value, sub, new.clone()));
            one_primary(values);
            values.retain(|value| *value != json!({}));
        }
        value => set(value, sub, new),
    }
    Ok(())
}

/// Those values of a multi-valued attribute that satisfy a filter.
fn filtered(
    op: Op,
    attribute: &'static Attribute,
    filter: &Filter,
    sub: Option<&'static Attribute>,
    value: Value,
    members: &mut Map<String, Value>,
) -> Result<(), ScimError> {
    let Value::Array(values) = members.entry(attribute.name).or_insert_with(|| json!([])) else {
        return Err(ScimError::new(ScimKind::InvalidPath, format!("`{}` has one value", attribute.name)));
    };
    if op == Op::Remove {
        match sub {
            None => values.retain(|value| !filter.matches_value(attribute, value)),
            Some(sub) => {
                let matching = values.iter_mut().filter(|value| filter.matches_value(attribute, value));
                matching.for_each(|value| set(value, sub, None));
            }
        }
        return Ok(());
    }
    if !values.iter().any(|value| filter.matches_value(attribute, value)) {
        let made = if op == Op::Add { satisfying(attribute, filter) } else { None };
        values.push(made.ok_or_else(|| ScimError::new(ScimKind::NoTarget, "no value satisfies the filter"))?);
    }
    let matching: Vec<usize> =
        (0..values.len()).filter(|n| filter.matches_value(attribute, &values[*n])).collect();
    for n in &matching {
        match sub {
            Some(sub) => set(&mut values[*n], sub, value_of(sub, value.clone())?),
            None => match (&mut values[*n], single(attribute, value.clone())?) {
                (Value::Object(old), Value::Object(new)) => old.extend(new),
                (old, new) => *old = new,
            },
        }
    }
    // The value that was just made the primary one is it, wherever it stands.
    if let Some(n) = matching.last().filter(|n| values[**n].get("primary") == Some(&json!(true))) {
        for (other, value) in values.iter_mut().enumerate() {
            if other != *n && value.get("primary") == Some(&json!(true)) {
                value["primary"] = json!(false);
            }
        }
    }
    Ok(())
}

/// A value that satisfies a filter of equalities.
fn satisfying(attribute: &'static Attribute, filter: &Filter) -> Option<Value> {
    let mut made = Map::new();
    for (path, value) in filter.equalities()? {
        let sub = Attribute::find(attribute.sub, &path.name)?;
        made.insert(sub.name.to_owned(), single(sub, value.clone()).ok()?);
    }
    let made = Value::Object(made);
    filter.matches_value(attribute, &made).then_some(made)
}

fn set(value: &mut Value, sub: &Attribute, new: Option<Value>) {
    if let Value::Object(members) = value {
        match new {
            Some(new) => drop(members.insert(sub.name.to_owned(), new)),
            None => drop(members.remove(sub.name)),
        }
    }
}

fn add_values(old: &mut Vec<Value>, new: Vec<Value>) {
    let mut places = Places::of(old);
    for new in new {
        match places.same(old, &new) {
            // RFC 7644 section 3.5.2.1: what is there already changes nothing, or only what is said about it.
            Some(n) => {
                if let (Value::Object(old), Value::Object(new)) = (&mut old[n], new) {
                    old.extend(new);
                }
            }
            None => {
                places.add(old.len(), &new);
                old.push(new);
            }
        }
    }
    one_primary(old);
}

/// Where values stand, by their `value`: thousands of members are not compared with thousands, one by one.
struct Places(HashMap<String, Vec<usize>>);

impl Places {
    fn of(values: &[Value]) -> Places {
        let mut places = Places(HashMap::new());
        values.iter().enumerate().for_each(|(n, value)| places.add(n, value));
        places
    }

    fn add(&mut self, n: usize, value: &Value) {
        if let Some(text) = value["value"].as_str() {
            self.0.entry(text.to_owned()).or_default().push(n);
        }
    }

    /// Place of the first value that is about the same thing.
    fn same(&self, values: &[Value], wanted: &Value) -> Option<usize> {
        match wanted["value"].as_str() {
            Some(text) => self.0.get(text)?.iter().copied().find(|n| same_value(&values[*n], wanted)),
            None => values.iter().position(|value| same_value(value, wanted)),
        }
    }
}

/// Whether two values of a multi-valued attribute are about the same thing: by `value` and `type`, or altogether.
fn same_value(a: &Value, b: &Value) -> bool {
    match (a.get("value"), b.get("value")) {
        (Some(x), Some(y)) => {
            x == y && (a.get("type") == b.get("type") || a.get("type").is_none() || b.get("type").is_none())
        }
        _ => a == b,
    }
}
