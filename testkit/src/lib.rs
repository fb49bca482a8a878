//! Test support: feature gates, control groups, network namespaces, ports, seeds, request heads.
//!
//! ```no_run
//! use portcullis_testkit::{NetNs, TestCgroup, need};
//!
//! # fn main() -> anyhow::Result<()> {
//! need!(Bpf, Cgroup2, NetNs => Ok(()));
//! let _ns = NetNs::enter()?;
//! let cgroup = TestCgroup::new("example")?;
//! let mut app = std::process::Command::new("true");
//! cgroup.enter_command(&mut app)?;
//! assert!(app.status()?.success());
//! # Ok(())
//! # }
//! ```
//!
//! **Invariant:** a test that cannot run says so, by name and reason; it never passes in silence.
//! **Invariant:** every guard undoes what it did when it is dropped: cgroups are removed, threads go back to their
//! namespace.

mod cgroup;
mod feature;
pub mod heads;
mod net;
mod seed;
mod wait;

pub use cgroup::{InCgroup, TestCgroup, cgroup2_mount};
pub use feature::{Feature, GO_SERVER, Granted, emulated, need, probe};
pub use net::{NetNs, connect_from, free_port, free_ports};
pub use seed::{Rng, seed};
pub use wait::eventually;
