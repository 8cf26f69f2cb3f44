//! FLOOR 4: the admin listener: metrics, health, readiness, and the JSON API. Never on the public listener.

mod accounts;
mod api;
mod explain;
mod overrides;
mod upstreams;

pub use overrides::expire;

use crate::clock::process_cpu;
use crate::engine::Clock;
use crate::gateway::{Authority, Shared};
use crate::server::Phase;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tower::ServiceBuilder;
use tower_http::timeout::TimeoutLayer;

/// Time for a request's head, and for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What clients of the admin listener may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections served at once; more wait to be accepted.
    pub connections: usize,
    /// How long a connection lasts, however busy it is: whoever takes its answers by the spoonful must not keep its place.
    pub lifetime: Duration,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { connections: 64, lifetime: Duration::from_secs(60) }
    }
}

/// Serves until the phase is [`Phase::Stopping`]; while draining it still answers, so that an orchestrator can watch.
pub async fn serve(listener: TcpListener, shared: Arc<Shared>, mut phase: watch::Receiver<Phase>, bounds: Bounds) {
    let places = Arc::new(tokio::sync::Semaphore::new(bounds.connections));
    let answering = phase.clone();
    let accepting = async {
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((socket, peer)) => {
                    let serving = connection(socket, peer, Arc::clone(&shared), answering.clone());
                    tokio::spawn(async move {
                        let _ = tokio::time::timeout(bounds.lifetime, serving).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept an admin connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        _ = phase.wait_for(|phase| *phase == Phase::Stopping) => {}
    }
}

async fn connection(
    socket: tokio::net::TcpStream,
    peer: SocketAddr,
    shared: Arc<Shared>,
    phase: watch::Receiver<Phase>,
) {
    let service = ServiceBuilder::new()
        // A scrape counts every partition: bounded, but not on a request's time.
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, TIMEOUT))
        .service_fn(move |request: Request<hyper::body::Incoming>| {
            let (shared, phase) = (Arc::clone(&shared), *phase.borrow());
            async move {
                Ok::<_, Infallible>(if request.uri().path().starts_with(api::PREFIX) {
                    api::answer(request, shared, peer).await.into_response()
                } else {
                    answer(request.method(), request.uri().path(), &shared, phase)
                })
            }
        });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(TIMEOUT)
        .serve_connection(TokioIo::new(socket), TowerToHyperService::new(service))
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an admin connection ended");
    }
}

fn answer(method: &Method, path: &str, shared: &Shared, phase: Phase) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD here\n");
        refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    match path {
        "/metrics" => metrics(shared),
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" if phase == Phase::Serving && matches!(*shared.current().authority, Authority::Waiting) => {
            text(StatusCode::SERVICE_UNAVAILABLE, "waiting for the keys of the shared store\n")
        }
        "/readyz" if phase == Phase::Serving => text(StatusCode::OK, "ready\n"),
        "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        _ => text(
            StatusCode::NOT_FOUND,
            "there are /metrics, /healthz, /readyz, /v1/overrides, /v1/accounts/ID and /v1/upstreams\n",
        ),
    }
}

fn metrics(shared: &Shared) -> Response<Full<Bytes>> {
    let policy = &shared.current().config.policy;
    shared.metrics.take_census(policy, &shared.engine.census(policy));
    shared.metrics.addresses.take_census(shared.addresses.partitions());
    shared.metrics.accept.buffered.set(i64::try_from(shared.budget.used()).unwrap_or(i64::MAX));
    let upstreams = shared.servers.census(shared.time.now());
    shared.metrics.upstreams.take_census(upstreams.iter().map(|(name, census)| (&**name, *census)));
    shared.metrics.locks.take_census(shared.locks.waiters(), shared.locks.held());
    shared.metrics.process.take_census(process_cpu(), shared.current().config.server.max_connections);
    match shared.metrics.text() {
        Ok(page) => {
            let mut response = Response::new(Full::from(page));
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(error) => {
            tracing::error!(%error, "cannot write the metrics");
            text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written\n")
        }
    }
}

fn text(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
