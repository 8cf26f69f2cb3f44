//! Whether a request that failed may be sent once more, and with what.
//!
//! What may go again: anything of which nothing was sent; GET and HEAD without a body, which change nothing; and, where the
//! configuration says that the upstream tells repeats by it, writes with an `Idempotency-Key` and a small body. Everything else is
//! sent once: its outcome is unknown, and only the client can know what to do. Bounds: `attempts` for the request, the budget for
//! the upstream. Limits are charged once, and slots are held all along.

use super::refusal::UpstreamFailure;
use crate::budget::{Budget, Charge};
use crate::config::{Retries, RetryOn};
use crate::engine::Nanos;
use crate::upstream::{BodyFault, Dice, Group, RequestBody, Server, ServerId};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, Method, Request, StatusCode};
use http_body::Body;
use std::sync::Arc;
use std::time::Duration;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Before a server is tried again that has failed the same request; doubled each time, half of it by chance.
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// No connection, or one that took nothing: nothing was sent.
    Connect,
    /// A connection that had served before broke before there was an answer: mostly the server had just closed it.
    Stale,
    /// A new connection broke before there was an answer.
    Reset,
    /// No answer within `per_try_timeout`.
    Timeout,
    /// An answer that cannot be read.
    Nonsense,
    /// 502.
    BadGateway,
    /// 503.
    Unavailable,
    /// 504.
    GatewayTimeout,
}

impl Cause {
    /// Of a connection that broke.
    pub(super) fn of_break(was_reused: bool) -> Cause {
        if was_reused { Cause::Stale } else { Cause::Reset }
    }

    /// Of an answer by which a server, or a proxy in front of it, says that it is unfit.
    pub(super) fn of_status(status: StatusCode) -> Option<Cause> {
        match status {
            StatusCode::BAD_GATEWAY => Some(Cause::BadGateway),
            StatusCode::SERVICE_UNAVAILABLE => Some(Cause::Unavailable),
            StatusCode::GATEWAY_TIMEOUT => Some(Cause::GatewayTimeout),
            _ => None,
        }
    }

    fn is_in(self, retries: &Retries) -> bool {
        match self {
            Cause::Connect => retries.on.connect,
            Cause::Stale => true,
            Cause::Reset => retries.on.reset,
            Cause::Nonsense => false,
            Cause::Timeout => retries.per_try_timeout.is_some(),
            Cause::BadGateway => retries.on.bad_gateway,
            Cause::Unavailable => retries.on.unavailable,
            Cause::GatewayTimeout => retries.on.gateway_timeout,
        }
    }

    /// The `cause` label of `tollgate_upstream_retries_total`.
    fn as_str(self) -> &'static str {
        match self {
            Cause::Connect => "connect",
            Cause::Stale => "stale",
            Cause::Reset => "reset",
            Cause::Timeout => "timeout",
            Cause::Nonsense => "nonsense",
            Cause::BadGateway => "502",
            Cause::Unavailable => "503",
            Cause::GatewayTimeout => "504",
        }
    }
}

/// What can be sent once more.
enum Spare {
    /// Nothing: a second time might not be the same as once.
    None,
    /// The request itself, where it comes back. Copying a head costs more than choosing a server, so it is done only where the
    /// configuration asks for tries after which the request is gone.
    Itself,
    /// This, once its body has been kept too.
    Head(Box<Parts>),
    /// All of it.
    Whole(Box<Parts>, Bytes),
}

/// What one request has tried and may still try.
pub(super) struct Tries<'a> {
    group: &'a Group,
    retries: &'a Retries,
    spare: Spare,
    /// Time between two pieces of a client's body.
    body_timeout: Duration,
    /// Servers that have failed it.
    tried: Vec<ServerId>,
    /// Further tries so far, but for the one that replaces a stale connection.
    made: u32,
    was_stale: bool,
    /// A try of a request that changes something failed without a word on whether it did.
    is_in_doubt: bool,
    /// What failed last.
    cause: Option<Cause>,
    /// The same, until it is known how the try after it ended.
    open: Option<Cause>,
    /// Memory for a body that is kept.
    held: Option<Charge>,
}

impl<'a> Tries<'a> {
    pub(super) fn new(group: &'a Group, request: &Request<RequestBody>, body_timeout: Duration) -> Tries<'a> {
        let retries = &group.settings().retries;
        let is_safe = is_safe(request.method());
        let RetryOn { bad_gateway, unavailable, gateway_timeout, .. } = retries.on;
        let outlives = bad_gateway || unavailable || gateway_timeout || retries.per_try_timeout.is_some();
        let spare = if is_safe && request.body().is_end_stream() {
            if outlives { Spare::Whole(head_of(request), Bytes::new()) } else { Spare::Itself }
        } else if !is_safe && retries.writes_with_idempotency_key && request.headers().contains_key(IDEMPOTENCY_KEY) {
            Spare::Head(head_of(request))
        } else {
            Spare::None
        };
        Tries {
            group,
            retries,
            spare,
            body_timeout,
            tried: Vec::new(),
            made: 0,
            was_stale: false,
            is_in_doubt: false,
            cause: None,
            open: None,
            held: None,
        }
    }

    /// A try may have been acted on. What changes nothing may be.
    pub(super) fn doubt(&mut self, request: &Request<RequestBody>) {
        self.is_in_doubt |= !is_safe(request.method());
    }

    /// What the client is told of a failure after which nothing is tried any more: that nothing was acted on only if that is so of
    /// every try.
    pub(super) fn told(&self, failure: UpstreamFailure) -> UpstreamFailure {
        if self.is_in_doubt && !failure.outcome_is_unknown() { UpstreamFailure::Broken } else { failure }
    }

    /// Whether the body must be kept before it is sent.
    pub(super) fn wants_body(&self) -> bool {
        matches!(self.spare, Spare::Head(_))
    }

    /// Keeps the body for another try, if it is small enough and there is memory for it; else it is sent once.
    pub(super) async fn keep_body(
        &mut self,
        request: &mut Request<RequestBody>,
        budget: &Arc<Budget>,
    ) -> Result<(), BodyFault> {
        let length = request.body().size_hint().exact().and_then(|length| usize::try_from(length).ok());
        let mut held = Charge::none(budget);
        if !held.try_set(length.unwrap_or(self.retries.max_body).min(self.retries.max_body)) {
            self.spare = Spare::None;
            return Ok(());
        }
        self.held = Some(held);
        let kept = request.body_mut().keep(self.retries.max_body).await?;
        self.spare = match (std::mem::replace(&mut self.spare, Spare::None), kept) {
            (Spare::Head(head), Some(body)) => Spare::Whole(head, body),
            _ => Spare::None,
        };
        Ok(())
    }

    /// Whether nothing has failed yet.
    pub(super) fn is_first(&self) -> bool {
        self.cause.is_none()
    }

    /// Whether the next try needs a connection that has never been used.
    pub(super) fn is_fresh(&self) -> bool {
        self.cause == Some(Cause::Stale)
    }

    /// Servers that have failed the request.
    pub(super) fn tried(&self) -> &[ServerId] {
        &self.tried
    }

    /// Time for this try's answer, where another try can follow.
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.retries.per_try_timeout.filter(|_| self.can_repeat(false))
    }

    /// Whether a request that was sent can be sent again, given whether it came back.
    pub(super) fn can_repeat(&self, came_back: bool) -> bool {
        match self.spare {
            Spare::None | Spare::Head(_) => false,
            Spare::Itself => came_back,
            Spare::Whole(..) => true,
        }
    }

    /// The request once more.
    pub(super) fn repeat(&self, came_back: Option<Box<Request<RequestBody>>>) -> Option<Box<Request<RequestBody>>> {
        match (&self.spare, came_back) {
            (Spare::None | Spare::Head(_), _) | (Spare::Itself, None) => None,
            (_, Some(request)) => Some(request),
            (Spare::Whole(head, body), None) => {
                let body = RequestBody::again(body.clone(), self.body_timeout);
                Some(Box::new(Request::from_parts(Parts::clone(head), body)))
            }
        }
    }

    /// Takes another try after this failure of `server`, if there is one.
    pub(super) fn take(&mut self, cause: Cause, server: &Server, now: Nanos) -> bool {
        self.end(false);
        if cause == Cause::Stale && !self.was_stale {
            // Once for each connection that had served well before: this is no storm.
            self.was_stale = true;
            (self.cause, self.open) = (Some(cause), Some(cause));
            return true;
        }
        if !cause.is_in(self.retries) || self.made >= self.retries.attempts {
            return false;
        }
        if !self.group.may_retry(now) {
            self.count(cause, "over_budget");
            return false;
        }
        self.made += 1;
        (self.cause, self.open) = (Some(cause), Some(cause));
        self.tried.push(server.id);
        true
    }

    /// The try under way has ended.
    pub(super) fn end(&mut self, well: bool) {
        if let Some(cause) = self.open.take() {
            self.count(cause, if well { "success" } else { "failure" });
        }
    }

    fn count(&self, cause: Cause, outcome: &str) {
        self.group.metrics().retry(self.group.name(), cause.as_str(), outcome);
    }

    /// Lets a server breathe that is about to be tried again. Another one is tried at once.
    pub(super) async fn pause(&self, dice: &Dice) {
        if self.made == 0 || self.group.servers().iter().any(|server| !self.tried.contains(&server.id)) {
            return;
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << self.made.min(6));
        let by_chance = u32::try_from(dice.below(500)).unwrap_or(0);
        tokio::time::sleep(pause / 1_000 * (500 + by_chance)).await;
    }
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

fn head_of(request: &Request<RequestBody>) -> Box<Parts> {
    let mut parts = Request::new(()).into_parts().0;
    parts.method = request.method().clone();
    parts.uri = request.uri().clone();
    parts.version = request.version();
    parts.headers = request.headers().clone();
    request.body().own().add_to(&mut parts.headers);
    Box::new(parts)
}
