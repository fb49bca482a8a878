//! One meaning, several implementations: core/policy and core/token, bpf/lib built natively, bpf/lib in the kernel.

mod engine;
mod policy;
mod rows;
mod token;
