//! HTTP/2: each request is decided from the head that it would have had in HTTP/1.1, by the same rules.

use http::header::{CONTENT_LENGTH, COOKIE, HOST, TE, TRANSFER_ENCODING};
use http::{HeaderValue, request};
use portcullis_http::{Head, parse};
use portcullis_verdict::{decide, refuse, response};
use portcullis_wire::{Method, Reason};

use crate::judge::Verdict;
use crate::permit::Permit;
use crate::rules::Rules;

/// What becomes of a request.
pub(crate) enum Outcome {
    /// It is forwarded.
    Forward(Permit),
    /// The client gets this.
    Answer(Vec<u8>),
}

/// Decides about a request.
pub(crate) fn judge(
    request: &request::Parts,
    port: u16,
    rules: &Rules,
    decision_id: u64,
    now_s: u64,
) -> (Outcome, Option<Verdict>) {
    let protected = rules.policies.port_enforces(port).is_some();
    let head = match read(request) {
        Ok(head) => head,
        Err(reason) => {
            let decision = refuse(reason, port, &rules.policies);
            let refused = decision.passes();
            let text = response(reason, false, request.method == http::Method::HEAD, decision_id, None);
            let verdict = Verdict { decision_id, decision, head: None, refused };
            return (Outcome::Answer(text), protected.then_some(verdict));
        }
    };
    if !protected {
        let outcome = match Permit::unprotected(&head) {
            Some(permit) => Outcome::Forward(permit),
            None => Outcome::Answer(response(Reason::Internal, false, false, decision_id, None)),
        };
        return (outcome, None);
    }
    let decision = decide(&head, port, &rules.policies, &rules.keys, now_s);
    let outcome = match Permit::decided(&head, &decision, rules, decision_id) {
        Some(permit) => Outcome::Forward(permit),
        None => {
            let is_head = head.method() == Method::Head;
            Outcome::Answer(response(
                decision.reason(),
                false,
                is_head,
                decision_id,
                decision.mfa_max_age_s(),
            ))
        }
    };
    (outcome, Some(Verdict { decision_id, decision, head: Some(Box::new(head)), refused: false }))
}

/// The head in HTTP/1.1, read by the strict parser.
fn read(request: &request::Parts) -> Result<Head, Reason> {
    match parse(&write(request)) {
        Ok(Some(head)) => Ok(head),
        Ok(None) => Err(Reason::Internal),
        Err(reason) => Err(reason),
    }
}

fn write(request: &request::Parts) -> Vec<u8> {
    let mut text = Vec::with_capacity(512);
    text.extend_from_slice(request.method.as_str().as_bytes());
    text.push(b' ');
    text.extend_from_slice(request.uri.path_and_query().map_or("", |target| target.as_str()).as_bytes());
    text.extend_from_slice(b" HTTP/1.1\r\n");
    let mut line = |name: &str, value: &[u8]| {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            text.extend_from_slice(part);
        }
    };
    let authority = request.uri.authority().map(|authority| authority.as_str().as_bytes());
    if let Some(authority) = authority {
        line("host", authority);
    }
    for (name, value) in &request.headers {
        let framing = [CONTENT_LENGTH, TE, TRANSFER_ENCODING].contains(name);
        // RFC 9113 section 8.3.1: a Host field that says what `:authority` says is no second one.
        let same_host = name == HOST && Some(value.as_bytes()) == authority;
        if !framing && !same_host {
            line(name.as_str(), value.as_bytes());
        }
    }
    text.extend_from_slice(b"\r\n");
    text
}

/// Makes the fields of an HTTP/2 request those of HTTP/1.1.
pub(crate) fn for_http1(request: &mut request::Parts) {
    if let Some(authority) = request.uri.authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        request.headers.insert(HOST, host);
    }
    //= https://www.rfc-editor.org/rfc/rfc9113#section-8.2.3
    //# If there are multiple Cookie header fields after decompression, these MUST be concatenated into a single octet
    //# string using the two-octet delimiter of 0x3b, 0x20
    let cookies: Vec<&[u8]> = request.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if cookies.len() > 1
        && let Ok(cookie) = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
    {
        request.headers.insert(COOKIE, cookie);
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn read_of(method: &str, uri: &str, fields: &[(&str, &str)]) -> Result<Head, Reason> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        read(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn pseudo_fields_become_a_head() {
        let head = read_of("GET", "https://h.example:1/a/%40?q", &[("authorization", "Bearer t")]).unwrap();
        let resource = head.resource().unwrap();
        assert_eq!((resource.host.as_deref(), resource.path.as_str()), (Some("h.example"), "/a/@"));
        assert_eq!((head.target(), head.token()), (&b"/a/%40?q"[..], Some(&b"t"[..])));
    }

    #[test]
    fn what_http1_refuses_is_refused() {
        let check = |method: &str, uri: &str, fields: &[(&str, &str)], reason: Reason| {
            let found = read_of(method, uri, fields).and_then(|head| head.resource().map(|_| ()));
            assert_eq!(found, Err(reason), "{method} {uri} {fields:?}");
        };
        check("get", "http://h/a", &[], Reason::MethodRefused);
        check("GET", "http://h/a//b", &[], Reason::PathAmbiguous);
        check("GET", "http://h/a/%2e%2e/b", &[], Reason::PathAmbiguous);
        check("GET", "/a", &[], Reason::BadHost);
        check("GET", "http://h/a", &[("host", "other")], Reason::BadHost);
        check(
            "GET",
            "http://h/a",
            &[("authorization", "Bearer a"), ("authorization", "Bearer b")],
            Reason::BadAuthorization,
        );
        check("GET", "http://h/a", &[("x", &"v".repeat(20_000))], Reason::HeadTooLarge);
        assert!(read_of("GET", "http://h/a", &[("host", "h")]).is_ok());
    }
}
