//! From the bytes of a connection to what passes and what is answered: the model of the datapath.
//!
//! [`decide`] decides one request, [`refuse`] one that could not be read; [`response`] is what a denied client is
//! sent; [`Connection`] is what `bpf/progs/run.h` makes of the segments of one connection.
//!
//! **Invariant:** pure: no I/O, no clock, no randomness; time and identifiers are parameters.
//! **Invariant:** no input makes it panic, and what cannot be decided is denied.
#![forbid(unsafe_code)]

mod connection;
mod decide;
mod response;
#[cfg(test)]
mod testing;

pub use connection::{Connection, Fate, Handled, REQUESTS_PER_SEGMENT_MAX, Record};
pub use decide::{Decision, decide, refuse, tried};
pub use response::response;
