//! Where in a resource a patch works.

use serde_json::{Map, Value, json};

use super::filter::{AttributePath, Filter, PatchPath, patch_path};
use super::schema::{Access, Attribute, ResourceType};
use super::{ScimError, ScimKind};

/// Where in a resource a patch works.
#[derive(Debug)]
pub(super) enum Target {
    /// A whole extension.
    Extension(&'static str),
    /// An attribute.
    Attribute {
        /// The extension that it is in.
        extension: Option<&'static str>,
        /// The attribute.
        attribute: &'static Attribute,
        /// Which of its values.
        filter: Option<Filter>,
        /// The sub-attribute.
        sub: Option<&'static Attribute>,
    },
}

// === impl Target ===

impl Target {
    /// Finds what a path means.
    pub(super) fn find(kind: &'static ResourceType, text: &str) -> Result<Target, ScimError> {
        if let Some((schema, _)) = kind.extension.filter(|(schema, _)| schema.eq_ignore_ascii_case(text)) {
            return Ok(Target::Extension(schema));
        }
        let nothing = || ScimError::new(ScimKind::InvalidPath, format!("`{text}` names no attribute"));
        let PatchPath { attribute: path, filter, sub } = patch_path(text)?;
        let AttributePath { schema, name, sub: plain_sub } = path;
        let (extension, attributes) = match (schema, kind.extension) {
            (None, _) => (None, kind.attributes),
            (Some(schema), _) if schema.eq_ignore_ascii_case(kind.schema) => (None, kind.attributes),
            (Some(schema), Some((own, attributes))) if schema.eq_ignore_ascii_case(own) => {
                (Some(own), attributes)
            }
            (Some(_), _) => return Err(nothing()),
        };
        let attribute = Attribute::find(attributes, &name).ok_or_else(nothing)?;
        if filter.is_some() && (!attribute.many || plain_sub.is_some()) {
            return Err(ScimError::new(
                ScimKind::InvalidPath,
                format!("`{text}` filters what has one value"),
            ));
        }
        let sub = match sub.or(plain_sub) {
            Some(sub) => Some(Attribute::find(attribute.sub, &sub).ok_or_else(nothing)?),
            None => None,
        };
        Ok(Target::Attribute { extension, attribute, filter, sub })
    }

    /// Refuses what only the server writes.
    pub(super) fn check_access(&self) -> Result<(), ScimError> {
        let Target::Attribute { attribute, sub, .. } = self else { return Ok(()) };
        let read_only = |attribute: &Attribute| attribute.access == Access::ReadOnly;
        if read_only(attribute) || sub.is_some_and(read_only) {
            let detail = format!("`{}` is read-only", sub.unwrap_or(attribute).name);
            return Err(ScimError::new(ScimKind::Mutability, detail));
        }
        Ok(())
    }
}

/// The object that holds the attributes of an extension, or the resource itself.
pub(super) fn holder<'a>(
    resource: &'a mut Map<String, Value>,
    extension: Option<&'static str>,
) -> Option<&'a mut Map<String, Value>> {
    match extension {
        None => Some(resource),
        Some(name) => resource.entry(name).or_insert_with(|| json!({})).as_object_mut(),
    }
}
