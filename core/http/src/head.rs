//! A request head, read: what it asks for, who asks, and where the request ends.

use std::ops::Range;

use portcullis_wire::{Method, Reason};

use crate::fields::{self, Authorization, Fields, Framing};
use crate::host;
use crate::limits::HEAD_MAX;
use crate::path;
use crate::reader::{Read, Reader, Stop};
use crate::request_line::{self, RequestLine};

#[cfg(test)]
mod tests;

/// A request head that is well formed. Path and host are judged by [`Head::resource`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Head {
    bytes: Box<[u8]>,
    line: RequestLine,
    host: Option<Range<usize>>,
    authorization: Authorization,
    framing: Framing,
    expect: bool,
    upgrade: bool,
    websocket: bool,
    closes: bool,
    /// There is a Content-Length or Transfer-Encoding field.
    frames_a_body: bool,
}

/// What a request is about, in the form that policies are written in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Resource {
    /// Host, lower case, without port and trailing dot; HTTP/1.0 may leave it out.
    pub host: Option<String>,
    /// Canonical path, without query.
    pub path: String,
}

/// Reads the request head at the start of `bytes`, where more may follow; `None` while it is incomplete.
///
/// # Errors
/// Why it is refused, whatever else may follow.
pub fn parse(bytes: &[u8]) -> Result<Option<Head>, Reason> {
    let within = &bytes[..bytes.len().min(HEAD_MAX)];
    match read(&mut Reader::new(within)) {
        Ok(head) => Ok(Some(head)),
        Err(Stop::More) if bytes.len() >= HEAD_MAX => Err(Reason::HeadTooLarge),
        Err(Stop::More) => Ok(None),
        Err(Stop::Refused(reason)) => Err(reason),
    }
}

fn read(reader: &mut Reader<'_>) -> Read<Head> {
    let line = request_line::read(reader)?;
    let fields = fields::read(reader)?;
    let framing = fields.framing(line.minor)?;
    let Fields { host, authorization, length, chunked, expect, upgrade, websocket, close, keep_alive } =
        fields;
    let closes = close || (line.minor == 0 && !keep_alive);
    let frames_a_body = length.is_some() || chunked;
    // RFC 9112 section 3.2: a request of HTTP/1.1 without Host is answered 400.
    if line.minor == 1 && host.is_none() {
        return Err(Reason::BadHost.into());
    }
    let bytes = reader.seen().into();
    let authorization = authorization.unwrap_or_default();
    Ok(Head { bytes, line, host, authorization, framing, expect, upgrade, websocket, closes, frames_a_body })
}

// === impl Head ===

impl Head {
    /// The head as it was sent, final empty line included.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The method, as far as policies tell them apart.
    #[must_use]
    pub fn method(&self) -> Method {
        Method::parse(self.method_token())
    }

    /// The method as it was sent: upper-case letters, `-` and `_`.
    #[must_use]
    pub fn method_token(&self) -> &[u8] {
        &self.bytes[self.line.method.clone()]
    }

    /// HTTP/1.this.
    #[must_use]
    pub fn minor(&self) -> u8 {
        self.line.minor
    }

    /// Path and query as they were sent, without the scheme and authority of an absolute-form target.
    #[must_use]
    pub fn target(&self) -> &[u8] {
        &self.bytes[self.target_span()]
    }

    /// Where [`Head::target`] stands in [`Head::bytes`].
    #[must_use]
    pub fn target_span(&self) -> Range<usize> {
        self.line.target.clone()
    }

    /// The Authorization field.
    #[must_use]
    pub fn authorization(&self) -> &Authorization {
        &self.authorization
    }

    /// The bearer token, which may be empty; `None` when none was sent.
    #[must_use]
    pub fn token(&self) -> Option<&[u8]> {
        self.token_span().map(|span| &self.bytes[span])
    }

    /// Where [`Head::token`] stands in [`Head::bytes`].
    #[must_use]
    pub fn token_span(&self) -> Option<Range<usize>> {
        match &self.authorization {
            Authorization::Bearer(span) => Some(span.clone()),
            Authorization::None | Authorization::Other => None,
        }
    }

    /// What follows the head in the stream.
    #[must_use]
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Whether there is an Expect field.
    #[must_use]
    pub fn expects(&self) -> bool {
        self.expect
    }

    /// Whether there is an Upgrade field.
    #[must_use]
    pub fn upgrades(&self) -> bool {
        self.upgrade
    }

    /// Whether the client expects the connection to end behind the response (RFC 9112 section 9.3): it says `close`, or
    /// speaks HTTP/1.0 and does not say `keep-alive`.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.closes
    }

    /// Whether it asks for websocket and nothing else (RFC 6455 section 4.1): GET, HTTP/1.1, no body announced.
    #[must_use]
    pub fn asks_for_websocket(&self) -> bool {
        self.websocket && self.method() == Method::Get && self.line.minor == 1 && !self.frames_a_body
    }

    /// Host and path in canonical form.
    ///
    /// # Errors
    /// When one of them can be read in more than one way or is too long, or when the target names another host than
    /// the Host field: RFC 9112 section 3.2.2 lets the target win, but not every server does (THREATS T11).
    pub fn resource(&self) -> Result<Resource, Reason> {
        let named = self.host.clone().map(|span| host::normalise(&self.bytes[span])).transpose()?;
        if let Some(span) = self.line.authority.clone() {
            // Without Host field too: a server that looks at that one only would see none.
            let authority = named.as_ref().map(|_| host::normalise(&self.bytes[span])).transpose()?;
            if named.is_none() || authority != named {
                return Err(Reason::BadHost);
            }
        }
        Ok(Resource { host: named, path: path::canonical(self.target())? })
    }
}
