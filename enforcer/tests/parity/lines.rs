//! Parts of request lines: core/http against bpf/lib, byte for byte.

use portcullis_bpf::host::SlotField;
use portcullis_bpf::limits::HEAD_TAIL;
use portcullis_wire::Reason;

use crate::engine::{Engine, Native};

/// `PC_HTTP_MORE`.
const MORE: i32 = -1000;

/// Every part of a line with every byte behind it: what waits for more goes to applications whose reads do not block, so
/// both must say the same of it, too.
#[test]
fn native_judges_every_part_of_a_line_as_the_model_does() {
    let mut engine = Native::new();
    let mut judged = 0;
    for line in ["GET /a?b HTTP/1.1\r\nHost: h", "PUT http://h/a HTTP/1.0\r\n\r", "M-SEARCH / HTTP/1.1\r\n"] {
        for cut in 0..=line.len() {
            for byte in 0..=255 {
                let part = [&line.as_bytes()[..cut], &[byte]].concat();
                let expected = portcullis_http::parse(&part).map(|head| head.is_some());
                assert_eq!(native(&mut engine, &part), expected, "{}", part.escape_ascii());
                judged += 1;
            }
        }
    }
    assert!(judged > 10_000, "{judged}");
}

fn native(engine: &mut Native, part: &[u8]) -> Result<bool, Reason> {
    let mut slot = engine.slot();
    slot.set(SlotField::HEAD, &[part, &[0; HEAD_TAIL]].concat());
    slot.set_u32(SlotField::N, part.len() as u32);
    match engine.run("head") {
        MORE => Ok(false),
        code if code > 0 => Ok(true),
        code => Err(Reason::from_code(-code as u16).expect("a reason")),
    }
}
