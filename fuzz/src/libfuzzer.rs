//! What libFuzzer calls. `PORTCULLIS_FUZZ_TARGET` says which target it is.
//!
//! **Invariant:** a difference panics, a panic cannot leave a C function, so the process aborts and libFuzzer keeps the
//! input.

use std::cell::{OnceCell, RefCell};

use crate::{Sides, Target};

thread_local! {
    static STATE: OnceCell<(Target, RefCell<Sides>)> = const { OnceCell::new() };
}

#[unsafe(no_mangle)]
extern "C" fn LLVMFuzzerTestOneInput(data: *const u8, size: usize) -> i32 {
    let input = match size {
        0 => &[],
        // SAFETY: libFuzzer promises `size` readable bytes at `data` for the length of the call.
        _ => unsafe { std::slice::from_raw_parts(data, size) },
    };
    STATE.with(|state| {
        let (target, sides) = state.get_or_init(|| {
            let name = std::env::var("PORTCULLIS_FUZZ_TARGET").unwrap_or_default();
            let target = Target::named(&name).expect("PORTCULLIS_FUZZ_TARGET names a target");
            (target, RefCell::new(Sides::new()))
        });
        sides.borrow_mut().compare(*target, input);
    });
    0
}
