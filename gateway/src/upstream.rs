//! Connections to the application.

use std::error::Error;
use std::io;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use portcullis_http::limits::HEAD_LINES_MAX;

use crate::body::RequestBody;
use crate::config::{Config, ConfigError};
use crate::problem::Problem;

/// The application, and the connections to it that wait for a next request.
#[derive(Debug)]
pub(crate) struct Pool {
    client: Client<HttpConnector, RequestBody>,
    authority: Authority,
}

// === impl Pool ===

impl Pool {
    pub(crate) fn new(config: &Config) -> Result<Pool, ConfigError> {
        let text = config.upstream.authority();
        let authority = text.parse().map_err(|_| ConfigError::Upstream(text.to_owned()))?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(config.timeouts.connect));
        // A connection whose other end reads nothing is otherwise held by what could not be written, for ever.
        #[cfg(target_os = "linux")]
        connector.set_tcp_user_timeout(Some(config.timeouts.idle));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(config.timeouts.idle)
            .pool_max_idle_per_host(config.limits.pool_idle)
            .http1_preserve_header_case(true)
            .http1_max_headers(HEAD_LINES_MAX)
            .set_host(false)
            .build(connector);
        Ok(Pool { client, authority })
    }

    /// `host:port`
    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The application's URI of a target.
    pub(crate) fn uri(&self, target: &PathAndQuery) -> Option<Uri> {
        let uri = Uri::builder().scheme(Scheme::HTTP).authority(self.authority.clone());
        uri.path_and_query(target.clone()).build().ok()
    }

    /// Asks the application.
    pub(crate) async fn ask(&self, request: Request<RequestBody>) -> Result<Response<Incoming>, Problem> {
        self.client.request(request).await.map_err(|error| {
            if is_timeout(&error) {
                Problem::Late
            } else if error.is_connect() {
                Problem::Unreachable
            } else {
                Problem::Broken
            }
        })
    }
}

fn is_timeout(error: &(dyn Error + 'static)) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) || error.source().is_some_and(is_timeout)
}
