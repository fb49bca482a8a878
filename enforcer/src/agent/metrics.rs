//! Figures for Prometheus: its text format 0.0.4 over a small HTTP/1.1 server.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::{Protection, Status};

/// A metric with its values by label.
struct Metric {
    name: &'static str,
    help: &'static str,
    kind: &'static str,
    values: Vec<(String, f64)>,
}

/// A client that says nothing or reads nothing, or does so slowly, holds the others up for this long.
const CLIENT_MAX: Duration = Duration::from_secs(2);
const REQUEST_MAX: usize = 8 << 10;

/// Answers one client after the other; `page` makes the page.
pub(super) fn serve(listener: &TcpListener, page: impl Fn() -> Option<String>) {
    for client in listener.incoming().flatten() {
        // `None`: the agent ends.
        let Some(text) = page() else { return };
        // Whoever asked and went away does not get it.
        drop(answer(client, &text, CLIENT_MAX));
    }
}

/// Wakes a server that waits for a client.
pub(super) fn wake(addr: SocketAddr) {
    drop(TcpStream::connect_timeout(&addr, CLIENT_MAX));
}

/// The page.
pub(super) fn page(status: &Status, endpoints: usize, kernel: &[(&'static str, u64)]) -> String {
    let one = |value: f64| vec![(String::new(), value)];
    let count = |value: u64| one(value as f64);
    let level = |of: Protection| if status.protection == of { 1.0 } else { 0.0 };
    let levels = [Protection::Unprotected, Protection::Monitoring, Protection::Protected];
    let mut metrics = vec![
        Metric::gauge(
            "build_info",
            "Version of the agent.",
            vec![(label("version", env!("CARGO_PKG_VERSION")), 1.0)],
        ),
        Metric::gauge(
            "protection",
            "How the host is, by live probe: one of the states is 1.",
            levels.map(|of| (label("state", of.name()), level(of))).into(),
        ),
        Metric::gauge("config_version", "Version of the configuration in force.", count(status.generation)),
        Metric::gauge(
            "config_error",
            "Whether the last attempt to get a configuration failed.",
            one(f64::from(u8::from(status.error.is_some()))),
        ),
        Metric::counter(
            "config_refused_total",
            "Configurations of the control plane that were refused, by cause.",
            vec![
                (label("cause", "signature"), status.refused_signature as f64),
                (label("cause", "version"), status.refused_version as f64),
            ],
        ),
        Metric::gauge(
            "config_problems",
            "Parts of the configuration that are left out.",
            count(status.problems.len() as u64),
        ),
        Metric::gauge(
            "detached",
            "Attachments that somebody else removed or replaced.",
            count(status.detached.len() as u64),
        ),
        Metric::counter(
            "records_sent_total",
            "Access records that the control plane took.",
            count(status.records_sent),
        ),
        Metric::gauge("records_waiting", "Access records that wait.", count(status.records_waiting)),
        Metric::counter(
            "records_lost_total",
            "Access records that were lost, by place.",
            vec![
                (label("place", "agent"), status.records_lost as f64),
                (label("place", "kernel"), status.records_lost_in_kernel as f64),
            ],
        ),
        Metric::gauge(
            "connections_unseen",
            "Connections to monitored services of which nothing is read: they are older than the monitoring.",
            count(status.connections_unseen),
        ),
        Metric::gauge("endpoints", "Endpoints learnt from traffic.", count(endpoints as u64)),
    ];
    if let Some(age_s) = status.config_age_s {
        let help = "Time since the control plane last said that the configuration is the right one.";
        metrics.push(Metric::gauge("config_age_seconds", help, count(age_s)));
    }
    let kernel = kernel.iter().map(|(name, value)| (label("counter", name), *value as f64)).collect();
    metrics.push(Metric::counter(
        "kernel_total",
        "Counters of the kernel programs (bpf/include/abi.h).",
        kernel,
    ));
    metrics.iter().map(Metric::text).collect()
}

/// Whatever the client does, it takes no longer than `most`.
fn answer(mut client: TcpStream, text: &str, most: Duration) -> io::Result<()> {
    let end = Instant::now() + most;
    let left = || {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::Error::from(io::ErrorKind::TimedOut)) } else { Ok(Some(left)) }
    };
    let (mut head, mut chunk) = (Vec::new(), [0; 1024]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < REQUEST_MAX {
        client.set_read_timeout(left()?)?;
        match client.read(&mut chunk)? {
            0 => return Ok(()),
            read => head.extend_from_slice(&chunk[..read]),
        }
    }
    let mut words = head.split(|byte| *byte == b' ');
    let asked =
        (words.next(), words.next().map(|target| target.split(|b| *b == b'?').next().unwrap_or_default()));
    let (status, kind, body) = match asked {
        (Some(b"GET"), Some(b"/metrics")) => ("200 OK", "text/plain; version=0.0.4; charset=utf-8", text),
        (Some(b"GET"), _) => ("404 Not Found", "text/plain", "the figures are at /metrics\n"),
        _ => ("405 Method Not Allowed", "text/plain", "only GET is offered\n"),
    };
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    let mut text = text.as_bytes();
    while !text.is_empty() {
        client.set_write_timeout(left()?)?;
        match client.write(text)? {
            0 => return Err(io::Error::from(io::ErrorKind::WriteZero)),
            written => text = &text[written..],
        }
    }
    Ok(())
}

fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{{{name}=\"{value}\"}}")
}

// === impl Metric ===

impl Metric {
    fn gauge(name: &'static str, help: &'static str, values: Vec<(String, f64)>) -> Metric {
        Metric { name, help, kind: "gauge", values }
    }

    fn counter(name: &'static str, help: &'static str, values: Vec<(String, f64)>) -> Metric {
        Metric { name, help, kind: "counter", values }
    }

    fn text(&self) -> String {
        let Metric { name, help, kind, values } = self;
        let mut text = format!("# HELP portcullis_{name} {help}\n# TYPE portcullis_{name} {kind}\n");
        for (labels, value) in values {
            // Writing to a string cannot fail.
            writeln!(text, "portcullis_{name}{labels} {value}").unwrap_or_default();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_the_form_that_prometheus_reads() {
        let status = Status {
            generation: 7,
            protection: Protection::Monitoring,
            records_lost: 3,
            refused_signature: 2,
            connections_unseen: 2,
            config_age_s: Some(5),
            ..Status::default()
        };
        let page = page(&status, 4, &[("conns", 12)]);
        for line in [
            "# TYPE portcullis_config_version gauge",
            "portcullis_config_version 7",
            "portcullis_protection{state=\"monitoring\"} 1",
            "portcullis_protection{state=\"protected\"} 0",
            "portcullis_records_lost_total{place=\"agent\"} 3",
            "portcullis_config_age_seconds 5",
            "portcullis_config_refused_total{cause=\"signature\"} 2",
            "portcullis_connections_unseen 2",
            "portcullis_endpoints 4",
            "portcullis_kernel_total{counter=\"conns\"} 12",
        ] {
            assert!(page.lines().any(|found| found == line), "no `{line}` in {page}");
        }
        assert!(page.ends_with('\n') && !page.contains("\n\n"));
        assert_eq!(label("a", "b\"\\\nc"), "{a=\"b\\\"\\\\\\nc\"}");
    }

    /// Each byte comes in time; all together do not.
    #[test]
    fn a_client_that_is_slow_in_everything_is_let_go() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let slow = std::thread::spawn(move || {
            while client.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let error = answer(server, "a 1\n", Duration::from_millis(200)).unwrap_err();
        assert!(matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock), "{error}");
        slow.join().unwrap();
    }

    #[test]
    fn a_client_gets_the_page_and_others_an_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let left = std::cell::Cell::new(4);
            serve(&listener, || {
                left.set(left.get() - 1);
                (left.get() > 0).then(|| "a 1\n".to_owned())
            });
        });
        let ask = |text: &str| {
            let mut client = TcpStream::connect(addr).unwrap();
            client.write_all(text.as_bytes()).unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            answer
        };
        assert!(ask("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").ends_with("\r\n\r\na 1\n"));
        assert!(ask("GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
        assert!(ask("POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
        wake(addr);
        server.join().unwrap();
    }
}
