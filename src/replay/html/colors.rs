//! Which limit has which color: the same on the whole page.

use super::Side;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Limits with a color of their own: so many colors can be told apart, also by those who see fewer.
pub(super) const OWN: usize = 6;
/// The color of all others.
pub(super) const OTHERS: &str = "cx";
const CLASSES: [&str; OWN] = ["c0", "c1", "c2", "c3", "c4", "c5"];

/// The limits that refused something, the most first: of both sides together.
pub(super) struct Colors<'r> {
    ranked: Vec<&'r str>,
}

impl<'r> Colors<'r> {
    pub(super) fn of(sides: &[Side<'r>]) -> Colors<'r> {
        let mut refused: BTreeMap<&str, u64> = BTreeMap::new();
        for limit in sides.iter().flat_map(|side| &side.report.limits).filter(|limit| limit.refused > 0) {
            *refused.entry(&limit.name).or_default() += limit.refused;
        }
        let mut ranked: Vec<&str> = refused.keys().copied().collect();
        ranked.sort_by_key(|name| Reverse(refused.get(name).copied()));
        Colors { ranked }
    }

    /// A limit's class; `None` where it refused nothing.
    pub(super) fn class(&self, limit: &str) -> Option<&'static str> {
        let place = self.ranked.iter().position(|name| *name == limit)?;
        Some(CLASSES.get(place).copied().unwrap_or(OTHERS))
    }

    /// The limits with a color of their own, and how many share the last one.
    pub(super) fn legend(&self) -> (impl Iterator<Item = (&'r str, &'static str)>, usize) {
        let own = self.ranked.iter().copied().zip(CLASSES);
        (own, self.ranked.len().saturating_sub(OWN))
    }

    /// Values by limit as series: one for each color, those of the others added up.
    pub(super) fn series(&self, values: &[(Box<str>, Vec<u64>)]) -> Vec<(&'static str, Vec<u64>)> {
        let mut by_class: BTreeMap<&'static str, Vec<u64>> = BTreeMap::new();
        for (name, counts) in values {
            let sums = by_class.entry(self.class(name).unwrap_or(OTHERS)).or_default();
            sums.resize(sums.len().max(counts.len()), 0);
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        by_class.into_iter().collect()
    }
}
