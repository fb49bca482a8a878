//! One permitted request: to the application, and its response back.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::{Body as _, Incoming};
use tokio::time::{sleep, timeout};

use crate::body::{RequestBody, ResponseBody, Sending};
use crate::fields::{self, Way};
use crate::gateway::Shared;
use crate::lane::Lane;
use crate::permit::{Permit, Upgrade};
use crate::problem::Problem;
use crate::tunnel;

/// Forwards the request. With a lane it may become a tunnel.
pub(crate) async fn forward(
    shared: &Arc<Shared>,
    permit: Permit,
    mut request: Request<Incoming>,
    way: Way,
    lane: Option<&Lane>,
) -> Response<ResponseBody> {
    let decision_id = permit.decision_id();
    let upgrade = permit.upgrade().filter(|_| tunnel::is_asked(&request)).cloned();
    let switch = lane.zip(upgrade).map(|(lane, upgrade)| (lane, upgrade, hyper::upgrade::on(&mut request)));
    let sending = Arc::new(Sending::default());
    let Some(request) = prepare(shared, permit, request, way, switch.is_some(), &sending) else {
        return Problem::Broken.response(decision_id);
    };
    let mut response = match ask(shared, request, &sending).await {
        Ok(response) => response,
        // Whose body it was is whose mistake it was.
        Err(_) if sending.is_broken() => return Problem::ClientLate.response(decision_id),
        Err(problem) => return problem.response(decision_id),
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some((lane, Upgrade { lease }, client)) = switch else {
            return Problem::Broken.response(decision_id);
        };
        if !tunnel::is_granted(&response) {
            return Problem::Broken.response(decision_id);
        }
        let application = hyper::upgrade::on(&mut response);
        lane.open_tunnel(lease.clone());
        shared.spawn(tunnel::run(client, application, lease, Arc::clone(shared)));
        fields::for_client(response.headers_mut());
        websocket(response.headers_mut());
        return response.map(|_| ResponseBody::own(""));
    }
    fields::for_client(response.headers_mut());
    *response.version_mut() = Version::HTTP_11;
    let idle = shared.timeouts().idle;
    response.map(|body| ResponseBody::application(body, idle))
}

/// The request as the application gets it.
fn prepare(
    shared: &Shared,
    permit: Permit,
    request: Request<Incoming>,
    way: Way,
    upgrade: bool,
    sending: &Arc<Sending>,
) -> Option<Request<RequestBody>> {
    let (mut parts, body) = request.into_parts();
    parts.uri = shared.pool().uri(permit.target())?;
    parts.version = Version::HTTP_11;
    fields::for_application(&mut parts.headers, permit.caller(), way);
    if upgrade {
        websocket(&mut parts.headers);
    }
    if !parts.headers.contains_key(HOST) {
        // HTTP/1.0 may leave it out, the application's HTTP/1.1 may not.
        parts.headers.insert(HOST, HeaderValue::from_str(shared.pool().authority().as_str()).ok()?);
    }
    if !body.is_end_stream()
        && body.size_hint().exact().is_none()
        && !parts.headers.contains_key(CONTENT_LENGTH)
    {
        // Of GET and HEAD hyper would leave out a body whose length nobody said.
        parts.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let body = RequestBody::new(body, shared.timeouts().idle, Arc::clone(sending));
    Some(Request::from_parts(parts, body))
}

/// Asks the application. Its time for an answer begins when it has the whole request.
async fn ask(
    shared: &Shared,
    request: Request<RequestBody>,
    sending: &Sending,
) -> Result<Response<Incoming>, Problem> {
    let response = shared.pool().ask(request);
    tokio::pin!(response);
    let limit: Duration = shared.timeouts().response;
    let mut taken = None;
    loop {
        tokio::select! {
            response = &mut response => return response,
            () = sending.done.notified() => break,
            () = sleep(limit) => {
                // It reads nothing of the request.
                let now = sending.taken();
                if now.is_some() && now == taken {
                    return Err(Problem::Late);
                }
                taken = now;
            }
        }
    }
    timeout(limit, response).await.unwrap_or(Err(Problem::Late))
}

fn websocket(headers: &mut http::HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}
