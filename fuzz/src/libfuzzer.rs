//! What libFuzzer calls. `PORTCULLIS_FUZZ_TARGET` says which target it is.
//!
//! **Invariant:** a difference panics, a panic cannot leave a C function, so the process aborts and libFuzzer keeps the
//! input.

use std::sync::{Mutex, OnceLock, PoisonError};

use crate::{Sides, Target};

#[unsafe(no_mangle)]
extern "C" fn LLVMFuzzerTestOneInput(data: *const u8, size: usize) -> i32 {
    static STATE: OnceLock<(Target, Mutex<Sides>)> = OnceLock::new();
    let (target, sides) = STATE.get_or_init(|| {
        let name = std::env::var("PORTCULLIS_FUZZ_TARGET").unwrap_or_default();
        let target = Target::named(&name).expect("PORTCULLIS_FUZZ_TARGET names a target");
        (target, Mutex::new(Sides::new()))
    });
    let input = match size {
        0 => &[],
        // SAFETY: libFuzzer promises `size` readable bytes at `data` for the length of the call.
        _ => unsafe { std::slice::from_raw_parts(data, size) },
    };
    sides.lock().unwrap_or_else(PoisonError::into_inner).compare(*target, input);
    0
}
