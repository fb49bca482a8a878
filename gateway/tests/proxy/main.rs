//! The gateway over loopback, before applications that record what they are given.

#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

#[expect(dead_code, reason = "some is for the tests of the kernel only")]
#[path = "../../../enforcer/tests/corpus/corpus.rs"]
mod corpus;
mod fields;
mod http2;
mod limits;
mod parity;
mod plane;
mod reload;
mod smuggling;
mod stop;
mod stream;
mod tls;
mod upgrade;
mod world;
