//! What stands at the axes: round numbers and round moments, few enough to be read.

use super::words::{Count, written};
use jiff::Timestamp;

/// Lines across a plot, at most.
const LINES: u64 = 5;
/// Moments below a plot, at most.
const MOMENTS: u64 = 6;
/// Seconds between two moments.
const STEPS: [u64; 24] = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400, 172_800, 432_000,
    864_000, 2_592_000, 7_776_000, 31_536_000,
];

/// Counts from zero up to a round number.
pub(super) struct Counts {
    /// The highest line.
    pub top: u64,
    step: u64,
}

impl Counts {
    /// A scale that has room for `most`.
    pub(super) fn up_to(most: u64) -> Counts {
        let wanted = most.max(1).div_ceil(LINES);
        let mut ten = 1_u64;
        while ten.saturating_mul(10) <= wanted {
            ten = ten.saturating_mul(10);
        }
        let step = [1, 2, 5, 10].into_iter().map(|times| ten.saturating_mul(times)).find(|&step| step >= wanted);
        let step = step.unwrap_or(u64::MAX);
        Counts { top: most.max(1).div_ceil(step).saturating_mul(step), step }
    }

    /// The lines above zero.
    pub(super) fn lines(&self) -> impl Iterator<Item = u64> + '_ {
        (1..=self.top / self.step).map(|line| line * self.step)
    }
}

/// A count in few letters: `1.5k`.
pub(super) fn brief(count: u64) -> String {
    let units = [(1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")];
    match units.into_iter().find(|(unit, _)| count >= 10 * unit || (count >= *unit && count.is_multiple_of(unit / 10)))
    {
        Some((unit, letter)) if count.is_multiple_of(unit) => format!("{}{letter}", count / unit),
        Some((unit, letter)) => format!("{:.1}{letter}", count as f64 / unit as f64),
        None => Count(count).to_string(),
    }
}

/// A moment below a plot.
pub(super) struct Mark {
    /// How far to the right, from 0 to 1.
    pub at: f64,
    /// The time of day, or the day.
    pub text: String,
    /// The day, where that is not clear.
    pub day: Option<String>,
}

/// Round moments between `from` and so many seconds later.
pub(super) fn moments(from: Timestamp, seconds: u64) -> Vec<Mark> {
    let Ok(first) = u64::try_from(from.as_second()) else { return Vec::new() };
    let step = STEPS.into_iter().find(|step| seconds / step <= MOMENTS).unwrap_or(seconds.div_ceil(MOMENTS));
    let end = first.saturating_add(seconds);
    let day = |second: u64| {
        let at = i64::try_from(second).ok().and_then(|second| Timestamp::from_second(second).ok())?;
        Some((at, written(at, "%-d %b")))
    };
    let one_day = day(first).map(|it| it.1) == day(end).map(|it| it.1);
    let mut marks = Vec::new();
    let mut at = first.next_multiple_of(step);
    while let Some((moment, day)) = day(at).filter(|_| at <= end) {
        let pattern = if step < 60 { "%H:%M:%S" } else { "%H:%M" };
        let (text, day) = match step {
            86_400.. => (day, None),
            _ => (written(moment, pattern), Some(day).filter(|_| !one_day || marks.is_empty())),
        };
        marks.push(Mark { at: (at - first) as f64 / seconds.max(1) as f64, text, day });
        at += step;
    }
    marks
}
