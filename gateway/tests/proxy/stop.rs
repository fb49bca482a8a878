//! A gateway that is told to end.

use std::time::Duration;

use tokio::net::TcpStream;

use crate::world::{App, Client, Recorder, World, request};

#[tokio::test]
async fn requests_under_way_are_finished_and_idle_connections_end() {
    let app = App::start(|stream| async move {
        let mut client = Client::of(stream);
        while client.request().await.is_some() {
            BEGUN.notify_one();
            GO.notified().await;
            client.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").await;
        }
    })
    .await;
    static BEGUN: tokio::sync::Notify = tokio::sync::Notify::const_new();
    static GO: tokio::sync::Notify = tokio::sync::Notify::const_new();
    let world = World::before(app.addr, |_| {}).await;
    let addr = world.gateway.addr();
    let mut idle = world.connect().await;
    assert_eq!(idle.ask(request("GET /closed/a", &[])).await.what, "401");
    let mut busy = world.connect().await;
    busy.send(request("GET /open/a", &[])).await;
    BEGUN.notified().await;
    let stop = tokio::spawn(world.gateway.stop());
    assert!(idle.ended().await);
    // Nobody new is let in while the old one is served.
    let refused = async {
        while TcpStream::connect(addr).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(crate::world::PATIENCE, refused).await.expect("nobody listens");
    assert!(!stop.is_finished());
    GO.notify_one();
    let response = busy.response(false).await.unwrap();
    assert_eq!((response.what.as_str(), response.text().as_str()), ("200", "done"));
    assert!(busy.ended().await);
    stop.await.unwrap();
}

#[tokio::test]
async fn requests_that_never_end_are_given_up() {
    let app = App::start(|stream| async move {
        let mut client = Client::of(stream);
        client.request().await;
        std::future::pending::<()>().await;
    })
    .await;
    let world = World::before(app.addr, |config| config.timeouts.stop = Duration::from_millis(200)).await;
    let mut client = world.connect().await;
    client.send(request("GET /open/a", &[])).await;
    world.records(1).await;
    tokio::time::timeout(crate::world::PATIENCE, world.gateway.stop()).await.expect("an end");
    assert!(client.response(false).await.is_none());
}

#[tokio::test]
async fn every_record_is_written_before_the_end() {
    let recorder = Recorder::start().await;
    let world = World::before(recorder.app.addr, |_| {}).await;
    let mut client = world.connect().await;
    for _ in 0..500 {
        assert_eq!(client.ask(request("GET /closed/a", &[])).await.what, "401");
    }
    let World { gateway, .. } = &world;
    assert_eq!(gateway.status().records_lost, 0);
    world.records(500).await;
}
