//! The datapath, live: real programs in the kernel, real TCP servers and clients.
//!
//! Each test has its own process (nextest), cgroup and instance directory, and leaves nothing behind. Proof of a denial
//! is taken at the application: what it read, not only what the client was told.

#[path = "live/app.rs"]
mod app;
#[path = "live/candidate.rs"]
mod candidate;
#[path = "live/client.rs"]
mod client;
#[path = "corpus/corpus.rs"]
mod corpus;
#[path = "live/enforce.rs"]
mod enforce;
#[path = "live/guard.rs"]
mod guard;
#[path = "live/lifecycle.rs"]
mod lifecycle;
#[path = "live/link.rs"]
mod link;
#[path = "live/monitor.rs"]
mod monitor;
#[path = "live/parity.rs"]
mod parity;
#[path = "live/stream.rs"]
mod stream;
#[path = "live/sync.rs"]
mod sync;
#[path = "live/world.rs"]
mod world;
