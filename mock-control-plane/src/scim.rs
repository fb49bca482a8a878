//! SCIM 2.0 (RFC 7643, RFC 7644): how other directories create, change and remove users and groups here.
//!
//! Everything works on the JSON of a resource, led by the tables of [`schema`]: a request is brought into canonical
//! form, a patch is applied to what is there, and the outcome is read back as a whole.

mod document;
mod error;
mod filter;
mod group;
mod list;
mod patch;
mod path;
mod resource;
mod schema;
mod token;
mod user;

pub(crate) use document::{
    AnyDocument, ConfigDocument, GroupDocument, ListDocument, ResourceTypeDocument, SchemaDocument,
    UserDocument,
};
pub(crate) use error::{ScimError, ScimKind};
pub(crate) use filter::Filter;
pub(crate) use group::GroupRequest;
pub(crate) use list::{COUNT_MAX, ListQuery, Projection};
pub(crate) use patch::Patch;
pub(crate) use resource::{Meta, canonical};
pub(crate) use schema::{GROUP, ResourceType, USER, schemas};
pub(crate) use token::{ScimToken, ScimTokens};
pub(crate) use user::UserRequest;
