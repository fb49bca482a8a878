//! Filters, RFC 7644 section 3.4.2.2.

mod parse;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

pub(in crate::scim) use parse::{PatchPath, patch_path};

use super::ScimError;
use super::schema::{Attribute, ResourceType};

/// A filter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Filter {
    /// Both.
    And(Box<Filter>, Box<Filter>),
    /// A comparison.
    Compare(AttributePath, Operator, Value),
    /// One value of a multi-valued attribute satisfies a whole filter: `emails[type eq "work"]`.
    Nested(AttributePath, Box<Filter>),
    /// Not.
    Not(Box<Filter>),
    /// At least one.
    Or(Box<Filter>, Box<Filter>),
    /// There is a value.
    Present(AttributePath),
}

/// The attribute that is looked at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct AttributePath {
    /// Schema, when it is written out.
    pub schema: Option<String>,
    /// Attribute.
    pub name: String,
    /// Sub-attribute.
    pub sub: Option<String>,
}

/// How a value is compared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Operator {
    /// `co`
    Contains,
    /// `ew`
    EndsWith,
    /// `eq`
    Equal,
    /// `gt`
    Greater,
    /// `ge`
    GreaterOrEqual,
    /// `lt`
    Less,
    /// `le`
    LessOrEqual,
    /// `ne`
    NotEqual,
    /// `sw`
    StartsWith,
}

/// Something with attributes: a resource, or one value of a complex attribute.
#[derive(Clone, Copy)]
struct View<'a> {
    attributes: &'static [Attribute],
    extension: Option<(&'static str, &'static [Attribute])>,
    members: &'a Map<String, Value>,
}

// === impl Operator ===

impl Operator {
    /// Whether it asks for what is greater or less.
    fn is_of_order(self) -> bool {
        match self {
            Operator::Greater | Operator::GreaterOrEqual | Operator::Less | Operator::LessOrEqual => true,
            Operator::Contains
            | Operator::EndsWith
            | Operator::Equal
            | Operator::NotEqual
            | Operator::StartsWith => false,
        }
    }
}

// === impl Filter ===

impl Filter {
    /// Reads a filter.
    pub(crate) fn parse(text: &str) -> Result<Filter, ScimError> {
        parse::filter(text)
    }

    /// Whether a resource satisfies it.
    pub(crate) fn matches(&self, kind: &ResourceType, resource: &Map<String, Value>) -> bool {
        let ResourceType { attributes, extension, .. } = kind;
        self.holds(View { attributes, extension: *extension, members: resource })
    }

    /// Whether one value of a multi-valued attribute satisfies it.
    pub(crate) fn matches_value(&self, attribute: &Attribute, value: &Value) -> bool {
        let view = |members| View { attributes: attribute.sub, extension: None, members };
        value.as_object().is_some_and(|members| self.holds(view(members)))
    }

    /// The values that a comparison for equality asks for, all of which must hold: what a new value would have to be.
    pub(crate) fn equalities(&self) -> Option<Vec<(&AttributePath, &Value)>> {
        match self {
            Filter::Compare(path, Operator::Equal, value) => Some(vec![(path, value)]),
            Filter::And(a, b) => Some([a.equalities()?, b.equalities()?].concat()),
            Filter::Compare(..)
            | Filter::Nested(..)
            | Filter::Not(_)
            | Filter::Or(..)
            | Filter::Present(_) => None,
        }
    }

    fn holds(&self, view: View<'_>) -> bool {
        match self {
            Filter::And(a, b) => a.holds(view) && b.holds(view),
            Filter::Or(a, b) => a.holds(view) || b.holds(view),
            Filter::Not(filter) => !filter.holds(view),
            Filter::Present(path) => view.values(path).1.into_iter().any(is_present),
            // What has no value is not equal to anything.
            Filter::Compare(path, Operator::NotEqual, wanted) => {
                let (exact, values) = view.values(path);
                !values.into_iter().any(|value| compare(value, Operator::Equal, wanted, exact))
            }
            Filter::Compare(path, operator, wanted) => {
                let (exact, values) = view.values(path);
                values.into_iter().any(|value| compare(value, *operator, wanted, exact))
            }
            Filter::Nested(path, filter) => {
                let Some((attribute, value)) = view.attribute(path) else { return false };
                let attributes = attribute.map_or(&[][..], |attribute| attribute.sub);
                let of_value = |members| filter.holds(View { attributes, extension: None, members });
                each(value).into_iter().filter_map(Value::as_object).any(of_value)
            }
        }
    }
}

// === impl View ===

impl<'a> View<'a> {
    /// The attribute of a path, without its sub-attribute, and its value.
    fn attribute(self, path: &AttributePath) -> Option<(Option<&'static Attribute>, &'a Value)> {
        let View { attributes, extension, members } = self;
        if let (Some(schema), Some((name, attributes))) = (&path.schema, extension)
            && schema.eq_ignore_ascii_case(name)
        {
            let members = members.get(name)?.as_object()?;
            return View { attributes, extension: None, members }
                .attribute(&AttributePath { schema: None, ..path.clone() });
        }
        let (_, value) = members.iter().find(|(name, _)| name.eq_ignore_ascii_case(&path.name))?;
        Some((Attribute::find(attributes, &path.name), value))
    }

    /// The values of a path, and whether the difference of case counts.
    fn values(self, path: &AttributePath) -> (bool, Vec<&'a Value>) {
        let Some((attribute, value)) = self.attribute(path) else { return (true, Vec::new()) };
        let many = attribute.is_some_and(|attribute| attribute.many);
        // RFC 7644 section 3.4.2.2: of a multi-valued attribute, `value` is what is compared.
        let Some(sub) = path.sub.as_deref().or(if many { Some("value") } else { None }) else {
            // Besides those of the table there are `id` and `schemas`, which are exact.
            return (attribute.is_none_or(|attribute| attribute.case_exact), each(value));
        };
        let exact = attribute
            .and_then(|attribute| Attribute::find(attribute.sub, sub))
            .is_none_or(|attribute| attribute.case_exact);
        let of_value = |value: &'a Value| {
            value.as_object()?.iter().find(|(name, _)| name.eq_ignore_ascii_case(sub)).map(|(_, value)| value)
        };
        (exact, each(value).into_iter().filter_map(of_value).collect())
    }
}

fn each(value: &Value) -> Vec<&Value> {
    value.as_array().map_or_else(|| vec![value], |values| values.iter().collect())
}

fn is_present(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(members) => !members.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    }
}

fn compare(value: &Value, operator: Operator, wanted: &Value, exact: bool) -> bool {
    if let (Value::String(value), Value::String(wanted)) = (value, wanted) {
        let fold = |text: &str| if exact { text.to_owned() } else { text.to_lowercase() };
        let (value, wanted) = (fold(value), fold(wanted));
        return match operator {
            Operator::Contains => value.contains(&wanted),
            Operator::StartsWith => value.starts_with(&wanted),
            Operator::EndsWith => value.ends_with(&wanted),
            Operator::Equal => value == wanted,
            Operator::NotEqual => value != wanted,
            Operator::Greater => value > wanted,
            Operator::GreaterOrEqual => value >= wanted,
            Operator::Less => value < wanted,
            Operator::LessOrEqual => value <= wanted,
        };
    }
    let equal = match (value, wanted) {
        // As Entra ID compares booleans.
        (Value::Bool(value), Value::String(wanted)) => wanted.eq_ignore_ascii_case(&value.to_string()),
        (value, wanted) => value == wanted,
    };
    match operator {
        Operator::Equal => equal,
        Operator::NotEqual => !equal,
        // Only text has an order here: no attribute is a number.
        Operator::Contains
        | Operator::StartsWith
        | Operator::EndsWith
        | Operator::Greater
        | Operator::GreaterOrEqual
        | Operator::Less
        | Operator::LessOrEqual => false,
    }
}
