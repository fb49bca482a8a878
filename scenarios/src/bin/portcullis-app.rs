//! The test application as a process of its own.
fn main() {}
