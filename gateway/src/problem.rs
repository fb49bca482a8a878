//! Answers of the gateway that are no decisions: RFC 9457 problem documents.

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use serde_json::json;

use crate::body::ResponseBody;

/// Why a permitted request has no response of the application's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Problem {
    /// It refused or broke the connection, or did not speak HTTP.
    Broken,
    /// The client did not send the whole of its request.
    ClientLate,
    /// No connection came about.
    Unreachable,
    /// It did not answer in time.
    Late,
}

// === impl Problem ===

impl Problem {
    fn status(self) -> StatusCode {
        match self {
            Problem::Broken | Problem::Unreachable => StatusCode::BAD_GATEWAY,
            Problem::ClientLate => StatusCode::REQUEST_TIMEOUT,
            Problem::Late => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    fn detail(self) -> &'static str {
        match self {
            Problem::Broken => "the application's answer cannot be used",
            Problem::ClientLate => "the rest of the request did not come",
            Problem::Unreachable => "the application cannot be reached",
            Problem::Late => "the application did not answer in time",
        }
    }

    /// The response; `decision_id` finds the request in the access log.
    pub(crate) fn response(self, decision_id: Option<u64>) -> Response<ResponseBody> {
        let status = self.status();
        let mut document = json!({
            "type": "about:blank",
            "title": status.canonical_reason().unwrap_or_default(),
            "status": status.as_u16(),
            "detail": self.detail(),
        });
        if let Some(id) = decision_id {
            document["decision_id"] = json!(format!("{id:016x}"));
        }
        let mut response = Response::new(ResponseBody::own(format!("{document}\n")));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// What everybody is answered while there is no configuration, as HTTP/1.1.
pub(crate) fn unconfigured() -> Vec<u8> {
    let document = json!({
        "type": "about:blank",
        "title": "Service Unavailable",
        "status": 503,
        "detail": "there is no configuration yet; nothing is let through",
    });
    let body = format!("{document}\n");
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Type: application/problem+json\r\n\
         Cache-Control: no-store\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// One of our HTTP/1.1 texts as a response of any version.
pub(crate) fn of_text(text: &[u8]) -> Response<ResponseBody> {
    let mut fields = [httparse::EMPTY_HEADER; 16];
    let mut head = httparse::Response::new(&mut fields);
    let length = match head.parse(text) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) | Err(_) => text.len(),
    };
    let mut response = Response::new(ResponseBody::own(text[length..].to_vec()));
    let status = head.code.and_then(|code| StatusCode::from_u16(code).ok());
    *response.status_mut() = status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    for field in head.headers.iter() {
        let name = http::HeaderName::from_bytes(field.name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(field.value)) {
            response.headers_mut().append(name, value);
        }
    }
    crate::fields::for_client(response.headers_mut());
    response
}
