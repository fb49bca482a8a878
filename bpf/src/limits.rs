//! Bounds of the kernel side, from include/limits.h.

include!(concat!(env!("OUT_DIR"), "/limits.rs"));
