//! Websockets: what follows the handshake of an allowed request (RFC 6455 section 4) passes unread, in both directions.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, Method, Request, Response, Version};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio::time::{MissedTickBehavior, interval};

use crate::gateway::Shared;
use crate::lease::Lease;

/// How often it is looked whether a token has expired, as the kernel's agent does.
const LOOK: Duration = Duration::from_millis(500);

/// Whether the client asks for a websocket, and for nothing else.
pub(crate) fn is_asked<B>(request: &Request<B>) -> bool {
    request.method() == Method::GET && request.version() == Version::HTTP_11 && names_it(request.headers())
}

/// Whether the application gave it.
pub(crate) fn is_granted<B>(response: &Response<B>) -> bool {
    names_it(response.headers())
}

fn names_it(headers: &HeaderMap) -> bool {
    let upgrade =
        headers.get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let options =
        headers.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    upgrade && options.into_iter().any(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}

/// Passes everything on until both sides are done, or the lease is.
pub(crate) async fn run(
    client: OnUpgrade,
    application: OnUpgrade,
    lease: Option<Arc<Lease>>,
    shared: Arc<Shared>,
) {
    let pass = async {
        // One side may be gone before the handshake is: then there is nothing to pass.
        if let (Ok(client), Ok(application)) = tokio::join!(client, application) {
            let (mut client, mut application) = (TokioIo::new(client), TokioIo::new(application));
            drop(copy_bidirectional(&mut client, &mut application).await);
        }
    };
    tokio::select! {
        biased;
        () = end_of(lease, &shared) => {}
        () = pass => {}
    }
}

/// Waits until a tunnel may not go on.
async fn end_of(lease: Option<Arc<Lease>>, shared: &Shared) {
    let Some(lease) = lease else { return std::future::pending().await };
    let mut rules = shared.watch_rules();
    // Not one timer for all of its life: the clock may be set meanwhile.
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while lease.holds(shared) {
        tokio::select! {
            _ = look.tick() => {}
            // Its other end is ours.
            _ = rules.changed() => {}
        }
    }
}
