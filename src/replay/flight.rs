//! Requests in flight on virtual time: when they end, and what they give back then.

use super::arrival::Arrival;
use crate::config::Server;
use crate::engine::time::nanos_of;
use crate::engine::{EndpointId, Engine, Hold, Nanos, Policy, RequestClass};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// Requests with slots that may be in flight at once. Beyond, the one that would end first ends early.
pub const MAX_IN_FLIGHT: usize = 131_072;
/// Requests after which partitions are swept early, where it has been [`EARLY_NS`] as well: the fewer there are, the better they
/// fit in the core's caches, and forgetting one changes no answer.
const EARLY_REQUESTS: u32 = 8_192;
/// An engine keeps what was idle for a second only, so sooner there is little to forget.
const EARLY_NS: u64 = 1_000_000_000;

/// An engine, and the requests that hold something of it.
#[derive(Debug)]
pub struct Flight {
    engine: Arc<Engine>,
    sweep_ns: u64,
    max_partitions: usize,
    next_sweep: u64,
    last_sweep: u64,
    /// Requests since the last sweep.
    since: u32,
    /// When each ends; those of one moment in the order in which they began.
    ends: BinaryHeap<Reverse<(u64, u64, u32)>>,
    begun: u64,
    held: Vec<Option<Held>>,
    vacant: Vec<u32>,
    /// Requests that ended early, see [`MAX_IN_FLIGHT`].
    pub cut_short: u64,
}

#[derive(Debug)]
struct Held {
    hold: Hold,
    then: Then,
}

/// What happens when a request ends.
#[derive(Debug)]
pub enum Then {
    /// Its slots come back.
    Nothing,
    /// It was never forwarded: its tokens come back as well.
    GivenUp,
    /// It was a success, which earns allocations.
    Earns(Box<RequestClass>),
}

impl Flight {
    /// The engine of a configuration, with nothing in flight.
    pub fn new(server: &Server) -> Flight {
        let engine = Engine::new(super::SEED, server.max_partitions).with_cells_read_ahead();
        Flight {
            engine: Arc::new(engine),
            sweep_ns: nanos_of(server.sweep_interval).max(1),
            max_partitions: server.max_partitions,
            next_sweep: 0,
            last_sweep: 0,
            since: 0,
            ends: BinaryHeap::new(),
            begun: 0,
            held: Vec::new(),
            vacant: Vec::new(),
            cut_short: 0,
        }
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Ends every request that ends up to `now`, the earliest first.
    pub fn advance(&mut self, now: Nanos, policy: &Policy) {
        while self.ends.peek().is_some_and(|Reverse((end, ..))| *end <= now.0) {
            self.end_first(policy);
        }
        self.since = self.since.saturating_add(1);
        let is_due = now.0 >= self.next_sweep;
        if is_due || (self.since >= EARLY_REQUESTS && self.may_sweep_early(now)) {
            self.engine.sweep(now);
            (self.last_sweep, self.since) = (now.0, 0);
        }
        if is_due {
            self.next_sweep = now.0.saturating_add(self.sweep_ns);
        }
    }

    /// Not where a live engine, which would not sweep before its time, might have come to its bound at this pace: partitions
    /// that are new share one there.
    fn may_sweep_early(&self, now: Nanos) -> bool {
        let passed = now.0.saturating_sub(self.last_sweep);
        let sweeps = usize::try_from(self.sweep_ns / passed.max(1)).unwrap_or(usize::MAX).saturating_add(1);
        passed >= EARLY_NS && self.engine.partitions().saturating_mul(sweeps) < self.max_partitions
    }

    /// Lets a request go that was admitted at `now`. What it holds comes back when it ends.
    pub fn depart(&mut self, now: Nanos, duration: u64, mut hold: Hold, then: Then, policy: &Policy) {
        if !matches!(then, Then::GivenUp) {
            hold.commit();
        }
        if matches!(then, Then::Nothing) && hold.slots() == 0 {
            return;
        }
        if self.ends.len() >= MAX_IN_FLIGHT {
            self.cut_short += 1;
            self.end_first(policy);
        }
        let held = Some(Held { hold, then });
        let place = match self.vacant.pop() {
            Some(place) => place,
            None => {
                self.held.push(None);
                u32::try_from(self.held.len() - 1).unwrap_or(u32::MAX)
            }
        };
        if let Some(vacant) = self.held.get_mut(place as usize) {
            *vacant = held;
        }
        self.begun += 1;
        self.ends.push(Reverse((now.saturating_add(duration).0, self.begun, place)));
    }

    fn end_first(&mut self, policy: &Policy) {
        let Some(Reverse((end, _, place))) = self.ends.pop() else { return };
        let Some(held) = self.held.get_mut(place as usize).and_then(Option::take) else { return };
        self.vacant.push(place);
        let Held { mut hold, then } = held;
        match then {
            Then::Nothing => {}
            Then::GivenUp => hold.cancel(Nanos(end)),
            Then::Earns(class) => {
                self.engine.credit(policy, &class, Nanos(end));
            }
        }
    }
}

/// How long requests take that the trace does not tell of: the median of what their endpoint's requests took so far.
#[derive(Debug, Default)]
pub struct Durations {
    by_endpoint: Vec<Option<Box<Histogram>>>,
    all: Histogram,
}

impl Durations {
    /// How long a request takes that is admitted now. One that was served took as long as it did. What one that was refused
    /// would have taken, nobody knows; and where a trace has no durations, requests take no time.
    pub fn of(&mut self, arrival: &Arrival, endpoint: EndpointId) -> u64 {
        if !arrival.was_refused {
            let duration = arrival.duration.unwrap_or(0);
            let place = endpoint.0 as usize;
            if self.by_endpoint.len() <= place {
                self.by_endpoint.resize_with(place + 1, || None);
            }
            if let Some(own) = self.by_endpoint.get_mut(place) {
                own.get_or_insert_default().note(duration);
            }
            self.all.note(duration);
            return duration;
        }
        let own = self.by_endpoint.get(endpoint.0 as usize).and_then(Option::as_ref);
        own.and_then(|own| own.median()).or_else(|| self.all.median()).unwrap_or(0)
    }
}

/// Counts by size, four for each power of two: a median of it is at most an eighth off.
#[derive(Debug)]
struct Histogram {
    counts: [u64; 256],
    total: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: [0; 256], total: 0 }
    }
}

impl Histogram {
    fn note(&mut self, value: u64) {
        let octave = value.max(4).ilog2();
        let quarter = value.max(4) >> (octave - 2) & 3;
        let place = u64::from(octave) * 4 + quarter;
        if let Some(count) = usize::try_from(place).ok().and_then(|place| self.counts.get_mut(place)) {
            *count += 1;
            self.total += 1;
        }
    }

    /// The middle of the quarter that the median lies in.
    fn median(&self) -> Option<u64> {
        let mut left = self.total.div_ceil(2);
        let (octave, quarter) = self.counts.iter().enumerate().find_map(|(place, &count)| {
            left = left.saturating_sub(count);
            (left == 0 && count > 0).then_some((place as u64 / 4, place as u64 % 4))
        })?;
        let step = 1_u64 << (octave.saturating_sub(2));
        Some((4 + quarter) * step + step / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_at_most_an_eighth_off() {
        assert_eq!(Histogram::default().median(), None);
        for middle in [5, 100, 12_345_678, 86_400_000_000_000] {
            let mut histogram = Histogram::default();
            for value in [middle / 2, middle / 3, middle, middle * 2, middle * 5] {
                histogram.note(value);
            }
            let found = histogram.median().unwrap();
            assert!(found.abs_diff(middle) <= middle / 8 + 1, "{middle}: {found}");
        }
    }
}
