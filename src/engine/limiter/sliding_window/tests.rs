//! A ring against everything admitted in its plainest form.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;
const MONTH: u64 = 30 * 86_400 * SECOND;

fn window(limit: u32, nanos: u64) -> SlidingWindow {
    SlidingWindow::new(limit, Duration::from_nanos(nanos))
}

fn taken(spend: Spend) -> bool {
    matches!(spend, Spend::Taken { .. })
}

/// Everything admitted, in the plainest form.
#[derive(Default)]
struct Model(Vec<(u64, u32)>);

impl Model {
    /// Tokens admitted in the span of length `window` that ends at `now`, both ends in it.
    fn spent(&self, window: u64, now: u64) -> u64 {
        self.0.iter().filter(|(at, _)| at + window > now).map(|&(_, cost)| u64::from(cost)).sum()
    }
}

proptest! {
    #[test]
    fn never_more_than_the_quota_in_a_window_and_never_late_by_more_than_a_sixtieth(
        limit in 1_u32..40,
        nanos in prop_oneof![Just(SECOND), Just(60 * SECOND), Just(MONTH), 1_000_000_u64..100 * SECOND],
        steps in vec((0.0_f64..0.4, 0_u32..5, 0_u8..8), 1..300),
    ) {
        let figures = window(limit, nanos);
        let mut ring = Ring::new(&figures, 7);
        let mut model = Model::default();
        let mut now = 17;
        for (wait, cost, kind) in steps {
            now += (wait * wait * nanos as f64) as u64;
            let before = model.spent(nanos, now);
            let before_late = model.spent(nanos + nanos / 60, now);
            match ring.draw(&figures, Nanos(now), cost) {
                Spend::Taken { slice, remaining } => {
                    prop_assert!(before + u64::from(cost) <= u64::from(limit));
                    prop_assert!(u64::from(remaining) <= u64::from(limit) - before - u64::from(cost));
                    if kind == 0 {
                        ring.refund(slice, figures.slice_ns(), cost);
                    } else {
                        model.0.push((now, cost));
                    }
                }
                Spend::Refused { retry_at } => {
                    prop_assert!(before_late + u64::from(cost) > u64::from(limit), "late by more than a sixtieth");
                    if let Some(at) = retry_at {
                        prop_assert!(at > Nanos(now));
                        prop_assert!(!taken(ring.peek(&figures, Nanos(at.0 - 1), cost)));
                        prop_assert!(taken(ring.peek(&figures, at, cost)));
                    } else {
                        prop_assert!(cost > limit);
                    }
                }
            }
            if ring.is_idle(Nanos(now)) {
                prop_assert_eq!(model.spent(nanos, now), 0);
            }
        }
    }

    #[test]
    fn other_figures_forget_nothing_that_still_counts(
        old in 1_000_000_u64..100 * SECOND,
        new in 1_000_000_u64..100 * SECOND,
        waits in vec(0_u64..10 * SECOND, 1..50),
    ) {
        let (before, after) = (window(1_000, old), window(70_000, new));
        let mut ring = Ring::new(&before, 7);
        let mut model = Model::default();
        let mut now = 0;
        for wait in waits {
            now += wait;
            if taken(ring.draw(&before, Nanos(now), 1)) {
                model.0.push((now, 1));
            }
        }
        let Spend::Taken { remaining, .. } = ring.draw(&after, Nanos(now), 0) else { panic!("there is room") };
        prop_assert!(u64::from(70_000 - remaining) >= model.spent(old.min(new), now));
    }
}

proptest! {
    /// With its counts wherever there is room, and with each slice at its place from the first.
    #[test]
    fn few_slices_answer_as_many_would(
        limit in prop_oneof![1_u32..50, 65_000_u32..70_000],
        steps in vec((prop_oneof![Just(0), Just(1), 1_u64..64, Just(70)], 0_u32..30, 0_u8..8), 1..80),
    ) {
        let mut figures = window(limit, 63 * SECOND);
        let mut ring = Ring::new(&figures, 7);
        let mut plain = Ring::Wide(Box::new(Counts::new(0, figures.slice_ns, 7)));
        let (mut now, mut last) = (Nanos(0), 0);
        for (slices, cost, kind) in steps {
            now = now.saturating_add(slices * SECOND);
            let cost = cost * (limit / 50).max(1);
            match kind {
                0 => {
                    ring.refund(last, figures.slice_ns(), cost);
                    plain.refund(last, figures.slice_ns(), cost);
                }
                1 => figures = window(limit / 2 + cost, 63 * SECOND),
                _ => {
                    let answer = ring.draw(&figures, now, cost);
                    prop_assert_eq!(answer, plain.draw(&figures, now, cost));
                    if let Spend::Taken { slice, .. } = answer {
                        last = slice;
                    }
                }
            }
            for at in [now, now.saturating_add(30 * SECOND)] {
                prop_assert_eq!((ring.counted(at), ring.is_idle(at)), (plain.counted(at), plain.is_idle(at)));
                prop_assert_eq!(ring.peek(&figures, at, 1), plain.peek(&figures, at, 1));
            }
            let saved = [&ring, &plain].map(|ring| {
                let mut saved = SavedWindow::default();
                ring.save(&mut saved);
                saved
            });
            prop_assert_eq!(&saved[0], &saved[1]);
            let counting = saved[0].counts.len();
            prop_assert!(counting <= 2 || !matches!(ring, Ring::One(_) | Ring::Few(_)));
            prop_assert!(counting <= 1 || !matches!(ring, Ring::One(_)));
            let restored = Ring::restored(&saved[0], now);
            prop_assert_eq!(matches!(restored, Some(Ring::One(_) | Ring::Few(_))), counting <= 2);
        }
    }
}

#[test]
fn other_figures_asked_late_let_nothing_go_earlier() {
    let (minute, hour) = (window(1, 63 * SECOND), window(1, 3_780 * SECOND));
    let mut ring = Ring::new(&hour, 7);
    assert!(taken(ring.draw(&hour, Nanos(600 * SECOND), 1)));
    assert!(!taken(ring.draw(&minute, Nanos(500 * SECOND), 1)));
    assert_eq!([663, 664].map(|second| taken(ring.peek(&minute, Nanos(second * SECOND), 1))), [false, true]);
}

#[test]
fn the_slice_is_less_than_a_sixtieth() {
    for nanos in [1_000_000, SECOND, 60 * SECOND, 3_600 * SECOND, 86_400 * SECOND, MONTH] {
        let slice = window(1, nanos).slice_ns().get();
        assert!(64 * slice - nanos <= nanos / 60, "{nanos}");
    }
}

#[test]
fn extremes_never_wrap_and_stay_strict() {
    let never = Spend::Refused { retry_at: None };
    let none = window(0, SECOND);
    assert_eq!(Ring::new(&none, 0).draw(&none, Nanos(5), 1), never);
    let wide = SlidingWindow::new(u32::MAX, Duration::MAX);
    let mut ring = Ring::new(&wide, 0);
    assert!(taken(ring.draw(&wide, Nanos::MAX, u32::MAX)));
    assert!(!taken(ring.draw(&wide, Nanos::MAX, 1)));
    let instant = SlidingWindow::new(1, Duration::ZERO);
    assert!(taken(Ring::new(&instant, 0).draw(&instant, Nanos::MAX, 1)));
    let figures = window(10, SECOND);
    let mut ring = Ring::new(&figures, 0);
    assert!(taken(ring.draw(&figures, Nanos(9 * SECOND), 10)));
    assert!(!taken(ring.draw(&figures, Nanos(SECOND), 1)), "an earlier moment finds the later ones counted");
    ring.refund(u64::MAX, figures.slice_ns(), 10);
    ring.refund(0, figures.slice_ns(), 10);
    assert!(!taken(ring.draw(&figures, Nanos(9 * SECOND), 1)), "a refund of another slice gives nothing back");
}

#[test]
fn a_ring_is_small() {
    assert_eq!(size_of::<Counts<Few>>(), 32);
    assert_eq!(size_of::<Counts<[u16; SLICES]>>(), 152);
    assert_eq!(size_of::<Counts<[u32; SLICES]>>(), 280);
}
