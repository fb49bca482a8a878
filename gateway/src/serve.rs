//! One connection of a client: TLS or none, HTTP/2 or HTTP/1, and its requests.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use portcullis_http::limits::{HEAD_LINES_MAX, HEAD_MAX};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, interval, timeout};
use tokio_rustls::TlsAcceptor;

use crate::body::{Broken, ResponseBody};
use crate::fields::Way;
use crate::forward::forward;
use crate::gateway::Shared;
use crate::guard::Guard;
use crate::http2::{Outcome, for_http1, judge};
use crate::lane::Lane;
use crate::pace::{Paced, Streams};
use crate::prefix::{Prefixed, Socket};
use crate::problem;

/// A connection, and what it belongs to.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) addr: SocketAddr,
    pub(crate) tls: bool,
    pub(crate) slot: Slot,
}

/// Room for one connection, for as long as something of it is there.
pub(crate) type Slot = Arc<OwnedSemaphorePermit>;

/// How often an HTTP/2 connection is looked at.
const LOOK_MAX: Duration = Duration::from_secs(1);

/// Serves a client until it or the gateway ends the connection.
pub(crate) async fn connection(stream: TcpStream, peer: Peer, stop: watch::Receiver<bool>) {
    drop(stream.set_nodelay(true));
    let head = peer.shared.timeouts().head;
    if let Some(config) = peer.shared.tls() {
        let Ok(Ok(stream)) = timeout(head, TlsAcceptor::from(config).accept(stream)).await else { return };
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let peer = Peer { tls: true, ..peer };
        return speak(stream, is_http2, peer, stop).await;
    }
    if peer.shared.h2c() {
        let Ok(Ok((stream, is_http2))) = timeout(head, Prefixed::sniff(stream)).await else { return };
        return speak(stream, is_http2, peer, stop).await;
    }
    speak(stream, false, peer, stop).await;
}

async fn speak<S: Socket>(stream: S, is_http2: bool, peer: Peer, stop: watch::Receiver<bool>) {
    if is_http2 {
        speak_http2(stream, peer, stop).await;
    } else {
        speak_http1(stream, peer, stop).await;
    }
}

async fn speak_http1<S: Socket>(stream: S, peer: Peer, mut stop: watch::Receiver<bool>) {
    let lane = Arc::new(Lane::default());
    let guard = Guard::new(stream, &peer, Arc::clone(&lane));
    let service = service_fn(move |request| {
        let (peer, lane) = (peer.clone(), Arc::clone(&lane));
        async move { answer(request, &peer, &lane).await }
    });
    let connection = http1::Builder::new()
        .auto_date_header(false)
        .preserve_header_case(true)
        .max_headers(HEAD_LINES_MAX)
        // The guard has its own time limits, and gives out whole heads.
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(guard), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    // An error is the end of the connection: the client has seen it, or caused it.
    tokio::select! {
        done = connection.as_mut() => return drop(done),
        _ = stop.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
    }
    drop(connection.await);
}

/// A request that the HTTP/1 stack read behind the guard.
async fn answer(
    request: Request<Incoming>,
    peer: &Peer,
    lane: &Arc<Lane>,
) -> Result<Response<ResponseBody>, Broken> {
    let (parts, body) = request.into_parts();
    let permit = lane.take().filter(|(permit, _)| permit.is_for(&parts));
    let Some((permit, ticket)) = permit else {
        // The stack has read another request than the one that was decided: nobody answers for it.
        peer.shared.disagreed();
        return Err(Broken::other("a request without a permit"));
    };
    let version = if parts.version == Version::HTTP_10 { "1.0" } else { "1.1" };
    let way = peer.way(version);
    let response = forward(&peer.shared, permit, Request::from_parts(parts, body), way, Some(lane)).await;
    Ok(response.map(|body| body.with_ticket(ticket)))
}

async fn speak_http2<S: Socket>(stream: S, peer: Peer, mut stop: watch::Receiver<bool>) {
    let active = Arc::new(AtomicUsize::new(0));
    let timeouts = peer.shared.timeouts().clone();
    let streams = peer.shared.limits().streams;
    let counted = Arc::clone(&active);
    let service = service_fn(move |request| {
        let (peer, active) = (peer.clone(), Active::of(&counted));
        async move {
            let response = answer_http2(request, &peer).await;
            Ok::<_, Broken>(response.map(|body| Paced::new(body, active)))
        }
    });
    let connection = http2::Builder::new(Streams { patience: timeouts.idle })
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(streams)
        .max_header_list_size(HEAD_MAX as u32)
        .keep_alive_interval(timeouts.idle)
        .keep_alive_timeout(timeouts.head)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut look = interval(timeouts.idle.min(timeouts.head).min(LOOK_MAX));
    let mut idle_since = Instant::now();
    let mut limit = timeouts.head;
    let mut ends = false;
    loop {
        tokio::select! {
            done = connection.as_mut() => return drop(done),
            _ = stop.wait_for(|stop| *stop), if !ends => {}
            _ = look.tick() => {
                if active.load(Ordering::Relaxed) > 0 {
                    (idle_since, limit) = (Instant::now(), timeouts.idle);
                    continue;
                }
                if idle_since.elapsed() <= limit {
                    continue;
                }
                if ends {
                    // Nothing is under way, and the client does not take what is left.
                    return;
                }
            }
        }
        connection.as_mut().graceful_shutdown();
        (ends, idle_since, limit) = (true, Instant::now(), timeouts.idle);
    }
}

async fn answer_http2(request: Request<Incoming>, peer: &Peer) -> Response<ResponseBody> {
    let shared = &peer.shared;
    let Some(rules) = shared.rules() else { return problem::of_text(&problem::unconfigured()) };
    let (mut parts, body) = request.into_parts();
    let (begin, now) = (std::time::Instant::now(), shared.now());
    let (outcome, verdict) = judge(&parts, shared.port(), &rules, shared.decision_id(), now.as_secs());
    shared.record(verdict.as_slice(), &rules, peer.addr, now, begin.elapsed());
    match outcome {
        Outcome::Answer(text) => problem::of_text(&text),
        Outcome::Forward(permit) => {
            for_http1(&mut parts);
            forward(shared, permit, Request::from_parts(parts, body), peer.way("2"), None).await
        }
    }
}

/// A request under way, to the end of its response.
struct Active(Arc<AtomicUsize>);

// === impl Active ===

impl Active {
    fn of(count: &Arc<AtomicUsize>) -> Active {
        count.fetch_add(1, Ordering::Relaxed);
        Active(Arc::clone(count))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Peer ===

impl Peer {
    fn way(&self, version: &'static str) -> Way {
        Way { peer: self.addr.ip(), tls: self.tls, version, policy: self.shared.forwarded() }
    }
}
