//! Strict HTTP/1.x (RFC 9112) as the enforcer reads it: request heads, canonical paths and hosts, body framing, and
//! whole streams.
//!
//! Written from the rules, byte by byte, as the reference for `bpf/lib/http1.h`, `bpf/lib/path.h` and
//! `bpf/progs/chunk.h`, which read many bytes a step and share no code with it; tests compare the two.
//!
//! What two servers might read differently is refused, not repaired: the enforcer must never understand a request
//! otherwise than the application behind it.
//!
//! **Invariant:** pure: no I/O, no clock.
//! **Invariant:** no input makes it panic, and none makes it hold more than a head of [`limits::HEAD_MAX`] bytes.
//! **Invariant:** how a stream is cut into pieces changes nothing.
#![forbid(unsafe_code)]

mod chunked;
mod fields;
mod head;
mod host;
pub mod limits;
mod path;
mod reader;
mod request_line;
mod stream;

pub use fields::{Authorization, Framing};
pub use head::{Head, Resource, parse};
pub use host::normalise as normalise_host;
pub use path::canonical as canonical_path;
pub use stream::{Event, Step, Stream};
