//! Which server gets a request: the less busy one of two picked at random, or one after the other.
//!
//! Two random choices keep the longest queue short without anybody knowing all queues, and do not herd: with stale figures
//! "the least loaded of all" would send every thread to the same server.

use super::server::{Server, ServerId};
use crate::config::Balance;
use crate::engine::Nanos;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Random numbers for choices nobody needs to be unable to guess (xorshift64*).
#[derive(Debug)]
pub struct Dice(Cell<u64>);

impl Dice {
    /// Dice that fall as the seed says.
    #[must_use]
    pub fn seeded(seed: u64) -> Dice {
        Dice(Cell::new(seed | 1))
    }

    /// Dice of their own.
    #[must_use]
    pub fn random() -> Dice {
        let mut seed = [0; 8];
        // Without a source of chance threads choose alike, which is worse and not wrong.
        let _ = getrandom::fill(&mut seed);
        Dice::seeded(u64::from_ne_bytes(seed))
    }

    /// A number from 0 up to but not including `end`.
    #[must_use]
    pub fn below(&self, end: usize) -> usize {
        let mut state = self.0.get();
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.0.set(state);
        let high = state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
        usize::try_from((high * end as u64) >> 32).unwrap_or(0)
    }
}

/// What one choice goes by.
pub(super) struct Choice<'a> {
    pub(super) balance: Balance,
    pub(super) dice: &'a Dice,
    /// Whose turn it is.
    pub(super) turn: &'a AtomicUsize,
    pub(super) now: Nanos,
    /// Servers that have failed this request.
    pub(super) tried: &'a [ServerId],
}

impl Choice<'_> {
    /// The server to use. Those that fail are left out, and those that have failed this request; where nothing is left, one that
    /// was ejected a while ago goes before one that has failed this very request, and at last all are in: a request that may
    /// fail is better than one that must.
    pub(super) fn of<'s>(&self, servers: &'s [Arc<Server>]) -> Option<&'s Arc<Server>> {
        if let [only] = servers {
            return Some(only);
        }
        let available = |server: &Server| server.is_available(self.now);
        let untried = |server: &Server| !self.tried.contains(&server.id);
        self.among(servers, |server| available(server) && untried(server))
            .or_else(|| self.among(servers, |server| server.health.is_well() && untried(server)))
            .or_else(|| self.among(servers, available))
            .or_else(|| self.among(servers, untried))
            .or_else(|| self.among(servers, |_| true))
    }

    fn among<'s>(&self, servers: &'s [Arc<Server>], fits: impl Fn(&Server) -> bool) -> Option<&'s Arc<Server>> {
        match self.balance {
            Balance::LeastLoaded => self.less_loaded(servers, fits),
            Balance::RoundRobin => {
                let start = self.turn.fetch_add(1, Relaxed) % servers.len().max(1);
                servers.iter().cycle().skip(start).take(servers.len()).find(|server| fits(server))
            }
        }
    }

    fn less_loaded<'s>(&self, servers: &'s [Arc<Server>], fits: impl Fn(&Server) -> bool) -> Option<&'s Arc<Server>> {
        // Mostly all fit: then two are looked at, however many there are.
        if let Some((one, other)) = self.two(servers.len())
            && let (Some(one), Some(other)) = (servers.get(one), servers.get(other))
            && fits(one)
            && fits(other)
        {
            return Some(lighter(one, other));
        }
        let fitting = || servers.iter().filter(|server| fits(server));
        match self.two(fitting().count()) {
            Some((one, other)) => Some(lighter(fitting().nth(one)?, fitting().nth(other)?)),
            None => fitting().next(),
        }
    }

    /// Two different ones of so many.
    fn two(&self, count: usize) -> Option<(usize, usize)> {
        if count < 2 {
            return None;
        }
        let one = self.dice.below(count);
        Some((one, (one + 1 + self.dice.below(count - 1)) % count))
    }
}

/// The first of two that are equally busy: which one that is, is chance already.
fn lighter<'s>(one: &'s Arc<Server>, other: &'s Arc<Server>) -> &'s Arc<Server> {
    if other.in_flight() < one.in_flight() { other } else { one }
}

#[cfg(test)]
mod tests {
    use super::super::server::Load;
    use super::super::tests::servers;
    use super::*;
    use crate::config::{Ejection, Share};
    use std::time::Duration;

    const NOW: Nanos = Nanos(1_000_000_000);

    /// How often each of the servers is chosen in so many choices.
    fn counts(servers: &[Arc<Server>], balance: Balance, choices: usize, tried: &[ServerId]) -> Vec<usize> {
        let (dice, turn) = (Dice::seeded(7), AtomicUsize::new(0));
        let choice = Choice { balance, dice: &dice, turn: &turn, now: NOW, tried };
        let mut counts = vec![0; servers.len()];
        for _ in 0..choices {
            let chosen = choice.of(servers).unwrap();
            counts[servers.iter().position(|server| server.id == chosen.id).unwrap()] += 1;
        }
        counts
    }

    fn eject(server: &Server) {
        let settings = Ejection { failures: 1, base: Duration::from_secs(10), max_share: Share(500) };
        server.outlier.eject(&settings, NOW);
    }

    #[test]
    fn idle_servers_share_evenly() {
        let servers = servers(5);
        for balance in [Balance::LeastLoaded, Balance::RoundRobin] {
            let counts = counts(&servers, balance, 10_000, &[]);
            assert!(counts.iter().all(|count| (1_800..2_200).contains(count)), "{balance:?}: {counts:?}");
        }
    }

    #[test]
    fn the_busiest_is_never_chosen_and_queues_stay_level() {
        let servers = servers(4);
        let busy: Vec<Load> = (0..10).map(|_| Load::new(servers[2].open(99).unwrap())).collect();
        let chosen = counts(&servers, Balance::LeastLoaded, 3_000, &[]);
        assert_eq!(chosen[2], 0, "{chosen:?}");
        drop(busy);
        // Requests that stay: two choices level them out, one would not.
        let (dice, turn) = (Dice::seeded(9), AtomicUsize::new(0));
        let choice = Choice { balance: Balance::LeastLoaded, dice: &dice, turn: &turn, now: NOW, tried: &[] };
        let stay: Vec<Load> =
            (0..4_000).map(|_| Load::new(choice.of(&servers).unwrap().open(9_999).unwrap())).collect();
        for server in &servers {
            assert!((990..=1_010).contains(&server.in_flight()), "{}", server.in_flight());
        }
        drop(stay);
    }

    #[test]
    fn those_that_fail_are_left_out_while_others_are_there() {
        let servers = servers(3);
        for balance in [Balance::LeastLoaded, Balance::RoundRobin] {
            let chosen = counts(&servers, balance, 300, &[servers[0].id]);
            assert!(chosen[0] == 0 && chosen[1] > 50 && chosen[2] > 50, "{balance:?}: {chosen:?}");
        }
        eject(&servers[1]);
        assert_eq!(counts(&servers, Balance::LeastLoaded, 300, &[servers[0].id]), [0, 0, 300]);
        let both = [servers[0].id, servers[2].id];
        let chosen = counts(&servers, Balance::LeastLoaded, 300, &both);
        assert_eq!(chosen, [0, 300, 0], "rather one that failed others a while ago than one that failed this request");
        let all = [servers[0].id, servers[1].id, servers[2].id];
        assert_eq!(counts(&servers, Balance::LeastLoaded, 300, &all)[1], 0);
        eject(&servers[0]);
        eject(&servers[2]);
        let chosen = counts(&servers, Balance::LeastLoaded, 300, &[]);
        assert!(chosen.iter().all(|count| *count > 50), "where none is left all are in: {chosen:?}");
        assert_eq!(counts(&servers, Balance::LeastLoaded, 30, &both), [0, 30, 0]);
    }

    #[test]
    fn none_and_one() {
        assert!(counts(&[], Balance::LeastLoaded, 0, &[]).is_empty());
        let one = servers(1);
        eject(&one[0]);
        assert_eq!(counts(&one, Balance::LeastLoaded, 5, &[one[0].id]), [5]);
        let (dice, turn) = (Dice::seeded(1), AtomicUsize::new(usize::MAX));
        for balance in [Balance::LeastLoaded, Balance::RoundRobin] {
            let choice = Choice { balance, dice: &dice, turn: &turn, now: NOW, tried: &[] };
            assert!(choice.of(&[]).is_none());
        }
    }
}
