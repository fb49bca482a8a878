//! The datapath, live: real programs in the kernel, real TCP servers and clients.
//!
//! Each test has its own process (nextest), cgroup and instance directory, and leaves nothing behind. Proof of a denial
//! is taken at the application: what it read, not only what the client was told.

#[path = "live/agent.rs"]
mod agent;
#[path = "live/app.rs"]
mod app;
#[path = "live/bypass.rs"]
mod bypass;
#[path = "live/cache.rs"]
mod cache;
#[path = "live/candidate.rs"]
mod candidate;
#[path = "live/client.rs"]
mod client;
#[path = "live/clock.rs"]
mod clock;
#[path = "live/closed.rs"]
mod closed;
#[path = "corpus/compiled.rs"]
mod compiled;
#[path = "corpus/corpus.rs"]
mod corpus;
#[path = "live/delivery.rs"]
mod delivery;
#[path = "live/enforce.rs"]
mod enforce;
#[path = "live/fragments.rs"]
mod fragments;
#[path = "live/guard.rs"]
mod guard;
#[path = "live/lifecycle.rs"]
mod lifecycle;
#[path = "live/link.rs"]
mod link;
#[path = "live/losses.rs"]
mod losses;
#[path = "live/monitor.rs"]
mod monitor;
#[path = "live/nesting.rs"]
mod nesting;
#[path = "live/older.rs"]
mod older;
#[path = "live/outage.rs"]
mod outage;
#[path = "live/outgoing.rs"]
mod outgoing;
#[path = "live/packaged.rs"]
mod packaged;
#[path = "live/parity.rs"]
mod parity;
#[path = "live/peer.rs"]
mod peer;
#[path = "live/plane.rs"]
mod plane;
#[path = "live/readers.rs"]
mod readers;
#[path = "live/rings.rs"]
mod rings;
#[path = "live/segments.rs"]
mod segments;
#[path = "live/servers.rs"]
mod servers;
#[path = "live/spellings.rs"]
mod spellings;
#[path = "live/stream.rs"]
mod stream;
#[path = "live/swap.rs"]
mod swap;
#[path = "live/sync.rs"]
mod sync;
#[path = "live/turns.rs"]
mod turns;
#[path = "live/upgrade.rs"]
mod upgrade;
#[path = "live/uring.rs"]
mod uring;
#[path = "live/world.rs"]
mod world;
