//! Whole connections over in-memory pipes. `served` is about what comes in and in which order, `codec` about what goes out.

mod codec;
mod served;

use super::*;
use crate::clock::Time;
use http::Request;
use std::net::Ipv4Addr;

fn bounds() -> Bounds {
    let second = Duration::from_secs(1);
    Bounds { wire: WireLimits::default(), write_timeout: 30 * second, min_write_rate: 0, body_timeout: 10 * second }
}

/// A connection that nobody asks to end.
fn connection<IO: AsyncRead + AsyncWrite + Unpin>(io: IO) -> Connection<IO, fn(&Context<'_>) -> Leave> {
    let peer = Rc::new(Peer::new(Ipv4Addr::LOCALHOST.into(), false));
    Connection::new(io, &peer, &Rc::new(Spares::new(Time::manual().0)), bounds(), |_| Leave::No)
}

/// A service of a function that takes whole requests.
fn service_fn<T, F>(
    mut answer: impl FnMut(Request<ClientBody>) -> F,
) -> impl Service<Arrived<ClientBody>, Response = T, Error = Infallible>
where
    F: Future<Output = Result<T, Infallible>>,
{
    tower::service_fn(move |arrived: Arrived<ClientBody>| answer(arrived.into()))
}

impl Answer for http_body_util::Full<Bytes> {}
