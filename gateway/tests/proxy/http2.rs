//! HTTP/2 in, HTTP/1.1 to the application.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::world::{Recorder, World, request};

/// An HTTP/2 client on a socket.
pub async fn client<S>(stream: S) -> SendRequest<Full<Bytes>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn ask(
    sender: &mut SendRequest<Full<Bytes>>,
    method: &str,
    path: &str,
    fields: &[(&str, &str)],
) -> (StatusCode, String) {
    let mut request = Request::builder().method(method).uri(format!("http://h{path}"));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let response = sender.send_request(request.body(Full::default()).unwrap()).await.unwrap();
    text(response).await
}

async fn text(response: Response<Incoming>) -> (StatusCode, String) {
    let status = response.status();
    for name in ["connection", "transfer-encoding", "keep-alive"] {
        assert!(!response.headers().contains_key(name), "{name}");
    }
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn requests_are_decided_as_in_http1() {
    let recorder = Recorder::start().await;
    let world = World::before(recorder.app.addr, |config| config.h2c = true).await;
    let mut http2 = client(world.connect().await.stream).await;
    let mut http1 = world.connect().await;
    let bearer = format!("Bearer {}", world.token(r#""roles":["x"]"#));
    type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], u16);
    let cases: [Case<'_>; 10] = [
        ("GET", "/open/a?q", &[], 200),
        ("POST", "/open/a", &[], 200),
        ("GET", "/closed/a", &[], 401),
        ("GET", "/closed/a", &[("authorization", &bearer)], 200),
        ("GET", "/admin/a", &[("authorization", &bearer)], 403),
        ("GET", "/%61dmin/a", &[], 401),
        ("GET", "/open/../admin", &[], 400),
        ("GET", "//open/a", &[], 400),
        ("GET", "/open/a;x", &[], 400),
        ("GET", "/closed/a", &[("authorization", "Bearer a b")], 400),
    ];
    for (method, path, fields, status) in cases {
        let (got, text) = ask(&mut http2, method, path, fields).await;
        let lines: Vec<String> = fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let other = world.connect().await.ask(request(&format!("{method} {path}"), &lines)).await;
        assert_eq!(
            (got.as_u16(), other.what.as_str()),
            (status, status.to_string().as_str()),
            "{method} {path}"
        );
        let without_id = |text: &str| text.split("\"decision_id\"").next().unwrap().to_owned();
        assert_eq!(without_id(&text), without_id(&other.text()), "{method} {path}");
    }
    let records = world.records(2 * cases.len()).await;
    for pair in records.chunks(2) {
        let [two, one] = pair else { panic!("pairs") };
        assert_eq!(
            (&two.reason, &two.rule_id, &two.path, &two.host),
            (&one.reason, &one.rule_id, &one.path, &one.host)
        );
        assert_eq!((two.decision, two.status, &two.user_id), (one.decision, one.status, &one.user_id));
    }
    // The same port speaks HTTP/1.1 too.
    assert_eq!(http1.ask(request("GET /open/a", &[])).await.what, "200");
}

#[tokio::test]
async fn the_application_sees_an_http1_request_of_the_caller() {
    let recorder = Recorder::start().await;
    let world = World::before(recorder.app.addr, |config| config.h2c = true).await;
    let mut http2 = client(world.connect().await.stream).await;
    let bearer = format!("Bearer {}", world.token(r#""roles":["x"]"#));
    let request = Request::post("http://shop.example:1/closed/a?q=%41")
        .header("authorization", &bearer)
        .header("x-authfi-user-id", "root")
        .header("x_authfi_user_roles", "admin")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("te", "trailers")
        .body(Full::from("hello"))
        .unwrap();
    let response = http2.send_request(request).await.unwrap();
    assert_eq!(text(response).await.0, 200);
    let got = &recorder.take()[0];
    assert_eq!((got.what.as_str(), got.text().as_str()), ("POST /closed/a?q=%41", "hello"));
    assert_eq!((got.field("host"), got.field("cookie")), (Some("shop.example:1"), Some("a=1; b=2")));
    assert_eq!((got.field("x-authfi-user-id"), got.field("x-authfi-user-roles")), (Some("u1"), Some("x")));
    assert!(!got.has("x_authfi_user_roles"));
    assert_eq!((got.field("via"), got.field("te")), (Some("2 portcullis"), Some("trailers")));
}

#[tokio::test]
async fn many_streams_share_a_connection() {
    let recorder = Recorder::start().await;
    let world = World::before(recorder.app.addr, |config| config.h2c = true).await;
    let http2 = client(world.connect().await.stream).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..200 {
        let mut sender = http2.clone();
        tasks.spawn(async move {
            sender.ready().await.unwrap();
            let path = format!("/{}/{n}", if n % 2 == 0 { "open" } else { "closed" });
            let (status, text) = ask(&mut sender, "GET", &path, &[]).await;
            assert_eq!(status, if n % 2 == 0 { 200 } else { 401 });
            assert!(n % 2 == 1 || text == format!("GET {path}\n"), "{text}");
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(recorder.take().len(), 100);
}

#[tokio::test]
async fn without_the_option_the_preface_is_refused() {
    let recorder = Recorder::start().await;
    let world = World::before(recorder.app.addr, |_| {}).await;
    let mut plain = world.connect().await;
    let response = plain.ask("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(response.what == "400" && response.text().contains("not_http1"), "{response:?}");
}

#[tokio::test]
async fn idle_connections_end_and_so_does_the_gateway() {
    let recorder = Recorder::start().await;
    let short = std::time::Duration::from_millis(200);
    let world = World::before(recorder.app.addr, |config| {
        (config.h2c, config.timeouts.head, config.timeouts.idle) = (true, short, short);
    })
    .await;
    let mut http2 = client(world.connect().await.stream).await;
    assert_eq!(ask(&mut http2, "GET", "/open/a", &[]).await.0, 200);
    let closed = async {
        while !http2.is_closed() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(crate::world::PATIENCE, closed).await.expect("it ends");
    tokio::time::timeout(crate::world::PATIENCE, world.gateway.stop()).await.expect("it ends");
}
