//! Queries, RFC 7644 section 3.4.2, and which attributes are shown, section 3.9.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::filter::patch_path;
use super::schema::ResourceType;
use super::{Filter, ScimError};

/// What is asked for, as query parameters or as the body of `/.search`.
#[derive(Clone, Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListQuery {
    #[serde(default)]
    filter: Option<String>,
    #[serde(default)]
    start_index: Option<i64>,
    #[serde(default)]
    count: Option<i64>,
    #[serde(default)]
    attributes: Names,
    #[serde(default)]
    excluded_attributes: Names,
}

/// Names of attributes: an array, or text with commas.
#[derive(Clone, Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
enum Names {
    #[default]
    None,
    List(Vec<String>),
    Text(String),
}

/// Which attributes are shown.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Projection {
    only: Vec<Name>,
    without: Vec<Name>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Name {
    extension: Option<&'static str>,
    name: Option<String>,
    sub: Option<String>,
}

/// Most resources of one answer.
pub(crate) const COUNT_MAX: usize = 200;
/// Shown whatever is asked for, RFC 7643 section 7.
const ALWAYS: [&str; 2] = ["id", "schemas"];

// === impl ListQuery ===

impl ListQuery {
    /// Which attributes are shown.
    pub(crate) fn projection(&self, kind: &ResourceType) -> Projection {
        Projection { only: self.attributes.read(kind), without: self.excluded_attributes.read(kind) }
    }

    /// The answer: those of `resources` that satisfy the filter, one page of them.
    pub(crate) fn answer(
        &self,
        resources: impl Iterator<Item = (&'static ResourceType, Map<String, Value>)>,
    ) -> Result<Value, ScimError> {
        let filter = self.filter.as_deref().filter(|text| !text.is_empty()).map(Filter::parse).transpose()?;
        // RFC 7644 table 6: below 1 means 1, a negative count means 0.
        let start = usize::try_from(self.start_index.unwrap_or(1).max(1)).unwrap_or(usize::MAX);
        let count =
            usize::try_from(self.count.unwrap_or(COUNT_MAX as i64).max(0)).unwrap_or(0).min(COUNT_MAX);
        let found: Vec<_> = resources
            .filter(|(kind, resource)| filter.as_ref().is_none_or(|filter| filter.matches(kind, resource)))
            .collect();
        let total = found.len();
        let page = found.into_iter().skip(start - 1).take(count);
        let shown = |(kind, resource)| Value::Object(self.projection(kind).apply(resource));
        let page: Vec<Value> = page.map(shown).collect();
        Ok(json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
            "totalResults": total, "startIndex": start, "itemsPerPage": page.len(), "Resources": page,
        }))
    }
}

// === impl Names ===

impl Names {
    /// Names that cannot be read name nothing.
    fn read(&self, kind: &ResourceType) -> Vec<Name> {
        let texts: Vec<&str> = match self {
            Names::None => Vec::new(),
            Names::List(names) => names.iter().map(String::as_str).collect(),
            Names::Text(text) => text.split(',').collect(),
        };
        texts.into_iter().map(str::trim).filter_map(|text| Name::read(kind, text)).collect()
    }
}

// === impl Name ===

impl Name {
    fn read(kind: &ResourceType, text: &str) -> Option<Name> {
        let extension = kind.extension.map(|(schema, _)| schema);
        if extension.is_some_and(|schema| schema.eq_ignore_ascii_case(text)) {
            return Some(Name { extension, name: None, sub: None });
        }
        let path = patch_path(text).ok().filter(|path| path.filter.is_none())?.attribute;
        let extension = match path.schema {
            None => None,
            Some(schema) if schema.eq_ignore_ascii_case(kind.schema) => None,
            Some(schema) => Some(extension.filter(|own| own.eq_ignore_ascii_case(&schema))?),
        };
        Some(Name { extension, name: Some(path.name), sub: path.sub })
    }

    fn is(&self, name: &str) -> bool {
        self.name.as_ref().is_none_or(|own| own.eq_ignore_ascii_case(name))
    }
}

// === impl Projection ===

impl Projection {
    /// The attributes that are shown.
    pub(crate) fn apply(&self, resource: Map<String, Value>) -> Map<String, Value> {
        let Projection { only, without } = self;
        if only.is_empty() && without.is_empty() {
            return resource;
        }
        let mut shown = Map::new();
        for (name, value) in resource {
            if ALWAYS.contains(&name.as_str()) {
                shown.insert(name, value);
                continue;
            }
            let of_extension = |names: &[Name]| -> Option<Vec<Name>> {
                let own: Vec<Name> =
                    names.iter().filter(|n| n.extension == Some(name.as_str())).cloned().collect();
                (!own.is_empty()).then_some(own)
            };
            let value = match (value, name.starts_with("urn:")) {
                (Value::Object(members), true) => {
                    let members = part(members, &of_extension(only).unwrap_or_default(), !only.is_empty());
                    Value::Object(drop_named(members, &of_extension(without).unwrap_or_default()))
                }
                (value, _) => {
                    let own = |names: &[Name]| -> Vec<Name> {
                        names.iter().filter(|n| n.extension.is_none() && n.is(&name)).cloned().collect()
                    };
                    let mut single = Map::new();
                    single.insert(name.clone(), value);
                    let single = part(single, &own(only), !only.is_empty());
                    drop_named(single, &own(without)).remove(&name).unwrap_or_default()
                }
            };
            if !value.is_null() && value != json!({}) {
                shown.insert(name, value);
            }
        }
        shown
    }
}

/// Of `members` those that are named; all when there is no choice.
fn part(members: Map<String, Value>, names: &[Name], chosen: bool) -> Map<String, Value> {
    if !chosen {
        return members;
    }
    let mut kept = Map::new();
    for (name, mut value) in members {
        let wanted: Vec<&Name> = names.iter().filter(|wanted| wanted.is(&name)).collect();
        if wanted.is_empty() {
            continue;
        }
        if wanted.iter().all(|wanted| wanted.sub.is_some()) {
            let named = |key: &str| {
                wanted.iter().any(|w| w.sub.as_ref().is_some_and(|s| s.eq_ignore_ascii_case(key)))
            };
            each_object(&mut value, |object| object.retain(|key, _| named(key)));
        }
        kept.insert(name, value);
    }
    kept
}

/// `members` without those that are named.
fn drop_named(members: Map<String, Value>, names: &[Name]) -> Map<String, Value> {
    let mut kept = Map::new();
    for (name, mut value) in members {
        let unwanted: Vec<&Name> = names.iter().filter(|unwanted| unwanted.is(&name)).collect();
        if unwanted.iter().any(|unwanted| unwanted.sub.is_none()) {
            continue;
        }
        let named =
            |key: &str| unwanted.iter().any(|u| u.sub.as_ref().is_some_and(|s| s.eq_ignore_ascii_case(key)));
        each_object(&mut value, |object| object.retain(|key, _| !named(key)));
        kept.insert(name, value);
    }
    kept
}

fn each_object(value: &mut Value, change: impl Fn(&mut Map<String, Value>)) {
    match value {
        Value::Object(object) => change(object),
        Value::Array(values) => values.iter_mut().filter_map(Value::as_object_mut).for_each(change),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
