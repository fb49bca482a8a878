//! Scenario files and their runner: a world (control plane, applications, an enforcement engine), steps that send
//! real requests, and expectations about what client, application and log saw.
//!
//! **Invariant:** an engine that cannot run is reported as `not_run` with the reason, never passed over.
//! **Invariant:** a scenario file with anything unknown or impossible in it is refused with file, line, column and
//! the remedy, before anything is started.

#![forbid(unsafe_code)]

pub mod app;
mod cgroup;
pub mod engine;
mod error;
mod http;
pub mod offboarding;
mod plane;
mod progress;
mod relay;
pub mod report;
mod run;
pub mod spec;
mod totp;
mod world;

pub use engine::EngineKind;
pub use error::FileProblem;
pub use plane::access_log;
pub use progress::Progress;
pub use run::{RunConfig, run_files};
pub use world::{Commands, SyncWay};
