//! Bounds of what is accepted. The kernel side has the same ones, for its own reasons: memory, and loops that a
//! verifier can follow to their end.

/// Request head, request line and final empty line included (bytes): `PC_HEAD_MAX`.
pub const HEAD_MAX: usize = 16384;
/// Field lines of one head: `PC_HEAD_LINES_MAX`.
pub const HEAD_LINES_MAX: usize = 128;
/// Canonical path (bytes): `PC_PATH_MAX`.
pub const PATH_MAX: usize = 2048;
/// A Host value or an authority is shorter than this (bytes): `PC_HOST_MAX`.
pub const HOST_MAX: usize = 256;

/// Characters of a method.
pub const METHOD_MAX: usize = 23;
/// Letters, digits and hyphens that a field name may begin with ...
pub const NAME_PLAIN_MAX: usize = 128;
/// ... and the characters of any kind that may follow the last of them that counts.
pub const NAME_MORE_MAX: usize = 63;
/// White space between the colon and the value of a field.
pub const SPACE_BEFORE_MAX: usize = 63;
/// Spaces behind the value of a field that is interpreted.
pub const SPACE_BEHIND_MAX: usize = 15;
/// Digits of a Content-Length: the greatest fits 50 bits.
pub const LENGTH_DIGITS_MAX: usize = 15;

/// Digits of a chunk size, leading zeros included: the greatest fits 48 bits.
pub const CHUNK_DIGITS_MAX: usize = 12;
/// Chunk extensions of one chunk, behind the first semicolon (bytes).
pub const CHUNK_EXTENSION_MAX: usize = 4096;
/// Trailer section, line feeds apart (bytes).
pub const TRAILER_MAX: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    /// Value of a `#define` of headers below bpf/.
    fn defined(headers: &str, name: &str) -> usize {
        let line = headers.lines().find_map(|line| line.strip_prefix(&format!("#define {name} ")));
        line.unwrap().trim().parse().unwrap()
    }

    #[test]
    fn bounds_are_those_of_the_kernel_side() {
        let headers = concat!(
            include_str!("../../../bpf/include/limits.h"),
            include_str!("../../../bpf/progs/chunk.h")
        );
        assert_eq!(HEAD_MAX, defined(headers, "PC_HEAD_MAX"));
        assert_eq!(HEAD_LINES_MAX, defined(headers, "PC_HEAD_LINES_MAX"));
        assert_eq!(PATH_MAX, defined(headers, "PC_PATH_MAX"));
        assert_eq!(HOST_MAX, defined(headers, "PC_HOST_MAX"));
        assert_eq!(CHUNK_DIGITS_MAX, defined(headers, "PC_CHUNK_DIGITS"));
        assert_eq!(CHUNK_EXTENSION_MAX, defined(headers, "PC_CHUNK_LINE"));
        assert_eq!(TRAILER_MAX, defined(headers, "PC_TRAILER_MAX"));
    }
}
