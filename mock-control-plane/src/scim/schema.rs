//! The attributes of users and groups, RFC 7643 sections 4, 7 and 8.7: one table each, from which requests are read,
//! patches are applied and `/Schemas` is answered.

use serde_json::{Value, json};

/// A resource type.
#[derive(Debug)]
pub(crate) struct ResourceType {
    /// Name.
    pub name: &'static str,
    /// Where it is, below the base.
    pub endpoint: &'static str,
    /// Name of its schema.
    pub schema: &'static str,
    /// Its attributes.
    pub attributes: &'static [Attribute],
    /// Its extension, if any: name and attributes.
    pub extension: Option<(&'static str, &'static [Attribute])>,
}

/// An attribute.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attribute {
    /// Name.
    pub name: &'static str,
    /// Type of its value.
    pub kind: Kind,
    /// Whether it has several.
    pub many: bool,
    /// Whether the difference of case counts.
    pub case_exact: bool,
    /// Whether it must be there.
    pub required: bool,
    /// Whether no two resources may have the same.
    pub unique: bool,
    /// Who may write and read it.
    pub access: Access,
    /// What a reference leads to, and what the `type` beside it can be.
    pub refers: &'static [&'static str],
    /// Attributes of a complex one.
    pub sub: &'static [Attribute],
}

/// Type of a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// `true` or `false`.
    Boolean,
    /// An object of sub-attributes.
    Complex,
    /// A URI.
    Reference,
    /// Text.
    Text,
}

/// Who may write and read an attribute.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Access {
    /// Set once.
    Immutable,
    /// The server's.
    ReadOnly,
    /// Anyone's.
    ReadWrite,
    /// Never shown.
    WriteOnly,
}

/// Users.
pub(crate) static USER: ResourceType = ResourceType {
    name: "User",
    endpoint: "/Users",
    schema: "urn:ietf:params:scim:schemas:core:2.0:User",
    attributes: &[
        EXTERNAL_ID,
        Attribute { required: true, unique: true, ..text("userName") },
        complex(
            "name",
            &[
                text("formatted"),
                text("familyName"),
                text("givenName"),
                text("middleName"),
                text("honorificPrefix"),
                text("honorificSuffix"),
            ],
        ),
        text("displayName"),
        text("nickName"),
        Attribute { kind: Kind::Reference, case_exact: true, refers: &["external"], ..text("profileUrl") },
        text("title"),
        text("userType"),
        text("preferredLanguage"),
        text("locale"),
        text("timezone"),
        Attribute { kind: Kind::Boolean, required: true, ..text("active") },
        Attribute { access: Access::WriteOnly, case_exact: true, ..text("password") },
        many("emails", CONTACT),
        many("phoneNumbers", CONTACT),
        many(
            "addresses",
            &[
                text("formatted"),
                text("streetAddress"),
                text("locality"),
                text("region"),
                text("postalCode"),
                text("country"),
                text("type"),
                PRIMARY,
            ],
        ),
        Attribute {
            access: Access::ReadOnly,
            ..many(
                "groups",
                &[
                    read_only("value"),
                    read_only_reference("$ref", &["Group"]),
                    read_only("display"),
                    read_only("type"),
                ],
            )
        },
    ],
    extension: Some((
        "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User",
        &[
            text("employeeNumber"),
            text("costCenter"),
            text("organization"),
            text("division"),
            text("department"),
            complex("manager", &[Attribute { case_exact: true, ..text("value") }]),
        ],
    )),
};

/// Groups.
pub(crate) static GROUP: ResourceType = ResourceType {
    name: "Group",
    endpoint: "/Groups",
    schema: "urn:ietf:params:scim:schemas:core:2.0:Group",
    attributes: &[
        EXTERNAL_ID,
        Attribute { required: true, unique: true, ..text("displayName") },
        many(
            "members",
            &[
                Attribute { access: Access::Immutable, case_exact: true, ..text("value") },
                Attribute { access: Access::Immutable, ..read_only_reference("$ref", &["User"]) },
                Attribute { access: Access::Immutable, refers: &["User"], ..text("type") },
            ],
        ),
    ],
    extension: None,
};

const EXTERNAL_ID: Attribute = Attribute { case_exact: true, ..text("externalId") };
const PRIMARY: Attribute = Attribute { kind: Kind::Boolean, ..text("primary") };
const CONTACT: &[Attribute] = &[text("value"), text("display"), text("type"), PRIMARY];

// === impl ResourceType ===

impl ResourceType {
    /// This resource type at `base`, RFC 7643 section 6.
    pub(crate) fn show(&self, base: &str) -> Value {
        let extensions: Vec<Value> =
            self.extension.iter().map(|(schema, _)| json!({ "schema": schema, "required": false })).collect();
        json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ResourceType"],
            "id": self.name, "name": self.name, "endpoint": self.endpoint, "description": format!("{}s", self.name),
            "schema": self.schema, "schemaExtensions": extensions,
            "meta": { "resourceType": "ResourceType", "location": format!("{base}/ResourceTypes/{}", self.name) },
        })
    }
}

// === impl Attribute ===

impl Attribute {
    /// The attribute of that name, whose case does not count (RFC 7643 section 2.1).
    pub(crate) fn find(attributes: &'static [Attribute], name: &str) -> Option<&'static Attribute> {
        attributes.iter().find(|attribute| attribute.name.eq_ignore_ascii_case(name))
    }

    fn show(&self) -> Value {
        let Attribute { name, kind, many, case_exact, required, unique, access, refers, sub } = self;
        let mut shown = json!({
            "name": name, "multiValued": many, "required": required, "description": name,
            "type": match kind {
                Kind::Boolean => "boolean",
                Kind::Complex => "complex",
                Kind::Reference => "reference",
                Kind::Text => "string",
            },
            "mutability": match access {
                Access::Immutable => "immutable",
                Access::ReadOnly => "readOnly",
                Access::ReadWrite => "readWrite",
                Access::WriteOnly => "writeOnly",
            },
            "returned": if *access == Access::WriteOnly { "never" } else { "default" },
            "uniqueness": if *unique { "server" } else { "none" },
        });
        if matches!(kind, Kind::Text | Kind::Reference) {
            shown["caseExact"] = json!(case_exact);
        }
        match kind {
            Kind::Reference => shown["referenceTypes"] = json!(refers),
            Kind::Text if !refers.is_empty() => shown["canonicalValues"] = json!(refers),
            Kind::Boolean | Kind::Complex | Kind::Text => {}
        }
        if *kind == Kind::Complex {
            shown["subAttributes"] = sub.iter().map(Attribute::show).collect();
        }
        shown
    }
}

/// Every schema at `base`, RFC 7643 section 7.
pub(crate) fn schemas(base: &str) -> Vec<Value> {
    let mut all = Vec::new();
    for resource in [&USER, &GROUP] {
        all.push(schema(base, resource.schema, resource.name, resource.attributes));
        if let Some((name, attributes)) = resource.extension {
            all.push(schema(base, name, "EnterpriseUser", attributes));
        }
    }
    all
}

fn schema(base: &str, id: &str, name: &str, attributes: &[Attribute]) -> Value {
    // externalId is common to all resources and in no schema (RFC 7643 section 3.1).
    let own = attributes.iter().filter(|attribute| attribute.name != EXTERNAL_ID.name);
    json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Schema"],
        "id": id, "name": name, "description": name, "attributes": own.map(Attribute::show).collect::<Vec<_>>(),
        "meta": { "resourceType": "Schema", "location": format!("{base}/Schemas/{id}") },
    })
}

const fn text(name: &'static str) -> Attribute {
    Attribute {
        name,
        kind: Kind::Text,
        many: false,
        case_exact: false,
        required: false,
        unique: false,
        access: Access::ReadWrite,
        refers: &[],
        sub: &[],
    }
}

const fn complex(name: &'static str, sub: &'static [Attribute]) -> Attribute {
    Attribute { kind: Kind::Complex, sub, ..text(name) }
}

const fn many(name: &'static str, sub: &'static [Attribute]) -> Attribute {
    Attribute { many: true, ..complex(name, sub) }
}

const fn read_only(name: &'static str) -> Attribute {
    Attribute { access: Access::ReadOnly, ..text(name) }
}

const fn read_only_reference(name: &'static str, refers: &'static [&'static str]) -> Attribute {
    Attribute { kind: Kind::Reference, case_exact: true, refers, ..read_only(name) }
}
