//! Groups as SCIM resources.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::schema::GROUP;
use super::{Meta, ScimError, ScimKind};
use crate::directory::{Group, GroupDraft};

/// A group as it is asked for.
#[derive(Debug)]
pub(crate) struct GroupRequest {
    /// All of it.
    pub draft: GroupDraft,
}

// === impl GroupRequest ===

impl GroupRequest {
    /// Reads attributes in canonical form.
    pub(crate) fn read(mut attributes: Map<String, Value>) -> Result<GroupRequest, ScimError> {
        let invalid = |detail: &str| ScimError::new(ScimKind::InvalidValue, detail);
        let mut text =
            |name: &str| attributes.remove(name).and_then(|value| value.as_str().map(str::to_owned));
        let name = text("displayName").ok_or_else(|| invalid("`displayName` is missing"))?;
        let external_id = text("externalId");
        let members = match attributes.remove("members") {
            Some(Value::Array(members)) => members,
            Some(_) | None => Vec::new(),
        };
        let mut ids = BTreeSet::new();
        for member in &members {
            if member
                .get("type")
                .and_then(Value::as_str)
                .is_some_and(|kind| !kind.eq_ignore_ascii_case("User"))
            {
                return Err(invalid("groups have users as members, not groups"));
            }
            let text = |name: &str| member.get(name).and_then(Value::as_str);
            // A reference says the same as a value: its last segment is the identifier.
            let id = text("value").or_else(|| text("$ref").and_then(|link| link.rsplit('/').next()));
            ids.insert(id.ok_or_else(|| invalid("a member has no `value`"))?.to_owned());
        }
        Ok(GroupRequest {
            draft: GroupDraft { name, external_id, members: Some(ids), ..GroupDraft::default() },
        })
    }
}

// === impl Group ===

impl Group {
    /// The attributes that can be written, in canonical form: what a patch works on.
    pub(crate) fn attributes(&self) -> Map<String, Value> {
        let mut attributes = Map::new();
        attributes.insert("displayName".to_owned(), json!(self.name));
        if let Some(external_id) = &self.external_id {
            attributes.insert("externalId".to_owned(), json!(external_id));
        }
        let members: Vec<Value> =
            self.members.iter().map(|id| json!({ "value": id, "type": "User" })).collect();
        if !members.is_empty() {
            attributes.insert("members".to_owned(), json!(members));
        }
        attributes
    }

    /// What is known of the resource.
    pub(crate) fn meta(&self, base: &str) -> Meta {
        Meta {
            base: base.to_owned(),
            id: self.id.clone(),
            created_s: self.created_s,
            updated_s: self.updated_s,
            revision: self.revision,
        }
    }

    /// The whole resource.
    pub(crate) fn resource(&self, base: &str) -> Map<String, Value> {
        let mut resource = self.attributes();
        if let Some(Value::Array(members)) = resource.get_mut("members") {
            for member in members {
                let id = member["value"].as_str().unwrap_or_default().to_owned();
                member["$ref"] = json!(format!("{base}/Users/{id}"));
            }
        }
        self.meta(base).complete(&GROUP, &mut resource);
        resource
    }
}
