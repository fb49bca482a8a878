//! Header fields on their way through: what a proxy must not pass on, what nobody but the gateway may say, and what it
//! adds.
//!
//! **Invariant:** whatever a client sends, of the fields below `X-AuthFI-` the application sees the gateway's only
//! (THREATS T55).

use std::net::IpAddr;

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderName, PROXY_AUTHORIZATION, TE,
    TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{HeaderMap, HeaderValue};

use crate::config::Forwarded;
use crate::identity::Caller;

/// What the gateway tells about the way of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub(crate) peer: IpAddr,
    pub(crate) tls: bool,
    /// `1.0`, `1.1` or `2`: as the client speaks.
    pub(crate) version: &'static str,
    pub(crate) policy: Forwarded,
}

/// Beginning of the names that belong to the gateway, as [`plain`] writes them.
const OURS: &str = "x-authfi-";
/// What tells applications where a request came from; the gateway says it, unless it is to append.
const FORWARDED: [&str; 7] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-forwarded-server",
    "x-real-ip",
];
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Makes the fields of a request ready for the application.
pub(crate) fn for_application(headers: &mut HeaderMap, caller: &Caller, way: Way) {
    let trailers = headers.get(TE).is_some_and(asks_for_trailers);
    hop_by_hop(headers);
    // RFC 9110 section 10.1.1: the gateway is the origin server that the client waits for, and answers by itself.
    headers.remove(EXPECT);
    headers.remove(PROXY_AUTHORIZATION);
    if trailers {
        //= https://www.rfc-editor.org/rfc/rfc9110#section-10.1.4
        //# A sender of TE MUST also send a "TE" connection option within the Connection header field
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    remove(headers, is_ours);
    if way.policy == Forwarded::Set {
        remove(headers, |name| FORWARDED.contains(&plain(name).as_str()));
    } else {
        // The list is appended to: a second spelling of it would be another list.
        remove(headers, |name| FORWARDED.contains(&plain(name).as_str()) && plain(name) != name);
    }
    forwarded(headers, way);
    caller.write(headers);
}

/// Makes the fields of a response ready for the client.
pub(crate) fn for_client(headers: &mut HeaderMap) {
    hop_by_hop(headers);
}

/// Takes out of a trailer section what would be believed if it stood in the head.
pub(crate) fn trailers(trailers: &mut HeaderMap) {
    const NEVER: [&HeaderName; 5] = [&AUTHORIZATION, &CONTENT_LENGTH, &HOST, &TRANSFER_ENCODING, &COOKIE];
    hop_by_hop(trailers);
    remove(trailers, |name| is_ours(name) || FORWARDED.contains(&plain(name).as_str()));
    for name in NEVER {
        trailers.remove(name);
    }
}

/// Removes the fields that are for one connection only.
//= https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1
//# Intermediaries MUST parse a received Connection header field before a message is forwarded and, for each
//# connection-option in this field, remove any header or trailer field(s) from the message with the same name as the
//# connection-option, and then remove the Connection header field itself
fn hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|option| HeaderName::from_bytes(option.trim_ascii()).ok())
        .filter(|name| !is_end_to_end(name))
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TE, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
}

/// Fields that nobody may have removed by naming them as a connection option: what the request means hangs on them.
//= https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1
//# A sender MUST NOT send a connection option corresponding to a field that is intended for all recipients of the
//# content.
fn is_end_to_end(name: &HeaderName) -> bool {
    let name = plain(name.as_str());
    let meant = ["authorization", "cookie", "host", "expect", "trailer", "via", "origin", "range"];
    meant.contains(&name.as_str())
        || name.starts_with("content-")
        || name.starts_with("if-")
        || FORWARDED.contains(&name.as_str())
        || name.starts_with(OURS)
}

fn forwarded(headers: &mut HeaderMap, way: Way) {
    let Way { peer, tls, version, policy } = way;
    let peer = peer.to_canonical().to_string();
    let mut hops: Vec<String> = Vec::new();
    for value in headers.get_all(&X_FORWARDED_FOR) {
        hops.push(String::from_utf8_lossy(value.as_bytes()).into_owned());
    }
    hops.push(peer);
    if let Ok(list) = HeaderValue::try_from(hops.join(", ")) {
        headers.insert(X_FORWARDED_FOR, list);
    }
    let proto = HeaderValue::from_static(if tls { "https" } else { "http" });
    if policy == Forwarded::Set || !headers.contains_key(&X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, proto);
    }
    //= https://www.rfc-editor.org/rfc/rfc9110#section-7.6.3
    //# An HTTP-to-HTTP gateway MUST send an appropriate Via header field in each inbound request message
    if let Ok(via) = HeaderValue::try_from(format!("{version} portcullis")) {
        headers.append(VIA, via);
    }
}

fn is_ours(name: &str) -> bool {
    plain(name).starts_with(OURS)
}

/// A name as gateways of the CGI kind write it (RFC 3875 section 4.1.18): letters and digits, everything else alike.
fn plain(name: &str) -> String {
    let alike = |char: char| if char.is_ascii_alphanumeric() { char.to_ascii_lowercase() } else { '-' };
    name.chars().map(alike).collect()
}

fn remove(headers: &mut HeaderMap, which: impl Fn(&str) -> bool) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| which(name.as_str())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

fn asks_for_trailers(te: &HeaderValue) -> bool {
    te.as_bytes()
        .split(|byte| *byte == b',')
        .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::USER_ID;

    fn through(lines: &[(&str, &str)], policy: Forwarded) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        let peer = "192.0.2.7".parse().unwrap();
        let way = Way { peer, tls: false, version: "1.1", policy };
        for_application(&mut headers, &Caller::default(), way);
        let mut lines: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        lines
    }

    /// What is left besides what the gateway adds.
    fn left(lines: &[(&str, &str)]) -> Vec<String> {
        let ours = ["via: ", "x-forwarded-for: ", "x-forwarded-proto: "];
        let mut lines = through(lines, Forwarded::Set);
        lines.retain(|line| !ours.iter().any(|name| line.starts_with(name)));
        lines
    }

    #[test]
    fn no_spelling_of_an_identity_field_passes() {
        for name in [
            "X-AuthFI-User-ID",
            "x-authfi-user-id",
            "X_AuthFI_User_ID",
            "X-AuthFI_User-Roles",
            "X.AuthFI.User.Email",
            "x!authfi~user'id",
            "X-AuthFI-Anything",
        ] {
            assert_eq!(left(&[(name, "root"), (name, "admin"), ("x-own", "1")]), ["x-own: 1"], "{name}");
            assert_eq!(left(&[("Connection", name), (name, "root")]), Vec::<String>::new(), "{name}");
        }
        assert_eq!(left(&[("X-Auth", "1"), ("AuthFI-User-ID", "2")]), ["authfi-user-id: 2", "x-auth: 1"]);
    }

    #[test]
    fn the_gateways_identity_cannot_be_named_hop_by_hop() {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("close, X-AuthFI-User-ID"));
        headers.insert(USER_ID, HeaderValue::from_static("root"));
        let way = Way { peer: "::1".parse().unwrap(), tls: true, version: "2", policy: Forwarded::Set };
        for_application(&mut headers, &Caller::named("alice"), way);
        assert!(!headers.contains_key(CONNECTION));
        assert_eq!(headers.get_all(USER_ID).iter().collect::<Vec<_>>(), ["alice"]);
        assert_eq!(headers["x-forwarded-proto"], "https");
    }

    #[test]
    fn connection_fields_and_what_they_name_stay_here() {
        let sent = [
            ("Connection", "X-Private, close"),
            ("Connection", "keep-alive"),
            ("X-Private", "1"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Connection", "keep-alive"),
            ("Proxy-Authorization", "Basic YTpi"),
            ("TE", "gzip"),
            ("Transfer-Encoding", "chunked"),
            ("Upgrade", "h2c"),
            ("Expect", "100-continue"),
            ("Accept", "*/*"),
        ];
        assert_eq!(left(&sent), ["accept: */*"]);
        assert_eq!(left(&[("TE", "gzip, trailers")]), ["connection: te", "te: trailers"]);
    }

    #[test]
    fn what_a_request_means_cannot_be_named_away() {
        let sent = [
            ("Connection", "Authorization, Cookie, Host, Content-Type, If-Match"),
            ("Authorization", "Bearer x"),
            ("Cookie", "a=b"),
            ("Host", "h"),
            ("Content-Type", "text/plain"),
            ("If-Match", "\"1\""),
        ];
        assert_eq!(left(&sent).len(), 5);
    }

    #[test]
    fn where_a_request_came_from_is_the_gateways_word() {
        let sent = [
            ("X-Forwarded-For", "10.0.0.1"),
            ("X_Forwarded_For", "10.0.0.2"),
            ("X-Forwarded-Proto", "https"),
            ("Forwarded", "for=10.0.0.3"),
            ("X-Real-IP", "10.0.0.4"),
        ];
        let set = ["via: 1.1 portcullis", "x-forwarded-for: 192.0.2.7", "x-forwarded-proto: http"];
        assert_eq!(through(&sent, Forwarded::Set), set);
        let appended = through(&sent, Forwarded::Append);
        assert!(appended.contains(&"x-forwarded-for: 10.0.0.1, 192.0.2.7".to_owned()), "{appended:?}");
        assert!(appended.contains(&"x-forwarded-proto: https".to_owned()), "{appended:?}");
        assert!(!appended.iter().any(|line| line.contains("10.0.0.2")), "{appended:?}");
    }

    #[test]
    fn trailers_carry_no_identity_and_no_framing() {
        let mut sent = HeaderMap::new();
        for name in
            ["x-checksum", "x-authfi-user-id", "x_authfi_user_id", "authorization", "content-length", "host"]
        {
            sent.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("1"));
        }
        trailers(&mut sent);
        assert_eq!(sent.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-checksum"]);
    }
}
