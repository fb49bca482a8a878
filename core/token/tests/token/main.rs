//! Tokens as others send them: RFC examples, RFC 8725's attacks, published bugs, Wycheproof, random ones.

mod binding;
mod claims;
mod corpus;
mod cves;
mod fixture;
mod form;
mod header;
mod jwk;
mod order;
mod properties;
mod revocation;
mod rfc;
mod signature;
mod times;
mod wycheproof;
