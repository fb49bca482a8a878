//! What the application is told, and what it is not.

use portcullis_gateway::Forwarded;

use crate::world::{Recorder, World, request};

#[tokio::test]
async fn the_caller_of_an_allowed_request_is_named() {
    let recorder = Recorder::start().await;
    let world = World::before(recorder.app.addr, |_| {}).await;
    let mut client = world.connect().await;
    assert_eq!(client.ask(request("GET /closed/a?q=1", &[&world.bearer(), "Accept: */*"])).await.what, "200");
    let [got] = &recorder.take()[..] else { panic!("one request") };
    assert_eq!(got.what, "GET /closed/a?q=1");
    assert_eq!(got.field("x-authfi-user-id"), Some("u1"));
    assert_eq!(got.field("x-authfi-user-email"), Some("u1@example"));
    assert_eq!(got.field("x-authfi-user-roles"), Some("a,b"));
    assert_eq!((got.field("host"), got.field("accept")), (Some("h"), Some("*/*")));
    assert!(got.field("authorization").is_some_and(|value| value.starts_with("Bearer ")));
}

#[tokio::test]
async fn no_spelling_of_a_spoof_gets_through() {
    let recorder = Recorder::start().await;
    let world = World::before(recorder.app.addr, |_| {}).await;
    let spoofs = [
        "X-AuthFI-User-ID: root",
        "x-authfi-user-id: root",
        "X_AuthFI_User_ID: root",
        "X-AuthFI_User-ID: root",
        "X.AuthFI.User.ID: root",
        "X-AuthFI-User-Roles: admin",
        "X_AUTHFI_USER_ROLES: admin",
        "Connection: X-AuthFI-User-ID",
    ];
    let bearer = world.bearer();
    let mut client = world.connect().await;
    for line in ["GET /open/a", "GET /closed/a"] {
        let fields: Vec<&str> = spoofs.iter().copied().chain([bearer.as_str()]).collect();
        assert_eq!(client.ask(request(line, &fields)).await.what, "200");
        let [got] = &recorder.take()[..] else { panic!("one request") };
        let told: Vec<&(String, String)> = got
            .fields
            .iter()
            .filter(|(name, _)| name.replace(['_', '.'], "-").starts_with("x-authfi"))
            .collect();
        let expected = if line == "GET /open/a" { 0 } else { 3 };
        assert_eq!(told.len(), expected, "{told:?}");
        assert!(!got.fields.iter().any(|(_, value)| value == "root" || value == "admin"), "{got:?}");
    }
}

#[tokio::test]
async fn trailers_pass_without_spoofs() {
    let recorder = Recorder::start().await;
    let world = World::before(recorder.app.addr, |_| {}).await;
    let mut client = world.connect().await;
    let text = "POST /open/a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, X-AuthFI-User-ID\r\n\r\n\
                3\r\nabc\r\n0\r\nX-Sum: 7\r\nX-AuthFI-User-ID: root\r\nX_AuthFI_User_ID: root\r\nContent-Length: 9\r\n\r\n";
    assert_eq!(client.ask(text).await.what, "200");
    assert_eq!(recorder.take()[0].text().to_ascii_lowercase(), "abc[x-sum: 7]");
}

#[tokio::test]
async fn connection_fields_stay_on_their_side() {
    let recorder = Recorder::start().await;
    let world = World::before(recorder.app.addr, |_| {}).await;
    let mut client = world.connect().await;
    let fields = [
        "Connection: X-Hop, keep-alive, Authorization",
        "X-Hop: 1",
        "Keep-Alive: 5",
        "TE: gzip",
        "Upgrade: h2c",
    ];
    let bearer = world.bearer();
    let fields: Vec<&str> = fields.into_iter().chain([bearer.as_str()]).collect();
    assert_eq!(client.ask(request("GET /closed/a", &fields)).await.what, "200");
    let got = &recorder.take()[0];
    for name in ["connection", "x-hop", "keep-alive", "te", "upgrade"] {
        assert!(!got.has(name), "{name}: {got:?}");
    }
    assert!(got.has("authorization"));
    assert_eq!(got.field("via"), Some("1.1 portcullis"));
    assert_eq!(
        (got.field("x-forwarded-for"), got.field("x-forwarded-proto")),
        (Some("127.0.0.1"), Some("http"))
    );
}

#[tokio::test]
async fn a_trusted_list_of_hops_is_appended_to() {
    let recorder = Recorder::start().await;
    let world = World::before(recorder.app.addr, |config| config.forwarded = Forwarded::Append).await;
    let mut client = world.connect().await;
    let fields =
        ["X-Forwarded-For: 192.0.2.1, 192.0.2.2", "X-Forwarded-For: 192.0.2.3", "X-Forwarded-Proto: https"];
    assert_eq!(client.ask(request("GET /open/a", &fields)).await.what, "200");
    let got = &recorder.take()[0];
    assert_eq!(got.field("x-forwarded-for"), Some("192.0.2.1, 192.0.2.2, 192.0.2.3, 127.0.0.1"));
    assert_eq!(got.field("x-forwarded-proto"), Some("https"));
}

#[tokio::test]
async fn http_10_without_host_gets_the_applications() {
    let recorder = Recorder::start().await;
    let world = World::before(recorder.app.addr, |_| {}).await;
    let mut client = world.connect().await;
    let response = client.ask("GET /open/a HTTP/1.0\r\n\r\n").await;
    assert_eq!(response.what, "200");
    assert!(client.ended().await);
    assert_eq!(recorder.take()[0].field("host"), Some(recorder.app.addr.to_string().as_str()));
}

#[tokio::test]
async fn head_and_keep_alive_and_one_connection_to_the_application() {
    let recorder = Recorder::start().await;
    let world = World::before(recorder.app.addr, |_| {}).await;
    let mut client = world.connect().await;
    for _ in 0..50 {
        client.send(request("HEAD /open/a", &[])).await;
        let response = client.response(true).await.unwrap();
        assert_eq!((response.what.as_str(), response.field("content-length")), ("200", Some("13")));
        assert_eq!(client.ask(request("GET /open/a", &[])).await.text(), "GET /open/a\n");
        assert_eq!(client.ask(request("GET /closed/a", &[])).await.what, "401");
    }
    assert_eq!(recorder.app.connections.load(std::sync::atomic::Ordering::SeqCst), 1);
}
