//! A resource's JSON in canonical form: known attributes only, by their own names, with values of their types.

use serde_json::{Map, Value, json};

use super::schema::{Access, Attribute, Kind, ResourceType};
use super::{ScimError, ScimKind};
use crate::timestamp::rfc3339;

/// Most values of an attribute, but for members.
const VALUES_MAX: usize = 1_000;

/// What is known of a resource besides its attributes, RFC 7643 section 3.1.
#[derive(Clone, Debug)]
pub(crate) struct Meta {
    /// Base URL of the tenant's SCIM interface.
    pub base: String,
    /// Identifier.
    pub id: String,
    /// When it was made, seconds since the epoch.
    pub created_s: u64,
    /// When it was last changed.
    pub updated_s: u64,
    /// Number of the change.
    pub revision: u64,
}

/// `input` in canonical form. What is not known is left out, and so is what only the server writes; `null` and empty
/// arrays are nothing (RFC 7643 section 2.5).
pub(crate) fn canonical(
    kind: &ResourceType,
    input: Map<String, Value>,
) -> Result<Map<String, Value>, ScimError> {
    let mut output = Map::new();
    for (name, value) in input {
        match kind.extension {
            Some((schema, attributes)) if schema.eq_ignore_ascii_case(&name) => {
                let Value::Object(members) = value else { return Err(wrong(&name, "an object")) };
                let members = object(attributes, members)?;
                if !members.is_empty() {
                    output.insert(schema.to_owned(), Value::Object(members));
                }
            }
            Some(_) | None => insert(kind.attributes, &name, value, &mut output)?,
        }
    }
    Ok(output)
}

/// `value` as the value of `attribute`; `None` when it is nothing.
pub(super) fn value_of(attribute: &Attribute, value: Value) -> Result<Option<Value>, ScimError> {
    if value.is_null() {
        return Ok(None);
    }
    if !attribute.many {
        return single(attribute, value).map(Some).map(|value| value.filter(|value| *value != json!({})));
    }
    let values = match value {
        Value::Array(values) => values,
        one => vec![one],
    };
    few(attribute, values.len())?;
    let nothing = |value: &Value| value.is_null() || *value == json!({});
    let given = values.into_iter().filter(|value| !nothing(value));
    let mut values = given.map(|value| single(attribute, value)).collect::<Result<Vec<_>, _>>()?;
    if values.iter().any(nothing) {
        let detail =
            format!("a value of `{}` has no member that is known and can be written", attribute.name);
        return Err(ScimError::new(ScimKind::InvalidValue, detail));
    }
    one_primary(&mut values);
    Ok((!values.is_empty()).then_some(Value::Array(values)))
}

/// Refuses more values than an attribute may have: they are compared with each other. Groups may have any number of members.
pub(super) fn few(attribute: &Attribute, count: usize) -> Result<(), ScimError> {
    if count <= VALUES_MAX || attribute.name == "members" {
        return Ok(());
    }
    let detail = format!("`{}` has more than {VALUES_MAX} values", attribute.name);
    Err(ScimError::new(ScimKind::InvalidValue, detail))
}

/// One value, even of an attribute that has several.
pub(super) fn single(attribute: &Attribute, value: Value) -> Result<Value, ScimError> {
    match (attribute.kind, value) {
        (Kind::Boolean, Value::Bool(value)) => Ok(Value::Bool(value)),
        // As Entra ID sends them.
        (Kind::Boolean, Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(Value::Bool(true)),
        (Kind::Boolean, Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(Value::Bool(false)),
        (Kind::Boolean, _) => Err(wrong(attribute.name, "true or false")),
        (Kind::Text | Kind::Reference, Value::String(text)) => Ok(Value::String(text)),
        (Kind::Text | Kind::Reference, _) => Err(wrong(attribute.name, "a string")),
        (Kind::Complex, Value::Object(members)) => object(attribute.sub, members).map(Value::Object),
        // The short form of an object that has but a value: a manager, a member.
        (Kind::Complex, Value::String(text)) if Attribute::find(attribute.sub, "value").is_some() => {
            Ok(json!({ "value": text }))
        }
        (Kind::Complex, _) => Err(wrong(attribute.name, "an object")),
    }
}

/// At most one value is the primary one (RFC 7643 section 2.4): the one that was added last.
pub(super) fn one_primary(values: &mut [Value]) {
    let is_primary = |value: &Value| value.get("primary") == Some(&Value::Bool(true));
    let last = values.iter().rposition(is_primary);
    for (n, value) in values.iter_mut().enumerate() {
        if is_primary(value) && Some(n) != last {
            value["primary"] = json!(false);
        }
    }
}

fn object(
    attributes: &'static [Attribute],
    input: Map<String, Value>,
) -> Result<Map<String, Value>, ScimError> {
    let mut output = Map::new();
    for (name, value) in input {
        insert(attributes, &name, value, &mut output)?;
    }
    Ok(output)
}

fn insert(
    attributes: &'static [Attribute],
    name: &str,
    value: Value,
    output: &mut Map<String, Value>,
) -> Result<(), ScimError> {
    let Some(attribute) = Attribute::find(attributes, name) else { return Ok(()) };
    if attribute.access == Access::ReadOnly {
        return Ok(());
    }
    if let Some(value) = value_of(attribute, value)? {
        output.insert(attribute.name.to_owned(), value);
    }
    Ok(())
}

fn wrong(name: &str, wanted: &str) -> ScimError {
    ScimError::new(ScimKind::InvalidValue, format!("`{name}` must be {wanted}"))
}

// === impl Meta ===

impl Meta {
    /// The entity tag: RFC 7644 section 3.14.
    pub(crate) fn version(&self) -> String {
        format!("W/\"{}\"", self.revision)
    }

    /// Where the resource is.
    pub(crate) fn location(&self, kind: &ResourceType) -> String {
        format!("{}{}/{}", self.base, kind.endpoint, self.id)
    }

    /// Adds `id`, `schemas` and `meta` to a resource's attributes.
    pub(crate) fn complete(&self, kind: &ResourceType, attributes: &mut Map<String, Value>) {
        let mut schemas = vec![kind.schema];
        schemas.extend(kind.extension.map(|(name, _)| name).filter(|name| attributes.contains_key(*name)));
        attributes.insert("schemas".to_owned(), json!(schemas));
        attributes.insert("id".to_owned(), json!(self.id));
        let meta = json!({
            "resourceType": kind.name, "created": rfc3339(self.created_s), "lastModified": rfc3339(self.updated_s),
            "location": self.location(kind), "version": self.version(),
        });
        attributes.insert("meta".to_owned(), meta);
    }
}
