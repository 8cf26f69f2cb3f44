//! One gateway alone, whose tokens overflow at once: it must answer as the plain mechanism does, refunds included.

use super::store::Central;
use crate::engine::lease::{Drawn, Due, Lease, Need, Terms};
use crate::engine::limiter::gcra::Draw;
use crate::engine::limiter::sliding_window::{Ring, Spend};
use crate::engine::limiter::{Gcra, Limiter, SlidingWindow};
use crate::engine::time::Nanos;
use proptest::collection::vec;
use proptest::prelude::*;
use std::time::Duration;

const TERMS: Terms = Terms { ttl_ns: 0, slot_ttl_ns: 10_000_000_000, gateways: 1 };

/// A lease whose store answers at once.
struct Alone {
    limiter: Limiter,
    central: Central,
    lease: Lease,
}

impl Alone {
    fn new(limiter: Limiter) -> Alone {
        let central = Central::new(limiter, TERMS.slot_ttl_ns);
        Alone { limiter, central, lease: Lease::new(&limiter, 0) }
    }

    fn draw(&mut self, now: Nanos, cost: u32) -> Drawn {
        if let Need::Now(ask) | Need::Soon(ask) = self.lease.need(&self.limiter, now, cost, false, &TERMS) {
            let answer = self.central.ask(0, &ask, now);
            self.lease.answered(&self.limiter, &ask, &answer, now, &TERMS);
        }
        self.lease.draw(&self.limiter, now, cost, &TERMS)
    }

    fn look_after(&mut self, now: Nanos) {
        if let Due::Tell(ask) = self.lease.due(&self.limiter, now, &TERMS) {
            let answer = self.central.ask(0, &ask, now);
            self.lease.answered(&self.limiter, &ask, &answer, now, &TERMS);
        }
    }
}

proptest! {
    #[test]
    fn a_bucket_lent_is_the_bucket(
        count in 1_u64..50,
        burst in 1_u64..40,
        steps in vec((0_u64..200_000_000, 1_u32..4, 0_u8..8), 1..200),
    ) {
        let figures = Gcra::new(count, Duration::from_secs(1), burst);
        let mut alone = Alone::new(Limiter::Gcra(figures));
        let (mut tat, mut now) = (Nanos::ZERO, Nanos(1_000_000_000));
        for (wait, cost, kind) in steps {
            // Whole emission intervals now and then, where being late or early shows; and many at once.
            let emission_ns = figures.emission_ns().get();
            let wait = if kind < 2 { wait / emission_ns * emission_ns } else { wait };
            // A gateway that is alone still leaves 10 ms between two asks that find too little, and a microsecond between any two.
            now = now.saturating_add(if kind == 7 { 0 } else { wait.max(11_000_000) });
            if kind == 3 {
                alone.look_after(now);
            }
            match (figures.draw(tat, now, cost), alone.draw(now, cost)) {
                (Draw::Taken { tat: next }, Drawn::Taken { tokens: Some((tokens, before)), remaining }) => {
                    prop_assert_eq!(remaining, figures.remaining(next, now));
                    tat = next;
                    if kind == 0 {
                        tat = Nanos(tat.0 - tokens.refund_ns(tokens.emission_ns, now, false));
                        alone.lease.refund(&tokens, before, now);
                    }
                }
                (Draw::Refused { retry_at: plain }, Drawn::Refused { retry_at: lent }) => {
                    prop_assert_eq!(plain.is_none(), lent.is_none());
                    if let (Some(plain), Some(lent)) = (plain, lent) {
                        prop_assert!(plain <= lent && lent <= plain.max(now.saturating_add(11_000_000)), "{:?} {:?}", plain, lent);
                    }
                }
                (Draw::Taken { .. }, Drawn::Refused { .. }) if kind == 7 => {}
                (plain, lent) => prop_assert!(false, "{:?} but {:?}", plain, lent),
            }
        }
    }

    #[test]
    fn a_window_lent_is_the_window(
        limit in 1_u32..40,
        steps in vec((0_u64..400_000_000, 1_u32..4, 0_u8..4), 1..200),
    ) {
        let figures = SlidingWindow::new(limit, Duration::from_secs(2));
        let mut alone = Alone::new(Limiter::SlidingWindow(figures));
        let mut ring = Ring::new(&figures, 0);
        let mut now = Nanos(1_000_000_000);
        for (wait, cost, kind) in steps {
            now = now.saturating_add(wait.max(10_000_000));
            alone.look_after(now);
            match (ring.draw(&figures, now, cost), alone.draw(now, cost)) {
                (Spend::Taken { slice, .. }, Drawn::Taken { .. }) => {
                    if kind == 0 {
                        ring.refund(slice, figures.slice_ns(), cost);
                        alone.lease.unspend(cost);
                    }
                }
                (Spend::Refused { retry_at: plain }, Drawn::Refused { retry_at: lent }) => {
                    prop_assert_eq!(plain.is_none(), lent.is_none());
                }
                (plain, lent) => prop_assert!(false, "{:?} but {:?}", plain, lent),
            }
        }
    }
}
