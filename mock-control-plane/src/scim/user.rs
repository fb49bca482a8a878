//! Users as SCIM resources.

use serde_json::{Map, Value, json};

use super::schema::USER;
use super::{Meta, ScimError, ScimKind};
use crate::directory::{Directory, User, UserDraft};
use crate::password::PASSWORD_BYTES;

/// A user as it is asked for.
#[derive(Debug)]
pub(crate) struct UserRequest {
    /// All but what follows.
    pub draft: UserDraft,
    /// Whether the user is active; absent: as it is, and a new one is.
    pub active: Option<bool>,
    /// The password, if it is to be set.
    pub password: Option<String>,
}

// === impl UserRequest ===

impl UserRequest {
    /// Reads attributes in canonical form.
    pub(crate) fn read(mut attributes: Map<String, Value>) -> Result<UserRequest, ScimError> {
        let mut text = |name: &str| match attributes.remove(name) {
            Some(Value::String(text)) => Some(text),
            Some(_) | None => None,
        };
        let user_name = text("userName");
        let external_id = text("externalId");
        let password = text("password");
        let invalid = |detail: String| ScimError::new(ScimKind::InvalidValue, detail);
        let user_name = user_name.ok_or_else(|| invalid("`userName` is missing".to_owned()))?;
        if password.as_ref().is_some_and(|password| !PASSWORD_BYTES.contains(&password.len())) {
            let (min, max) = (PASSWORD_BYTES.start(), PASSWORD_BYTES.end());
            return Err(invalid(format!("`password` must have {min} to {max} bytes")));
        }
        let active = attributes.remove("active").map(|active| active == Value::Bool(true));
        let draft = UserDraft { user_name, external_id, profile: attributes, ..UserDraft::default() };
        Ok(UserRequest { draft, active, password })
    }
}

// === impl User ===

impl User {
    /// The attributes that can be written, in canonical form: what a patch works on.
    pub(crate) fn attributes(&self) -> Map<String, Value> {
        let mut attributes = self.profile.clone();
        attributes.insert("userName".to_owned(), json!(self.user_name));
        attributes.insert("active".to_owned(), json!(self.active));
        if let Some(external_id) = &self.external_id {
            attributes.insert("externalId".to_owned(), json!(external_id));
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
    pub(crate) fn resource(&self, directory: &Directory, base: &str) -> Map<String, Value> {
        let mut resource = self.attributes();
        let groups: Vec<Value> = directory
            .groups_of(&self.id)
            .map(|group| {
                json!({
                    "value": group.id, "display": group.name, "type": "direct",
                    "$ref": format!("{base}/Groups/{}", group.id),
                })
            })
            .collect();
        if !groups.is_empty() {
            resource.insert("groups".to_owned(), json!(groups));
        }
        self.meta(base).complete(&USER, &mut resource);
        resource
    }
}
