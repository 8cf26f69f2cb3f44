//! What earns an allocation: transactions that have succeeded.

use super::class::{Id, Payers, RequestClass};
use super::leasing::Manner;
use super::limiter::Limiter;
use super::policy::{LimitId, Policy, Which};
use super::time::Nanos;
use super::{Engine, Map, Query, payers};

/// How far transactions have earned an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Earned {
    /// Transactions that count.
    pub transactions: u64,
    /// Requests allowed in the window.
    pub allowed: u32,
}

impl<M: Map> Engine<M> {
    /// Counts one transaction that `class` has made, for every allocation of `policy`: for the partition that a request of the
    /// same caller would fall in, and where it was made for a connected account, also for the one that a request of that
    /// account itself would. Conditions on endpoints and access do not matter here, since they are about what is allowed.
    /// Answers how many partitions were credited.
    pub fn credit(&self, policy: &Policy, class: &RequestClass, now: Nanos) -> usize {
        let own = RequestClass { account: class.connected, connected: Id::NONE, payers: Payers::Account, ..*class };
        let made_by = [Some(*class), class.is_connected().then_some(own)];
        let mut credited = 0;
        for &id in policy.allocations() {
            let Limiter::Allocation(figures) = policy.limit(id).limiter else { continue };
            for class in made_by.iter().flatten().filter(|class| policy.limit(id).is_earned_by(class)) {
                let (first, second) = payers(policy.limit(id), class);
                for payer in std::iter::once(first).chain(second) {
                    let place = self
                        .place(
                            &Query { policy, class, now, manner: Manner::Alone, told: &[] },
                            id,
                            Which::InForce,
                            payer.account,
                        )
                        .of_transactions();
                    // The windows' lengths of profiles may differ; transactions are kept as long as the limit itself says.
                    self.cells.spend(&place, &figures.transactions(), now, 1);
                    credited += 1;
                }
            }
        }
        credited
    }

    /// How far the allocation that a request would fall in is earned; `None` for limits that are none.
    #[must_use]
    pub fn earned(&self, policy: &Policy, id: LimitId, class: &RequestClass, now: Nanos) -> Option<Earned> {
        let Limiter::Allocation(figures) = policy.limiter(id, class.profile) else { return None };
        let transactions =
            self.transactions(&Query { policy, class, now, manner: Manner::Alone, told: &[] }, id, class.account);
        Some(Earned { transactions, allowed: figures.allowed(transactions) })
    }
}
