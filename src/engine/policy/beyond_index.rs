//! What is left to ask, of each request, whether a limit applies that the index lists for it.

use super::{Condition, Exempt, Limit};
use crate::engine::class::{EndpointId, Mode, RequestClass};

/// What is left to ask.
#[derive(Clone, Debug)]
pub(super) enum BeyondIndex {
    /// Nothing.
    Nothing,
    /// Its conditions; and where, by endpoint and mode, what its `except` says of those holds. Nowhere without an `except`.
    Conditions(Box<[[bool; Mode::ALL.len()]]>),
}

impl BeyondIndex {
    /// What is left of a limit of a policy with so many endpoints.
    pub(super) fn new(limit: &Limit, endpoints: usize) -> BeyondIndex {
        let except = limit.except.as_ref().filter(|except| !except.is_decided_by_index());
        if limit.when.is_decided_by_index() && except.is_none() {
            return BeyondIndex::Nothing;
        }
        let holds_at = |except: &Condition, id| Mode::ALL.map(|mode| except.holds_at(id, mode).is_ok());
        let ids = || (0..).map(EndpointId).take(endpoints);
        let excepted = except.map(|except| ids().map(|id| holds_at(except, id)).collect());
        BeyondIndex::Conditions(excepted.unwrap_or_default())
    }

    /// Whether the limit applies, not counting `fallback`. Nothing is asked of one that applies to all.
    #[inline(always)]
    pub(super) fn ask(&self, limit: &Limit, class: &RequestClass) -> Result<(), Exempt> {
        let BeyondIndex::Conditions(excepted) = self else { return Ok(()) };
        limit.when.holds_beyond_index(class).map_err(Exempt::When)?;
        let is_excepted = excepted.get(class.endpoint.0 as usize).is_some_and(|at| at[class.mode as usize]);
        match &limit.except {
            Some(except) if is_excepted && except.holds_beyond_index(class).is_ok() => Err(Exempt::Except),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::policy::{EndpointClass, Policy, Profile, Stage};
    use crate::engine::{Access, Concurrency, Enforce, Id, Limiter, Payers, ProfileId, RouteId, Seed};

    const ENDPOINTS: u32 = 3;

    fn conditions() -> Vec<Condition> {
        let (any, endpoint) = (Condition::default(), |id| Some([EndpointId(id)].into()));
        vec![
            any.clone(),
            Condition { mode: Some(Mode::Test), ..any.clone() },
            Condition { endpoints: endpoint(1), ..any.clone() },
            Condition { access: Some(Access::Write), ..any.clone() },
            Condition { access: Some(Access::Read), endpoints: endpoint(2), ..any.clone() },
            Condition { connected: Some(true), endpoints: endpoint(1), mode: Some(Mode::Live), ..any.clone() },
            Condition { accounts: Some([Id([1, 1])].into()), endpoints: endpoint(2), ..any.clone() },
            Condition { accounts: Some([Id([9, 9])].into()), ..any.clone() },
            Condition { routes: Some([RouteId(1)].into()), ..any.clone() },
            Condition { facts: 1, mode: Some(Mode::Test), ..any },
        ]
    }

    fn limit(when: &Condition, except: Option<&Condition>) -> Limit {
        Limit {
            name: "l".into(),
            stage: Stage::Resource,
            limiter: Limiter::Concurrency(Concurrency { slots: 1 }),
            when: when.clone(),
            except: except.cloned(),
            fallback: false,
            per: Box::default(),
            enforce: Enforce::Always,
            candidate: None,
            shared: None,
        }
    }

    fn classes() -> impl Iterator<Item = RequestClass> {
        (0..ENDPOINTS << 5).map(|bits| RequestClass {
            mode: Mode::ALL[bits as usize & 1],
            access: Access::ALL[bits as usize >> 1 & 1],
            endpoint: EndpointId(bits >> 5),
            route: RouteId(bits >> 4 & 1),
            profile: ProfileId::BASE,
            cost: 1,
            account: Id([1, 1]),
            connected: if bits & 4 == 0 { Id::NONE } else { Id([2, 2]) },
            key: Id([3, 3]),
            ip: Id([4, 4]),
            values: [Id::NONE; crate::engine::class::MAX_VALUES],
            facts: u64::from(bits >> 3 & 1),
            payers: Payers::Account,
            lot: 0,
        })
    }

    /// The index and what is left say together what a limit's conditions say.
    #[test]
    fn index_and_what_is_left_say_what_the_conditions_say() {
        let endpoint = |id| EndpointClass { name: format!("e{id}").into(), cost: 1, extractors: Box::default() };
        let (conditions, mut asked) = (conditions(), 0);
        for when in &conditions {
            for except in conditions.iter().map(Some).chain([None]) {
                let endpoints = (0..ENDPOINTS).map(endpoint).collect();
                let policy = Policy::new(&Seed([1, 2]), vec![limit(when, except)], endpoints, vec![Profile::default()]);
                let (id, limit) = policy.limits().next().unwrap();
                for class in classes() {
                    let said = limit.applies(&policy, &class);
                    if policy.listed(Stage::Resource, &class).contains(&id) {
                        assert_eq!(policy.applies(id, &class), said, "{when:?} {except:?} {class:?}");
                        asked += 1;
                    } else {
                        assert!(said.is_err(), "{when:?} {except:?} {class:?}");
                    }
                }
            }
        }
        assert!(asked > 500, "{asked}");
    }
}
