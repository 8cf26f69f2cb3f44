//! What lets a limit be tried out: `enforce` for nobody or for some, and a `candidate` beside its figures.

use super::super::error::Finding;
use super::super::raw::{Item, RawEnforce, RawLimit};
use super::Context;
use super::limits::{Written, check_cost, limiter};
use crate::config::compile::EndpointTable;
use crate::engine::{EndpointId, Enforce, Limiter, Share};
use std::collections::HashSet;

/// For whom the limit of this name refuses.
pub(super) fn enforce(context: &mut Context<'_>, item: &Item<RawLimit>, name: &str) -> Enforce {
    let Some(written) = &item.raw.enforce else { return Enforce::Always };
    match written.value {
        RawEnforce::Whole(true) => Enforce::Always,
        RawEnforce::Whole(false) => Enforce::Never,
        RawEnforce::Share(1.0) => Enforce::Always,
        RawEnforce::Share(0.0) => Enforce::Never,
        RawEnforce::Share(share) if (0.0..=1.0).contains(&share) => Enforce::Share(Share::new(share, name)),
        RawEnforce::Share(share) => {
            let finding = Finding::error(item.at(&written.span), "not a share of the accounts");
            context
                .tell(finding.expected("true, false, or a share of the accounts from 0 to 1").found(share.to_string()));
            Enforce::Always
        }
    }
}

/// The figures on trial beside `own`, if there are any that can be.
pub(super) fn candidate(
    context: &mut Context<'_>,
    item: &Item<RawLimit>,
    own: &Limiter,
    only: Option<&HashSet<EndpointId>>,
    endpoints: &EndpointTable,
) -> Option<Limiter> {
    let raw = item.raw.candidate.as_ref()?;
    let written = Written { figures: &raw.value, place: item.at(&raw.span), damaged: item.damaged };
    let candidate = limiter(context, &written, "the candidate")?;
    let [wanted, found] = [own, &candidate].map(|limiter| limiter.mechanism().as_str());
    if wanted != found {
        let finding = Finding::error(written.place, format!("the limit is a {wanted}, not a {found}"));
        let finding = finding.expected(format!("{wanted} = ..."));
        context.tell(finding.hint("to try out another mechanism, add a limit of it with `enforce = false`"));
        return None;
    }
    if let (Limiter::Allocation(own), Limiter::Allocation(tried)) = (own, &candidate)
        && own.window != tried.window
    {
        let finding = Finding::error(written.place, "the candidate's window is not the limit's");
        context.tell(finding.hint("transactions are kept for one window; try out a limit of its own for another"));
        return None;
    }
    if *own == candidate {
        let finding = Finding::warning(written.place.clone(), "the candidate has the limit's own figures");
        context.tell(finding.hint("leave it out, or try other figures"));
    }
    check_cost(context, &written, &candidate, only, endpoints);
    Some(candidate)
}

/// The limit's own `doc_url`.
pub(super) fn doc_url(context: &mut Context<'_>, item: &Item<RawLimit>) -> Option<Box<str>> {
    let written = item.raw.doc_url.as_ref()?;
    super::settings::check_doc_url(context, item.at(&written.span), &written.value);
    Some(written.value.as_str().into())
}
