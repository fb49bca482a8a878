//! Request targets for the application, in a form that every URI parser takes.

use http::uri::PathAndQuery;

/// Path and query of a target that `portcullis_http` accepted: as they were sent, but for characters that RFC 3986
/// does not let stand there, which are percent-encoded. Policies have seen them encoded too.
pub(crate) fn of(target: &[u8]) -> Option<PathAndQuery> {
    PathAndQuery::try_from(write(target).as_str()).ok()
}

fn write(target: &[u8]) -> String {
    let mut text = String::with_capacity(target.len());
    for byte in target {
        match byte {
            b'"' | b'#' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0..=0x20 | 0x7f.. => {
                text.push_str(&format!("%{byte:02X}"));
            }
            _ => text.push(char::from(*byte)),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use portcullis_http::canonical_path;

    use super::*;

    #[test]
    fn usual_targets_stay_as_they_are() {
        for text in ["/", "/a/%40b/@c?x=1&y=%20[z]", "/a//b?http://c/?d", "/a;b=1/*"] {
            assert_eq!(of(text.as_bytes()).unwrap().as_str(), text);
        }
    }

    #[test]
    fn every_visible_character_is_forwarded_and_means_the_same_to_policies() {
        for byte in 0x21..=0x7e_u8 {
            let target = [b"/a", [byte].as_slice(), b"b?c", &[byte], b"d"].concat();
            let forwarded = of(&target).unwrap();
            if let Ok(path) = canonical_path(&target) {
                assert_eq!(canonical_path(forwarded.as_str().as_bytes()), Ok(path), "{}", char::from(byte));
            }
        }
    }
}
