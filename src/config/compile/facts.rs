//! `form` and `form_any`: what a body must say, as bits of a request's class.
//!
//! A bit means one thing at one endpoint. Two limits share a bit where they ask the same of the same endpoint, and may have the
//! same bit for different things at different ones: so each condition is one mask, whatever the endpoint.

use super::super::error::Finding;
use super::super::raw::{Item, RawCondition, RawLimit};
use super::super::values::{FormTest, Located};
use super::Context;
use crate::body::{Fact, MAX_FACTS, Test, Wanted};
use crate::engine::EndpointId;
use std::collections::BTreeMap;

/// The facts that limits ask for.
pub(super) struct Facts {
    /// By endpoint: the bits that mean something there, and what.
    pub(super) by_endpoint: Vec<Vec<(u32, Fact)>>,
}

/// Whose condition it is: what is unclear counts as strict in both.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    When,
    Except,
}

impl Facts {
    pub(super) fn new(endpoints: usize) -> Facts {
        Facts { by_endpoint: vec![Vec::new(); endpoints] }
    }

    /// The mask of a condition, whose bits are noted at all `endpoints` that it may be asked of.
    pub(super) fn mask(
        &mut self,
        context: &mut Context<'_>,
        item: &Item<RawLimit>,
        raw: &Located<RawCondition>,
        side: Side,
        endpoints: &[EndpointId],
    ) -> u64 {
        let if_unclear = side == Side::When;
        let mut facts: Vec<Fact> = Vec::new();
        for test in raw.value.form.iter().flat_map(|form| tests(context, item, form)) {
            facts.push(Fact { any: [test].into(), if_unclear });
        }
        if let Some(form) = &raw.value.form_any {
            let any: Box<[Test]> = tests(context, item, form).into();
            if any.is_empty() && !item.damaged {
                let finding = Finding::error(item.at(&raw.span), "an empty `form_any`: no request fulfills it");
                context.tell(finding.hint("leave `form_any` out if any will do"));
            }
            facts.push(Fact { any, if_unclear });
        }
        let mut mask = 0;
        for fact in facts {
            match self.bit(&fact, endpoints) {
                Some(bit) => mask |= 1_u64 << bit,
                None => {
                    let finding = Finding::error(item.at(&raw.span), "too many form conditions");
                    context.tell(finding.expected(format!("at most {MAX_FACTS} on one endpoint")));
                    break;
                }
            }
        }
        mask
    }

    /// A bit that means this, or nothing yet, at all of the endpoints.
    fn bit(&mut self, fact: &Fact, endpoints: &[EndpointId]) -> Option<u32> {
        let meaning =
            |own: &Vec<(u32, Fact)>, bit| own.iter().find(|known| known.0 == bit).map(|known| &known.1 == fact);
        let lists = || endpoints.iter().filter_map(|id| self.by_endpoint.get(id.0 as usize));
        let fits = |bit: &u32| lists().all(|own| meaning(own, *bit).unwrap_or(true));
        let known = |bit: &u32| lists().any(|own| meaning(own, *bit) == Some(true));
        let bits = 0..u32::try_from(MAX_FACTS).unwrap_or(u32::MAX);
        let bit = bits.clone().find(|bit| fits(bit) && known(bit)).or_else(|| bits.clone().find(fits))?;
        for id in endpoints {
            if let Some(own) = self.by_endpoint.get_mut(id.0 as usize)
                && !own.iter().any(|known| known.0 == bit)
            {
                own.push((bit, fact.clone()));
            }
        }
        Some(bit)
    }
}

fn tests(
    context: &mut Context<'_>,
    item: &Item<RawLimit>,
    form: &BTreeMap<Located<String>, Located<FormTest>>,
) -> Vec<Test> {
    let mut tests = Vec::new();
    for (key, wanted) in form {
        let wanted = match &wanted.value {
            FormTest::Present(true) => Wanted::Present,
            FormTest::Present(false) => Wanted::Absent,
            FormTest::Equals(value) => Wanted::Equals(value.as_str().into()),
        };
        match key.value.parse() {
            Ok(key) => tests.push(Test { key, wanted }),
            Err(error) => {
                let error: crate::body::KeyError = error;
                let finding = Finding::error(item.at(&key.span), format!("`{}`: {error}", key.value));
                context.tell(finding.expected(r#"such as "amount", "metadata[order]", "items[*][quantity]""#));
            }
        }
    }
    tests
}
