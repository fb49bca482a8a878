//! One meaning, several implementations: core/policy and core/token, bpf/lib built natively, bpf/lib in the kernel.

#![expect(clippy::unwrap_used, reason = "helpers of tests; what cannot be set up is a failed test")]

#[path = "../corpus/compiled.rs"]
mod compiled;
#[path = "../corpus/corpus.rs"]
mod corpus;
mod engine;
mod lines;
mod policy;
mod raw;
mod rows;
mod token;
