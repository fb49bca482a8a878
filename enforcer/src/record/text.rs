//! Bytes from the network as text that is safe to print and loses nothing.
//!
//! **Invariant:** different bytes give different texts; printable UTF-8 without a backslash is unchanged.

/// UTF-8 stays; a backslash, control characters, bidirectional controls and bytes that are not UTF-8 become `\xNN`,
/// byte by byte.
pub(super) fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            if is_unsafe(char) {
                hex(&mut text, char.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(char);
            }
        }
        hex(&mut text, chunk.invalid());
    }
    text
}

/// Characters that change how a terminal or an editor shows the rest, and the one that introduces an escape.
fn is_unsafe(char: char) -> bool {
    char == '\\'
        || char.is_control()
        || matches!(char, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        text.push_str(&format!("\\x{byte:02x}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: &str) {
        assert_eq!(escape(bytes), expected);
    }

    #[test]
    fn plain_text_stays() {
        check("/caf\u{e9}/\"x\"".as_bytes(), "/café/\"x\"");
    }

    #[test]
    fn what_moves_the_cursor_is_escaped() {
        check(b"a\r\n\x1b[2Jb\x7f", r"a\x0d\x0a\x1b[2Jb\x7f");
        check("\u{9b}2J".as_bytes(), r"\xc2\x9b2J");
        check("a\u{202e}b".as_bytes(), r"a\xe2\x80\xaeb");
    }

    #[test]
    fn bytes_that_are_not_utf8_are_kept() {
        check(b"a\xff\xc3", r"a\xff\xc3");
    }

    #[test]
    fn an_escape_in_the_input_differs_from_an_escaped_byte() {
        assert_ne!(escape(br"\xff"), escape(b"\xff"));
        check(br"\xff", r"\x5cxff");
    }
}
