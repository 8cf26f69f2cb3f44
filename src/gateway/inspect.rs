//! What a request's body and query say, for the endpoints whose limits ask for it; every other request passes at once.
//!
//! At most `[server] inspect_body_max` bytes are read ahead and passed on untouched. A body that is longer, or that cannot say
//! anything clear by its head already, is not waited for: it counts as unclear (see [`crate::body`]), which is strict. Nothing is
//! held while a body comes, and the limits decide at the moment it is here, not when its head was.
//!
//! Reading asks the client for its body: one that sent `Expect: 100-continue` is told to go on before the limits of such an
//! endpoint have decided. A refusal then comes after the body, not in its place.

use super::access_log::FIELD_BYTES;
use super::context::Classified;
use super::exchange::Exchange;
use super::forward::{client_pace, longest_body, unreadable};
use super::kept::Kept;
use super::observe::Refused;
use super::refusal::{BadRequest, Refusal};
use crate::body::{Body as Said, Inspection, Kind};
use crate::budget::Charge;
use crate::classification;
use crate::config::Server;
use crate::upstream::{Pace, Reach, ReadAhead, ReadFault};
use bytes::{Bytes, BytesMut};
use http_body::Body;
use pin_project_lite::pin_project;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tower::{Layer, Service};

/// The layer.
#[derive(Clone, Copy, Debug)]
pub struct InspectLayer;

impl<S> Layer<S> for InspectLayer {
    type Service = Inspect<S>;

    fn layer(&self, inner: S) -> Inspect<S> {
        Inspect { inner }
    }
}

/// The service.
#[derive(Clone, Copy, Debug)]
pub struct Inspect<S> {
    inner: S,
}

impl<S, B, R> Service<Classified<B>> for Inspect<S>
where
    S: Service<Classified<ReadAhead<B>>, Response = R, Error = Refused> + Clone,
    B: Body<Data = Bytes, Error: std::error::Error + 'static> + Unpin,
{
    type Response = R;
    type Error = Refused;
    type Future = Inspecting<S, B>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, classified: Classified<B>) -> Self::Future {
        let mut classified = with_read_ahead(classified);
        let view = Rc::clone(&classified.exchange.view);
        let server = &view.snapshot.config.server;
        if longest_body(server).is_some_and(|most| classified.request.body.size_hint().lower() > most) {
            return Inspecting::refused(Refusal::BadRequest(BadRequest::LONG_BODY), classified.exchange);
        }
        let Some(inspection) = view.snapshot.config.inspection(classified.class.endpoint) else {
            return Inspecting { state: State::Inside { future: self.inner.call(classified) } };
        };
        let state = match outset(inspection, &classified, server.inspect_body_max) {
            Outset::Known(said) => {
                note(inspection, &mut classified, said);
                State::Inside { future: self.inner.call(classified) }
            }
            Outset::Read(kind) => match Reading::begin(classified, kind, server) {
                Ok(reading) => State::Reading { reading: Some(Box::new(reading)), inner: self.inner.clone() },
                Err(exchange) => return Inspecting::refused(Refusal::Overloaded, exchange),
            },
        };
        Inspecting { state }
    }
}

fn with_read_ahead<B>(classified: Classified<B>) -> Classified<ReadAhead<B>> {
    let Classified { request, exchange, principal, class, held, at } = classified;
    Classified { request: request.map(ReadAhead::new), exchange, principal, class, held, at }
}

/// What is known of a body before any of it is read.
enum Outset {
    /// All there is to know.
    Known(Said<'static>),
    /// That it must be read, as this kind.
    Read(Kind),
}

fn outset<B>(inspection: &Inspection, classified: &Classified<ReadAhead<B>>, most: usize) -> Outset
where
    B: Body<Data = Bytes, Error: std::error::Error + 'static> + Unpin,
{
    let body = &classified.request.body;
    if body.is_end_stream() {
        return Outset::Known(Said::Empty);
    }
    let kind = Kind::of(&classified.request.head.headers);
    let too_long = usize::try_from(body.size_hint().lower()).is_ok_and(|length| length > most);
    if !inspection.wants_body() || !inspection.reads(kind) || too_long {
        return Outset::Known(Said::Unclear);
    }
    Outset::Read(kind)
}

/// Puts what was found into the request's class, and into its record.
fn note<B>(inspection: &Inspection, classified: &mut Classified<ReadAhead<B>>, said: Said<'_>) {
    let Classified { request, exchange, class, .. } = classified;
    let findings = inspection.read(said, request.head.uri.query().unwrap_or_default());
    classification::take(class, &findings, &exchange.home.shared.engine.seed());
    let view = Rc::clone(&exchange.view);
    let config = &view.snapshot.config;
    if let Some(draft) = &mut exchange.draft {
        draft.values.extend(classification::named_findings(config, class.endpoint, &findings, FIELD_BYTES));
        draft.facts = classification::named_facts(inspection, &findings).collect();
    }
}

/// A request whose body is being read.
struct Reading<B> {
    classified: Classified<ReadAhead<B>>,
    kind: Kind,
    most: usize,
    gathered: BytesMut,
    pace: Pace,
    /// Memory for all that may be read.
    _held: Charge,
}

impl<B> Reading<B>
where
    B: Body<Data = Bytes, Error: std::error::Error + 'static> + Unpin,
{
    /// Reads the body of a request, if there is memory for it: as much as it says it has, at most `inspect_body_max`.
    fn begin(classified: Classified<ReadAhead<B>>, kind: Kind, server: &Server) -> Result<Reading<B>, Kept<Exchange>> {
        let most = server.inspect_body_max;
        let body = &classified.request.body;
        let told = body.size_hint().exact().map_or(most, |length| usize::try_from(length).unwrap_or(most).min(most));
        let mut held = Charge::none(&classified.exchange.home.shared.budget);
        if !held.try_set(told) {
            return Err(classified.exchange);
        }
        let pace = client_pace(server, &classified.request.head);
        Ok(Reading { classified, kind, most, gathered: BytesMut::new(), pace, _held: held })
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reach, BadRequest>> {
        let body = &mut self.classified.request.body;
        body.poll_ahead(cx, self.most, &mut self.gathered, &mut self.pace).map_err(|fault| match fault {
            ReadFault::Body(error) => unreadable(&error),
            ReadFault::Idle => BadRequest::LATE_BODY,
        })
    }

    /// The request with what its body says.
    fn finish(mut self, reach: Reach) -> Classified<ReadAhead<B>> {
        let classified = &mut self.classified;
        let now = classified.exchange.home.now();
        classified.exchange.body_wait = now - classified.exchange.started;
        classified.at = now;
        let view = Rc::clone(&classified.exchange.view);
        let Some(inspection) = view.snapshot.config.inspection(classified.class.endpoint) else {
            return self.classified;
        };
        let front = classified.request.body.front().clone();
        let said = match (reach, self.kind) {
            (Reach::Whole, _) if front.is_empty() => Said::Empty,
            (Reach::Whole, Kind::Form) => Said::Form(&front),
            (Reach::Whole, Kind::Json) => Said::Json(&front),
            (Reach::Whole, Kind::Unclear) | (Reach::Beyond, _) => Said::Unclear,
        };
        note(inspection, classified, said);
        self.classified
    }
}

pin_project! {
    /// The future of [`Inspect`].
    pub struct Inspecting<S, B>
    where
        S: Service<Classified<ReadAhead<B>>>,
    {
        #[pin]
        state: State<S, S::Future, B>,
    }
}

pin_project! {
    #[project = StatePinned]
    enum State<S, F, B> {
        // The request is with the layers below.
        Inside { #[pin] future: F },
        // It was refused before its body was looked at; taken when that is told.
        Refused { refused: Option<Refused> },
        // Its body is being read; `reading` is there until it is. Boxed: a future is moved on its way up, and this is seldom.
        Reading { reading: Option<Box<Reading<B>>>, inner: S },
    }
}

impl<S: Service<Classified<ReadAhead<B>>>, B> Inspecting<S, B> {
    fn refused(refusal: Refusal, exchange: Kept<Exchange>) -> Inspecting<S, B> {
        Inspecting { state: State::Refused { refused: Some(Refused::new(refusal, exchange)) } }
    }
}

impl<S, B, R> Future for Inspecting<S, B>
where
    S: Service<Classified<ReadAhead<B>>, Response = R, Error = Refused>,
    B: Body<Data = Bytes, Error: std::error::Error + 'static> + Unpin,
{
    type Output = Result<R, Refused>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let future = match self.as_mut().project().state.project() {
                StatePinned::Inside { future } => return future.poll(cx),
                StatePinned::Refused { refused } => match refused.take() {
                    Some(refused) => return Poll::Ready(Err(refused)),
                    // Polled after it ended, which no executor does.
                    None => return Poll::Pending,
                },
                StatePinned::Reading { reading, inner } => {
                    let read = match reading {
                        Some(reading) => ready!(reading.poll(cx)),
                        // Polled after it ended, which no executor does.
                        None => return Poll::Pending,
                    };
                    let Some(reading) = reading.take() else { return Poll::Pending };
                    match read {
                        Ok(reach) => inner.call(reading.finish(reach)),
                        Err(bad) => {
                            let refused = Refused::new(Refusal::BadRequest(bad), reading.classified.exchange);
                            return Poll::Ready(Err(refused));
                        }
                    }
                }
            };
            self.as_mut().project().state.set(State::Inside { future });
        }
    }
}
