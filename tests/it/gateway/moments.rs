//! What the gateway says of time, with a clock that the test moves: when to come back, when an answer was made, how long a request took. A
//! moment that serves two of these must be that of both.

use crate::support::cases::configuration;
use crate::support::running::{LIVE, key};
use crate::support::seed;
use crate::support::stub::{Stack, peer};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{self, LocalBoxFuture};
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::Full;
use std::cell::Cell;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tollgate::engine::Nanos;
use tollgate::gateway::{self, Answer, Arrived, Classified, GatewayBody, Home, Peer, Refused, Rest};
use tollgate::upstream::{ReadAhead, Tick};
use tower::Service;

const POLICY: &str = "
[[endpoints]]
match = 'POST /v1/refunds'
name = 'refunds.create'

[[limits]]
name = 'per-charge'
stage = 'resource'
rate = '1/m'
when = { endpoint = 'refunds.create' }
per = ['account', 'form.charge']
";

const SECOND: Duration = Duration::from_secs(1);

/// A request's body that comes when it is let go, and the upstream that answers then.
#[derive(Clone, Default)]
struct Gates {
    body: Rc<Cell<bool>>,
    answer: Rc<Cell<bool>>,
}

struct Late {
    is_there: Rc<Cell<bool>>,
    bytes: Option<Bytes>,
}

impl Body for Late {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if !self.is_there.get() {
            return Poll::Pending;
        }
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }
}

type Answered = Response<GatewayBody<Full<Bytes>>>;

/// Sends a request in whose body and answer wait for their gates.
fn send(home: &Rc<Home>, peer: &Rc<Peer>, gates: &Gates) -> LocalBoxFuture<'static, Answered> {
    let answer = Rc::clone(&gates.answer);
    let upstream = tower::service_fn(move |classified| forward(classified, Rc::clone(&answer)));
    let request = Request::post("/v1/refunds").header("host", "a").header("authorization", format!("Bearer {LIVE}"));
    let request = request.header("content-type", "application/x-www-form-urlencoded").body(()).unwrap();
    let body = Late { is_there: Rc::clone(&gates.body), bytes: Some(Bytes::from_static(b"charge=ch_1")) };
    let answer = gateway::stack(home, peer, upstream).call(Arrived::from(request.map(|()| body)));
    answer.map(Result::unwrap).boxed_local()
}

async fn forward(
    classified: Classified<ReadAhead<Late>>,
    may_answer: Rc<Cell<bool>>,
) -> Result<Response<GatewayBody<Full<Bytes>>>, Refused> {
    let Classified { mut exchange, mut held, .. } = classified;
    held.commit();
    exchange.sent = Some(exchange.home.now());
    future::poll_fn(|_| if may_answer.get() { Poll::Ready(()) } else { Poll::Pending }).await;
    (exchange.answered, exchange.status) = (Some(exchange.home.now()), 200);
    let (body, tick) = (Full::new(Bytes::from_static(b"piece")), Tick::new(SECOND));
    Ok(Response::new(GatewayBody::forwarded(body, tick, Rest::new(held, exchange))))
}

fn stack() -> Stack {
    Stack::new(configuration(POLICY, &seed()), &key("key_1", LIVE, "acct_a", "live", ""))
}

/// Seconds that requests of the only route have taken, all together.
fn seconds_taken(stack: &Stack) -> f64 {
    stack.home.shared.current().routes[0].request.get_sample_sum()
}

#[tokio::test(start_paused = true)]
async fn a_refusal_after_a_wait_is_of_the_moment_that_it_was_made_at() {
    let (stack, peer, gates) = (stack(), peer("192.0.2.1"), Gates::default());
    gates.answer.set(true);
    gates.body.set(true);
    assert_eq!(send(&stack.home, &peer, &gates).await.status(), 200);
    peer.let_go();
    let before = seconds_taken(&stack);
    gates.body.set(false);
    let mut waiting = send(&stack.home, &peer, &gates);
    assert!(future::poll_immediate(&mut waiting).await.is_none());
    assert_eq!(peer.idle_since(), None);
    stack.clock.advance(7 * SECOND);
    gates.body.set(true);
    let answer = future::poll_immediate(&mut waiting).await.unwrap();
    let now = Nanos(7_000_000_000);
    assert_eq!((answer.status().as_u16(), answer.body().made()), (429, Some(now)));
    assert_eq!(peer.idle_since(), Some(now), "its record has closed");
    assert!((seconds_taken(&stack) - before - 7.0).abs() < 1e-9);
    let answer = GatewayBody::spelled_out(answer);
    assert_eq!(answer.headers()["retry-after"], "53", "a minute after the first, less what was waited");
    let names: Vec<&str> = answer.headers().keys().map(|name| name.as_str()).collect();
    assert_eq!((names[0], answer.headers().get_all("request-id").iter().count()), ("request-id", 1));
}

#[tokio::test(start_paused = true)]
async fn a_forwarded_answer_is_of_the_moment_that_it_came_at_and_its_record_of_the_end() {
    let (stack, peer, gates) = (stack(), peer("192.0.2.1"), Gates::default());
    gates.body.set(true);
    let mut waiting = send(&stack.home, &peer, &gates);
    assert!(future::poll_immediate(&mut waiting).await.is_none());
    stack.clock.advance(2 * SECOND);
    gates.answer.set(true);
    let mut answer = future::poll_immediate(&mut waiting).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.body().made()), (200, Some(Nanos(2_000_000_000))));
    stack.clock.advance(3 * SECOND);
    let frame = future::poll_fn(|cx| Pin::new(answer.body_mut()).poll_frame(cx)).await;
    assert!(frame.unwrap().is_ok());
    assert_eq!(answer.body().made(), None, "its head has gone: nobody asks for that moment any more");
    stack.clock.advance(SECOND);
    peer.let_go();
    assert_eq!(peer.idle_since(), Some(Nanos(6_000_000_000)));
    assert!((seconds_taken(&stack) - 6.0).abs() < 1e-9);
}

/// Of an answer that has no record nobody has looked at the clock.
#[test]
fn an_answer_without_a_record_has_no_moment() {
    let (stack, peer) = (stack(), peer("192.0.2.1"));
    let upstream = tower::service_fn(|classified| forward(classified, Rc::default()));
    let request = Request::options("*").header("host", "a").body(Full::new(Bytes::new())).unwrap();
    let request = request.map(|_| Late { is_there: Rc::default(), bytes: None });
    let answer = gateway::stack(&stack.home, &peer, upstream).call(Arrived::from(request)).now_or_never();
    let answer = answer.unwrap().unwrap();
    assert_eq!((answer.status().as_u16(), answer.body().made()), (204, None));
}
