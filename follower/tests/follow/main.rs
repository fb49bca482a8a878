//! Following over loopback: control planes that sign, lie, speak TLS, and are gone.

#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

mod issuers;
mod plane;
mod records;
mod signed;
mod tls;
