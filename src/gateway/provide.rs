//! What a request needs that Redis lends: asked for where nothing is here, and waited for.

use super::context::{Classified, Home, View};
use crate::engine::{MAX_ROUNDS, Manner, RequestClass};
use crate::store::{Answers, Lender};
use std::rc::Rc;

/// What a request waits for.
pub(super) struct Provision {
    home: Rc<Home>,
    view: Rc<View>,
    class: RequestClass,
    lender: Rc<Lender>,
    answers: Answers,
}

/// Asks for what the request needs, and answers what to wait for, if there is anything.
pub(super) fn ask<B>(classified: &mut Classified<B>, lender: &Rc<Lender>) -> Option<Provision> {
    if !lender.is_open() || lender.is_settling() {
        classified.held.hold().decide_by(Manner::Apart);
        classified.exchange.home.shared.metrics.store.fallbacks.inc();
        return None;
    }
    let Classified { exchange, class, at, .. } = classified;
    let mut wanted = Vec::new();
    exchange.home.shared.engine.consult(&exchange.view.snapshot.config.policy, class, *at, false, &mut wanted);
    // What is needed soon is asked for and not waited for.
    let answers = lender.provide(&wanted);
    if answers.is_empty() {
        return None;
    }
    let (home, view) = (Rc::clone(&exchange.home), Rc::clone(&exchange.view));
    Some(Provision { home, view, class: **class, lender: Rc::clone(lender), answers })
}

impl Provision {
    /// Waits until there is what the request needs, or none to be had, and answers how it is to be decided.
    pub(super) async fn come(self) -> Manner {
        let Provision { home, view, class, lender, mut answers } = self;
        let (engine, policy) = (&home.shared.engine, &view.snapshot.config.policy);
        for round in 1..=MAX_ROUNDS {
            if !answers.come().await {
                home.shared.metrics.store.fallbacks.inc();
                return Manner::Apart;
            }
            if round == MAX_ROUNDS {
                break;
            }
            let mut wanted = Vec::new();
            engine.consult(policy, &class, home.now(), true, &mut wanted);
            answers = lender.provide(&wanted);
            if answers.is_empty() {
                break;
            }
        }
        Manner::Lent
    }
}
