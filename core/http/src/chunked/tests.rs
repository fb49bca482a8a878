use super::*;
use crate::limits::{CHUNK_DIGITS_MAX, CHUNK_EXTENSION_MAX, TRAILER_MAX};

fn taken(body: impl AsRef<[u8]>) -> Taken {
    Chunked::new().take(body.as_ref())
}

/// How much of it is body; nothing when it is malformed or not over.
fn ends_at(body: &str) -> Option<usize> {
    match taken(body) {
        Taken::End(at) => Some(at),
        Taken::All | Taken::Malformed(_) => None,
    }
}

fn is_malformed(body: impl AsRef<[u8]>) -> bool {
    matches!(taken(body), Taken::Malformed(_))
}

#[test]
fn well_formed_bodies_end_where_they_end() {
    for body in [
        "0\r\n\r\n",
        "000\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        "a\r\n0123456789\r\nA;x=y\r\n0123456789\r\n0;z\r\n\r\n",
        "3;a=\"b c\"\t;d\r\nabc\r\n0\r\n\r\n",
        "1\r\n\n\r\n0\r\nTrailer: x\r\nOther:\r\n\r\n",
        "5\r\n0\r\n\r\n\r\n0\r\n\r\n",
    ] {
        assert_eq!(ends_at(&format!("{body}GET / HTTP/1.1\r\n")), Some(body.len()), "{body:?}");
        for cut in 0..body.len() {
            assert_eq!(taken(&body[..cut]), Taken::All, "{body:?} cut at {cut}");
        }
    }
}

//= https://www.rfc-editor.org/rfc/rfc9112#section-7.1
//= type=test
//# chunk          = chunk-size [ chunk-ext ] CRLF chunk-data CRLF
#[test]
fn what_readers_disagree_about_is_malformed() {
    for body in [
        "\r\n",
        " 5\r\n",
        "5 \r\n",
        "5 ;x\r\n",
        "+5\r\n",
        "-1\r\n",
        "0x5\r\n",
        "g\r\n",
        ";x\r\n",
        "5\n",
        "5\rx",
        "5;x\n",
        "5;x\ry",
        "5;\0\r\n",
        "5;\x7f\r\n",
        "5\r\nhellox",
        "5\r\nhello\n",
        "5\r\nhello\rx",
        "0\r\n\n",
        "0\r\n\rx",
        "0\r\n X: y\r\n",
        "0\r\nX: y\r\n z\r\n",
        "0\r\nX: y\n",
        "0\r\n: y\r\n",
        "0\r\nX\r\n",
        "0\r\nX y: z\r\n",
        "0\r\nX: \0\r\n",
    ] {
        assert!(is_malformed(body), "{body:?}");
    }
}

#[test]
fn every_byte_behind_a_size_is_judged() {
    for byte in 0..=255u8 {
        let expected = byte.is_ascii_hexdigit() || matches!(byte, b'\r' | b';');
        assert_eq!(!is_malformed([b'5', byte]), expected, "byte {byte:#x}");
    }
}

#[test]
fn bounds() {
    assert!(!is_malformed("0".repeat(CHUNK_DIGITS_MAX)));
    assert!(is_malformed("0".repeat(CHUNK_DIGITS_MAX + 1)));
    assert!(!is_malformed("f".repeat(CHUNK_DIGITS_MAX) + "\r\n"));
    assert!(!is_malformed(format!("5;{}\r\n", "x".repeat(CHUNK_EXTENSION_MAX))));
    assert!(is_malformed(format!("5;{}", "x".repeat(CHUNK_EXTENSION_MAX + 1))));
    let trailer =
        |length: usize| format!("0\r\nX:{}\r\n\r\n", "y".repeat(length - "X:".len() - "\r\r".len()));
    assert!(ends_at(&trailer(TRAILER_MAX)).is_some());
    assert!(is_malformed(trailer(TRAILER_MAX + 1)));
}

#[test]
fn good_bytes_before_a_bad_one_are_counted() {
    assert_eq!(taken("5\r\nhello0"), Taken::Malformed(8));
}
