//! Which limits a request meets at a stage, in order, and which of those it is exempt from: decided here and nowhere else, for
//! live traffic, `explain` and `replay`.

use super::class::RequestClass;
use super::limiter::Mechanism;
use super::policy::{Exempt, Limit, LimitId, Policy, Stage};

impl Policy {
    /// The limits of a stage that the index lists for the request, in the order they are asked, each with why it is not asked
    /// if so. Those that the index leaves out do not apply either; [`Limit::applies`] says why.
    pub fn meeting<'p>(
        &'p self,
        stage: Stage,
        class: &'p RequestClass,
    ) -> impl Iterator<Item = (LimitId, Result<(), Exempt>)> + use<'p> {
        Meeting { policy: self, class, listed: self.listed(stage, class).iter(), covered: Covered::default() }
    }
}

struct Meeting<'p> {
    policy: &'p Policy,
    class: &'p RequestClass,
    listed: std::slice::Iter<'p, LimitId>,
    covered: Covered,
}

impl Iterator for Meeting<'_> {
    type Item = (LimitId, Result<(), Exempt>);

    /// Taken in where it is called, as are the conditions: a limit mostly has none.
    #[inline(always)]
    fn next(&mut self) -> Option<(LimitId, Result<(), Exempt>)> {
        let id = *self.listed.next()?;
        let applies = self.policy.applies(id, self.class);
        Some((id, applies.and_then(|()| self.covered.admit(self.policy.limit(id), self.class))))
    }
}

/// Which mechanisms of a stage already cover the request.
#[derive(Clone, Copy, Debug, Default)]
struct Covered {
    enforced: [bool; Mechanism::COUNT],
    any: [bool; Mechanism::COUNT],
}

impl Covered {
    /// Notes that `limit` applies, unless it is a fallback that finds its mechanism covered. A shadow limit never takes a
    /// request from an enforced fallback. Fallbacks do not cover: several of them may apply together.
    fn admit(&mut self, limit: &Limit, class: &RequestClass) -> Result<(), Exempt> {
        let mechanism = limit.limiter.mechanism() as usize;
        let enforced = limit.enforce.is_for(class);
        if !limit.fallback {
            self.any[mechanism] = true;
            self.enforced[mechanism] |= enforced;
            return Ok(());
        }
        let is_covered = if enforced { self.enforced[mechanism] } else { self.any[mechanism] };
        if is_covered { Err(Exempt::Covered) } else { Ok(()) }
    }
}
