//! What SCIM's answers look like, for the description of the interface: from the tables that the answers are made by.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::schema::{Access, Attribute, GROUP, Kind, ResourceType, USER};

/// A user.
pub(crate) enum UserDocument {}
/// A group.
pub(crate) enum GroupDocument {}
/// A user or a group.
pub(crate) enum AnyDocument {}
/// RFC 7643 section 5.
pub(crate) enum ConfigDocument {}
/// RFC 7643 section 6.
pub(crate) enum ResourceTypeDocument {}
/// RFC 7643 section 7.
pub(crate) enum SchemaDocument {}
/// A page of a listing, RFC 7644 section 3.4.2.
pub(crate) struct ListDocument<T>(std::marker::PhantomData<T>);

macro_rules! document {
    ($($type:ty, $name:literal: $schema:expr;)+) => { $(
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(schemas: &mut SchemaGenerator) -> Schema {
                let schema: fn(&mut SchemaGenerator) -> Schema = $schema;
                schema(schemas)
            }
        }
    )+ };
}

document! {
    UserDocument, "ScimUser": |_| resource(&USER);
    GroupDocument, "ScimGroup": |_| resource(&GROUP);
    AnyDocument, "ScimResource": |schemas| {
        let any = [schemas.subschema_for::<UserDocument>(), schemas.subschema_for::<GroupDocument>()];
        json_schema!({ "anyOf": any })
    };
    ConfigDocument, "ScimServiceProviderConfig": |_| config();
    ResourceTypeDocument, "ScimResourceType": |_| resource_type();
    SchemaDocument, "ScimSchema": |_| schema();
}

impl<T: JsonSchema> JsonSchema for ListDocument<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}List", T::schema_name()).into()
    }

    fn json_schema(schemas: &mut SchemaGenerator) -> Schema {
        let resource = schemas.subschema_for::<T>();
        let count = json!({ "type": "integer", "minimum": 0 });
        object(
            &["schemas", "totalResults", "startIndex", "itemsPerPage", "Resources"],
            json!({
                "schemas": { "const": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"] },
                "totalResults": count, "startIndex": { "type": "integer", "minimum": 1 }, "itemsPerPage": count,
                "Resources": { "type": "array", "items": resource },
            }),
        )
    }
}

/// An object that has these members and no others; the `required` ones always.
fn object(required: &[&str], properties: Value) -> Schema {
    json_schema!({
        "type": "object", "required": required, "additionalProperties": false, "properties": properties,
    })
}

/// A resource. Which of its attributes are shown is for who asks to choose, but for those that always are.
fn resource(kind: &ResourceType) -> Schema {
    let mut properties = attributes(kind.attributes);
    properties.insert("id".to_owned(), json!({ "type": "string" }));
    properties.insert("schemas".to_owned(), strings());
    properties.insert("meta".to_owned(), meta(&["created", "lastModified", "version"]));
    if let Some((name, own)) = kind.extension {
        let members = attributes(own);
        properties.insert(
            name.to_owned(),
            json!({ "type": "object", "additionalProperties": false, "properties": members }),
        );
    }
    object(&["id", "schemas"], Value::Object(properties))
}

fn attributes(attributes: &[Attribute]) -> Map<String, Value> {
    let shown = attributes.iter().filter(|attribute| attribute.access != Access::WriteOnly);
    shown.map(|attribute| (attribute.name.to_owned(), value(attribute))).collect()
}

fn value(attribute: &Attribute) -> Value {
    let one = match attribute.kind {
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Text | Kind::Reference => json!({ "type": "string" }),
        Kind::Complex => {
            let members = attributes(attribute.sub);
            json!({ "type": "object", "additionalProperties": false, "properties": members })
        }
    };
    if attribute.many { json!({ "type": "array", "items": one }) } else { one }
}

fn strings() -> Value {
    json!({ "type": "array", "items": { "type": "string" } })
}

fn meta(more: &[&str]) -> Value {
    let names = ["resourceType", "location"].iter().chain(more);
    let properties: Map<String, Value> =
        names.map(|name| ((*name).to_owned(), json!({ "type": "string" }))).collect();
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}

fn config() -> Schema {
    let supported = |more: &[&str]| {
        let mut properties = json!({ "supported": { "type": "boolean" } });
        for name in more {
            properties[*name] = json!({ "type": "integer", "minimum": 0 });
        }
        let required: Vec<&str> = [&["supported"], more].concat();
        json!({ "type": "object", "required": required, "additionalProperties": false, "properties": properties })
    };
    let text = json!({ "type": "string" });
    let scheme = object(
        &["type", "name", "description"],
        json!({ "type": text, "name": text, "description": text, "primary": { "type": "boolean" } }),
    );
    let required = [
        "schemas",
        "patch",
        "bulk",
        "filter",
        "changePassword",
        "sort",
        "etag",
        "authenticationSchemes",
        "meta",
    ];
    object(
        &required,
        json!({
            "schemas": strings(), "patch": supported(&[]), "bulk": supported(&["maxOperations", "maxPayloadSize"]),
            "filter": supported(&["maxResults"]), "changePassword": supported(&[]), "sort": supported(&[]),
            "etag": supported(&[]), "authenticationSchemes": { "type": "array", "items": scheme }, "meta": meta(&[]),
        }),
    )
}

fn resource_type() -> Schema {
    let text = json!({ "type": "string" });
    let extension =
        object(&["schema", "required"], json!({ "schema": text, "required": { "type": "boolean" } }));
    object(
        &["schemas", "id", "name", "endpoint", "description", "schema", "schemaExtensions", "meta"],
        json!({
            "schemas": strings(), "id": text, "name": text, "endpoint": text, "description": text, "schema": text,
            "schemaExtensions": { "type": "array", "items": extension }, "meta": meta(&[]),
        }),
    )
}

fn schema() -> Schema {
    let text = json!({ "type": "string" });
    object(
        &["schemas", "id", "name", "description", "attributes", "meta"],
        json!({
            "schemas": strings(), "id": text, "name": text, "description": text, "meta": meta(&[]),
            "attributes": { "type": "array", "items": described(1) },
        }),
    )
}

/// An attribute of a schema: `subs` levels below it can be complex ones.
fn described(subs: u8) -> Schema {
    let flag = json!({ "type": "boolean" });
    let one_of = |names: &[&str]| json!({ "enum": names });
    let mut properties = json!({
        "name": { "type": "string" }, "description": { "type": "string" },
        "type": one_of(&["string", "boolean", "reference", "complex"]), "multiValued": flag, "required": flag,
        "caseExact": flag, "mutability": one_of(&["readOnly", "readWrite", "immutable", "writeOnly"]),
        "returned": one_of(&["always", "never", "default", "request"]),
        "uniqueness": one_of(&["none", "server", "global"]), "referenceTypes": strings(),
        "canonicalValues": strings(),
    });
    if subs > 0 {
        properties["subAttributes"] = json!({ "type": "array", "items": described(subs - 1) });
    }
    object(&["name", "type", "multiValued", "required", "mutability"], properties)
}
