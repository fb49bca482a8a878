//! The parsers of `bpf/lib`, built natively, against the independent ones of `core/`, one input at a time.
//!
//! A [`Target`] reads any bytes as input of one parser and panics when the two sides differ in what they make of it.
//! `cargo xtask fuzz` searches for such inputs, guided by the coverage of both sides; `tests/corpus.rs` replays what
//! it has kept in `fuzz/corpus/`.
//!
//! **Invariant:** what an input leads to does not depend on the inputs before it, but for the signature of a key that
//! is fresh in each process.

pub mod chunk;
pub mod head;
#[cfg(feature = "libfuzzer")]
mod libfuzzer;
pub mod token;

use portcullis_bpf::host::Host;
use portcullis_wire::Reason;

use token::Keys;

/// One parser.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Target {
    /// A chunked body, in pieces of a size that the first byte says.
    Chunk,
    /// Header and claims of a token, parted by a line feed, to be signed.
    Claims,
    /// A request head and what follows.
    Head,
    /// A Host value, also as the authority of the target.
    Host,
    /// A compact token.
    Jwt,
    /// A request target.
    Path,
}

/// Both sides of every target.
pub struct Sides {
    host: Host,
    keys: Keys,
}

// === impl Target ===

impl Target {
    /// All of them.
    pub const ALL: [Target; 6] =
        [Target::Chunk, Target::Claims, Target::Head, Target::Host, Target::Jwt, Target::Path];

    /// Name, also of its directory in `fuzz/corpus/`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Target::Chunk => "chunk",
            Target::Claims => "claims",
            Target::Head => "head",
            Target::Host => "host",
            Target::Jwt => "jwt",
            Target::Path => "path",
        }
    }

    /// The target of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Target> {
        Target::ALL.into_iter().find(|target| target.name() == name)
    }
}

// === impl Sides ===

impl Sides {
    /// With a fresh key in the maps.
    #[must_use]
    pub fn new() -> Sides {
        let mut host = Host::new();
        let keys = Keys::install(&mut host);
        Sides { host, keys }
    }

    /// Compares what both sides make of an input.
    ///
    /// # Panics
    /// When they differ: that is the finding.
    pub fn compare(&mut self, target: Target, input: &[u8]) {
        let host = &mut self.host;
        match target {
            Target::Chunk => chunk::compare(host, input),
            Target::Claims => {
                let at = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
                let claims = input.get(at + 1..).unwrap_or_default();
                let _ = self.keys.compare(host, &self.keys.sign(&input[..at], claims));
            }
            Target::Head => compare_heads(host, input),
            Target::Host => {
                compare_heads(host, &[b"GET / HTTP/1.1\r\nHost: ", input, b"\r\n\r\n"].concat());
                let both = [b"GET http://", input, b"/ HTTP/1.1\r\nHost: ", input, b"\r\n\r\n"];
                compare_heads(host, &both.concat());
            }
            Target::Jwt => {
                let _ = self.keys.compare(host, input);
            }
            Target::Path => {
                compare_heads(host, &[b"GET /", input, b" HTTP/1.1\r\nHost: h\r\n\r\n"].concat());
            }
        }
    }
}

impl Sides {
    /// Why both sides refuse a signed token of this header and these claims; `None` when they accept it.
    ///
    /// # Panics
    /// When they differ.
    pub fn judge(&mut self, header: &[u8], claims: &[u8]) -> Option<Reason> {
        self.keys.compare(&mut self.host, &self.keys.sign(header, claims)).err()
    }
}

impl Default for Sides {
    fn default() -> Sides {
        Sides::new()
    }
}

fn compare_heads(host: &mut Host, bytes: &[u8]) {
    let (kernel, model) = (head::kernel(host, bytes), head::model(bytes));
    assert!(kernel == model, "{}\n  C:    {kernel:?}\n  Rust: {model:?}", bytes.escape_ascii());
}
