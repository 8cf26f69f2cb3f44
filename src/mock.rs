//! A stand-in upstream: answers in Stripe's shapes, with a latency to choose, for the demo, for tests and for load.
//!
//! It knows all operations of Stripe's API, and takes other paths of the same shape for operations of yours. It keeps no objects
//! (`docs/decisions/0099`): whatever is created gets an id and gives back what the request said; every collection has the same
//! 25 objects, in pages; whatever is asked for by id is there, but for ids that end in `missing` or begin as those of other
//! objects do. Ids, latencies and failures come from a seed and a count, so a run can be repeated; the same `Idempotency-Key`
//! from the same account gives the same id. It checks no key, only that there is one, and reads live or test from it.
//!
//! Bounds: at most [`MAX_CONNECTIONS`] connections, beyond which new ones wait in the listener's queue; the first 64 KiB
//! of a body are read as a form, and the rest is dropped.

mod answer;
mod form;
mod latency;
mod object;
mod rate;
mod resource;
mod shape;
#[cfg(test)]
mod tests;

pub use latency::{Latency, LatencyError, LatencySource, MAX_LATENCY, MAX_SAMPLES};
pub use rate::{Rate, RateError};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Connections served at once.
pub const MAX_CONNECTIONS: usize = 10_000;
/// How long requests in flight may take after the shutdown began.
const DRAIN: Duration = Duration::from_secs(5);
/// The pause after a failed accept: what fails it, such as a lack of file descriptors, does not pass at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How the mock answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MockOptions {
    /// How long each request takes.
    pub latency: Latency,
    /// The share of requests that are answered 500.
    pub error_rate: Rate,
    /// The share of requests that name one object which are answered 429 `lock_timeout`.
    pub lock_timeout_rate: Rate,
    /// What ids, request ids, latencies and failures are drawn from: equal seeds and equal requests give equal answers.
    pub seed: u64,
}

/// Serves HTTP/1.1 on `listener` until `shutdown` completes; then stops accepting, finishes what is in flight for at most five
/// seconds, and returns. Spawns a task for each connection on the current runtime; dropping the future ends them all.
pub async fn serve(listener: TcpListener, options: MockOptions, shutdown: impl Future<Output = ()>) {
    let mock = Arc::new(answer::Mock::new(options));
    let (stop, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => drop(connections.spawn(connection(stream, Arc::clone(&mock), stopped.clone()))),
                Err(error) => {
                    tracing::warn!(%error, "the mock cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    drop(stop);
    let drained = async { while connections.join_next().await.is_some() {} };
    if timeout(DRAIN, drained).await.is_err() {
        tracing::warn!("the mock gave up requests that took too long to finish");
    }
}

async fn connection(stream: TcpStream, mock: Arc<answer::Mock>, mut stopped: watch::Receiver<()>) {
    // Answers are small and complete: waiting to fill a packet only adds latency.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let mock = Arc::clone(&mock);
        async move { Ok::<_, Infallible>(mock.answer(request).await) }
    });
    let mut connection = pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = &mut connection => ended,
        // The sender is dropped: nothing is ever sent.
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the mock failed");
    }
}
