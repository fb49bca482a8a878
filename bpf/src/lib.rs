//! The kernel programs: their objects, the layouts that they share with user space, and the same C built natively.
//!
//! **Invariant:** no number or layout is typed twice without a test that compares the copies (`tests/layout.rs`).

pub mod abi;
#[cfg(feature = "host")]
pub mod host;
pub mod limits;
pub mod p256_tables;
pub mod reason;
pub mod rsa_key;

/// ELF object of the datapath: sockops, verdict chain, guard, inject.
pub const OBJECT: &[u8] = aligned!("portcullis.bpf.o");

/// ELF object of the test programs (`SEC("tc")`, for BPF_PROG_TEST_RUN); never loaded in production.
pub const TEST_OBJECT: &[u8] = aligned!("test.bpf.o");

/// ELF parsers want aligned bytes; `include_bytes!` promises none.
macro_rules! aligned {
    ($file:literal) => {{
        #[repr(C, align(64))]
        struct Aligned<T: ?Sized>(T);
        static BYTES: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/", $file)));
        &BYTES.0
    }};
}
use aligned;
