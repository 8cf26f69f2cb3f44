//! Limits by the client's address, before anybody knows whose request it is: floods and guessed keys cost next to nothing.
//!
//! An address has a bucket of requests, which each request takes from, and a bucket of failed authentications, which only a key
//! that is not good takes from. When the second is empty, no key of that address is looked at, not even a good one: who may try
//! on would learn which of a list of stolen keys is good. A success gives nothing back, or a guesser would buy tries with a key
//! of their own. Tokens taken here are spent, whatever becomes of the request.
//!
//! State is in an engine of its own with a bound of its own ([`Shared::addresses`](super::Shared::addresses)): strangers, of
//! whom there may be any number, never take room from accounts.

use super::context::Observed;
use super::exchange::Exchange;
use super::observe::Refused;
use super::refusal::{AddressCause, AddressRejection, Refusal, Unauthenticated};
use super::step::Step;
use crate::engine::{Gate, Id, Nanos, Outcome};
use http::HeaderMap;

/// Refuses requests of addresses that have had their share.
#[derive(Clone, Copy, Debug)]
pub struct AdmitAddress;

impl<B> Step<Observed<B>> for AdmitAddress {
    type Next = Observed<B>;

    fn take(&self, observed: Observed<B>) -> Result<Observed<B>, Refused> {
        match knock(&observed.exchange) {
            Ok(()) => Ok(observed),
            Err(rejection) => {
                hint_at_proxies(&observed.exchange, &observed.request.head.headers);
                Err(Refused::new(Refusal::Address(rejection), observed.exchange))
            }
        }
    }
}

fn knock(exchange: &Exchange) -> Result<(), AddressRejection> {
    let addresses = &exchange.view.snapshot.config.addresses;
    let counts_failures = addresses.failures.is_some() && addresses.counts_failures(exchange.client);
    if addresses.requests.is_none() && !counts_failures {
        return Ok(());
    }
    let (engine, now) = (&exchange.home.shared.addresses, exchange.started);
    let who = exchange.client_id();
    if let Some(failures) = addresses.failures.as_ref().filter(|_| counts_failures) {
        refused(AddressCause::FailedAuthentications, engine.peek_gate(failures, who, now))?;
    }
    match &addresses.requests {
        Some(requests) if !addresses.is_exempt(exchange.client) => {
            refused(AddressCause::Requests, engine.draw(requests, who, now))
        }
        _ => Ok(()),
    }
}

/// Counts a key that is not good. The answer says so only while there is room for it; a request without a key guesses nothing.
pub(super) fn failed(exchange: &Exchange, cause: &Unauthenticated) -> Result<(), AddressRejection> {
    let addresses = &exchange.view.snapshot.config.addresses;
    if *cause == Unauthenticated::NoKey || !addresses.counts_failures(exchange.client) {
        return Ok(());
    }
    let (engine, now) = (&exchange.home.shared.addresses, exchange.started);
    let draw = |cause, gate: &Option<Gate>, who: Id| match gate {
        Some(gate) => refused(cause, engine.draw(gate, who, now)),
        None => Ok(()),
    };
    let who = exchange.client_id();
    draw(AddressCause::FailedAuthentications, &addresses.failures, who)?;
    draw(AddressCause::AllFailedAuthentications, &addresses.all_failures, Id::NONE)
}

fn refused(cause: AddressCause, outcome: Outcome) -> Result<(), AddressRejection> {
    match outcome {
        Outcome::Admitted { .. } => Ok(()),
        Outcome::Rejected { retry_at } => Err(AddressRejection { cause, retry_at: retry_at.unwrap_or(Nanos::MAX) }),
    }
}

/// Says, once a configuration and thread, that a refused address may be a proxy's that nobody has named: all its clients would
/// be refused together.
#[cold]
fn hint_at_proxies(exchange: &Exchange, headers: &HeaderMap) {
    let forwards = exchange.client == exchange.peer.address && headers.contains_key("x-forwarded-for");
    if forwards && !exchange.view.hinted.replace(true) {
        tracing::warn!(
            address = %exchange.client,
            "an address that sends X-Forwarded-For is refused by [addresses]: if it is a proxy of yours, name it in trusted_proxies"
        );
    }
}
