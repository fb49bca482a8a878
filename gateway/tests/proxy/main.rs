//! The gateway over loopback, before applications that record what they are given.

#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

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
