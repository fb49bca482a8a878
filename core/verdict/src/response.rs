//! The text that a denied client is sent.
//!
//! **Invariant:** nothing of the request is in it, only what the decision says.

use portcullis_wire::Reason;

#[cfg(test)]
mod tests;

/// The whole HTTP/1.1 response to a denied request.
///
/// `close` ends the connection with it; a `head_request` gets the header section of the same response (RFC 9110
/// section 9.3.2). `decision_id` is the one of the access log. `mfa_max_age_s` is the greatest age of the
/// authentication that the rule accepts, seconds, and stands in the challenge of a request that lacks it.
///
/// A reason that denies nothing gives the response of [`Reason::Internal`]: whoever asks for a response has denied.
#[must_use]
pub fn response(
    reason: Reason,
    close: bool,
    head_request: bool,
    decision_id: u64,
    mfa_max_age_s: Option<u32>,
) -> Vec<u8> {
    let (reason, status) = match reason.status() {
        Some(status) => (reason, status),
        None => (Reason::Internal, 503),
    };
    let body = format!(
        "{{\"error\":\"{}\",\"reason\":\"{}\",\"message\":\"{}\",\"decision_id\":\"{decision_id:016x}\"}}\n",
        reason.error().unwrap_or(reason.slug()),
        reason.slug(),
        reason.text(),
    );
    let mut text = format!("HTTP/1.1 {status} {}\r\n", phrase(status));
    if let Some(challenge) = challenge(reason, status, mfa_max_age_s) {
        text += &format!("WWW-Authenticate: {challenge}\r\n");
    }
    if close {
        text += "Connection: close\r\n";
    }
    text += "Content-Type: application/json\r\nCache-Control: no-store\r\n";
    text += &format!("Content-Length: {}\r\n\r\n", body.len());
    if !head_request {
        text += &body;
    }
    text.into_bytes()
}

/// The challenge of a 401, or of a 403 that another token could change.
fn challenge(reason: Reason, status: u16, mfa_max_age_s: Option<u32>) -> Option<String> {
    //= https://www.rfc-editor.org/rfc/rfc6750#section-3
    //# This scheme MUST be followed by one or more auth-param values.
    let scheme = "Bearer realm=\"portcullis\"";
    let Some(error) = reason.error() else {
        //= https://www.rfc-editor.org/rfc/rfc6750#section-3.1
        //# If the request lacks any authentication information (e.g., the client
        //# was unaware that authentication is necessary or attempted using an
        //# unsupported authentication method), the resource server SHOULD NOT
        //# include an error code or other error information.
        return (status == 401).then(|| scheme.to_owned());
    };
    let mut challenge = format!("{scheme}, error=\"{error}\", error_description=\"{}\"", reason.text());
    //= https://www.rfc-editor.org/rfc/rfc9470#section-3
    //# max_age:  Indicates the allowable elapsed time in seconds since the last
    //# active authentication event associated with the access token.
    if let (Reason::MfaRequired | Reason::MfaStale, Some(age_s)) = (reason, mfa_max_age_s) {
        challenge += &format!(", max_age=\"{age_s}\"");
    }
    Some(challenge)
}

/// Reason phrase of the statuses that denials have (RFC 9110 section 15, RFC 6585 section 5).
fn phrase(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Denied",
    }
}
