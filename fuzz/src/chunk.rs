//! Chunked bodies: bpf/progs/chunk.h against core/http.

use portcullis_bpf::host::Host;
use portcullis_http::{Event, Step, Stream};

/// What a body comes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Told {
    /// It ends behind so many bytes.
    End(usize),
    /// Something in it cannot stand there.
    Malformed,
    /// It is well formed so far.
    More,
}

/// Compares what both sides make of a body. The first byte of the input says in pieces of what size it arrives; 0 is
/// all at once.
///
/// # Panics
/// When they differ.
pub fn compare(host: &mut Host, input: &[u8]) {
    let Some((size, body)) = input.split_first() else { return };
    let piece = if *size == 0 { body.len().max(1) } else { usize::from(*size) };
    let (kernel, model) = (kernel(host, body, piece), model(body, piece));
    assert!(
        kernel == model,
        "pieces of {piece}: {}\n  C:    {kernel:?}\n  Rust: {model:?}",
        body.escape_ascii()
    );
}

/// bpf/progs/chunk.h.
fn kernel(host: &mut Host, body: &[u8], piece: usize) -> Told {
    match host.chunked(body, piece) {
        Ok(Some(end)) => Told::End(end),
        Ok(None) => Told::More,
        Err(_) => Told::Malformed,
    }
}

/// core/http.
fn model(body: &[u8], piece: usize) -> Told {
    let mut stream = Stream::new();
    stream.feed(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut end = 0;
    for mut bytes in body.chunks(piece) {
        while !bytes.is_empty() {
            let Step { taken, event } = stream.step(bytes);
            end += taken;
            match event {
                Some(Event::Body { last: true, .. }) => return Told::End(end),
                Some(Event::Refused(_)) => return Told::Malformed,
                Some(Event::Body { last: false, .. } | Event::Head(_)) | None => {}
            }
            bytes = bytes.get(taken..).unwrap_or_default();
        }
    }
    Told::More
}
