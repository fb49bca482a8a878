//! The token stages of bpf/lib, natively and in the kernel (BPF_PROG_TEST_RUN), on the same vectors.

#![cfg(feature = "host")]

mod base64url;
mod budget;
mod cache;
mod cost;
mod engine;
mod es256;
mod json;
mod jwt;
mod keys;
mod memo;
mod rs256;
mod sha256;
