//! The stages of limits, one of these each, in the order of [`Stage::ALL`]: met in one call.

use super::context::Classified;
use super::headers::STRIPE_ACCOUNT;
use super::refusal::{Refusal, Rejected};
use super::step::Check;
use super::texts::Whom;
use crate::classification::connected_account;
use crate::config::Extractor;
use crate::engine::{Outcome, Part, Rejection, Stage, Step, Witness};
use crate::explain::words::Subject;
use crate::metrics::LimitCounters;
use crate::path;
use std::fmt::{self, Write};

/// Lets a request meet the limits of one stage.
#[derive(Clone, Copy, Debug)]
pub struct Admit(pub Stage);

impl Check for Admit {
    fn check<B>(&self, classified: &mut Classified<B>) -> Result<(), Refusal> {
        Admit::check_all(std::slice::from_ref(self), classified)
    }

    /// All in one go: what a decision needs is put together once for all stages.
    fn check_all<B>(checks: &[Admit], classified: &mut Classified<B>) -> Result<(), Refusal> {
        let Classified { exchange, class, held, at, .. } = classified;
        let engine = &exchange.home.shared.engine;
        let snapshot = &exchange.view.snapshot;
        let policy = &snapshot.config.policy;
        let mut counted = Counted(&snapshot.limits);
        // All stages decide at one moment, which was read before the first of them.
        let stages = checks.iter().map(|admit| admit.0);
        let verdict = engine.stages(policy, stages, class, *at, held.hold(), &mut counted);
        verdict.map_err(|rejection| rejected(classified, rejection))
    }
}

/// The refusal, which says whom the limit refuses: what that is can be read from the request only here.
#[cold]
fn rejected<B>(classified: &Classified<B>, rejection: Rejection) -> Refusal {
    let Classified { exchange, class, at, .. } = classified;
    let config = &exchange.view.snapshot.config;
    let text = exchange.view.texts.of(&rejection, config);
    // Nothing was waited for since the moment of decision: so when to come back is not told too soon, and later by microseconds at most.
    let fields = text.fields(&rejection, &config.responses, *at);
    let whom = Whom::new(class, &rejection);
    let body = text.body_for(&whom, |mut out| write_partition(classified, &rejection, &mut out));
    Refusal::Rejected(Rejected { rejection, fields, body })
}

/// Writes whom a limit refuses.
fn write_partition<B>(classified: &Classified<B>, rejection: &Rejection, out: &mut impl Write) -> fmt::Result {
    let Classified { request, exchange, principal, class, .. } = classified;
    let config = &exchange.view.snapshot.config;
    let connected = connected_account(request.head.get(&STRIPE_ACCOUNT)).ok().flatten();
    let account = connected.filter(|_| rejection.of_connected).unwrap_or(&principal.account);
    let (client, endpoint) = (exchange.client, class.endpoint);
    let subject = Subject { config, account, connected, key_id: &principal.id, client, endpoint };
    let limit = config.policy.limit(rejection.limit);
    let path = limit.per.iter().any(|part| matches!(part, Part::Value(_))).then(|| request.head.uri.path());
    let path = path.and_then(|path| path::canonical(path.as_bytes()).ok());
    let found = path.as_ref().and_then(|path| config.index.find(&request.head.method, path));
    let value = |id| match config.extractor_at(class.endpoint, id)? {
        Extractor::Path(name) => found.as_ref()?.param(config.parameter(class.endpoint, name)?),
        _ => None,
    };
    subject.write_partition(out, limit, &value)
}

/// Counts what each limit said.
struct Counted<'a>(&'a [LimitCounters]);

impl Witness for Counted<'_> {
    fn saw(&mut self, step: Step) {
        match step {
            Step::Decided { limit, outcome, enforced } => {
                let Some(counters) = self.0.get(limit.index()) else { return };
                match (outcome, enforced) {
                    (Outcome::Admitted { .. }, _) => counters.admit.inc(),
                    (Outcome::Rejected { .. }, true) => counters.reject.inc(),
                    (Outcome::Rejected { .. }, false) => counters.shadow_reject.inc(),
                }
            }
            Step::Tried { limit, outcome } => {
                let Some(Some(candidate)) = self.0.get(limit.index()).map(|own| &own.candidate) else { return };
                match outcome {
                    Outcome::Admitted { .. } => candidate.admit.inc(),
                    Outcome::Rejected { .. } => candidate.reject.inc(),
                }
            }
            Step::Skipped { .. } => {}
        }
    }
}
