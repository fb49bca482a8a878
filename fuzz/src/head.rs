//! What each side says of a head, in one form.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use portcullis_bpf::{
    abi::method,
    host::{Host, HostFn, SlotField},
    limits::HEAD_MAX,
    reason::REASONS,
};
use portcullis_http::{Framing, parse};

/// `PC_M_GET`.
const GET: u32 = method::GET as u32;
/// `PC_HTTP_MORE`.
const MORE: i32 = -1000;
/// Bits of `pc_head.seen`.
const LENGTH: u32 = 4;
const CODING: u32 = 8;
const UPGRADE: u32 = 32;
const EXPECT: u32 = 64;
const CLOSE: u32 = 256;
const KEEP: u32 = 512;
const BEARER: u32 = 1024;
const WEBSOCKET: u32 = 2048;
/// Differences shown before a test gives up looking for more.
const SHOWN_MAX: usize = 12;

/// What is said of the bytes at the start of a stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Told {
    /// A whole head.
    Head(Head),
    /// Fine so far; the rest is missing.
    More,
    /// Not acceptable, for this reason's number.
    Refused(i32),
}

/// A head, read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Head {
    length: usize,
    method: u32,
    minor: u32,
    target: (usize, usize),
    /// Start and length.
    token: Option<(usize, usize)>,
    content_length: u64,
    chunked: bool,
    upgrade: bool,
    expect: bool,
    /// The connection does not outlive the request.
    closes: bool,
    /// It asks for websocket and nothing else.
    websocket: bool,
    /// Host and path, or why they are refused.
    resource: Result<(String, String), i32>,
}

/// Compares, counts, and keeps what differs.
pub struct Comparison {
    host: Host,
    /// Heads that both accepted.
    pub accepted: usize,
    /// Heads that both refused.
    pub refused: usize,
    /// What for.
    pub reasons: BTreeSet<i32>,
    differences: Vec<String>,
}

// === impl Comparison ===

impl Default for Comparison {
    fn default() -> Self {
        let (accepted, refused) = (0, 0);
        Comparison { host: Host::new(), accepted, refused, reasons: BTreeSet::new(), differences: Vec::new() }
    }
}

impl Comparison {
    /// Compares what both sides make of these bytes.
    pub fn compare(&mut self, bytes: &[u8]) {
        let kernel = kernel(&mut self.host, bytes);
        let model = model(bytes);
        match &model {
            Told::Head(Head { resource: Ok(_), .. }) => self.accepted += 1,
            Told::Head(Head { resource: Err(reason), .. }) | Told::Refused(reason) => {
                self.refused += 1;
                self.reasons.insert(*reason);
            }
            Told::More => {}
        }
        if kernel != model && self.differences.len() < SHOWN_MAX {
            let mut text = String::new();
            let shown = if bytes.len() > 400 {
                [&bytes[..200], b" ... ", &bytes[bytes.len() - 200..]].concat()
            } else {
                bytes.to_vec()
            };
            let _ = write!(
                text,
                "{} bytes: {}\n  C:    {kernel:?}\n  Rust: {model:?}",
                bytes.len(),
                shown.escape_ascii()
            );
            self.differences.push(text);
        }
    }

    /// Fails when there was a difference.
    ///
    /// # Panics
    /// With the first of them.
    pub fn finish(&self) {
        let differences = &self.differences;
        assert!(
            differences.is_empty(),
            "{} or more differences:\n{}",
            differences.len(),
            differences.join("\n")
        );
    }
}

/// bpf/lib/http1.h and bpf/lib/path.h.
pub fn kernel(host: &mut Host, bytes: &[u8]) -> Told {
    host.load_head(bytes);
    let length = match host.call(HostFn::HEAD) {
        // As pc_head_keep has it: nothing more fits.
        MORE if bytes.len() >= HEAD_MAX => return Told::Refused(code("head_too_large")),
        MORE => return Told::More,
        code if code <= 0 => return Told::Refused(-code),
        length => length as usize,
    };
    let number = |host: &mut Host, field| host.get_u32(field) as usize;
    let seen = host.get_u32(SlotField::SEEN);
    let token = (number(host, SlotField::TOKEN), number(host, SlotField::TOKEN_LEN));
    let (method, minor) = (host.get_u32(SlotField::METHOD), host.get_u32(SlotField::MINOR));
    // As bpf/progs/run.h has both.
    let closes = seen & CLOSE != 0 || (minor == 0 && seen & KEEP == 0);
    let websocket = method == GET && minor == 1 && seen & (WEBSOCKET | LENGTH | CODING) == WEBSOCKET;
    Told::Head(Head {
        length,
        method,
        minor,
        target: (number(host, SlotField::TARGET), number(host, SlotField::TARGET_LEN)),
        token: (seen & BEARER != 0).then_some(token),
        content_length: content_length(host),
        chunked: seen & CODING != 0,
        upgrade: seen & UPGRADE != 0,
        expect: seen & EXPECT != 0,
        closes,
        websocket,
        resource: resource(host),
    })
}

fn content_length(host: &mut Host) -> u64 {
    let bytes = host.get_bytes(SlotField::CONTENT_LENGTH, 8);
    u64::from_ne_bytes(bytes.try_into().expect("eight bytes"))
}

fn resource(host: &mut Host) -> Result<(String, String), i32> {
    for function in [HostFn::HOST, HostFn::PATH] {
        let code = host.call(function);
        if code < 0 {
            return Err(-code);
        }
    }
    let mut text = |len: SlotField, bytes: SlotField| {
        let len = host.get_u32(len) as usize;
        String::from_utf8(host.get_bytes(bytes, len)).expect("ASCII")
    };
    Ok((text(SlotField::HOST_LEN, SlotField::HOST), text(SlotField::PATH_LEN, SlotField::PATH)))
}

/// core/http.
pub fn model(bytes: &[u8]) -> Told {
    let head = match parse(bytes) {
        Ok(Some(head)) => head,
        Ok(None) => return Told::More,
        Err(reason) => return Told::Refused(reason.code().into()),
    };
    let (content_length, chunked) = match head.framing() {
        Framing::Chunked => (0, true),
        Framing::Length(length) => (length, false),
    };
    let span = |span: std::ops::Range<usize>| (span.start, span.len());
    Told::Head(Head {
        length: head.bytes().len(),
        method: head.method().number().into(),
        minor: head.minor().into(),
        target: span(head.target_span()),
        token: head.token_span().map(span),
        content_length,
        chunked,
        upgrade: head.upgrades(),
        expect: head.expects(),
        closes: head.closes(),
        websocket: head.asks_for_websocket(),
        resource: match head.resource() {
            Ok(resource) => Ok((resource.host.unwrap_or_default(), resource.path)),
            Err(reason) => Err(reason.code().into()),
        },
    })
}

fn code(slug: &str) -> i32 {
    REASONS.iter().find(|row| row.slug == slug).map(|row| row.code.into()).expect("a reason of reason.h")
}
