//! Limits for what has no class yet: token buckets that stand before anybody knows whose request it is.
//!
//! A gate counts by one id of the caller's choosing. Its buckets are cells like those of any limit (the same bound, the same
//! overflow cell, forgotten as those are), so they belong into an [`Engine`] of their own where strangers decide how many there are.

use super::class::{Id, IdKind, Seed};
use super::decision::Outcome;
use super::key::{Key, Mixer, Place};
use super::limiter::Gcra;
use super::limiter::gcra::Draw;
use super::policy;
use super::time::Nanos;
use super::{Engine, Map};

/// Where other partitions have their mode: a gate's are neither live nor test.
const NO_MODE: u8 = 2;

/// A token bucket for each id that is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    salt: Id,
    figures: Gcra,
}

impl Gate {
    /// A gate of this name. State belongs to the name, so one that is made anew with the same `seed` finds it again, and
    /// other figures keep what has been spent.
    #[must_use]
    pub fn new(seed: &Seed, name: &str, figures: Gcra) -> Gate {
        Gate { salt: seed.id(IdKind::Limit, format!("gate\0{name}").as_bytes()), figures }
    }

    /// Its buckets' figures.
    #[must_use]
    pub fn figures(&self) -> &Gcra {
        &self.figures
    }

    fn place<M: Map>(&self, engine: &Engine<M>, who: Id) -> Place {
        let mut key = Mixer::new(engine.secret, self.salt, NO_MODE);
        key.push(who);
        Place { key: key.key(), overflow: Key::overflow(self.salt, NO_MODE), tag: policy::tag(self.salt) }
    }

    fn outcome(&self, draw: Draw, now: Nanos) -> Outcome {
        match draw {
            Draw::Taken { tat } => Outcome::Admitted { remaining: self.figures.remaining(tat, now) },
            Draw::Refused { retry_at } => Outcome::Rejected { retry_at },
        }
    }
}

impl<M: Map> Engine<M> {
    /// Takes one token of `who` at `now`. Tokens taken here never come back but by time.
    pub fn draw(&self, gate: &Gate, who: Id, now: Nanos) -> Outcome {
        let drawn = self.cells.draw(&gate.place(self, who), &gate.figures, now, 1);
        gate.outcome(drawn.answer.draw, now)
    }

    /// What [`draw`](Engine::draw) would say, as far as the bucket of `who` goes; nothing is taken, no state is made. One who
    /// has no bucket of its own is never refused here, not even at the bound where newcomers share one.
    #[must_use]
    pub fn peek_gate(&self, gate: &Gate, who: Id, now: Nanos) -> Outcome {
        let tat = self.cells.peek_tat(gate.place(self, who).key, &gate.figures, now);
        gate.outcome(gate.figures.draw(tat, now, 1), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SECOND_NS: u64 = 1_000_000_000;
    const SEED: Seed = Seed([3, 5]);

    fn id(number: u32) -> Id {
        SEED.id(IdKind::Ip, &number.to_le_bytes())
    }

    fn admitted(outcome: Outcome) -> bool {
        matches!(outcome, Outcome::Admitted { .. })
    }

    #[test]
    fn each_id_has_its_burst_and_time_brings_it_back() {
        let engine = Engine::new(SEED, 100);
        let gate = Gate::new(&SEED, "failures", Gcra::new(60, Duration::from_secs(60), 5));
        let other = Gate::new(&SEED, "requests", Gcra::new(60, Duration::from_secs(60), 5));
        let now = Nanos(7 * SECOND_NS);
        for left in (0..5).rev() {
            assert!(admitted(engine.peek_gate(&gate, id(1), now)), "{left}");
            assert_eq!(engine.draw(&gate, id(1), now), Outcome::Admitted { remaining: left });
        }
        let refused = Outcome::Rejected { retry_at: Some(now.saturating_add(SECOND_NS)) };
        assert_eq!((engine.draw(&gate, id(1), now), engine.peek_gate(&gate, id(1), now)), (refused, refused));
        assert!(admitted(engine.draw(&gate, id(2), now)) && admitted(engine.draw(&other, id(1), now)));
        let later = now.saturating_add(SECOND_NS);
        assert!(admitted(engine.peek_gate(&gate, id(1), later)) && admitted(engine.draw(&gate, id(1), later)));
        assert!(!admitted(engine.draw(&gate, id(1), later)));
    }

    #[test]
    fn looking_makes_no_state_and_a_million_ids_no_more_than_the_bound() {
        let engine = Engine::new(SEED, 1_000);
        let gate = Gate::new(&SEED, "failures", Gcra::new(1, Duration::from_secs(60), 2));
        let now = Nanos(SECOND_NS);
        for number in 0..10_000 {
            assert!(admitted(engine.peek_gate(&gate, id(number), now)));
        }
        assert_eq!(engine.partitions(), 0);
        let refused = (0..100_000).filter(|&number| !admitted(engine.draw(&gate, id(number), now))).count();
        // The overflow cell is one more, and all that have no room share its burst of 2.
        assert_eq!((engine.partitions(), refused), (1_001, 100_000 - 1_000 - 2));
        assert!(admitted(engine.peek_gate(&gate, id(100_001), now)), "who has done nothing is not refused");
        engine.sweep(Nanos(200 * SECOND_NS));
        assert_eq!(engine.partitions(), 0);
    }

    #[test]
    fn other_figures_keep_what_was_spent() {
        let engine = Engine::new(SEED, 100);
        let gate = |burst| Gate::new(&SEED, "failures", Gcra::new(60, Duration::from_secs(60), burst));
        let now = Nanos(SECOND_NS);
        assert_eq!((0..4).filter(|_| admitted(engine.draw(&gate(4), id(1), now))).count(), 4);
        assert!(!admitted(engine.peek_gate(&gate(4), id(1), now)));
        assert_eq!(engine.draw(&gate(6), id(1), now), Outcome::Admitted { remaining: 1 });
    }
}
