//! A window's counts on their way to a store that outlives the process, and back.

use super::{Counts, Ring, SLICES, Slices, change_counts, of_counts};
use crate::engine::time::Nanos;
use std::num::NonZeroU64;

/// What one partition of a sliding window has counted, on the engine's time axis: whoever keeps it must see to it that the
/// engine that takes it back goes on with the same axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedWindow {
    /// The short name of its limit.
    pub tag: u32,
    /// Nanoseconds of one slice: a 63rd of the window.
    pub slice_ns: NonZeroU64,
    /// The number of the newest slice.
    pub newest: u64,
    /// Counts above 0, each with the slice's age: 0 for the newest, at most 63. The oldest come last.
    pub counts: Vec<(u8, u32)>,
}

impl Default for SavedWindow {
    fn default() -> SavedWindow {
        SavedWindow { tag: 0, slice_ns: NonZeroU64::MIN, newest: 0, counts: Vec::new() }
    }
}

impl Ring {
    /// Notes whether there is something to save; answers what was noted before.
    pub(crate) fn set_changed(&mut self, changed: bool) -> bool {
        change_counts!(self, counts => std::mem::replace(&mut counts.changed, changed))
    }

    /// Writes the counts into `saved`, whose room is used again.
    pub(crate) fn save(&self, saved: &mut SavedWindow) {
        of_counts!(self, counts => counts.save(saved));
    }

    /// The ring that was saved. `None` for one that no engine has saved: of the future at `now`, or with a slice too old.
    pub(crate) fn restored(saved: &SavedWindow, now: Nanos) -> Option<Ring> {
        let sound =
            saved.newest <= now.0 / saved.slice_ns && saved.counts.iter().all(|&(age, _)| usize::from(age) < SLICES);
        if !sound {
            return None;
        }
        let counted: u64 = saved.counts.iter().map(|&(_, count)| u64::from(count)).sum();
        let is_narrow = counted <= u64::from(u16::MAX);
        let few = Counts::restored(saved).map(Ring::of);
        few.or_else(|| {
            if is_narrow {
                Counts::restored(saved).map(Box::new).map(Ring::Narrow)
            } else {
                Counts::restored(saved).map(Box::new).map(Ring::Wide)
            }
        })
    }
}

impl<S: Slices> Counts<S> {
    fn save(&self, saved: &mut SavedWindow) {
        (saved.tag, saved.slice_ns, saved.newest) = (self.tag, self.slice_ns, self.newest);
        saved.counts.clear();
        let ages = (0..=63_u8).map_while(|age| Some((age, self.newest.checked_sub(u64::from(age))?)));
        saved.counts.extend(ages.map(|(age, slice)| (age, self.count(slice))).filter(|&(_, count)| count > 0));
    }

    /// `None`: there is no room for so many slices.
    fn restored(saved: &SavedWindow) -> Option<Counts<S>> {
        let mut counts = Counts::new(saved.newest, saved.slice_ns, saved.tag);
        let mut all = saved.counts.iter();
        let has_room = all.all(|&(age, count)| counts.add(saved.newest.saturating_sub(u64::from(age)), count));
        has_room.then_some(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{SlidingWindow, Spend};
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::time::Duration;

    proptest! {
        #[test]
        fn a_restored_ring_answers_as_the_saved_one(
            limit in prop_oneof![1_u32..50, 70_000_u32..100_000],
            steps in vec((0_u64..20_000_000_000, 0_u32..30), 1..100),
            probe in 0_u64..80_000_000_000,
        ) {
            let figures = SlidingWindow::new(limit, Duration::from_secs(60));
            let mut ring = Ring::new(&figures, 7);
            let mut now = 0;
            for (wait, cost) in steps {
                now += wait;
                ring.draw(&figures, Nanos(now), cost * (limit / 50).max(1));
            }
            let mut saved = SavedWindow::default();
            ring.save(&mut saved);
            let restored = Ring::restored(&saved, Nanos(now)).unwrap();
            prop_assert_eq!(restored.tag(), 7);
            for at in [now, now + probe] {
                prop_assert_eq!(ring.peek(&figures, Nanos(at), 1), restored.peek(&figures, Nanos(at), 1));
                prop_assert_eq!(ring.is_idle(Nanos(at)), restored.is_idle(Nanos(at)));
            }
        }
    }

    #[test]
    fn other_figures_after_a_restart_forget_nothing() {
        let minute = SlidingWindow::new(10, Duration::from_secs(60));
        let mut ring = Ring::new(&minute, 7);
        ring.draw(&minute, Nanos(5_000_000_000), 8);
        let mut saved = SavedWindow::default();
        ring.save(&mut saved);
        let hour = SlidingWindow::new(100_000, Duration::from_secs(3_600));
        let restored = Ring::restored(&saved, Nanos(6_000_000_000)).unwrap();
        let spend = restored.peek(&hour, Nanos(6_000_000_000), 1);
        assert_eq!(spend, Spend::Taken { slice: 0, remaining: 100_000 - 9 });
    }

    #[test]
    fn what_no_engine_has_saved_is_refused() {
        let second = NonZeroU64::new(1_000_000_000).unwrap();
        let saved = SavedWindow { tag: 1, slice_ns: second, newest: 5, counts: vec![(0, 3), (63, 2)] };
        assert!(Ring::restored(&saved, Nanos(5_000_000_000)).is_some(), "an age before the epoch is cut, not refused");
        assert!(Ring::restored(&saved, Nanos(4_999_999_999)).is_none(), "of the future");
        let twice = SavedWindow { counts: vec![(0, 60_000), (0, 60_000), (1, 1), (2, 1)], ..saved.clone() };
        let restored = Ring::restored(&twice, Nanos(5_000_000_000)).unwrap();
        assert_eq!(restored.counted(Nanos(5_000_000_000)), 120_002, "whatever it is, it is not less");
        let too_old = SavedWindow { counts: vec![(64, 1)], ..saved };
        assert!(Ring::restored(&too_old, Nanos::MAX).is_none());
    }
}
