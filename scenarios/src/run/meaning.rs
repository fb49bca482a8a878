//! Whether client and application saw messages that mean the same: what a proxy, which writes heads anew, is held to.

use std::collections::BTreeMap;

use super::send::Seen;
use crate::http::Answer;
use crate::spec::AppKind;

/// A message, without what belongs to one connection and what says that a proxy was there.
#[derive(Debug, Eq, PartialEq)]
struct Message {
    /// Method and target, or status.
    what: String,
    /// Names in lower case, in any order; values of one name in theirs.
    fields: BTreeMap<String, Vec<Vec<u8>>>,
    body: Vec<u8>,
}

/// Fields that may differ.
const APART: [&str; 6] = ["connection", "date", "keep-alive", "via", "x-forwarded-for", "x-forwarded-proto"];
const HEADERS_MAX: usize = 128;
/// Columns of nginx's log that a request's meaning is in: all but its length and its number on the connection.
const NGINX_COLUMNS: [usize; 5] = [0, 2, 3, 4, 5];

/// Whether both sides saw the same messages with and without the engine.
pub(super) fn same(without: &Seen, with: &Seen, app: AppKind, out: &mut Vec<String>) {
    let answers = |seen: &Seen| -> Vec<Result<Message, String>> {
        seen.sent
            .replies
            .iter()
            .flat_map(|reply| &reply.answers)
            .map(|answer| Ok(of_answer(answer)))
            .collect()
    };
    differ("the client", &answers(without), &answers(with), out);
    match app {
        AppKind::Rust => differ("the application", &requests(&without.app), &requests(&with.app), out),
        AppKind::Nginx => differ("the application", &columns(&without.app), &columns(&with.app), out),
    }
}

fn differ<T: std::fmt::Debug + PartialEq>(who: &str, without: &[T], with: &[T], out: &mut Vec<String>) {
    if without.len() != with.len() {
        out.push(format!("{who} saw {} messages, {} without the engine", with.len(), without.len()));
    }
    if let Some((n, (a, b))) = without.iter().zip(with).enumerate().find(|(_, (a, b))| a != b) {
        let n = n + 1;
        out.push(format!("{who} saw another meaning in message {n}: {b:?}, without the engine {a:?}"));
    }
}

fn of_answer(answer: &Answer) -> Message {
    let lines = answer.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    Message { what: answer.status.to_string(), fields: fields(lines), body: answer.body.clone() }
}

fn fields<'a>(lines: impl Iterator<Item = (&'a str, &'a [u8])>) -> BTreeMap<String, Vec<Vec<u8>>> {
    let mut fields: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for (name, value) in lines {
        let name = name.to_ascii_lowercase();
        if !APART.contains(&name.as_str()) && !name.starts_with("x-authfi-") {
            fields.entry(name).or_default().push(value.to_vec());
        }
    }
    fields
}

/// The requests of the application's streams. What is none is an error that equals nothing else.
fn requests(streams: &[Vec<u8>]) -> Vec<Result<Message, String>> {
    let mut all = Vec::new();
    for stream in streams {
        let mut rest = stream.as_slice();
        while !rest.is_empty() {
            match request(rest) {
                Some((message, length)) => {
                    all.push(Ok(message));
                    rest = &rest[length..];
                }
                None => {
                    all.push(Err(rest.escape_ascii().to_string()));
                    break;
                }
            }
        }
    }
    all
}

fn request(bytes: &[u8]) -> Option<(Message, usize)> {
    let mut lines = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut lines);
    let httparse::Status::Complete(start) = head.parse(bytes).ok()? else { return None };
    let what = format!("{} {}", head.method?, head.path?);
    let fields = fields(head.headers.iter().map(|field| (field.name, field.value)));
    // The scenarios' transparent requests have a Content-Length or no body.
    let length = match fields.get("content-length").map(Vec::as_slice) {
        None if !fields.contains_key("transfer-encoding") => 0,
        Some([length]) => std::str::from_utf8(length).ok()?.parse().ok()?,
        _ => return None,
    };
    let body = bytes.get(start..start + length)?.to_vec();
    Some((Message { what, fields, body }, start + length))
}

fn columns(lines: &[Vec<u8>]) -> Vec<Vec<Vec<u8>>> {
    let of = |line: &Vec<u8>| {
        let columns: Vec<&[u8]> = line.split(|byte| *byte == b'\t').collect();
        NGINX_COLUMNS.iter().filter_map(|n| columns.get(*n)).map(|column| column.to_vec()).collect()
    };
    lines.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(app: &[&str]) -> Seen {
        Seen { sent: Default::default(), app: app.iter().map(|text| text.as_bytes().to_vec()).collect() }
    }

    fn compare(without: &[&str], with: &[&str]) -> Vec<String> {
        let mut out = Vec::new();
        same(&seen(without), &seen(with), AppKind::Rust, &mut out);
        out
    }

    const GET: &str = "GET /a HTTP/1.1\r\nHost: h\r\nX: 1\r\n\r\n";
    const POST: &str = "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc";

    #[test]
    fn order_connections_and_the_proxys_own_fields_do_not_matter() {
        let through = "GET /a HTTP/1.1\r\nx: 1\r\nhost: h\r\nvia: 1.1 p\r\nx-authfi-user-id: u\r\n\r\n";
        assert_eq!(compare(&[GET, POST], &[&format!("{through}{POST}")]), Vec::<String>::new());
    }

    #[test]
    fn another_target_field_body_or_number_is_another_meaning() {
        for (from, to) in [("/a", "/b"), ("X: 1", "X: 2"), ("X: 1\r\n", ""), ("X: 1", "X: 1\r\nY: 1")] {
            assert_eq!(compare(&[GET], &[&GET.replace(from, to)]).len(), 1, "{to}");
        }
        assert_eq!(compare(&[POST], &[&POST.replace("abc", "abd")]).len(), 1);
        assert_eq!(compare(&[GET, GET], &[GET]).len(), 1);
        assert_eq!(compare(&[GET], &["nonsense"]).len(), 1);
    }
}
